"""What happens to an image between its file and the network, in training, evaluation and prediction.

Images in memory (digits, CIFAR, Tiny ImageNet) have one size, which the network takes as it is:

- training: `random_crop_and_flip`, then `normalize`, of the whole batch at once;
- evaluation: `normalize` alone.

Images that are decoded batch by batch (ImageNet) have any size:

- training: `decode_for_training` of each (a random-resized crop, colour jitter, a flip), then `normalize` of the batch;
- evaluation: `decode_for_evaluation` of each (resized, then the central crop), then `normalize` of the batch.

Signals, and images that are given to `biper.fit` as floating-point numbers, are in the layout of the network already;
`normalize` alone happens to them.

Prediction by a packed model does what evaluation does: `evaluation_preprocessing` gives the steps before `normalize` as
a `biper.io.preprocessing.Preprocessing`, which a packed file contains.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageEnhance
from torch import Tensor
from torch.nn import functional as F

from biper.data.settings import DataRecipe
from biper.data.share import ALL, Share
from biper.data.specs import DatasetSpec
from biper.errors import DataError
from biper.fast import images as kernels
from biper.io.decode import Box, central_box, crop_and_resize, open_picture
from biper.io.preprocessing import Preprocessing

EVALUATION_CROP = 0.875
"""Side of the central crop, as a share of the resized short side: 224 of 256."""

_ATTEMPTS = 10
_TRAINING_MARGIN, _EVALUATION_MARGIN = 1, 2


def seeded_generator(*key: int) -> torch.Generator:
    """A CPU generator whose stream depends on the key alone, so that any batch of a run can be made again."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


@dataclass(frozen=True)
class Crops:
    """The random choices of `random_crop_and_flip` for N images.

    Attributes:
        mirrored: which images are mirrored left to right, (N,) bool.
        rows: where the crop of each image begins in the padded image, (N,) int64, 0 to twice the padding.
        columns: the same along the width.
    """

    mirrored: Tensor
    rows: Tensor
    columns: Tensor

    @classmethod
    def draw(cls, count: int, padding: int, flip: bool, generator: torch.Generator, share: Share = ALL) -> Crops:
        """Draw the choices of a whole batch on the CPU, and keep those of a share of it.

        Args:
            count: how many images the whole batch has.
            padding, flip: see `random_crop_and_flip`.
            generator: a CPU generator; it is advanced by two numbers for each image for crops, and by one for flips.
            share: which part of the batch to keep.
        """
        ours = share.of(count)
        mirrored = torch.zeros(ours.stop - ours.start, dtype=torch.bool)
        offsets = torch.zeros(2, len(mirrored), dtype=torch.int64)
        if flip:
            mirrored = torch.randint(2, (count, 1), generator=generator, dtype=torch.bool)[ours, 0]
        if padding:
            offsets = torch.randint(2 * padding + 1, (2, count, 1), generator=generator)[:, ours, 0]
        return cls(mirrored, offsets[0], offsets[1])

    def cut(self, images: Tensor, padding: int) -> Tensor:
        """Cut the crops out of images.

        Args:
            images: (N, H, W, C) uint8, on the device of the choices.
            padding: black pixels added on each side.

        Returns:
            (N, H, W, C) uint8.
        """
        if kernels.fits_images(images):
            return kernels.crop_and_mirror(images, self.rows, self.columns, self.mirrored, padding)
        n, height, width, _ = images.shape
        device = images.device
        columns = torch.arange(width, device=device).expand(n, width)
        columns = torch.where(self.mirrored.view(n, 1), width - 1 - columns, columns) + self.columns.view(n, 1)
        rows = torch.arange(height, device=device) + self.rows.view(n, 1)
        padded = F.pad(images, (0, 0, padding, padding, padding, padding))
        return padded[torch.arange(n, device=device).view(n, 1, 1), rows.unsqueeze(2), columns.unsqueeze(1)]


def random_crop_and_flip(
    images: Tensor,
    padding: int,
    flip: bool,
    generator: torch.Generator,
    *,
    share: Share = ALL,
    batch_size: int | None = None,
) -> Tensor:
    """Crop each image at a random place after padding it with black, and mirror half of them.

    The random numbers are drawn on the CPU for the whole batch, so that a seed gives the same images on every device
    and with any number of processes.

    Args:
        images: (N, H, W, C) uint8, on the CPU.
        padding: black pixels added on each side before the crop of the original size; 0 for no crop.
        flip: mirror each image left to right with probability one half.
        generator: a CPU generator; see `Crops.draw`.
        share: which part of the whole batch the images are.
        batch_size: how many images the whole batch has; default N.

    Returns:
        (N, H, W, C) uint8.
    """
    if not flip and not padding:
        return images
    return Crops.draw(batch_size or len(images), padding, flip, generator, share).cut(images, padding)


def decode_for_evaluation(blob: bytes, size: int, crop: float = EVALUATION_CROP) -> NDArray[np.uint8]:
    """Decode the centre of a picture: the short side is resized to ``size / crop``, then the crop is cut out.

    Args:
        blob: the file's content, of any format that Pillow reads.
        size: height and width of the result, in pixels.
        crop: the share of the short side that is kept, 0 to 1.

    Returns:
        (size, size, 3) uint8. Resized bilinearly with antialiasing.

    Raises:
        One of `biper.io.pictures.UNREADABLE`.
    """
    return _central_crop(size, crop).read(blob)


def evaluation_preprocessing(spec: DatasetSpec, size: int) -> Preprocessing | None:
    """What evaluation does to a picture before `normalize`; None if the data set has no grey or colour pictures.

    Evaluation takes images in memory as they are. Of a picture that has another size the shorter side is resized to
    theirs, and the centre is cut out.

    Args:
        spec: facts about the data set.
        size: height and width of the images that the network takes, in pixels.
    """
    if spec.channels not in (1, 3):
        return None
    return _central_crop(size, evaluation_crop(spec), "L" if spec.channels == 1 else "RGB")


def evaluation_crop(spec: DatasetSpec) -> float:
    """The share of the short side of a picture that evaluation keeps."""
    return EVALUATION_CROP if spec.decoded else 1.0


def _central_crop(size: int, crop: float, channels: str = "RGB") -> Preprocessing:
    return Preprocessing((size, size), round(size / crop), channels=channels, draft_margin=_EVALUATION_MARGIN)


def decode_for_training(blob: bytes, size: int, settings: DataRecipe, generator: torch.Generator) -> NDArray[np.uint8]:
    """Decode a random-resized crop of a picture, with colour jitter and mirrored if the settings say so.

    Without ``settings.crop_scale`` the crop is that of `decode_for_evaluation`.

    Args:
        blob: the file's content, of any format that Pillow reads.
        size: height and width of the result, in pixels.
        settings: the augmentation.
        generator: makes every random choice; it is advanced by the same count whatever the choices are.

    Returns:
        (size, size, 3) uint8. Resized bilinearly with antialiasing.

    Raises:
        One of `biper.io.pictures.UNREADABLE`.
    """
    numbers = torch.rand(4 * _ATTEMPTS + 4, generator=generator, dtype=torch.float64).tolist()
    opened = open_picture(blob)
    if settings.crop_scale is None:
        box = central_box(*opened.size, (size, size), round(size / EVALUATION_CROP))
    else:
        box = random_box(*opened.size, settings.crop_scale, settings.crop_ratio, numbers[4:])
    image = crop_and_resize(opened, box, (size, size), _TRAINING_MARGIN)
    if settings.colour_jitter:
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for enhancer, number in zip(enhancers, numbers[1:4], strict=True):
            image = enhancer(image).enhance(1 + settings.colour_jitter * (2 * number - 1))
    pixels = np.asarray(image, np.uint8)
    return pixels[:, ::-1] if settings.flip and numbers[0] < 0.5 else pixels


def random_box(
    width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float], numbers: list[float]
) -> Box:
    """A box of random area and shape at a random place in a picture of ``width`` x ``height`` pixels.

    The area is uniform in ``scale`` (shares of the picture's area), and width divided by height is log-uniform in
    ``ratio``. Up to ten boxes are drawn until one fits into the picture; if none does, the result is the largest
    central box whose ratio is in the range.

    Args:
        numbers: 40 numbers, uniform in [0, 1); four for each attempt.

    Source: C. Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for attempt in range(_ATTEMPTS):
        area_number, ratio_number, column_number, row_number = numbers[4 * attempt : 4 * attempt + 4]
        area = width * height * (scale[0] + (scale[1] - scale[0]) * area_number)
        shape = math.exp(low + (high - low) * ratio_number)
        columns, rows = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < columns <= width and 0 < rows <= height:
            left, top = int(column_number * (width - columns + 1)), int(row_number * (height - rows + 1))
            return left, top, left + columns, top + rows
    shape = min(max(width / height, ratio[0]), ratio[1])
    columns, rows = min(width, round(height * shape)), min(height, round(width / shape))
    left, top = (width - columns) // 2, (height - rows) // 2
    return left, top, left + columns, top + rows


class Normalizer:
    """``(x - mean) / std``, channel by channel; pixels are scaled to [0, 1] first.

    The numbers are copied to a device once, so that a batch there does not wait for them.

    Args:
        mean: one number for each channel.
        std: one number for each channel.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.mean, self.std = mean, std
        self._numbers: dict[tuple[torch.device, bool], tuple[Tensor, Tensor]] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Normalize a batch.

        Args:
            images: pixels, (N, H, W, C) uint8; or floating-point numbers, (N, C, H, W), or (N, C, L) for signals.

        Returns:
            float32, (N, C, H, W) in channels-last layout, or (N, C, L).

        Raises:
            DataError: the images have another number of channels than the mean.
        """
        are_pixels = not images.is_floating_point()
        channels = images.shape[-1 if are_pixels else 1]
        if channels != len(self.mean):
            raise DataError(
                f"the images have {channels} channels, and the model takes {len(self.mean)}: name its own data set"
            )
        first, second = self._numbers_on(images.device, are_pixels)
        if not are_pixels:
            shape = 1, -1, *[1] * (images.dim() - 2)
            result = (images.float() - first.view(shape)) / second.view(shape)
            return result.contiguous(memory_format=torch.channels_last) if result.dim() == 4 else result
        if kernels.fits_images(images):
            return kernels.normalize(images, first, second).permute(0, 3, 1, 2)
        return torch.addcmul(second, images.float(), first).permute(0, 3, 1, 2)

    def _numbers_on(self, device: torch.device, are_pixels: bool) -> tuple[Tensor, Tensor]:
        """Factor and shift for pixels, or the mean and the deviation for numbers; (C,) float32 each."""
        if (device, are_pixels) not in self._numbers:
            first, second = list(self.mean), list(self.std)
            if are_pixels:
                first = [1 / (255 * s) for s in self.std]
                second = [-m / s for m, s in zip(self.mean, self.std, strict=True)]
            numbers = tuple(torch.tensor(values, dtype=torch.float32, device=device) for values in (first, second))
            self._numbers[device, are_pixels] = numbers[0], numbers[1]
        return self._numbers[device, are_pixels]


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalize one batch; see `Normalizer`."""
    return Normalizer(mean, std)(images)
