"""Options that several commands share: their types, their help texts and what completes them in a shell."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Device(StrEnum):
    """The device that computes; ``auto`` is CUDA where there is a GPU, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(StrEnum):
    """The number format of the computation in training."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"
    float16 = "float16"


class FloatLayers(StrEnum):
    """The number format in which layers with real weights are exported; see `biper.export`."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"


class Format(StrEnum):
    """The form in which a model is exported; see docs/deploy.md."""

    biper = "biper"
    c = "c"
    html = "html"
    onnx = "onnx"
    openvino = "openvino"
    arduino = "arduino"
    esp_idf = "esp-idf"


class InputKind(StrEnum):
    """What a model written as C takes."""

    pixels = "pixels"
    numbers = "numbers"


class ValueBits(StrEnum):
    """The bits of values between layers, in C in integers alone."""

    short = "16"
    wide = "32"


def complete_recipe(incomplete: str) -> list[str]:
    """The names of packaged recipes that begin with what the user typed."""
    from biper.recipes.packaged import recipe_names

    return [name for name in recipe_names() if name.startswith(incomplete)]


def complete_packed(incomplete: str) -> list[str]:
    """The names of packaged models that begin with what the user typed."""
    from biper.runtime.pretrained import pretrained_names

    return [name for name in pretrained_names() if name.startswith(incomplete)]


Recipe = Annotated[
    str,
    typer.Argument(
        help="The name of a recipe (see `biper recipes`) or the path of a TOML file.", autocompletion=complete_recipe
    ),
]
AnyModel = Annotated[
    str,
    typer.Argument(
        help="A run folder, a model.safetensors, a packed MODEL.biper, or the name of a model that comes with biper, "
        "such as cifar10-resnet20 or digits-cnn (see `biper models`).",
        autocompletion=complete_packed,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="The folder of the data set, or tar shards with braces: shard-{000..127}.tar. Default: the user's cache."
    ),
]
DeviceOption = Annotated[Device, typer.Option(help="The device that computes.")]
PrecisionOption = Annotated[Precision, typer.Option(help="The number format of the computation.")]
ScaleEpochs = Annotated[float, typer.Option(help="Multiply the epochs of both stages by this, such as 0.05.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: one for each core.")]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes that decode images. Default: one for each core but one.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe: stage1.epochs=10. Repeatable."),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="The most memory that a packed file may need, such as 64M. Default: 1G."),
]
MaxWork = Annotated[
    int | None,
    typer.Option(min=1, help="The most elementary operations that a packed file may need for an image. Default: 2^38."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
