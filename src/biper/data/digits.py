"""The 8x8 handwritten digits that come inside the package: 1,797 images, never a download.

"Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, licensed CC BY 4.0. These are the 1,797 images of its test part, as scikit-learn
ships them; the intensities 0 to 16 are kept in the file and scaled to 0 to 255 on loading.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
import torch

from biper.data.dataset import Dataset, Split
from biper.data.specs import SPECS

TEST_COUNT = 360
_SPLIT_SEED = 1998


def load_digits() -> Dataset:
    """Load the digits in a fixed, seeded split: 1,437 training images and 360 test images."""
    with resources.files("biper.data").joinpath("digits.npz").open("rb") as file, np.load(file) as archive:
        intensities, labels = archive["images"], archive["labels"]
    images = np.rint(intensities * (255 / 16)).astype(np.uint8)[..., None]
    order = np.random.Generator(np.random.PCG64(_SPLIT_SEED)).permutation(len(labels))

    def part(chosen: np.ndarray) -> Split:
        return Split(torch.from_numpy(images[chosen]), torch.from_numpy(labels[chosen].astype(np.int64)))

    classes = tuple(str(digit) for digit in range(10))
    return Dataset(SPECS["digits"], classes, train=part(order[TEST_COUNT:]), test=part(order[:TEST_COUNT]))
