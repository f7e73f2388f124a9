"""Hostile data sets: each function writes one below a folder and returns its path; the error is that of loading it."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from attacks.gallery import Gallery
from support.pictures import encoded, make_folder, picture

DATA = Gallery()


def _tar(folder: Path, *extra: tuple[tarfile.TarInfo, bytes], name: str = "a.tar") -> Path:
    """A shard with one good picture after the other members."""
    path = folder / name
    with tarfile.open(path, "w") as tar:
        for info, content in extra:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for member, content in (("n0.jpg", encoded(picture(0))), ("n0.cls", b"0")):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def _member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    return info


@DATA.attack("s-{000000000..999999999}.tar stands for more than 100,000 shards")
def billion_shards(_folder: Path) -> Path:
    """Memory: a range of 10^9 numbers."""
    return Path("s-{000000000..999999999}.tar")


@DATA.attack("s-{0..999}-{0..999}-{0..999}.tar stands for more than 100,000 shards")
def product_of_ranges(_folder: Path) -> Path:
    """Memory: ranges that are short, but whose product is 10^9."""
    return Path("s-{0..999}-{0..999}-{0..999}.tar")


@DATA.attack(
    "{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b"
    "}{a,b}{a,b}.tar stands for more than 100,000 shards"
)
def product_of_lists(_folder: Path) -> Path:
    """Time: 20 pairs, which stand for a million paths."""
    return Path("{a,b}" * 20 + ".tar")


@DATA.attack("{" * 100 + "a" + "}" * 99 + "[cut] has 100 braces, expected at most 20")
def hundred_braces(_folder: Path) -> Path:
    """The recursion: 100 braces in each other."""
    return Path("{" * 100 + "a" + "}" * 100 + ".tar")


@DATA.attack("data_dir=... is no path: it has 5,009 characters")
def number_of_five_thousand_digits(_folder: Path) -> Path:
    """The conversion of digits, in a range that is then no range."""
    return Path("{0.." + "9" * 5000 + "}.tar")


@DATA.attack(
    "FOLDER/train/ant holds no picture (.jpg, .jpeg, .png, .webp, .bmp): each folder in FOLDER/train is "
    "a class; fill it or remove it"
)
def pipes_as_pictures(folder: Path) -> Path:
    """Time: reading a pipe waits for ever."""
    (folder / "train" / "ant").mkdir(parents=True)
    os.mkfifo(folder / "train" / "ant" / "0.jpg")
    return folder


@DATA.attack(
    "FOLDER/train/ant holds no picture (.jpg, .jpeg, .png, .webp, .bmp): each folder in FOLDER/train "
    "is a class; fill it or remove it"
)
def devices_as_pictures(folder: Path) -> Path:
    """Memory: /dev/zero never ends."""
    (folder / "train" / "ant").mkdir(parents=True)
    (folder / "train" / "ant" / "0.jpg").symlink_to("/dev/zero")
    return folder


@DATA.attack(
    "FOLDER/train/ant holds no picture (.jpg, .jpeg, .png, .webp, .bmp): each folder in FOLDER/train "
    "is a class; fill it or remove it"
)
def links_to_nothing(folder: Path) -> Path:
    """Links whose files are gone."""
    (folder / "train" / "ant").mkdir(parents=True)
    (folder / "train" / "ant" / "0.jpg").symlink_to(folder / "nothing.jpg")
    return folder


@DATA.attack("FOLDER/train/bee and ant are one folder, whose pictures would have two classes")
def one_folder_as_two_classes(folder: Path) -> Path:
    """Pictures with two labels."""
    make_folder(folder / "train", ("ant",), 1)
    (folder / "train" / "bee").symlink_to(folder / "train" / "ant")
    return folder


@DATA.attack("FOLDER/train/all and train are one folder, whose pictures would have two classes")
def class_that_is_the_folder_above(folder: Path) -> Path:
    """All pictures once more, in a class of their own."""
    make_folder(folder / "train", ("ant",), 1)
    (folder / "train" / "all").symlink_to(folder / "train")
    return folder


@DATA.attack(
    "FOLDER/train/[2J holds no picture (.jpg, .jpeg, .png, .webp, .bmp): each folder in "
    "FOLDER/train is a class; fill it or remove it"
)
def control_characters_in_a_class(folder: Path) -> Path:
    """The terminal: the name of a folder that clears the screen."""
    (folder / "train" / "\x1b[2J").mkdir(parents=True)
    return folder


@DATA.attack(
    "FOLDER/val/val_annotations.txt names ../../../etc/passwd, expected the name of a file in FOLDER/val/images"
)
def annotations_of_other_folders(folder: Path) -> Path:
    """Files outside of the folder, as pictures of Tiny ImageNet."""
    make_folder(folder / "train", ("ant",), 1)
    (folder / "val").mkdir()
    (folder / "val" / "val_annotations.txt").write_text("../../../etc/passwd\tant\n")
    return folder


@DATA.attack(
    "no picture with a label in 1 shards, the first is FOLDER/a.tar: expected members KEY.jpg (jpg, "
    "jpeg, png, webp) and KEY.cls"
)
def shard_that_is_a_pipe(folder: Path) -> Path:
    """Time: a pipe in place of a shard."""
    os.mkfifo(folder / "a.tar")
    return folder


@DATA.attack(
    "no picture with a label in 1 shards, the first is FOLDER/a.tar: expected members KEY.jpg (jpg, "
    "jpeg, png, webp) and KEY.cls"
)
def shard_that_is_a_device(folder: Path) -> Path:
    """Time: a shard that never ends."""
    (folder / "a.tar").symlink_to("/dev/zero")
    return folder


@DATA.attack("cannot read FOLDER/classes.txt: it has 1,099,511,627,776 bytes, expected at most 67,108,864")
def class_names_of_a_terabyte(folder: Path) -> Path:
    """Memory: a file of names of classes that is empty, and 2^40 bytes long."""
    path = _tar(folder)
    with open(folder / "classes.txt", "wb") as file:
        file.truncate(1 << 40)
    return path


@DATA.attack(
    "no picture with a label in 1 shards, the first is FOLDER/a.tar: expected members KEY.jpg (jpg, "
    "jpeg, png, webp) and KEY.cls"
)
def only_sparse_members(folder: Path) -> Path:
    """Members whose size is not what the file has of them."""
    return _only(folder, tarfile.GNUTYPE_SPARSE)


@DATA.attack(
    "no picture with a label in 1 shards, the first is FOLDER/a.tar: expected members KEY.jpg (jpg, "
    "jpeg, png, webp) and KEY.cls"
)
def only_links(folder: Path) -> Path:
    """Members that are links to files outside of the archive."""
    return _only(folder, tarfile.SYMTYPE)


def _only(folder: Path, kind: bytes) -> Path:
    path = folder / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("n0.jpg", "n0.cls"):
            info = _member(name, kind)
            info.linkname = "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            tar.addfile(info)
    return path


TOLERATED = Gallery()
"""Shards from which the one good picture is loaded; the error is the report of what is left out, if there is any."""


@TOLERATED.attack("")
def global_header_of_five_megabytes(folder: Path) -> Path:
    """Memory: attributes that a library would copy for each member."""
    return _tar(folder, (_member("g", tarfile.XGLTYPE), b"5000000 comment=" + b"x" * 4_999_983 + b"\n"))


@TOLERATED.attack("")
def sparse_member_first(folder: Path) -> Path:
    """A member that libraries refuse to read."""
    return _tar(folder, (_member("s.jpg", tarfile.GNUTYPE_SPARSE), b""))


@TOLERATED.attack("")
def member_of_an_unknown_type(folder: Path) -> Path:
    """A type that nobody has."""
    return _tar(folder, (_member("s.bin", b"Z"), b"abc"))


@TOLERATED.attack("")
def long_name(folder: Path) -> Path:
    """A name of 3,000 characters, which is allowed."""
    return _tar(folder, (_member("x" * 3_000 + ".txt"), b"abc"))


DAMAGED = Gallery()
"""Shards that are reported as unreadable from a member on, which is the first."""


def _refused(folder: Path, kind: bytes, content: bytes) -> Path:
    return _tar(folder, (_member("e", kind), content))


@DAMAGED.attack(
    "FILE: truncated, corrupt, or no tar file (an extended header of it has 5,000,000 bytes); the rest is left out"
)
def extended_header_of_five_megabytes(folder: Path) -> Path:
    """Memory: an attribute of one member."""
    return _refused(folder, tarfile.XHDTYPE, b"5000000 comment=" + b"x" * 4_999_983 + b"\n")


@DAMAGED.attack(
    "FILE: truncated, corrupt, or no tar file (an extended header of it has 5,000,001 bytes); the rest is left out"
)
def long_name_of_five_megabytes(folder: Path) -> Path:
    """Memory: a name of one member."""
    return _refused(folder, tarfile.GNUTYPE_LONGNAME, b"x" * 5_000_000 + b"\0")


@DAMAGED.attack(
    "FILE: truncated, corrupt, or no tar file (an extended header of it is malformed); the rest is left out"
)
def extended_header_of_no_length(folder: Path) -> Path:
    """Time: a record of no bytes, after which the same record follows for ever."""
    return _refused(folder, tarfile.XHDTYPE, b"0 path=x\n")


@DAMAGED.attack(
    "FILE: truncated, corrupt, or no tar file (an extended header of it is malformed); the rest is left out"
)
def extended_header_of_text(folder: Path) -> Path:
    """A record whose length is no number."""
    return _refused(folder, tarfile.XHDTYPE, b"path=x\n")


@DAMAGED.attack(
    "FILE: truncated, corrupt, or no tar file (an extended header of it has a size that is no "
    "number); the rest is left out"
)
def extended_size_of_letters(folder: Path) -> Path:
    """A size that is no number."""
    return _refused(folder, tarfile.XHDTYPE, b"10 size=-\n")


@DAMAGED.attack("FILE: truncated, corrupt, or no tar file (a name in it has 60,000 characters); the rest is left out")
def name_beyond_the_limit(folder: Path) -> Path:
    """A name of 60,000 characters."""
    return _refused(folder, tarfile.GNUTYPE_LONGNAME, b"x" * 60_000 + b"\0")


@DAMAGED.attack("FILE: truncated, corrupt, or no tar file (a header of it has a negative size); the rest is left out")
def negative_size(folder: Path) -> Path:
    """A size that would let the reader go back, and read the same member for ever."""
    path = _refused(folder, b"0", b"abc")
    blob = bytearray(path.read_bytes())
    blob[124:136] = b"\xff" * 10 + (-512).to_bytes(2, "big", signed=True)
    blob[148:156] = b" " * 8
    blob[148:156] = b"%06o\0 " % sum(blob[:512])
    path.write_bytes(blob)
    return path
