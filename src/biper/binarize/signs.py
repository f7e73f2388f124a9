"""Making the input of a binary layer take both signs: activations that are replaced, thresholds that are added."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from biper.quantizers import RPReLU


class ChannelThreshold(nn.Module):
    """``x - β`` with a learned threshold β for each channel, in front of a sign that would otherwise be constant.

    Args:
        channels: of the input, in dimension ``dim``.
        dim: the dimension of the channels: 1 for convolutions, -1 for linear layers.

    Source: the shift of RSign, Liu et al., "ReActNet", ECCV 2020, as a layer of its own.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.threshold = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Subtract the thresholds from an input of any rank."""
        shape = [1] * x.dim()
        shape[self.dim] = -1
        return x - self.threshold.view(shape).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.threshold)}, dim={self.dim}"


class Shifted(nn.Module):
    """A layer behind a threshold or a norm: ``layer(shift(x))``. Attributes that it lacks are those of the layer."""

    def __init__(self, shift: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.shift, self.layer = shift, layer

    def forward(self, input: Tensor) -> Tensor:
        """Apply the shift, then the layer."""
        result: Tensor = self.layer(self.shift(input))
        return result

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


def make_shift(kind: Literal["threshold", "norm"], layer: nn.Module, rank: int, channels: int) -> nn.Module:
    """What stands in front of a layer whose input has one sign.

    Args:
        kind: ``"threshold"`` or ``"norm"`` (batch norm; layer norm in front of a linear layer on (N, ..., features)).
        layer: the layer.
        rank: the number of dimensions of its input.
        channels: of its input.
    """
    dim = -1 if isinstance(layer, nn.Linear) else 1
    if kind == "threshold":
        made: nn.Module = ChannelThreshold(channels, dim)
    elif dim == 1:
        made = nn.BatchNorm2d(channels) if rank == 4 else nn.BatchNorm1d(channels)
    else:
        made = nn.BatchNorm1d(channels) if rank == 2 else nn.LayerNorm(channels)
    weight: Any = layer.weight
    return made.to(weight.device, weight.dtype).train(layer.training)


@contextmanager
def calibrating(shifts: list[nn.Module]) -> Iterator[None]:
    """While the context lasts, each threshold or batch norm is set from what it is called on: to the channels' means.

    A batch norm takes their variances too. In one pass through the model the first shifts are set before later ones see
    their input.
    """
    handles = [shift.register_forward_pre_hook(_calibrate) for shift in shifts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _calibrate(shift: nn.Module, arguments: tuple[Any, ...]) -> None:
    x = arguments[0].detach()
    if isinstance(shift, ChannelThreshold):
        others = [d for d in range(x.dim()) if d != shift.dim % x.dim()]
        shift.threshold.data.copy_(x.mean(others))
    elif isinstance(shift, nn.BatchNorm1d | nn.BatchNorm2d) and shift.running_mean is not None:
        others = [d for d in range(x.dim()) if d != 1]
        shift.running_mean.copy_(x.mean(others))
        assert shift.running_var is not None
        shift.running_var.copy_(x.var(others, unbiased=False))


def signed_activation(
    kind: Literal["hardtanh", "rprelu", "prelu"], old: nn.Module, shapes: set[tuple[int, ...]]
) -> nn.Module:
    """An activation that can be negative, in place of one that cannot.

    Args:
        kind: which; RPReLU needs the same number of channels in every call and inputs (N, C, H, W), else it is
            hardtanh.
        old: what it replaces; its ``inplace`` and its mode are kept.
        shapes: the shapes of its results.
    """
    made: nn.Module
    channels = {shape[1] for shape in shapes if len(shape) == 4}
    if kind == "rprelu" and len(channels) == 1 and all(len(shape) == 4 for shape in shapes):
        made = RPReLU(channels.pop())
    elif kind == "prelu":
        made = nn.PReLU()
    else:
        made = nn.Hardtanh(inplace=bool(getattr(old, "inplace", False)))
    return made.train(old.training)


def become_(module: nn.Module, other: nn.Module) -> None:
    """Turn a module into another one in place: the object stays, with its hooks.

    Args:
        module: a module without parameters and children, such as an activation.
        other: a new module, whose class and state it takes.
    """
    hooks = {name: value for name, value in module.__dict__.items() if "hook" in name}
    module.__class__ = type(other)
    module.__dict__.update(other.__dict__ | hooks)
