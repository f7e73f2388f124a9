"""Which images a run trains on and how they are augmented: the ``[data]`` table of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from biper.methods.fields import Positive, Settings, Share


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the first number must not be above the second")
    return pair


class DataRecipe(Settings):
    """Which images, how they are augmented, and which epoch's weights a stage hands on."""

    name: str
    batch_size: Annotated[int, Field(ge=2)]
    """Images of a step, over all processes."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Parts that a process takes its share of a batch in, one after the other, to save memory; their gradients are
    averaged. Batch norms take each part for itself."""
    crop_padding: Annotated[int, Field(ge=0)] = 0
    """Random crops of the original size after this many black pixels are added on each side."""
    flip: bool = False
    """Mirror half of the images, left to right."""
    image_size: Annotated[int, Field(ge=8)] | None = None
    """Height and width that images are brought to, in pixels, where they are decoded from files (imagenet)."""
    crop_scale: Annotated[tuple[Share, Share], Field(strict=False), AfterValidator(_rising)] | None = None
    """Random-resized crops whose area is this share of the image's, from and to; without it the crop of evaluation."""
    crop_ratio: Annotated[tuple[Positive, Positive], Field(strict=False), AfterValidator(_rising)] = (3 / 4, 4 / 3)
    """Width through height of random-resized crops, from and to."""
    colour_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Brightness, contrast and saturation are each multiplied by a random number up to this far from 1."""
    max_unreadable: Annotated[int, Field(ge=0)] = 100
    """How many unreadable images are left out, and listed in the run folder, before the run stops."""
    evaluate_on: Literal["test", "train"] = "test"
    """``"train"`` scores the training images themselves, unaugmented, and calls that ``fit``: for data without
    test images."""
    selection: Literal["last", "held-out"] = "last"
    """``"last"``: the last epoch. ``"held-out"``: the epoch with the best accuracy on a fixed, seeded part of
    the training images, which are then not trained on. The test set never selects."""
