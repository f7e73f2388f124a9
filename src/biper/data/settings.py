"""Which images a run trains on and how they are augmented: the ``[data]`` table of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from biper.methods.fields import LARGEST_SIDE, MOST, Positive, RecipeTable, Share


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the first number must not be above the second")
    return pair


class DataRecipe(RecipeTable):
    """The images or signals of a run, how they are augmented, and how the weights that a stage returns are selected."""

    name: str
    """A data set of biper's; ``"images"`` for folders of your own pictures (`biper.data.imagenet`), ``"signals"`` for
    files of your own signals (`biper.data.signals`)."""
    batch_size: Annotated[int, Field(ge=2, le=MOST)]
    """Images in one training step, counted over all processes."""
    accumulate: Annotated[int, Field(ge=1, le=MOST)] = 1
    """Number of parts into which a process divides its share of a batch, to save memory. The parts are computed one
    after the other and their gradients are averaged; batch norms use the statistics of each part alone."""
    crop_padding: Annotated[int, Field(ge=0, le=LARGEST_SIDE)] = 0
    """Black pixels that are added on each side before a random crop of the original size; 0 does not crop."""
    flip: bool = False
    """Mirror half of the images, left to right."""
    image_size: Annotated[int, Field(ge=8, le=LARGEST_SIDE)] | None = None
    """Height and width to which images are resized, in pixels, where they are decoded from files (images, imagenet)."""
    signal_length: Annotated[int, Field(ge=1, le=1 << 24)] | None = None
    """Signals: the number of samples to which all are brought; default that of the longest training signal."""
    signal_fit: Literal["pad", "resample"] = "pad"
    """Signals: how those of another length are brought to it. ``"pad"`` appends the mean of each channel, which is 0
    once normalized, or cuts the end off; ``"resample"`` interpolates linearly over the whole signal."""
    crop_scale: Annotated[tuple[Share, Share], Field(strict=False), AfterValidator(_rising)] | None = None
    """Smallest and largest area of random-resized crops, as shares of the image's area; without it, training has the
    crop of evaluation."""
    crop_ratio: Annotated[tuple[Positive, Positive], Field(strict=False), AfterValidator(_rising)] = (3 / 4, 4 / 3)
    """Smallest and largest width divided by height of random-resized crops."""
    colour_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest distance from 1 of the random factors by which brightness, contrast and saturation are multiplied."""
    cutout: Annotated[int, Field(ge=0, le=LARGEST_SIDE)] = 0
    """Images in memory: side, in pixels, of the square that is set to the mean colour at a random place of each image,
    after the crop (DeVries and Taylor, 2017, arXiv:1708.04552); 0 cuts nothing out."""
    mixup: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Images and signals in memory: α of mixup, which trains on ``λ x_i + (1 - λ) x_j`` with the labels of both in the
    same proportion, for random pairs of a batch and one ``λ ~ Beta(α, α)`` for each batch (Zhang et al., ICLR 2018,
    arXiv:1710.09412); 0 mixes nothing. The training loss is then the cross-entropy with these targets, and the training
    accuracy counts the images whose largest logit is that of the label with the larger share."""
    max_unreadable: Annotated[int, Field(ge=0, le=1 << 40)] = 100
    """Unreadable images that are left out and listed in the run folder; the run stops at one more."""
    evaluate_on: Literal["test", "train"] = "test"
    """``"train"`` measures accuracy on the unaugmented training images, and reports it as ``fit``. It is meant for data
    without test images."""
    selection: Literal["last", "held-out"] = "last"
    """Which epoch's weights a stage returns. ``"last"``: those of the last epoch. ``"held-out"``: those with the best
    accuracy on a fixed, seeded tenth of the training images, on which the run then does not train. Test images never
    select anything."""
