"""What a loss of power may leave of the files that a process wrote: every moment, with and without what was not synced.

The rules are those of POSIX and no better. The content of a file is safe once the file was synced; its name, a renamed
name and a removed one once its folder was synced; a folder once the folder above it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.disk import Step

LOSSES = ("nothing", "contents", "contents and names")
"""What that was not synced is lost: nothing, as after a kill; the contents of files, as on a file system that orders
names only; or also the names."""


@dataclass
class File:
    """A file: what it contains, and what of that is safe."""

    content: bytearray = field(default_factory=bytearray)
    safe: bytes = b""


@dataclass
class Folder:
    """A folder: what it contains, and what it contained when it was last synced."""

    entries: dict[str, File | Folder] = field(default_factory=dict)
    safe: dict[str, File | Folder] = field(default_factory=dict)


Tree = dict[str, bytes | None]
"""Contents by path; None is a folder."""


def states(steps: Sequence[Step], start: Tree | None = None) -> Iterator[tuple[int, str, Tree]]:
    """Each different state that a loss of power may leave.

    Args:
        steps: the operations, in their order.
        start: the files that were there before, which are safe; default none.

    Yields:
        How many operations were done, what was lost (one of `LOSSES`), and the files. Of states that follow each other
        and are the same, the last is given: the most was done before it.
    """
    root = _folder_of(start or {})
    before: dict[str, Tree] = {}
    for number in range(len(steps) + 1):
        if number:
            _do(root, steps[number - 1])
        for loss in LOSSES:
            tree: Tree = {}
            _collect(root, "", loss, tree)
            if loss in before and before[loss] != tree:
                yield number - 1, loss, before[loss]
            before[loss] = tree
    for loss, tree in before.items():
        yield len(steps), loss, tree


def write_tree(tree: Tree, folder: Path) -> Path:
    """Make the files of a state in a new folder."""
    folder.mkdir(parents=True)
    for path, content in tree.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)
    return folder


def read_tree(folder: Path) -> Tree:
    """The files of a folder."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def _folder_of(tree: Tree) -> Folder:
    """A folder with the files of a tree, all of them safe."""
    root = Folder()
    for path, content in sorted(tree.items()):
        folder, name = _parent(root, path)
        made = Folder() if content is None else File(bytearray(content), content)
        folder.entries[name] = folder.safe[name] = made
    return root


def _do(root: Folder, step: Step) -> None:
    folder, name = _parent(root, step.path)
    found = folder.entries.get(name)
    match step.kind:
        case "create":
            folder.entries[name] = File()
        case "make folder":
            folder.entries[name] = Folder()
        case "remove" | "remove folder":
            del folder.entries[name]
        case "rename":
            other, new = _parent(root, step.other)
            other.entries[new] = folder.entries.pop(name)
        case "sync folder":
            synced = found if isinstance(found, Folder) else root
            synced.safe = dict(synced.entries)
        case _:
            assert isinstance(found, File), step
            if step.kind == "write":
                found.content[step.place : step.place + len(step.data)] = step.data
            elif step.kind == "cut":
                del found.content[step.place :]
            else:
                found.safe = bytes(found.content)


def _parent(root: Folder, path: str) -> tuple[Folder, str]:
    *above, name = path.split("/")
    for part in above:
        found = root.entries[part]
        assert isinstance(found, Folder)
        root = found
    return root, name


def _collect(folder: Folder, prefix: str, loss: str, tree: Tree) -> None:
    entries = folder.safe if loss == "contents and names" else folder.entries
    for name, entry in sorted(entries.items()):
        if isinstance(entry, Folder):
            tree[prefix + name] = None
            _collect(entry, f"{prefix}{name}/", loss, tree)
        else:
            tree[prefix + name] = bytes(entry.content) if loss == "nothing" else entry.safe
