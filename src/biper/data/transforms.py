"""Augmentation and normalization of whole batches, on the device where the images are."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torch.nn import functional as F

from biper.data.share import ALL, Share
from biper.fast import images as kernels


def seeded_generator(*key: int) -> torch.Generator:
    """A CPU generator whose stream depends on the key alone, so that any batch of a run can be made again."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """``(images / 255 - mean) / std``: (N, H, W, C) uint8 to (N, C, H, W) float32 in channels-last layout."""
    factor = images.new_tensor([1 / (255 * s) for s in std], dtype=torch.float32)
    shift = images.new_tensor([-m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32)
    if kernels.fits_images(images):
        return kernels.normalize(images, factor, shift).permute(0, 3, 1, 2)
    return torch.addcmul(shift, images.float(), factor).permute(0, 3, 1, 2)


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

    The random numbers are drawn on the CPU and for the whole batch, so that a seed gives the same images on every
    device and in however many processes.

    Args:
        images: (N, H, W, C) uint8.
        padding: black pixels added on each side before the crop of the original size; 0 for no crop.
        flip: mirror each image left to right with probability one half.
        generator: a CPU generator; advanced by two numbers an image of the batch for crops and one for flips.
        share: which part of a batch the images are.
        batch_size: how many images that batch has; default these.

    Returns:
        (N, H, W, C) uint8.
    """
    n, height, width, _ = images.shape
    total = batch_size or n
    ours = share.of(total)
    if not flip and not padding:
        return images
    mirrored, offsets = torch.zeros(n, dtype=torch.bool), torch.zeros(2, n, dtype=torch.int64)
    if flip:
        mirrored = torch.randint(2, (total, 1), generator=generator, dtype=torch.bool)[ours, 0]
    if padding:
        offsets = torch.randint(2 * padding + 1, (2, total, 1), generator=generator)[:, ours, 0]
    if kernels.fits_images(images):
        return kernels.crop_and_mirror(images, offsets[0], offsets[1], mirrored, padding)
    device = images.device
    mirrored, offsets = mirrored.to(device), offsets.to(device)
    columns = torch.arange(width, device=device).expand(n, width)
    columns = torch.where(mirrored.view(n, 1), width - 1 - columns, columns) + offsets[1].view(n, 1)
    rows = torch.arange(height, device=device) + offsets[0].view(n, 1)
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    return padded[torch.arange(n, device=device).view(n, 1, 1), rows.unsqueeze(2), columns.unsqueeze(1)]
