"""Hostile packed files, first part: the container, its header and the entries of the document."""

from __future__ import annotations

import json

import numpy as np
from attacks.containers import BLANK, Container, Entry, sealed_header
from attacks.gallery import Gallery
from attacks.packed_base import images, on, program

HEADERS = Gallery()


@HEADERS.attack("the model is empty")
def empty_file() -> bytes:
    """A file of no bytes, which cannot be mapped to memory."""
    return b""


@HEADERS.attack("the model is truncated or not a safetensors file (7 bytes)")
def seven_bytes() -> bytes:
    """A file that ends within the length of its header."""
    return b"\1\0\0\0\0\0\0"


@HEADERS.attack("the model is truncated or not a safetensors file (2,312 bytes)")
def header_beyond_the_end() -> bytes:
    """A length of the header that is one more than there is."""
    blob = images().sealed()
    return (len(blob) - 7).to_bytes(8, "little") + blob[8:]


@HEADERS.attack("the model is truncated or not a safetensors file (2,312 bytes)")
def header_of_the_largest_length() -> bytes:
    """A length of the header that would overflow when it is added to something."""
    return b"\xff" * 8 + images().sealed()[8:]


@HEADERS.attack("the model is corrupt: its header is not the JSON that biper writes")
def header_is_no_json() -> bytes:
    """A header of text."""
    return sealed_header("biper" * 20 + BLANK)


@HEADERS.attack("the model is corrupt: its header is not the JSON that biper writes")
def header_is_a_list() -> bytes:
    """A header that is JSON, but no object."""
    return sealed_header(json.dumps([BLANK]))


@HEADERS.attack("the model is corrupt: its header is not the JSON that biper writes")
def header_of_nested_lists() -> bytes:
    """The recursion of the parser of the header."""
    return sealed_header("[" * 100_000 + "]" * 100_000)


@HEADERS.attack("the model has a header of 9,437,224 bytes, more than the 8,388,608 of a packed file")
def header_of_nine_megabytes() -> bytes:
    """Memory: objects of JSON take up to 32 times their text."""
    return sealed_header(json.dumps({"__metadata__": {"biper": "{}" + " " * (9 << 20)}}))


@HEADERS.attack("the model is corrupt: its header is not the JSON that biper writes")
def header_of_no_text() -> bytes:
    """Bytes that are no UTF-8."""
    blob = bytearray(images().sealed())
    blob[12] = 0xFF
    return bytes(blob)


@HEADERS.attack("the model is corrupt: its header is not the JSON that biper writes")
def metadata_is_a_list() -> bytes:
    """Metadata that has no keys."""
    return sealed_header(json.dumps({"__metadata__": ["biper"]}))


@HEADERS.attack("the model is corrupt: its header is not the JSON that biper writes")
def document_is_an_object() -> bytes:
    """A document that was not written as text."""
    return sealed_header(json.dumps({"__metadata__": {"biper": {"sha256": BLANK}}}))


@HEADERS.attack("the model is corrupt: its document is no JSON object")
def document_is_a_list() -> bytes:
    """A document that is no object."""
    return images().sealed_text(json.dumps([BLANK]))


@HEADERS.attack("the model is corrupt: its header is not the JSON that biper writes")
def document_of_nested_lists() -> bytes:
    """The recursion of the parser of the document."""
    return images().sealed_text('{"sha256": "' + BLANK + '", "a": ' + "[" * 100_000 + "]" * 100_000 + "}")


@HEADERS.attack("the model is corrupt: its header is not the JSON that biper writes")
def number_of_five_thousand_digits() -> bytes:
    """The conversion of digits, which takes time in proportion to the square of their number."""
    return images().sealed_text('{"sha256": "' + BLANK + '", "format": ' + "9" * 5000 + "}")


@HEADERS.attack("the model is a safetensors file, but not one that biper wrote")
def no_hash() -> bytes:
    """A safetensors file of somebody else."""
    return images().sealed_text("{}")


@HEADERS.attack("the model is a safetensors file, but not one that biper wrote")
def hash_of_surrogates() -> bytes:
    """Half characters in place of the checksum, which cannot be encoded when it is looked for."""
    return images().sealed_text(json.dumps({"sha256": "\ud800" * 64}))


@HEADERS.attack("the model is a safetensors file, but not one that biper wrote")
def hash_of_spaces() -> bytes:
    """Something else of the right length."""
    return images().sealed_text(json.dumps({"sha256": " " * 64}))


@HEADERS.attack("the model is a safetensors file, but not one that biper wrote")
def hash_is_a_number() -> bytes:
    """A checksum that is no text."""
    return images().sealed_text(json.dumps({"sha256": 5}))


def _weight_of(dtype: object) -> Container:
    container = images()
    entry = container.tensors["1.flip"]
    entry.dtype = dtype
    return container


@HEADERS.attack("the model has a tensor 1.flip of type F8_E4M3, expected F16, F32, I32, I8, U16, U8")
def float8_tensor() -> Container:
    """A type that safetensors knows and NumPy does not."""
    return _weight_of("F8_E4M3")


@HEADERS.attack("the model has a tensor 1.flip of type F8_E5M2, expected F16, F32, I32, I8, U16, U8")
def other_float8_tensor() -> Container:
    """Another one."""
    return _weight_of("F8_E5M2")


@HEADERS.attack("the model has a tensor 1.flip of type F8_E8M0, expected F16, F32, I32, I8, U16, U8")
def scale_tensor() -> Container:
    """The type of the exponents of block formats."""
    return _weight_of("F8_E8M0")


@HEADERS.attack("the model has a tensor 1.flip of type F4, expected F16, F32, I32, I8, U16, U8")
def float4_tensor() -> Container:
    """A type of half a byte."""
    container = _weight_of("F4")
    container.tensors["1.flip"].shape = [12]
    return container


@HEADERS.attack("the model has a tensor 1.flip of type BF16, expected F16, F32, I32, I8, U16, U8")
def bfloat16_tensor() -> Container:
    """A type that NumPy would read as integers."""
    container = _weight_of("BF16")
    container.tensors["1.flip"].shape = [3]
    return container


@HEADERS.attack("the model has a tensor 1.flip of type BOOL, expected F16, F32, I32, I8, U16, U8")
def boolean_tensor() -> Container:
    """A type that no operation has."""
    return _weight_of("BOOL")


@HEADERS.attack("the model has a tensor 1.flip of type X9\\x1b[2J, expected F16, F32, I32, I8, U16, U8")
def unknown_type() -> Container:
    """A type that nobody has."""
    return _weight_of("X9\x1b[2J")


@HEADERS.attack("the model has a tensor 1.flip of type 9, expected F16, F32, I32, I8, U16, U8")
def type_is_a_number() -> Container:
    """A type that is no name."""
    return _weight_of(9)


@HEADERS.attack("the model is corrupt: its header is not the JSON that biper writes")
def tensor_without_a_type() -> bytes:
    """An entry of the header that lacks a key."""
    header = json.loads(images().header('{"sha256": "' + BLANK + '"}'))
    del header["1.flip"]["dtype"]
    return sealed_header(json.dumps(header), b"".join(entry.data for entry in images().tensors.values()))


@HEADERS.attack("the model is corrupt: *")
def tensors_that_overlap() -> Container:
    """Two tensors in one place, of which one would change with the other."""
    container = images()
    container.offsets["1.flip"] = [0, 6]
    return container


@HEADERS.attack("the model is corrupt: *")
def tensor_beyond_the_end() -> Container:
    """Offsets far behind the end of the file."""
    container = images()
    container.offsets["1.flip"] = [1 << 62, (1 << 62) + 6]
    return container


@HEADERS.attack("the model is corrupt: *")
def tensor_of_another_size() -> Container:
    """A shape that asks for more bytes than its tensor has."""
    container = images()
    container.tensors["1.flip"].shape = [1 << 40]
    return container


@HEADERS.attack("the model is corrupt: *")
def shape_that_overflows() -> Container:
    """Sizes whose product is 0 in 64 bits."""
    container = images()
    container.tensors["1.flip"].shape = [1 << 32, 1 << 32, 6]
    return container


@HEADERS.attack("the model is corrupt: *")
def bytes_after_the_last_tensor() -> bytes:
    """Bytes that belong to nothing, which could hold something else."""
    container = images()
    header = container.header(json.dumps({"sha256": BLANK, **container.document}))
    return sealed_header(header, b"".join(entry.data for entry in container.tensors.values()) + b"x" * 16)


def _changed(**entries: object) -> Container:
    container = images()
    container.document |= entries
    return container


@HEADERS.attack("the model has format None, expected one of biper program 1, biper program 2")
def no_format() -> Container:
    """A file without its version."""
    container = images()
    del container.document["format"]
    return container


@HEADERS.attack("the model has format 'biper program 3', expected one of biper program 1, biper program 2")
def format_of_the_future() -> Container:
    """A version that is not known."""
    return _changed(format="biper program 3")


@HEADERS.attack("the model has format ['biper program 1'], expected one of biper program 1, biper program 2")
def format_is_a_list() -> Container:
    """A version that cannot be looked up in a table."""
    return _changed(format=["biper program 1"])


@HEADERS.attack("operation 0 is an unknown 'unary'")
def arrays_in_version_1() -> Container:
    """An operation of the second version in a file of the first."""
    container = program([3, 4, 4], on("unary", "image", function="abs"))
    container.document["format"] = "biper program 1"
    return container


@HEADERS.attack("the model has no input")
def no_input() -> Container:
    """A file that says nothing of its images."""
    return _changed(input=None)


def _input(**entries: object) -> Container:
    container = images()
    container.document["input"] |= entries
    return container


@HEADERS.attack("the model has input shape [3.0, 4.0, 4.0], expected 3 integers from 1 to 65536")
def shape_of_floats() -> Container:
    """Sizes that are equal to integers, but are none."""
    return _input(shape=[3.0, 4.0, 4.0])


@HEADERS.attack("the model has input shape [True, True, True], expected 3 integers from 1 to 65536")
def shape_of_booleans() -> Container:
    """Sizes that are integers for Python."""
    return _input(shape=[True, True, True])


@HEADERS.attack("the model has input shape [3, 4], expected 3 integers from 1 to 65536")
def shape_of_two() -> Container:
    """An image without a width."""
    return _input(shape=[3, 4])


@HEADERS.attack("the model has input shape [3, -4, -4], expected 3 integers from 1 to 65536")
def negative_shape() -> Container:
    """Two negative sizes, whose product is positive."""
    return _input(shape=[3, -4, -4])


@HEADERS.attack("the model makes a value of shape (3, 65536, 65536)")
def huge_shape() -> Container:
    """An image of 3 * 2^32 pixels."""
    return _input(shape=[3, 1 << 16, 1 << 16])


@HEADERS.attack("the model has mean [0.5], expected 3 finite numbers")
def mean_of_one_channel() -> Container:
    """Fewer numbers than channels."""
    return _input(mean=[0.5])


@HEADERS.attack("the model has mean [0.5, nan, 0.5], expected 3 finite numbers")
def mean_is_nan() -> Container:
    """A number that JSON has not, but Python reads."""
    return _input(mean=[0.5, float("nan"), 0.5])


@HEADERS.attack(
    "the model has mean [0.5, "
    "1000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000, "
    "expected 3 finite numbers"
)
def mean_beyond_floats() -> Container:
    """An integer of 400 digits, which no float can hold."""
    return _input(mean=[0.5, 10**400, 0.5])


@HEADERS.attack("the model has a std that is not positive")
def std_is_zero() -> Container:
    """A division by 0."""
    return _input(std=[0.25, 0, 0.25])


@HEADERS.attack("the model has no list of class names")
def classes_are_numbers() -> Container:
    """Names that are no text."""
    return _changed(classes=[1, 2, 3, 4])


@HEADERS.attack("the model has text that is no Unicode")
def classes_are_half_characters() -> Container:
    """Names that no terminal and no file can show."""
    return _changed(classes=["cat", "dog", "cow", "\udcff"])


@HEADERS.attack("the model has 3 class names for 4 outputs")
def too_few_classes() -> Container:
    """Fewer names than outputs, so that the last class has none."""
    return _changed(classes=["cat", "dog", "cow"])


@HEADERS.attack("the model has output 'c', which is no real value")
def output_of_bits() -> Container:
    """A result that is no real value."""
    return _changed(output="c")


@HEADERS.attack("the model has output ['e'], which is no real value")
def output_is_a_list() -> Container:
    """A result that cannot be looked up in a table."""
    return _changed(output=["e"])


@HEADERS.attack("the model has no list of operations")
def operations_are_an_object() -> Container:
    """Operations without an order."""
    return _changed(operations={"0": {}})


@HEADERS.attack("the model has no list of operations")
def ten_thousand_and_one_operations() -> Container:
    """One operation more than is allowed."""
    container = images()
    container.document["operations"] = [{}] * 10_001
    return container


@HEADERS.attack("operation 0 has no entry")
def operation_is_a_list() -> Container:
    """An operation that is no object."""
    return _changed(operations=[["convolution"]])


@HEADERS.attack("the model has 1001 outputs, expected at most 1000")
def thousand_and_one_results() -> Container:
    """A result a name, each of which is copied for each image."""
    names = {f"r{number}": "y" for number in range(1001)}
    return program([3, 4, 4], on("unary", "image", function="abs"), outputs=names)


@HEADERS.attack("the model has 1001 inputs, expected at most 1000")
def thousand_and_one_inputs() -> Container:
    """As many inputs."""
    names = {f"i{number}": [1] for number in range(1001)}
    return program([3, 4, 4], on("unary", "image", function="abs"), inputs=names)


@HEADERS.attack("the model has a second input 'image'")
def second_image() -> Container:
    """A further input with the name of the image."""
    return program([3, 4, 4], on("unary", "image", function="abs"), inputs={"image": [5]})


@HEADERS.attack("the model has shape [1, 1, 1, 1, 1, 1, 1, 1, 1]")
def input_of_nine_axes() -> Container:
    """An array of more axes than the engine has."""
    return program([3, 4, 4], on("unary", "image", function="abs"), inputs={"more": [1] * 9})


@HEADERS.attack("the model has no real value for its output 'r'")
def result_of_nothing() -> Container:
    """A result that is no value."""
    return program([3, 4, 4], on("unary", "image", function="abs"), outputs={"r": "z"})


@HEADERS.attack("the model has another output than its first")
def other_first_result() -> Container:
    """Two answers to which result is the first."""
    return program([3, 4, 4], on("unary", "image", function="abs"), outputs={"r": "image"})


@HEADERS.attack(
    "the model has preprocessing with ['size'], expected ['background', 'channels', 'draft_margin', "
    "'exif_orientation', 'interpolation', 'resize', 'size', 'white']"
)
def preprocessing_without_a_key() -> Container:
    """Preprocessing that does not say all."""
    return program([3, 4, 4], on("unary", "image", function="abs"), preprocessing={"size": [4, 4]})


@HEADERS.attack("the model has preprocessing to (3, 65536, 65536) for images of (3, 4, 4)")
def preprocessing_to_another_size() -> Container:
    """Preprocessing that makes other images than the program takes."""
    made = {"size": [1 << 16, 1 << 16], "resize": 1 << 16, "interpolation": "bilinear", "channels": "RGB",
            "background": [0, 0, 0], "white": None, "exif_orientation": True, "draft_margin": 0}  # fmt: skip
    return program([3, 4, 4], on("unary", "image", function="abs"), preprocessing=made)


@HEADERS.attack("the model needs 71,361,360 bytes of memory with its tensors, more than max_memory=67,108,864 allows")
def more_tensors_than_memory() -> Container:
    """Memory: a file of more bytes than max_memory allows, here 64 MiB."""
    container = images()
    container.tensors["9.unused"] = Entry.of(np.zeros(17 << 20, np.float32))
    return container
