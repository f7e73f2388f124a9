"""Hostile saved models, and hostile checkpoints of the method's authors: each function returns the bytes of a file."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attacks.containers import Container, Entry
from attacks.gallery import Gallery
from support.filled import filled_state_dict

import biper
from biper.models.saved import ModelInfo, save_model

MODELS = Gallery()
REFERENCES = Gallery()


@cache
def _model() -> bytes:
    import tempfile

    info = ModelInfo("digits_cnn", "digits", 10, "W1A1", 20.0, (0.5,), (0.25,), ())
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder) / "m.safetensors", biper.create_model("digits_cnn", dataset="digits"), info)
        return (Path(folder) / "m.safetensors").read_bytes()


def model() -> Container:
    """A valid saved model of a small network."""
    return Container.read(_model())


def _info(**changes: object) -> bytes:
    container = model()
    container.document["info"] |= changes
    return container.sealed()


@MODELS.attack(
    "FILE describes no network that this version knows: expected an integer from 1 to 1,048,576 as "
    "num_classes, got 1000000000"
)
def billion_classes() -> bytes:
    """Memory: a last layer of 256 GB."""
    return _info(num_classes=10**9)


@MODELS.attack(
    "FILE describes no network that this version knows: the last layer, fc.weight, should have the "
    "shape (1000000, 64) for 1,000,000 classes, got (10, 64)"
)
def million_classes() -> bytes:
    """Memory: a number that is allowed, and a last layer that is not in the file."""
    return _info(num_classes=1_000_000)


@MODELS.attack(
    "FILE describes no network that this version knows: expected an integer from 1 to 1,048,576 as "
    "num_classes, got 10.0"
)
def classes_as_a_float() -> bytes:
    """A number of classes that is no integer."""
    return _info(num_classes=10.0)


@MODELS.attack("FILE describes no network that this version knows: expected a positive number as frequency, got -1")
def negative_frequency() -> bytes:
    """A frequency that the layers do not take."""
    return _info(frequency=-1)


@MODELS.attack("FILE describes no network that this version knows: expected a positive number as frequency, got inf")
def infinite_frequency() -> bytes:
    """A frequency whose sine is NaN."""
    return _info(frequency=float("inf"))


@MODELS.attack(
    "FILE describes no network that this version knows: no network '\\x1b[2J' for digits; known: "
    "digits_cnn, resnet20, resnet18, resnet18a, resnet18a_bi_real, resnet18b, resnet18b_bi_real, "
    "resnet18c, resnet34, vgg_small"
)
def unknown_name() -> bytes:
    """A network that does not exist, with a name for the terminal."""
    return _info(name="\x1b[2J")


@MODELS.attack("FILE describes no network that this version knows: expected a text as name, got ['digits_cnn']")
def name_is_a_list() -> bytes:
    """A name that cannot be looked up in a table."""
    return _info(name=["digits_cnn"])


@MODELS.attack("FILE describes no network that this version knows: expected a text as dataset, got {}")
def dataset_is_an_object() -> bytes:
    """The same for the data set."""
    return _info(dataset={})


@MODELS.attack(
    "FILE describes no network that this version knows: no method {'a': 1}; known: biper, bnn, "
    "xnor-net, dorefa, bi-real, ir-net, recu, reste, adabin, reactnet"
)
def method_of_surprises() -> bytes:
    """A method whose name is an object."""
    return _info(method={"name": {"a": 1}})


@MODELS.attack(
    "FILE describes no network that this version knows: expected up to 3 integers with a product of "
    "at most 67,108,864 as input_shape, got [65536, 65536, 65536]"
)
def huge_sample() -> bytes:
    """Memory: an example of 2^48 numbers, for a network of one's own."""
    return _info(name="own", input_shape=[1 << 16, 1 << 16, 1 << 16])


@MODELS.attack("FILE describes no network that this version knows: expected a list of numbers as mean, got '0'")
def mean_is_a_text() -> bytes:
    """A text, which is a sequence too."""
    return _info(mean="0")


@MODELS.attack(
    "FILE describes no network that this version knows: expected a list of texts as classes, got "
    "['\\ud800', '\\ud800', '\\ud800', '\\ud800', '\\ud800', '\\ud800', '\\ud800', '\\ud800', '\\ud800', "
    "'\\ud800']"
)
def class_of_half_a_character() -> bytes:
    """A name that cannot be printed."""
    return _info(classes=["\ud800"] * 10)


@MODELS.attack(
    "FILE describes no network that this version knows: ModelInfo.__init__() got an unexpected "
    "keyword argument 'factory'"
)
def unknown_field() -> bytes:
    """A field of a later version, or of nobody."""
    return _info(factory="os:system")


@MODELS.attack("FILE describes no network that this version knows: 'info'")
def no_info() -> bytes:
    """A model without its description."""
    container = model()
    del container.document["info"]
    return container.sealed()


@MODELS.attack("FILE describes no network that this version knows: 'list' object is not a mapping")
def info_is_a_list() -> bytes:
    """A description without keys."""
    container = model()
    container.document["info"] = [1]
    return container.sealed()


@MODELS.attack("FILE holds ['biper model 1'], expected 'biper model 1'")
def format_of_a_checkpoint() -> bytes:
    """Another kind of file of ours."""
    container = model()
    container.document["format"] = ["biper model 1"]
    return container.sealed()


@MODELS.attack("FILE is a safetensors file, but not one that biper wrote")
def hash_of_surrogates() -> bytes:
    """A checksum that cannot be encoded."""
    return model().sealed_text('{"sha256": "' + "\\ud800" * 64 + '"}')


@MODELS.attack(
    "FILE has a tensor conv1.weight of type F8_E4M3, expected BF16, BOOL, F16, F32, F64, I16, I32, I64, I8, U8"
)
def float8_weights() -> bytes:
    """Weights that torch would convert without a word."""
    container = model()
    container.tensors["conv1.weight"] = Entry("F8_E4M3", container.tensors["conv1.weight"].shape, b"\x38" * 144)
    return container.sealed()


@MODELS.attack("FILE has a tensor conv1.weight of type F4, expected BF16, BOOL, F16, F32, F64, I16, I32, I64, I8, U8")
def float4_weights() -> bytes:
    """Weights of half a byte."""
    container = model()
    container.tensors["conv1.weight"] = Entry("F4", container.tensors["conv1.weight"].shape, b"\x38" * 72)
    return container.sealed()


@MODELS.attack(
    "FILE holds weights of another model, not of digits_cnn: size mismatch for fc.bias: copying a "
    "param with shape torch.Size([1]) from checkpoint, the shape in current model is "
    "torch.Size([10])."
)
def weights_of_another_shape() -> bytes:
    """A shape that would be broadcast."""
    container = model()
    container.tensors["fc.bias"] = Entry.of(np.ones(1, np.float32))
    return container.sealed()


def _state(**changes: Any) -> dict[str, Any]:
    """A state dict of the authors' ResNet-20."""
    return filled_state_dict("resnet20_1w1a", "cifar10") | changes


def _saved(document: object) -> bytes:
    content = io.BytesIO()
    torch.save(document, content)
    return content.getvalue()


def _reference(**changes: Any) -> bytes:
    state = _state() | {name.replace("__", "."): value for name, value in changes.items()}
    return _saved({"state_dict": state, "model": "resnet20_1w1a"})


@REFERENCES.attack("FILE: linear.weight has the shape (1000000000, 64), but fewer values in memory (strides (0, 0))")
def strides_of_zero() -> bytes:
    """Memory: one number that stands for 64 billion, from which the number of classes would be taken."""
    return _reference(linear__weight=torch.zeros(1).expand(10**9, 64))


@REFERENCES.attack("FILE: conv1.weight has the shape (16, 3, 3, 3), but fewer values in memory (strides (0, 0, 0, 0))")
def strides_of_zero_in_a_kernel() -> bytes:
    """The same in a layer of the right shape."""
    return _reference(conv1__weight=torch.zeros(1).expand(16, 3, 3, 3))


@REFERENCES.attack(
    "the state dict of resnet20_1w1a for cifar10: linear.weight should have the shape (10000, 64) "
    "for 10,000 classes, got (10000, 1)"
)
def many_classes_of_one_feature() -> bytes:
    """Memory: 40 kB of weights that ask for a last layer of 64 times as much."""
    return _reference(linear__weight=torch.zeros(10_000, 1))


@REFERENCES.attack("FILE: linear.weight is of the layout sparse_coo, expected an ordinary tensor")
def sparse_tensor() -> bytes:
    """Memory: a shape of 10^12 elements with none of them in the file."""
    size, none = (10**6, 10**6), torch.zeros((2, 0), dtype=torch.int64)
    empty = torch.sparse_coo_tensor(none, torch.zeros(0), size, check_invariants=True)
    return _reference(linear__weight=empty)


@REFERENCES.attack("FILE: linear.weight is a tensor without values (meta), expected one with values")
def meta_tensor() -> bytes:
    """A tensor without values."""
    return _reference(linear__weight=torch.empty(10**9, 64, device="meta"))


@REFERENCES.attack(
    "FILE: conv1.weight is of type float8_e4m3fn, expected one of bfloat16, bool, float16, float32, "
    "float64, int16, int32, int64, int8, uint8"
)
def float8_tensor() -> bytes:
    """A type in which nobody trains."""
    return _reference(conv1__weight=torch.zeros(16, 3, 3, 3).to(torch.float8_e4m3fn))


@REFERENCES.attack(
    "FILE: conv1.weight is of type complex64, expected one of bfloat16, bool, float16, float32, "
    "float64, int16, int32, int64, int8, uint8"
)
def complex_tensor() -> bytes:
    """Numbers that are not real."""
    return _reference(conv1__weight=torch.zeros(16, 3, 3, 3, dtype=torch.complex64))


@REFERENCES.attack("FILE names its network by a list, expected a text")
def name_of_the_network_is_a_list() -> bytes:
    """A name that cannot be looked up in a table."""
    return _saved({"state_dict": _state(), "model": ["resnet20_1w1a"]})


@REFERENCES.attack("FILE: \\x1b[2J is a tensor without values (meta), expected one with values")
def names_for_the_terminal() -> bytes:
    """A parameter whose name would clear the screen."""
    return _saved({"state_dict": _state() | {"\x1b[2J": torch.empty(1, device="meta")}, "model": "resnet20_1w1a"})


@REFERENCES.attack("FILE is compressed, as a checkpoint never is: it would take far more memory")
def zip_bomb() -> bytes:
    """Memory: 16 MiB of zeros that take 16 kB; more would be as easy."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(16 << 20))
    return content.getvalue()


@REFERENCES.attack("FILE is compressed, as a checkpoint never is: it would take far more memory")
def parts_that_share_their_bytes() -> bytes:
    """Memory: entries of an archive that are not compressed, but lie in one place."""
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("a/data.pkl", bytes(1 << 16))
        for number in range(50):
            archive.writestr(f"a/data/{number}", b"")
        first = archive.infolist()[0]
        for part in archive.infolist()[1:]:
            part.file_size = part.compress_size = first.file_size
            part.CRC, part.header_offset = first.CRC, first.header_offset
    return plain.getvalue()
