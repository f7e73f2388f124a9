"""Reading ../shared/golden: the authors' names, their fill rule, and the numbers their code gave."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"


def our_name(reference_name: str) -> str:
    """A parameter's name in our ResNets for its name in the authors'."""
    name = re.sub(r"^layer(\d)\.", lambda match: f"groups.{int(match[1]) - 1}.", reference_name)
    return name.replace("linear.", "fc.").replace(".downsample.", ".shortcut.").replace(".alpha", ".scale")


def load_reference_tensors(model: nn.Module, reference: dict[str, torch.Tensor], stage: int) -> None:
    """Put the authors' tensors into our model; frequency 20, as the golden README says."""
    expected = model.state_dict()
    state = {}
    for name, value in reference.items():
        if not name.endswith((".beta", ".tau")):
            ours = our_name(name)
            state[ours] = value.reshape(expected[ours].shape)
    for name in expected:
        if name.endswith("_quantizer.frequency"):
            state[name] = torch.tensor(20.0, dtype=torch.float64)
        elif name.endswith("_quantizer.stage"):
            state[name] = torch.tensor(stage, dtype=torch.uint8)
    model.load_state_dict(state)


def fill_by_rule(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The golden README's rule for one entry of the authors' state dict."""
    random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    if name.endswith("running_var"):
        value = random.uniform(0.5, 1.5, shape)
    elif name.endswith("running_mean"):
        value = random.normal(0, 0.1, shape)
    elif name.endswith(".alpha"):
        value = random.uniform(0.02, 0.06, shape)
    elif len(shape) >= 2:
        value = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif name.endswith("bias"):
        value = random.normal(0, 0.1, shape)
    else:
        value = random.uniform(0.5, 1.5, shape)
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def image_by_rule() -> torch.Tensor:
    """The input of the ImageNet files, which is too large to be stored."""
    random = np.random.Generator(np.random.PCG64(zlib.crc32(b"input")))
    return torch.from_numpy(random.normal(0, 1, (2, 3, 224, 224)).astype(np.float32))
