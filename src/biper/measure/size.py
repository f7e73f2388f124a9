"""The layers of a network: shapes, parameters, bits, multiply-accumulates and sizes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from biper.nn import BINARY_LAYERS


@dataclass(frozen=True)
class LayerSummary:
    """One layer that has parameters.

    Attributes:
        name: qualified name.
        kind: the name of its class.
        output_shape: the shape of its output for one image.
        parameters: how many numbers are trained.
        weight_bits: 1 for binary weights, else 32.
        input_bits: 1 for inputs that are binarized, else 32.
        multiply_accumulates: how many there are for one image.
        float_bytes: size in bytes with everything in float32.
        packed_bytes: size in bytes with one bit for each binary weight and everything else in float32.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    weight_bits: int
    input_bits: int
    multiply_accumulates: int
    float_bytes: int
    packed_bytes: int


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of a whole model.

    Attributes:
        parameters: how many numbers are trained.
        float_bytes: bytes of everything that inference needs, all of it in float32.
        packed_bytes: the same with one bit for each binary weight.
    """

    parameters: int
    float_bytes: int
    packed_bytes: int

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the sizes."""
        return tuple(each.name for each in dataclasses.fields(cls))

    def to_json(self) -> dict[str, int]:
        """The sizes by their names."""
        return dataclasses.asdict(self)


def summarize(model: nn.Module, input_shape: tuple[int, ...]) -> list[LayerSummary]:
    """Describe every layer of a model that has parameters, by running one image of zeros through it.

    Args:
        model: any module; it runs in evaluation mode and is put back into its own mode afterwards.
        input_shape: the shape of one image, (C, H, W), or of one signal, (C, L).

    Returns:
        The layers in the order in which they ran. A layer that runs twice is listed once, with the
        multiply-accumulates of both runs.
    """
    ran: dict[nn.Module, list[tuple[int, ...]]] = {}

    def note(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        ran.setdefault(module, []).append(tuple(output.shape[1:]))

    names = {module: name for name, module in model.named_modules() if _own_tensors(module)}
    handles = [module.register_forward_hook(note) for module in names]
    was_training = model.training
    model.eval()
    first = next(model.parameters(), torch.zeros(()))
    try:
        with torch.inference_mode():
            model(torch.zeros((1, *input_shape), dtype=first.dtype, device=first.device))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return [_summarize_layer(names[module], module, shapes) for module, shapes in ran.items()]


def _own_tensors(module: nn.Module) -> list[Tensor]:
    """The floating-point parameters and buffers that inference needs of a module, without those of its children."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return [tensor for tensor in own if tensor.is_floating_point()]


def _layer_bytes(module: nn.Module) -> tuple[int, int]:
    """The bytes of a module in float32, and the bytes with one bit for each binary weight."""
    float_bytes = packed = 0
    for tensor in _own_tensors(module):
        float_bytes += 4 * tensor.numel()
        binary = isinstance(module, BINARY_LAYERS) and tensor is module.weight
        packed += -(-tensor.numel() // 8) if binary else 4 * tensor.numel()
    return float_bytes, packed


def _summarize_layer(name: str, module: nn.Module, shapes: list[tuple[int, ...]]) -> LayerSummary:
    """Describe a layer that gave outputs of these shapes, one for each time that it ran."""
    binary = isinstance(module, BINARY_LAYERS)
    weight = getattr(module, "weight", None)
    macs = 0
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear) and isinstance(weight, Tensor):
        outputs = sum(torch.Size(shape).numel() for shape in shapes)
        macs = outputs * weight[0].numel()
    float_bytes, packed = _layer_bytes(module)
    return LayerSummary(
        name=name,
        kind=type(module).__name__,
        output_shape=shapes[-1],
        parameters=sum(parameter.numel() for parameter in module.parameters(recurse=False)),
        weight_bits=1 if binary else 32,
        input_bits=1 if binary and not isinstance(module.input_quantizer, nn.Identity) else 32,
        multiply_accumulates=macs,
        float_bytes=float_bytes,
        packed_bytes=packed,
    )


def model_sizes(model: nn.Module) -> ModelSizes:
    """The sizes of a whole model, from the parameters and floating-point buffers of all its modules."""
    sizes = [_layer_bytes(module) for module in model.modules()]
    return ModelSizes(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        float_bytes=sum(size[0] for size in sizes),
        packed_bytes=sum(size[1] for size in sizes),
    )
