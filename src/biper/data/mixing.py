"""Augmentation of whole normalized batches: squares that are cut out, and images that are mixed in pairs.

The random numbers of a batch are drawn on the CPU from a key of their own and for the batch of all processes. Therefore
they change nothing that is drawn elsewhere, are the same on each device and with any number of processes, and can be
drawn again for any step.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from biper.data.share import ALL, Share
from biper.data.transforms import seeded_generator

_CUTOUT, _MIXUP = 1, 2
"""The last parts of the keys, which keep the random numbers of the augmentations apart."""


def cut_out_(
    images: Tensor, side: int, key: tuple[int, int, int, int], *, share: Share = ALL, batch_size: int | None = None
) -> Tensor:
    """Set a square of each image to 0, the mean of the normalized pixels, in place.

    The centre of the square is uniform over the pixels of the image. With the centre in row ``r``, the rows from
    ``r - side // 2`` to ``r - side // 2 + side - 1`` that are inside the image are cut out, and columns in the same
    way. At the border less than the whole square is therefore cut out.

    Args:
        images: (N, C, H, W), normalized.
        side: of the square, in pixels; 0 cuts nothing out.
        key: seed, stage, epoch and step of the batch, which determine every random choice.
        share: which part of the whole batch the images are.
        batch_size: how many images the whole batch has; default N.

    Returns:
        The images.

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017,
    arXiv:1708.04552.
    """
    if not side:
        return images
    total = batch_size or len(images)
    generator = seeded_generator(*key, _CUTOUT)
    inside = []
    for length in images.shape[2:]:
        first = torch.randint(length, (total,), generator=generator)[share.of(total)] - side // 2
        places = torch.arange(length).view(1, -1) - first.view(-1, 1)
        inside.append((places >= 0) & (places < side))
    rows, columns = (each.to(images.device) for each in inside)
    return images.masked_fill_((rows[:, :, None] & columns[:, None, :]).unsqueeze(1), 0)


def mix_up(
    images: Tensor, labels: Tensor, alpha: float, classes: int, key: tuple[int, int, int, int], share: Share = ALL
) -> tuple[Tensor, Tensor]:
    """Mix each image of a batch with a random other one, and their labels in the same proportion.

    One number ``λ ~ Beta(alpha, alpha)`` and one permutation ``p`` are drawn for a batch. Image ``i`` becomes
    ``λ x_i + (1 - λ) x_p(i)``, and its target is the class of ``i`` with probability ``λ`` and that of ``p(i)`` with
    probability ``1 - λ``.

    Args:
        images: the whole batch of all processes, (N, C, H, W) or (N, C, L), normalized.
        labels: (N,) int64.
        alpha: of the Beta distribution, above 0.
        classes: how many classes there are.
        key: seed, stage, epoch and step of the batch, which determine every random choice.
        share: which part of the batch to return.

    Returns:
        The mixed images of the share, in the layout of ``images``; and the probability of each class, (N, classes)
        float32.

    Source: Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018,
    arXiv:1710.09412.
    """
    generator = seeded_generator(*key, _MIXUP)
    partners = torch.randperm(len(images), generator=generator).to(images.device)
    seed = int(torch.randint(2**62, (), generator=generator))
    weight = float(np.random.Generator(np.random.PCG64(seed)).beta(alpha, alpha))
    ours = share.of(len(images))
    targets = F.one_hot(labels, classes).float()
    mixed = torch.lerp(images[partners[ours]], images[ours], weight)
    if images.dim() == 4:
        mixed = mixed.contiguous(memory_format=torch.channels_last)
    return mixed, torch.lerp(targets[partners[ours]], targets[ours], weight)
