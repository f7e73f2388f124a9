"""Training batches of images that lie on another device than the CPU, made there without waiting for it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from biper.data.settings import DataRecipe
from biper.data.share import Share
from biper.data.transforms import Crops, seeded_generator

CHUNK_BYTES = 1 << 26
"""How many bytes of pixels are cropped at once, at least those of one batch: 85 batches of 256 CIFAR images."""


def batches_on_device(
    images: Tensor,
    labels: Tensor,
    order: Tensor,
    settings: DataRecipe,
    key: tuple[int, int, int],
    first_step: int,
    share: Share,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of `biper.data.dataset.Split.training_batches` for images on a GPU.

    The random numbers are drawn on the CPU, in the same order as for images there, so that a seed gives the same images
    on every device. They travel to the device for many steps at once, from pinned memory. All images of these steps
    are then gathered, cropped and mirrored by a few kernels. No step waits for the device.

    Args:
        images: (M, H, W, C) uint8, or floating-point numbers, which are only gathered.
        labels: (M,) int64, on the device of the images.
        order: the shuffled indices of the images, (M,) int64, on the CPU.
        settings, key, first_step, share: see `biper.data.dataset.Images.training_batches`.
    """
    size, ours = settings.batch_size, share.of(settings.batch_size)
    padding, count = settings.crop_padding, ours.stop - ours.start
    steps_at_once = max(1, CHUNK_BYTES // (images[0].nbytes * count))
    last_step = len(order) // size
    augmented = images.dtype == torch.uint8 and (settings.flip or padding > 0)
    for begin in range(first_step, last_step, steps_at_once):
        steps = range(begin, min(begin + steps_at_once, last_step))
        rows = [order[step * size : (step + 1) * size][ours] for step in steps]
        choices = [torch.cat(rows)]
        if augmented:
            drawn = [Crops.draw(size, padding, settings.flip, seeded_generator(*key, step), share) for step in steps]
            choices += [torch.cat([crops.mirrored for crops in drawn]).long()]
            choices += [torch.cat([crops.rows for crops in drawn]), torch.cat([crops.columns for crops in drawn])]
        chosen, *crop = _sent(torch.stack(choices), images.device)
        gathered = images.index_select(0, chosen)
        if augmented:
            mirrored, top, left = crop
            gathered = Crops(mirrored > 0, top, left).cut(gathered, padding)
        yield from zip(torch.split(gathered, count), torch.split(labels.index_select(0, chosen), count), strict=True)


def _sent(numbers: Tensor, device: torch.device) -> Tensor:
    """A copy on a device. From pinned memory, the CPU does not wait until it is there."""
    return (numbers.pin_memory() if device.type == "cuda" else numbers).to(device, non_blocking=True)
