"""A packed program as one web page that needs no server: the file itself, and an engine in plain JavaScript.

The page contains the bytes of the packed file and reads them as the Python runtime does. Its sums are rounded to
float32 in the order of the scalar engine, so outputs are the same bits. Pictures are prepared as the file says, and
resized in Pillow's arithmetic; the browser decodes them, JPEG files always at their full size.
The page's content security policy forbids it to load anything.
"""

from __future__ import annotations

import base64
import html
import math
from importlib import resources

from biper.errors import ExportError
from biper.runtime.program import Program, write_program
from biper.targets.operations import require_operations
from biper.targets.web import OPERATIONS

PARTS = {
    "style": "style.css",
    "engine": "engine.js",
    "operators": "operators.js",
    "arrays": "arrays.js",
    "picture": "picture.js",
    "page": "page.js",
}
"""The file that stands in each place of the template `page.html`."""


def html_page(program: Program, title: str) -> str:
    """The page of a program that classifies pictures.

    Args:
        program: a validated program.
        title: the headline of the page.

    Raises:
        ExportError: its input is a signal or a vector, or has neither 1 nor 3 channels; or its output is a map, it has
            further inputs, or the page's engine lacks one of its operations.
    """
    require_operations(program, "a web page", OPERATIONS)
    out = program.output_shape
    if not program.is_of_pictures or program.input_shape[0] not in (1, 3) or max(out, default=1) != math.prod(out):
        raise ExportError(
            f"a web page shows the classes of pictures, but this model maps {program.input_shape} to "
            f"{out}: expected 1 or 3 channels, and outputs of 1 x 1"
        )
    if program.inputs:
        raise ExportError(
            f"a web page gives a model one picture, but this one also takes {', '.join(program.inputs)}: "
            f"export it as ONNX or C"
        )
    page = _part("page.html")
    for name, file in PARTS.items():
        page = page.replace(f"{{{{{name}}}}}", _part(file))
    page = page.replace("{{model}}", base64.b64encode(write_program(program)).decode())
    return page.replace("{{title}}", html.escape(title))


def _part(name: str) -> str:
    return resources.files("biper.targets.web").joinpath(name).read_text(encoding="utf-8")
