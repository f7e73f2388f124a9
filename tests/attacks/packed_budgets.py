"""Hostile packed files, third part: small files that ask for much memory or time. All of them are valid otherwise.

They are loaded with ``max_memory`` of 64 MiB and ``max_work`` of 2^34 operations.
"""

from __future__ import annotations

import numpy as np
from attacks.containers import Container
from attacks.gallery import Gallery
from attacks.packed_base import Document, convolution, on, program

BUDGETS = Gallery()
MAX_MEMORY = 64 << 20
MAX_WORK = 1 << 34


def _ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@BUDGETS.attack(
    "the model needs 1,073,755,656 bytes of memory with its results, more than max_memory=67,108,864 allows"
)
def large_image() -> Container:
    """Memory: an input of 16 million pixels of three channels, which the engine pads to 16."""
    return program([3, 4096, 4096], on("elementwise", "image"))


@BUDGETS.attack(
    "the model needs 4,294,980,360 bytes of memory with its results, more than max_memory=67,108,864 allows"
)
def one_channel() -> Container:
    """Memory: one channel takes as much as 16, here 4 GiB of a file of some hundred bytes."""
    return program([1, 8192, 8192], on("elementwise", "image"))


@BUDGETS.attack("the model needs 134,233,608 bytes of memory with its results, more than max_memory=67,108,864 allows")
def many_channels_of_padding() -> Container:
    """Memory: a million channels of zeros."""
    return program([3, 4, 4], on("pad_channels", "image", before=1 << 20, after=1 << 20))


@BUDGETS.attack(
    "the model needs 4,294,981,128 bytes of memory with its results, more than max_memory=67,108,864 allows"
)
def resize_to_everything() -> Container:
    """Memory: one pixel becomes 64 million."""
    return program([1, 1, 1], on("resize", "image", height=8192, width=8192))


@BUDGETS.attack("operation 16 (concatenate of s) makes a value of shape (2097152, 8, 8)")
def doubled_by_concatenation() -> Container:
    """Memory: a value joined with itself, again and again."""
    steps = [on("concatenate", "image" if not n else f"v{n - 1}", "image" if not n else f"v{n - 1}", real=f"v{n}")
             for n in range(20)]  # fmt: skip
    return program([16, 8, 8], *steps, output="v19")


@BUDGETS.attack("the model needs 268,449,032 bytes of memory with its results, more than max_memory=67,108,864 allows")
def expanded_array() -> Container:
    """Memory: a view of one number as 64 million, which is a result."""
    return program([1, 1, 1], on("expand", "image", shape=[64, 1024, 1024]))


@BUDGETS.attack("the model needs 134,233,104 bytes of memory with its results, more than max_memory=67,108,864 allows")
def interior_padding() -> Container:
    """Memory: a million zeros between two numbers."""
    return program([1, 1, 2], on("pad", "image", low=[0, 0, 0], high=[0, 0, 0], interior=[0, 0, 1 << 25], value=0.0))


@BUDGETS.attack("the model needs 256,090,888 bytes of memory with its results, more than max_memory=67,108,864 allows")
def outer_sum() -> Container:
    """Memory: a row and a column, broadcast together."""
    row = on("constant", real="r", tensors={"value": _ones(1, 8000)})
    column = on("constant", real="c", tensors={"value": _ones(8000, 1)})
    return program([1, 1, 1], row, column, on("binary", "r", "c", function="add"))


@BUDGETS.attack("the model needs 256,090,120 bytes of memory with its results, more than max_memory=67,108,864 allows")
def outer_product() -> Container:
    """Memory: a product of a row and a column."""
    row = on("constant", real="r", tensors={"value": _ones(1, 8000)})
    column = on("constant", real="c", tensors={"value": _ones(8000, 1)})
    return program([1, 1, 1], row, column, on("matmul", "c", "r"))


@BUDGETS.attack("the model needs 105,331,976 bytes of memory with its results, more than max_memory=67,108,864 allows")
def values_that_stay() -> Container:
    """Memory: each value is allowed, but 100 are needed at the same time."""
    steps: list[Document] = [on("elementwise", "image", real=f"v{n}") for n in range(100)]
    return program([16, 128, 128], *steps, on("concatenate", *(f"v{n}" for n in range(100))))


@BUDGETS.attack("the model needs 67,143,432 bytes of memory with its results, more than max_memory=67,108,864 allows")
def many_results() -> Container:
    """Memory: a value that is returned a thousand times."""
    names = {f"r{n}": "y" for n in range(1000)}
    return program([16, 64, 64], on("elementwise", "image"), outputs=names)


@BUDGETS.attack(
    "the model needs 134,231,944 bytes of memory with the values of one image, more than max_memory=67,108,864 allows"
)
def large_second_input() -> Container:
    """Memory: an input that nothing reads."""
    return program([1, 1, 1], on("elementwise", "image"), inputs={"more": [1 << 25]})


@BUDGETS.attack(
    "the model needs 192,012,800 bytes of memory with its header of 6,000,400 bytes, more than "
    "max_memory=67,108,864 allows"
)
def header_as_large_as_allowed() -> Container:
    """Memory: JSON that takes up to 32 times its text once it is read."""
    container = program([1, 1, 1], on("elementwise", "image"))
    container.document["classes"] = [""] * 1_000_000
    return container


@BUDGETS.attack("the engine refuses the model: it needs more memory than max_memory=67108864 allows")
def bits_of_one_channel() -> Container:
    """Memory of the engine: a byte of weights becomes 12 words of 16 lanes."""
    weight = np.zeros((1, 1024, 1024, 1), np.uint8)
    first = on("elementwise", "image", real="a") | {"bits": "b"}
    last = on("binary_convolution", "b", tensors={"weight": weight}, padding=[512, 511, 512, 511])
    return program([1, 2, 2], first, last)


@BUDGETS.attack("the engine refuses the model: it needs more memory than max_memory=67108864 allows")
def weights_of_one_channel() -> Container:
    """Memory of the engine: weights of one output channel take as much as those of 16."""
    return program([1, 2, 2], convolution("image", _ones(1, 1, 1200, 1200), padding=[600, 599, 600, 599]))


@BUDGETS.attack("the engine refuses the model: it needs more memory than max_memory=67108864 allows")
def int8_levels_of_padding() -> Container:
    """Memory of the engine: levels of an input of one pixel that is padded by 1,024 on all sides."""
    weight = np.ones((1, 32, 1, 1), np.int8)
    tensors = {"weight": weight, "multiplier": _ones(1), "offset": _ones(1)}
    entry = convolution("image", weight, input_factor=1.0, input_zero=0, padding=[1024] * 4, stride=[1024, 1024])
    return program([32, 1, 1], entry | {"tensors": tensors})


@BUDGETS.attack("the engine refuses the model: it needs more memory than max_memory=67108864 allows")
def packed_for_every_product() -> Container:
    """Memory of the engine: a constant matrix that is arranged anew for each product of a stack."""
    constant = on("constant", real="k", tensors={"value": _ones(2, 1, 300, 300)})
    left = on("constant", real="l", tensors={"value": _ones(1, 200, 1, 300)})
    return program([1, 1, 1], constant, left, on("matmul", "l", "k"))


@BUDGETS.attack("the engine refuses the model: it needs more memory than max_memory=67108864 allows")
def columns_of_one() -> Container:
    """Memory of the engine: matrices of one column and one row take as much as of 16."""
    constant = on("constant", real="k", tensors={"value": _ones(60_000, 17, 1)})
    left = on("constant", real="l", tensors={"value": _ones(1, 1, 17)})
    return program([1, 1, 1], constant, left, on("matmul", "l", "k"))


def _repeated(shape: list[int], count: int, kind: str, **given: object) -> Container:
    """An operation after itself, again and again."""
    steps = [on(kind, "image" if not n else f"v{n - 1}", real=f"v{n}", **given) for n in range(count)]  # type: ignore[arg-type]
    return program(shape, *steps, output=f"v{count - 1}")


@BUDGETS.attack(
    "operation 341 (elementwise of s) brings the work for one image to 17,213,423,616 elementary "
    "operations, more than max_work=17,179,869,184 allows"
)
def a_thousand_epilogues() -> Container:
    """Time: elementwise work alone, of small operations."""
    return _repeated([16, 512, 512], 1000, "elementwise")


@BUDGETS.attack(
    "operation 910 (unary of s) brings the work for one image to 17,194,549,248 elementary "
    "operations, more than max_work=17,179,869,184 allows"
)
def a_thousand_powers() -> Container:
    """Time: functions that take a hundred times as long as a sum."""
    return _repeated([64, 64, 64], 1000, "unary", function="power", exponent=0.3)


@BUDGETS.attack(
    "operation 910 (softmax of s) brings the work for one image to 17,194,549,248 elementary "
    "operations, more than max_work=17,179,869,184 allows"
)
def a_thousand_softmaxes() -> Container:
    """Time: exponentials."""
    return _repeated([64, 64, 64], 1000, "softmax", axis=0, log=False)


@BUDGETS.attack(
    "operation 682 (normalize of s) brings the work for one image to 17,188,257,792 elementary "
    "operations, more than max_work=17,179,869,184 allows"
)
def a_thousand_normalizations() -> Container:
    """Time: each element is read three times."""
    return _repeated([64, 128, 128], 1000, "normalize", axes=[0, 1, 2], center=True, epsilon=1.0)


@BUDGETS.attack(
    "operation 1365 (elementwise of s) brings the work for one image to 17,188,257,792 elementary "
    "operations, more than max_work=17,179,869,184 allows"
)
def a_thousand_transpositions() -> Container:
    """Time: views that the next operation cannot read without a copy."""
    steps: list[Document] = []
    for n in range(1000):
        steps.append(on("permute", "image" if not n else f"v{n - 1}", real=f"p{n}", order=[2, 0, 1]))
        steps.append(on("elementwise", f"p{n}", real=f"v{n}"))
    return program([64, 128, 128], *steps, output="v999")


@BUDGETS.attack(
    "operation 0 (pool of s) brings the work for one image to 135,312,343,200 elementary operations, "
    "more than max_work=17,179,869,184 allows"
)
def pool_of_the_whole_image() -> Container:
    """Time: a window as large as the image, for each pixel."""
    entry = on("pool", "image", kind="max", kernel=[255, 255], stride=[1, 1], padding=[127, 127], size=[255, 255],
               count_padding=False)  # fmt: skip
    return program([16, 255, 255], entry)


@BUDGETS.attack(
    "operation 0 (pool of s) brings the work for one image to 50,186,347,300 elementary operations, "
    "more than max_work=17,179,869,184 allows"
)
def pool_of_one_channel() -> Container:
    """Time: one channel takes as long as 16."""
    entry = on("pool", "image", kind="average", kernel=[199, 199], stride=[1, 1], padding=[99, 99], size=[199, 199],
               count_padding=True)  # fmt: skip
    return program([1, 199, 199], entry)


@BUDGETS.attack(
    "operation 0 (convolution of s) brings the work for one image to 17,196,660,544 elementary "
    "operations, more than max_work=17,179,869,184 allows"
)
def many_int8_levels() -> Container:
    """Time: levels of padding, whose sums are not counted because strides pass over them."""
    weight = np.ones((1, 64, 1, 1), np.int8)
    tensors = {"weight": weight, "multiplier": _ones(1), "offset": _ones(1)}
    given = {"input_factor": 1.0, "input_zero": 0, "padding": [1024] * 4, "stride": [1024, 1024]}
    steps = [convolution("image", weight, real=f"v{n}", **given) | {"tensors": tensors} for n in range(20)]
    return program([64, 1, 1], *steps, output="v0")


@BUDGETS.attack(
    "operation 0 (convolution of s) brings the work for one image to 25,200,230,400 elementary "
    "operations, more than max_work=17,179,869,184 allows"
)
def one_output_channel() -> Container:
    """Time: a convolution of one output channel takes as long as of 16."""
    return program([64, 160, 160], convolution("image", _ones(1, 64, 31, 31), padding=[15] * 4))


@BUDGETS.attack(
    "operation 2 (matmul of s) brings the work for one image to 27,180,000,016 elementary "
    "operations, more than max_work=17,179,869,184 allows"
)
def large_product() -> Container:
    """Time: a product of two matrices that a file need not hold."""
    big = on("expand", "image", real="e", shape=[3000, 3000])
    return program([1, 1, 1], on("reshape", "image", real="r", shape=[1, 1]), big | {"inputs": ["r"]},
                   on("matmul", "e", "e"))  # fmt: skip


@BUDGETS.attack(
    "operation 0 (sample of s) brings the work for one image to 20,490,567,680 elementary "
    "operations, more than max_work=17,179,869,184 allows"
)
def sums_of_one_element() -> Container:
    """Time: an index that names one element a million times."""
    index = {"index": np.zeros((1000, 1000), np.int32)}
    return program([16, 32, 160], on("sample", "image", tensors=index, axis=1, function="sum"))


@BUDGETS.attack(
    "operation 511 (reduce of s) brings the work for one image to 17,179,871,232 elementary "
    "operations, more than max_work=17,179,869,184 allows"
)
def a_thousand_reductions() -> Container:
    """Time: results of one number, each of which reads a whole value."""
    steps = [on("reduce", "image", real=f"v{n}", function="product", axes=[0, 1, 2], keep=True) for n in range(1000)]
    return program([16, 512, 512], *steps, output="v0")
