"""Hostile packed files, second part: operations, their values, their tensors and their epilogues."""

from __future__ import annotations

import numpy as np
from attacks.containers import Container, Entry
from attacks.gallery import Gallery
from attacks.packed_base import attributes, convolution, images, on, operation, program

OPERATIONS = Gallery()


@OPERATIONS.attack("operation 0 is an unknown \"__import__('os').system('id')\"")
def unknown_operation() -> Container:
    """An operation with a name of code."""
    container = images()
    operation(container, 0)["operation"] = "__import__('os').system('id')"
    return container


@OPERATIONS.attack("operation 0 is an unknown ['convolution']")
def operation_named_by_a_list() -> Container:
    """A name that cannot be looked up in a table."""
    container = images()
    operation(container, 0)["operation"] = ["convolution"]
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has unknown entries ['file']")
def unknown_entry() -> Container:
    """An entry that the reader would pass over, and another reader might not."""
    container = images()
    operation(container, 0)["file"] = "/etc/passwd"
    return container


@OPERATIONS.attack(
    "operation 0 (convolution of \\x1b[2J\\x1b]0;biper\\x07) reads 'nothing', which no earlier "
    "operation emits as it needs it"
)
def escape_sequence_in_a_name() -> Container:
    """The terminal: the name of a layer that clears the screen."""
    container = images()
    operation(container, 0).update(source="\x1b[2J\x1b]0;biper\x07", inputs=["nothing"])
    return container


@OPERATIONS.attack(
    "operation 0 (convolution of \\u202egnihton) reads 'nothing', which no earlier operation emits as it needs it"
)
def name_that_turns_the_text() -> Container:
    """The terminal: a character that lets the rest of the line run from right to left."""
    container = images()
    operation(container, 0).update(source="\u202egnihton", inputs=["nothing"])
    return container


@OPERATIONS.attack(
    "operation 0 (convolution of "
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xxxx) reads 'nothing', which no earlier operation emits as it needs it"
)
def name_of_a_megabyte() -> Container:
    """A message that would quote all of it."""
    container = images()
    operation(container, 0).update(source="x" * 1_000_000, inputs=["nothing"])
    return container


@OPERATIONS.attack("operation 0 (convolution of first) reads 'a', which no earlier operation emits as it needs it")
def reads_itself() -> Container:
    """A value that is read before it is made."""
    container = images()
    operation(container, 0)["inputs"] = ["a"]
    return container


@OPERATIONS.attack(
    "operation 1 (binary_convolution of second) reads 'a', which no earlier operation emits as it needs it"
)
def reads_real_values_as_bits() -> Container:
    """A value in the memory layout of another kind."""
    container = images()
    operation(container, 1)["inputs"] = ["a"]
    return container


@OPERATIONS.attack("operation 3 (pool of last) reads 'c', which no earlier operation emits as it needs it")
def reads_bits_as_real_values() -> Container:
    """The other way round."""
    container = images()
    operation(container, 3)["inputs"] = ["c"]
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has 2 inputs")
def reads_two_values() -> Container:
    """One input more than the operation has."""
    container = images()
    operation(container, 0)["inputs"] = ["image", "image"]
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has no inputs")
def inputs_are_a_text() -> Container:
    """A text, which is a sequence of texts too."""
    container = images()
    operation(container, 0)["inputs"] = "image"
    return container


@OPERATIONS.attack("operation 1 (binary_convolution of second) emits 'b' a second time")
def emits_a_value_twice() -> Container:
    """Two values of different shapes under one name."""
    container = images()
    operation(container, 1)["bits"] = "b"
    return container


@OPERATIONS.attack("operation 0 (convolution of first) emits 'image' a second time")
def emits_the_image() -> Container:
    """A value in place of the input."""
    container = images()
    operation(container, 0)["real"] = "image"
    return container


@OPERATIONS.attack("operation 1 (binary_convolution of second) emits nothing")
def emits_nothing() -> Container:
    """Work without a result."""
    container = images()
    del operation(container, 1)["bits"]
    return container


@OPERATIONS.attack("operation 1 (binary_convolution of second) emits a value whose name is no text")
def emits_under_a_number() -> Container:
    """A name that is no text."""
    container = images()
    operation(container, 1)["bits"] = 1
    return container


@OPERATIONS.attack(
    "operation 2 (binary_convolution of third) has residual 'image', which is no real value of shape (4, 4, 4)"
)
def residual_of_another_shape() -> Container:
    """A sum that would read beyond a smaller value."""
    container = images()
    operation(container, 2)["residual"] = "image"
    return container


@OPERATIONS.attack(
    "operation 2 (binary_convolution of third) has residual ['a'], which is no real value of shape (4, 4, 4)"
)
def residual_is_a_list() -> Container:
    """A residual that cannot be looked up in a table."""
    container = images()
    operation(container, 2)["residual"] = ["a"]
    return container


@OPERATIONS.attack("operation 0 (unary of s) has a residual or bits, which operations on arrays have not")
def residual_of_an_array() -> Container:
    """An operation on arrays with an epilogue."""
    first = on("unary", "image", function="abs")
    return program([3, 4, 4], first | {"residual": "image"})


@OPERATIONS.attack("operation 1 (binary_convolution of second) has no tensor 1.weight")
def tensor_that_is_missing() -> Container:
    """A name in the document without a tensor in the file."""
    container = images()
    del container.tensors["1.weight"]
    return container


@OPERATIONS.attack("operation 0 (convolution of first) names a tensor twice")
def tensor_named_many_times() -> Container:
    """Time: each name would have all numbers of the tensor checked again."""
    container = images()
    operation(container, 0)["tensors"] = ["weight"] * 100_000
    return container


@OPERATIONS.attack("operation 3 (pool of last) has a slope without prelu")
def tensor_that_is_not_used() -> Container:
    """A tensor that the epilogue has no step for."""
    container = images()
    operation(container, 3)["tensors"] = ["slope"]
    container.tensors["3.slope"] = Entry.of(np.ones(4, np.float32))
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has a weight with values that are NaN or infinite")
def weight_is_nan() -> Container:
    """A weight that makes every output NaN."""
    container = images()
    container.tensors["0.weight"] = Entry.of(np.full((4, 3, 3, 3), np.nan, np.float32))
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has a offset with values that are NaN or infinite")
def offset_is_infinite() -> Container:
    """An offset that makes every sign the same."""
    container = images()
    container.tensors["0.offset"] = Entry.of(np.full(4, np.inf, np.float32))
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has no weight of four dimensions")
def weight_of_five_axes() -> Container:
    """More axes than a convolution has."""
    container = images()
    container.tensors["0.weight"].shape = [4, 3, 3, 3, 1]
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has weight (3, 4, 3, 3) for 3 channels a group")
def weight_of_other_channels() -> Container:
    """More input channels than the image has, which would be read beyond it."""
    container = images()
    container.tensors["0.weight"].shape = [3, 4, 3, 3]
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has 0 output channels for 1 groups")
def weight_without_outputs() -> Container:
    """A convolution with no channel."""
    container = images()
    container.tensors["0.weight"] = Entry.of(np.zeros((0, 3, 3, 3), np.float32))
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has an empty kernel (0, 3)")
def weight_without_taps() -> Container:
    """A convolution with no tap."""
    container = images()
    container.tensors["0.weight"] = Entry.of(np.zeros((4, 3, 0, 3), np.float32))
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has weights of type int32")
def weight_of_integers() -> Container:
    """Weights of 32 bits, which no kernel has."""
    container = images()
    container.tensors["0.weight"] = Entry.of(np.zeros((4, 3, 3, 3), np.int32))
    return container


@OPERATIONS.attack("operation 1 (binary_convolution of second) has weight bits beyond its channels")
def bits_beyond_the_channels() -> Container:
    """Bits of weights that belong to no channel, which some kernels would count."""
    container = images()
    container.tensors["1.weight"] = Entry.of(np.full((6, 3, 3, 1), 255, np.uint8))
    return container


@OPERATIONS.attack("operation 1 (binary_convolution of second) has no weight bits")
def real_weights_for_bits() -> Container:
    """A convolution of bits with real weights."""
    container = images()
    container.tensors["1.weight"] = Entry.of(np.ones((6, 4, 3, 3), np.float32))
    return container


@OPERATIONS.attack("operation 1 (binary_convolution of second) has a flip that is neither 0 nor 1")
def flip_of_two() -> Container:
    """A bit that is neither 0 nor 1."""
    container = images()
    container.tensors["1.flip"] = Entry.of(np.full(6, 2, np.uint8))
    return container


@OPERATIONS.attack("operation 1 (binary_convolution of second) has threshold int32 (5,), expected int32 (6,)")
def threshold_of_too_few_channels() -> Container:
    """A table that would be read beyond its end."""
    container = images()
    container.tensors["1.threshold"] = Entry.of(np.zeros(5, np.int32))
    return container


@OPERATIONS.attack("operation 1 (binary_convolution of second) has a threshold where it cannot have one")
def threshold_beside_real_values() -> Container:
    """A threshold of an operation that emits real values."""
    container = images()
    operation(container, 1)["real"] = "r"
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has a multiplier without offset")
def multiplier_without_offset() -> Container:
    """Half of an affine."""
    container = images()
    operation(container, 0)["tensors"] = ["weight", "multiplier"]
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has unknown activation 'eval'")
def unknown_activation() -> Container:
    """An activation that is the name of a function of Python."""
    container = images()
    attributes(container, 0)["activation"] = "eval"
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has low [None], expected 1 finite numbers")
def clip_without_limits() -> Container:
    """A clip that lacks its attributes."""
    container = images()
    attributes(container, 0)["activation"] = "clip"
    return container


@OPERATIONS.attack("operation 0 (convolution of first) clips to [1.0, -1.0]")
def clip_upside_down() -> Container:
    """A lower limit above the upper one."""
    container = images()
    attributes(container, 0).update(activation="clip", low=1.0, high=-1.0)
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has a slope without prelu, or prelu without slope")
def prelu_without_slope() -> Container:
    """An activation whose numbers are missing."""
    container = images()
    attributes(container, 0)["activation"] = "prelu"
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has 4 output channels for 3 groups")
def groups_of_three() -> Container:
    """Groups that do not divide the output channels."""
    container = images()
    attributes(container, 0)["groups"] = 3
    container.tensors["0.weight"] = Entry.of(np.ones((4, 1, 3, 3), np.float32))
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has groups [0], expected 1 integers from 1 to 3")
def no_groups() -> Container:
    """A division by 0."""
    container = images()
    attributes(container, 0)["groups"] = 0
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has stride [0, 1], expected 2 integers from 1 to 1024")
def stride_of_zero() -> Container:
    """Another division by 0."""
    container = images()
    attributes(container, 0)["stride"] = [0, 1]
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has padding [-1, 1, 1, 1], expected 4 integers from 0 to 1024")
def negative_padding() -> Container:
    """A kernel that would start before the image."""
    container = images()
    attributes(container, 0)["padding"] = [-1, 1, 1, 1]
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has padding None, expected 4 integers from 0 to 1024")
def no_padding() -> Container:
    """An attribute without a default that is missing."""
    container = images()
    del attributes(container, 0)["padding"]
    return container


@OPERATIONS.attack("operation 0 (convolution of first) makes a value of shape (4, -2042, -2042)")
def dilation_beyond_the_image() -> Container:
    """A kernel that is larger than its image."""
    container = images()
    attributes(container, 0)["dilation"] = [1024, 1024]
    return container


@OPERATIONS.attack(
    "operation 0 (convolution of first) has attributes ['dilation', 'groups', 'padding', 'plugin', 'stride']"
)
def unknown_attribute() -> Container:
    """An attribute that another reader might obey."""
    container = images()
    attributes(container, 0)["plugin"] = "evil.so"
    return container


@OPERATIONS.attack("operation 0 (convolution of first) has no attributes")
def attributes_are_a_list() -> Container:
    """Attributes without names."""
    container = images()
    operation(container, 0)["attributes"] = [["groups", 1]]
    return container


@OPERATIONS.attack("operation 3 (pool of last) has kind ['max']")
def pool_of_another_kind() -> Container:
    """A kind that is a list."""
    container = images()
    attributes(container, 3)["kind"] = ["max"]
    return container


@OPERATIONS.attack("operation 3 (pool of last) has windows outside the image")
def pool_outside_the_image() -> Container:
    """Windows without a pixel, whose mean is a division by 0."""
    container = images()
    attributes(container, 3)["size"] = [2, 1]
    return container


@OPERATIONS.attack("operation 3 (pool of last) pads [3, 3] for windows [4, 4]")
def pool_with_more_padding_than_window() -> Container:
    """Windows that lie in the padding alone."""
    container = images()
    attributes(container, 3)["padding"] = [3, 3]
    return container


@OPERATIONS.attack("operation 0 (convolution of s) has int8 sums that could overflow")
def int8_sums_that_overflow() -> Container:
    """More products than a sum of 32 bits can hold."""
    weight = np.full((1, 65_793, 1, 1), 127, np.int8)
    tensors = {"weight": weight, "multiplier": np.ones(1, np.float32), "offset": np.zeros(1, np.float32)}
    entry = convolution("image", weight, input_factor=1.0, input_zero=0) | {"tensors": tensors}
    container = program([65_536, 1, 1], entry)
    container.document["input"] |= {"mean": [0] * 65_536, "std": [1] * 65_536}
    container.tensors["0.weight"] = Entry.of(weight[:, :65_536].repeat(2, 2))
    attributes(container, 0)["padding"] = [1, 0, 0, 0]
    return container


@OPERATIONS.attack("operation 0 (convolution of s) has input_zero [256], expected 1 integers from 0 to 255")
def int8_zero_beyond_a_byte() -> Container:
    """A level that wraps around."""
    weight = np.ones((1, 3, 1, 1), np.int8)
    tensors = {"weight": weight, "multiplier": np.ones(1, np.float32), "offset": np.zeros(1, np.float32)}
    return program([3, 4, 4], convolution("image", weight, input_factor=1.0, input_zero=256) | {"tensors": tensors})


@OPERATIONS.attack("operation 0 (convolution of s) has input_factor 0.0")
def int8_factor_of_zero() -> Container:
    """A factor whose inverse is infinite."""
    weight = np.ones((1, 3, 1, 1), np.int8)
    tensors = {"weight": weight, "multiplier": np.ones(1, np.float32), "offset": np.zeros(1, np.float32)}
    return program([3, 4, 4], convolution("image", weight, input_factor=0.0, input_zero=0) | {"tensors": tensors})


@OPERATIONS.attack("operation 1 (concatenate of s) joins values of shapes [(3, 4, 4), (3, 2, 2)]")
def joined_images_of_two_sizes() -> Container:
    """Channels of images of different heights."""
    first = on("resize", "image", real="r", height=2, width=2)
    return program([3, 4, 4], first, on("concatenate", "image", "r"))


@OPERATIONS.attack("operation 1 (flatten of s) reads values of shapes [(48,)], expected images")
def array_as_an_image() -> Container:
    """An operation on images that reads a row of numbers."""
    return program([3, 4, 4], on("reshape", "image", real="r", shape=[48]), on("flatten", "r"))


@OPERATIONS.attack("operation 0 (unary of s) has unknown function '__class__'")
def unknown_function() -> Container:
    """A function of Python in place of one of the table."""
    return program([3, 4, 4], on("unary", "image", function="__class__"))


@OPERATIONS.attack("operation 0 (unary of s) has unknown function {'name': 'abs'}")
def function_is_an_object() -> Container:
    """A function that cannot be looked up in a table."""
    return program([3, 4, 4], on("unary", "image", function={"name": "abs"}))


@OPERATIONS.attack("operation 0 (unary of s) has parameters [None], expected 1 finite numbers")
def function_without_its_parameter() -> Container:
    """A power without an exponent."""
    return program([3, 4, 4], on("unary", "image", function="power"))


@OPERATIONS.attack("operation 0 (unary of s) has parameters [inf], expected 1 finite numbers")
def parameter_is_infinite() -> Container:
    """An exponent that JSON has not, but Python reads."""
    return program([3, 4, 4], on("unary", "image", function="power", exponent=float("inf")))


@OPERATIONS.attack(
    "operation 1 (binary of s) reads values of shapes [(3, 4, 4), (5, 5)], which cannot be broadcast together"
)
def shapes_that_do_not_broadcast() -> Container:
    """Two values that have no common shape."""
    first = on("constant", real="k", tensors={"value": np.ones((5, 5), np.float32)})
    return program([3, 4, 4], first, on("binary", "image", "k", function="add"))


@OPERATIONS.attack("operation 0 (constant of s) has a value of 9 dimensions")
def constant_of_nine_axes() -> Container:
    """More axes than a value of the engine has."""
    return program([3, 4, 4], on("constant", tensors={"value": np.ones((1,) * 9, np.float32)}))


@OPERATIONS.attack("operation 0 (constant of s) makes a value of shape (0, 3)")
def empty_constant() -> Container:
    """A value without elements."""
    return program([3, 4, 4], on("constant", tensors={"value": np.ones((0, 3), np.float32)}))


@OPERATIONS.attack("operation 0 (constant of s) has a value with values that are NaN or infinite")
def constant_is_nan() -> Container:
    """A constant may be infinite, as the masks of attention are, but not NaN."""
    return program([3, 4, 4], on("constant", tensors={"value": np.full(3, np.nan, np.float32)}))


@OPERATIONS.attack("operation 0 (reduce of s) has axes [1, 1], which are not ascending")
def axes_that_repeat() -> Container:
    """An axis that would be summed twice."""
    return program([3, 4, 4], on("reduce", "image", function="sum", axes=[1, 1], keep=True))


@OPERATIONS.attack("operation 1 (softmax of s) has axis [0], expected 1 integers from 0 to -1")
def axis_of_a_number() -> Container:
    """An axis of a value that has none."""
    first = on("reduce", "image", real="r", function="sum", axes=[0, 1, 2], keep=False)
    return program([3, 4, 4], first, on("softmax", "r", axis=0, log=False))


@OPERATIONS.attack("operation 0 (normalize of s) has epsilon -1.0")
def negative_epsilon() -> Container:
    """The root of a negative number."""
    return program([3, 4, 4], on("normalize", "image", axes=[0], center=True, epsilon=-1.0))


@OPERATIONS.attack("operation 2 (matmul of s) multiplies matrices of shapes (3, 4, 4) and (3, 3, 4)")
def matrices_that_do_not_fit() -> Container:
    """Rows and columns of different lengths."""
    first = on("permute", "image", real="p", order=[0, 2, 1])
    second = on("slice", "p", real="q", starts=[0, 0, 0], sizes=[3, 3, 4], steps=[1, 1, 1])
    return program([3, 4, 4], first, second, on("matmul", "image", "q"))


@OPERATIONS.attack("operation 0 (reshape of s) changes the shape (3, 4, 4) to (49,)")
def reshape_to_more() -> Container:
    """More elements than there are."""
    return program([3, 4, 4], on("reshape", "image", shape=[49]))


@OPERATIONS.attack("operation 0 (reshape of s) has shape [-1], expected 1 integers from 1 to 67108864")
def reshape_to_minus_one() -> Container:
    """A size that other libraries fill in."""
    return program([3, 4, 4], on("reshape", "image", shape=[-1]))


@OPERATIONS.attack("operation 0 (permute of s) has order [0, 0, 1]")
def order_with_an_axis_twice() -> Container:
    """An order of axes that loses one."""
    return program([3, 4, 4], on("permute", "image", order=[0, 0, 1]))


@OPERATIONS.attack("operation 0 (slice of s) reads beyond a value of shape (3, 4, 4)")
def slice_beyond_the_end() -> Container:
    """Elements behind the value."""
    return program([3, 4, 4], on("slice", "image", starts=[0, 0, 0], sizes=[3, 4, 2], steps=[1, 1, 4]))


@OPERATIONS.attack("operation 0 (slice of s) has starts [-1, 0, 0], expected 3 integers from 0 to 67108864")
def slice_before_the_beginning() -> Container:
    """Elements before the value."""
    return program([3, 4, 4], on("slice", "image", starts=[-1, 0, 0], sizes=[3, 4, 4], steps=[1, 1, 1]))


@OPERATIONS.attack("operation 0 (expand of s) expands the shape (3, 4, 4) to (3, 4, 5)")
def expansion_of_two_to_three() -> Container:
    """An axis that is not 1 and changes."""
    return program([3, 4, 4], on("expand", "image", shape=[3, 4, 5]))


@OPERATIONS.attack("operation 0 (pad of s) removes all of the shape (3, 4, 4) by [-3, 0, 0] and [1, 0, 0]")
def padding_that_removes_all() -> Container:
    """A value of which nothing is left."""
    return program([3, 4, 4], on("pad", "image", low=[-3, 0, 0], high=[1, 0, 0], interior=[0, 0, 0], value=0.0))


@OPERATIONS.attack("operation 0 (sample of s) reads beyond shape (3, 4, 4)")
def index_beyond_the_axis() -> Container:
    """An element behind the value."""
    index = {"index": np.array([[0, 4]], np.int32)}
    return program([3, 4, 4], on("sample", "image", tensors=index, axis=1, function="sum"))


@OPERATIONS.attack("operation 0 (sample of s) reads beyond shape (3, 4, 4)")
def negative_index() -> Container:
    """An element before the value, which NumPy would take from its end."""
    index = {"index": np.array([[0, -1]], np.int32)}
    return program([3, 4, 4], on("sample", "image", tensors=index, axis=1, function="sum"))


@OPERATIONS.attack("operation 0 (sample of s) reads beyond shape (3, 4, 4)")
def index_of_nothing() -> Container:
    """A result without elements."""
    index = {"index": np.zeros((1, 0), np.int32)}
    return program([3, 4, 4], on("sample", "image", tensors=index, axis=1, function="sum"))


@OPERATIONS.attack("operation 0 (sample of s) has weights of a maximum")
def weights_of_a_maximum() -> Container:
    """Numbers that the operation has no use for."""
    tensors = {"index": np.zeros((1, 2), np.int32), "weight": np.ones((1, 2), np.float32)}
    return program([3, 4, 4], on("sample", "image", tensors=tensors, axis=1, function="max"))
