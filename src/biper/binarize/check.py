"""Whether the input of each binary layer of a model takes both signs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from biper.binarize.run_once import input_of, run_once
from biper.nn import BinaryConv1d, BinaryLayer, BinaryLinear, binary_layers
from biper.quantizers import Quantizer

Example = Tensor | tuple[Any, ...] | list[Any]
"""A batch as a model takes it: a tensor, or the positional arguments."""

ONE_SIGN = 0.01
"""An input has one sign if less than this share of it has the other."""


def arguments_of(example: Example) -> tuple[Any, ...]:
    """The positional arguments that an example stands for."""
    return tuple(example) if isinstance(example, tuple | list) else (example,)


def has_one_sign(share: float) -> bool:
    """Whether a share of +1, 0 to 1, is so near to 0 or to 1 that the signs carry almost no information."""
    return not ONE_SIGN <= share <= 1 - ONE_SIGN


def check_binary_inputs(model: nn.Module, example: Example) -> dict[str, float]:
    """Measure the share of +1 among the input signs of each binary layer.

    A layer whose share is 0 or 1 computes a constant: it sees nothing of the data. The model runs once, without
    gradients, in its present mode, and is left as it was. Layers with real inputs (W1A32) are left out.

    Args:
        model: any module.
        example: a batch as the model takes it: a tensor, or a tuple of the positional arguments.

    Returns:
        For each binary layer that ran, by qualified name: the share, 0 to 1.

    Raises:
        ModelError: the model does not run on the example.
    """
    counts: dict[str, list[int]] = {}
    handles = []
    for name, layer in binary_layers(model).items():
        if not isinstance(layer.input_quantizer, nn.Identity):
            handles.append(layer.register_forward_pre_hook(_counter(name, layer, counts), with_kwargs=True))
    try:
        run_once(model, arguments_of(example))
    finally:
        for handle in handles:
            handle.remove()
    return {name: positive / max(values, 1) for name, (positive, values) in counts.items()}


def _counter(name: str, layer: BinaryLayer, counts: dict[str, list[int]]) -> Callable[[nn.Module, Any, Any], None]:
    """A hook that counts the inputs of a layer whose sign is +1."""

    def count(_layer: nn.Module, arguments: Any, keywords: Any) -> None:
        x, quantizer = input_of(arguments, keywords), layer.input_quantizer
        if isinstance(layer, BinaryConv1d):
            x = x.unsqueeze(-2)  # the layer takes its input for an image of height 1
        if not isinstance(layer, BinaryLinear) and x.dim() == 3:
            x = x.unsqueeze(0)
        argument = quantizer.sign_argument(x) if isinstance(quantizer, Quantizer) else x
        sums = counts.setdefault(name, [0, 0])
        sums[0] += int((argument >= 0).sum())
        sums[1] += argument.numel()

    return count


def warn_of_one_signed_inputs(shares: Mapping[str, float]) -> None:
    """Warn of each binary layer whose input has one sign; ``shares`` are those of `check_binary_inputs`."""
    for name, share in shares.items():
        if has_one_sign(share):
            warnings.warn(
                f"the input of the binary layer {name} has one sign ({share:.1%} of it is +1), so that the layer is "
                "almost a constant: put an activation that can be negative, such as hardtanh, in front of it",
                stacklevel=2,
            )
