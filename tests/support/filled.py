"""State dicts of the authors' networks, whose values are computed from the names of the entries."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch

from biper import create_model
from biper.interop.authors_networks import our_network, reference_names

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"


def fill_by_rule(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The values of one floating-point entry of the authors' state dict, from its name and shape."""
    random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    if name.endswith("running_var"):
        value = random.uniform(0.5, 1.5, shape)
    elif name.endswith("running_mean"):
        value = random.normal(0, 0.1, shape)
    elif name.endswith(".tau"):
        value = 0.037
    elif name.endswith(".beta"):
        value = np.ones(shape)
    elif name.endswith(".alpha"):
        value = random.uniform(0.02, 0.06, shape)
    elif len(shape) >= 2:
        value = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif name.endswith("bias"):
        value = random.normal(0, 0.1, shape)
    else:
        value = random.uniform(0.5, 1.5, shape)
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def filled_state_dict(model: str, dataset: str) -> dict[str, torch.Tensor]:
    """A complete state dict of one of the authors' networks, as their code saves it, filled by `fill_by_rule`."""
    name, bits = our_network(model, dataset)
    with torch.device("meta"):
        ours = create_model(name, dataset=dataset, bits=bits).state_dict()
    filled = {}
    for theirs, name in reference_names(model, dataset=dataset).items():
        if not ours[name].is_floating_point():
            filled[theirs] = torch.tensor(7)
        elif not theirs.endswith(".alpha"):
            filled[theirs] = fill_by_rule(theirs, tuple(ours[name].shape))
        else:
            layer, shape = theirs.removesuffix(".alpha"), (*ours[name].shape, 1, 1)
            unused = {f"{layer}.tau": ()} | ({f"{layer}.beta": shape} if has_beta(model, dataset) else {})
            filled |= {entry: fill_by_rule(entry, size) for entry, size in ({theirs: shape} | unused).items()}
    return filled


def has_beta(model: str, dataset: str) -> bool:
    """Whether the binary layers of one of the authors' networks have the unused ``beta``."""
    return dataset == "cifar10" and model.endswith("1w1a")


def images_by_rule() -> torch.Tensor:
    """The input for the ImageNet networks, (2, 3, 224, 224) float32, which is too large to be stored."""
    random = np.random.Generator(np.random.PCG64(zlib.crc32(b"input")))
    return torch.from_numpy(random.normal(0, 1, (2, 3, 224, 224)).astype(np.float32))
