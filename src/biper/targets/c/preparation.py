"""What the header of a C program says about its input: how a picture becomes pixels, and how numbers are normalized."""

from __future__ import annotations

import textwrap

from biper.io.preprocessing import squeezed
from biper.runtime.program import Program


def preparation(program: Program, prefix: str) -> list[str]:
    """A comment with the steps, and constants for them, as lines of C.

    Args:
        program: a program whose images have 1 or 3 channels.
        prefix: what the names of the constants begin with.
    """
    way = program.preprocessing or squeezed(program.input_shape)
    order = {"RGB": "red, green, blue", "BGR": "blue, green, red", "L": "grey"}[way.channels]
    steps = ["turn it as its EXIF tag says"] if way.exif_orientation else []
    if way.white is not None:
        steps.append(f"scale values of more than 8 bits so that {way.white:g} becomes 255")
    steps.append("put it, where it is transparent, on the colour {}, {}, {}".format(*way.background))
    if way.channels == "L":
        steps.append("convert colours to grey: 0.299 red + 0.587 green + 0.114 blue")
    if isinstance(way.resize, int):
        steps.append(f"resize it so that its shorter side has {way.resize} pixels and it keeps its shape")
    else:
        rows, columns = way.resize or way.size
        steps.append(f"resize it to {rows} rows and {columns} columns")
    averaged = "" if way.interpolation == "nearest" else "; where it shrinks, over all the pixels that become one"
    steps[-1] += f" ({way.interpolation} interpolation{averaged})"
    if way.resize != way.size:
        steps.append("cut out its centre of {} rows and {} columns".format(*way.size))
    steps.append(f"give its pixels, 0 to 255, as {order}")
    text = (
        f"A picture becomes the input in these steps: {'; '.join(steps)}. The function normalizes the pixels itself: "
        "(pixel / 255 - mean) / std."
    )
    comment = textwrap.fill(text, 112, initial_indent="/* ", subsequent_indent="   ", break_on_hyphens=False) + " */"
    sizes = {"RESIZE": way.resize} if isinstance(way.resize, int) else {}
    return [
        comment,
        *(f"#define {prefix}_{name} {value}" for name, value in sizes.items()),
        *normalization(program, prefix),
    ]


def normalization(program: Program, prefix: str) -> list[str]:
    """Constants with the mean and the standard deviation of each channel, as lines of C."""
    return [
        f"#define {prefix}_{name} {', '.join(f'{value!r}f' for value in map(float, values))}"
        for name, values in (("MEAN", program.mean), ("STD", program.std))
    ]
