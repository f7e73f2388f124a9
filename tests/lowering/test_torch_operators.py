"""Operators of torch are packed: the result of each function is one of the outputs of a network that calls them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biper.errors import ExportError
from biper.lowering.lower import lower
from biper.lowering.pack import pack_graph
from biper.lowering.trace import call, input_tensors, named_results
from biper.runtime.engine import Engine
from biper.runtime.program import Program, write_program
from biper.runtime.reader import read_program
from biper.runtime.reference import run_reference

Function = Callable[[Tensor], Tensor]


class All(nn.Module):
    """A network whose results are those of many functions and modules of the same input."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        super().__init__()
        self.functions = dict(functions)
        self.parts = nn.ModuleList([part for part in functions.values() if isinstance(part, nn.Module)])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: function(x) for name, function in self.functions.items()}


def packed(model: nn.Module, example: object) -> Program:
    graph = lower(model.eval(), example)
    channels = graph.input_shape[0]
    program = pack_graph(graph, mean=(0.0,) * channels, std=(1.0,) * channels, classes=())
    return read_program(write_program(program))


def require_equal(model: nn.Module, example: object, tolerance: float = 1e-4) -> Program:
    """The reference and the engine compute what torch does, for each result, to float rounding."""
    program = packed(model, example)
    named = input_tensors(model, example)
    with torch.no_grad():
        expected = dict(named_results(call(model, {name: tensor.clone() for name, tensor in named.items()})))
    (_, images), *others = ((name, tensor.numpy()) for name, tensor in named.items())
    images = images.reshape(len(images), *program.input_shape)
    values = run_reference(program, images, dict(others))
    native = Engine(program)(images, dict(others)) if others else Engine(program)(images)
    wrong = {}
    for name, value in (program.outputs or {"": program.output}).items():
        result = expected[name].float().numpy()
        scale = max(float(np.abs(result).max()), 1e-3)
        of_engine = native[name] if isinstance(native, dict) else native
        for kind, actual in (("reference", values[value]), ("engine", of_engine)):
            difference = np.abs(actual.reshape(result.shape) - result).max() / scale
            if not difference <= tolerance:
                wrong[f"{name}, {kind}"] = float(difference)
    assert not wrong
    return program


ACTIVATIONS = (
    "relu", "relu6", "sigmoid", "tanh", "silu", "hardswish", "hardsigmoid", "gelu", "elu", "selu", "celu",
    "leaky_relu", "mish", "softplus", "softsign", "tanhshrink", "hardshrink", "softshrink", "logsigmoid", "hardtanh",
)  # fmt: skip


def numbers(*shape: int) -> Tensor:
    """The same numbers in every call, from -1 to 1."""
    return torch.linspace(-1, 1, int(np.prod(shape))).reshape(shape)


def of_five_axes(function: Function) -> Function:
    return lambda x: function(x.unflatten(1, (2, 3)))


def assigned(x: Tensor, place: object, value: object) -> Tensor:
    y = x * 1
    y[place] = value
    return y


def shifted_in_time(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :2, :, :-1] = x[:, :2, :, 1:]
    y[:, 2:] = x[:, 2:]
    return y


IMAGES: dict[str, dict[str, Function]] = {
    "activations": {name: getattr(F, name) for name in ACTIVATIONS}
    | {
        "gelu, tanh": nn.GELU(approximate="tanh"),
        "threshold": lambda x: F.threshold(x, 0.1, -1.0),
        "glu": lambda x: F.glu(x, 1),
        "softmax": nn.Softmax2d(),
        "log_softmax": lambda x: x.log_softmax(1),
        "softmax of pixels": lambda x: x.flatten(2).softmax(-1),
        "prelu": nn.PReLU(6, 0.3),
        "clamp from below": lambda x: x.clamp(min=0.2),
        "clamp by tensors": lambda x: torch.clamp(x, numbers(6, 1, 1) - 1, numbers(6, 1, 1) + 1),
    },
    "activations of five axes": {name: of_five_axes(getattr(F, name)) for name in ACTIVATIONS},
    "functions": {
        "abs": torch.abs, "exp": torch.exp, "log1p": lambda x: torch.log1p(x.abs()), "sqrt": lambda x: x.abs().sqrt(),
        "rsqrt": lambda x: (x.abs() + 1).rsqrt(), "square": torch.square, "cube": lambda x: x**3,
        "power": lambda x: (x.abs() + 1) ** -1.5, "two to the x": lambda x: 2**x, "exp2": torch.exp2,
        "log2": lambda x: torch.log2(x.abs() + 1), "log10": lambda x: torch.log10(x.abs() + 1), "sin": torch.sin,
        "cos": torch.cos, "tan": lambda x: torch.tan(x * 0.3), "sinh": torch.sinh, "cosh": torch.cosh, "erf": torch.erf,
        "floor": lambda x: (x * 3).floor(), "ceil": lambda x: (x * 3).ceil(), "round": lambda x: (x * 3).round(),
        "trunc": lambda x: (x * 3).trunc(), "frac": lambda x: (x * 3).frac(), "sign": torch.sign,
        "reciprocal": lambda x: 1 / (x.abs() + 1), "negative": lambda x: -x, "expm1": torch.expm1,
        "atan": lambda x: torch.atan(x * 3), "asin": lambda x: torch.asin(x.tanh()),
        "acos": lambda x: torch.acos(x.tanh()), "atan2": lambda x: torch.atan2(x, x.flip(1)),
        "atan2 at the axes": lambda x: torch.atan2(x.round() + 0, x.flip(1).round() + 0), "asinh": torch.asinh,
        "acosh": lambda x: torch.acosh(x.abs() + 1), "atanh": lambda x: torch.atanh(x.tanh() * 0.9),
        "erfc": torch.erfc, "round to tenths": lambda x: x.round(decimals=1), "rrelu": nn.RReLU(), "sinc": torch.sinc,
        "to whole numbers": lambda x: (x * 3).int().float(), "to truth": lambda x: x.relu().bool().float(),
        "in place": lambda x: (x * 1).add_(1).mul_(2).relu_(), "double": lambda x: x.double().sin().float(),
    },
    "arithmetic": {
        "lerp": lambda x: torch.lerp(x, x.relu(), 0.3), "addcmul": lambda x: torch.addcmul(x, x, x.relu(), value=0.5),
        "addcdiv": lambda x: torch.addcdiv(x, x, x.abs() + 1), "sum with alpha": lambda x: torch.add(x, x, alpha=0.5),
        "difference with alpha": lambda x: torch.sub(x, x.relu(), alpha=2),
        "reversed difference": lambda x: torch.rsub(x, x.relu(), alpha=0.5),
        "maximum": lambda x: torch.maximum(x, x.flip(2)), "minimum": lambda x: torch.minimum(x, torch.tensor(0.3)),
        "mask": lambda x: x * (x > 0.2), "where": lambda x: torch.where(x > 0, x, x * 0.1),
        "masked_fill": lambda x: x.masked_fill(x < 0, -1.0),
        "logic": lambda x: torch.where((x > 0) & (x < 1) | ~(x > -1), x, -x),
        "equal": lambda x: (x.round() == 0).float(), "centered": lambda x: x - x.mean(1, keepdim=True),
        "gate": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
        "scaled": lambda x: x / (x.abs().amax((2, 3), keepdim=True) + 1),
        "constant over value": lambda x: (numbers(10) + 2) / (x.abs() + 1),
        "floored quotient": lambda x: torch.div(x * 5, 2, rounding_mode="floor"),
        "truncated quotient": lambda x: torch.div(x * 5, 2, rounding_mode="trunc"),
        "remainder": lambda x: torch.remainder(x * 5, 2.0),
        "rows and columns": lambda x: x.mean(2, keepdim=True) + x.mean(3, keepdim=True),
        "by column": lambda x: x * numbers(10), "by row": lambda x: x * numbers(8, 1),
        "by place": lambda x: x + numbers(1, 6, 8, 10), "of features": lambda x: x.mean((2, 3)) * x.amax((2, 3)),
        "hypotenuse": lambda x: torch.hypot(x, x.flip(1)), "signbit": lambda x: torch.signbit(x).float(),
        "copysign": lambda x: torch.copysign(x, x.flip(1)), "xlogy": lambda x: torch.xlogy(x.relu(), x.abs() + 1),
        "whole quotient": lambda x: (x * 7).long() // 2, "normalize": lambda x: F.normalize(x, dim=1),
        "cosine similarity": lambda x: F.cosine_similarity(x, x.flip(1), dim=1),
    },
    "reductions": {
        "sum of all": lambda x: x.sum((1, 2, 3)), "sum, kept": lambda x: x.sum(1, keepdim=True),
        "mean": lambda x: x.mean(1), "amin": lambda x: x.amin((2,)), "max of an axis": lambda x: x.max(1)[0],
        "min of an axis": lambda x: x.min(3).values, "product": lambda x: x.prod(1), "std": lambda x: x.std((2, 3)),
        "variance": lambda x: x.var(1, unbiased=False),
        "variance and mean": lambda x: torch.cat(torch.var_mean(x, 1, keepdim=True), 1),
        "norm": lambda x: x.norm(dim=1), "norm of order 1": lambda x: x.norm(p=1, dim=(2, 3)),
        "largest magnitude": lambda x: torch.linalg.vector_norm(x, float("inf"), (2, 3)),
        "norm of order 3": lambda x: torch.linalg.vector_norm(x, 3, (1,)), "logsumexp": lambda x: x.logsumexp((2, 3)),
        "cumulative sum": lambda x: x.cumsum(3), "any": lambda x: (x > 0).any(1).float(),
        "means one axis at a time": lambda x: x.mean(-1).mean(-1), "difference": lambda x: x.diff(dim=3),
    },
    "orders": {
        "argmax": lambda x: x.argmax(1), "argmin, kept": lambda x: x.argmin(-1, keepdim=True),
        "argmax of ties": lambda x: x.round().argmax(2), "argmax of all": lambda x: x.flatten(1).argmax(1),
        "place of the largest": lambda x: x.max(3)[1], "place of the smallest": lambda x: x.min(1).indices,
        "sort": lambda x: x.sort(1)[0], "argsort, falling": lambda x: x.argsort(-1, descending=True),
        "stable sort of ties": lambda x: x.round().sort(stable=True, dim=3)[1], "topk": lambda x: x.topk(2, 3)[0],
        "places of topk": lambda x: x.topk(2, 3)[1], "smallest three": lambda x: x.topk(3, 1, largest=False)[0],
        "median": lambda x: x.median(3)[0], "kthvalue": lambda x: x.kthvalue(2, 1)[0],
        "quantile": lambda x: x.quantile(0.3, dim=1), "one hot": lambda x: F.one_hot(x.argmax(1), 6),
    },
    "indices": {
        "gather": lambda x: x.gather(1, (torch.arange(160).view(1, 2, 8, 10) % 6).expand(len(x), -1, -1, -1)),
        "gather by a computed index": lambda x: x.gather(1, x.argsort(1)[:, :2]),
        "take along": lambda x: torch.take_along_dim(x, x.argmax(3, keepdim=True), 3),
        "embedding of a computed index": lambda x: F.embedding(x.argmax(1), numbers(6, 3)),
        "table by a computed index": lambda x: numbers(8, 4)[x.argmax(2)],
        "scatter": lambda x: torch.zeros_like(x).scatter(1, torch.ones(len(x), 1, 8, 10, dtype=torch.long), x[:, :1]),
        "scatter of a number": lambda x: x.scatter(3, torch.zeros(len(x), 6, 8, 1, dtype=torch.long), 0.5),
        "scatter by a computed index": lambda x: torch.zeros_like(x).scatter(1, x.argsort(1)[:, :2], x[:, :2]),
        "scatter_add": lambda x: x.scatter_add(1, x.argsort(1)[:, :2], x[:, :2]),
        "index_add": lambda x: torch.zeros_like(x).index_add(1, torch.tensor([0, 1, 2, 3, 4, 0]), x),
        "index_copy": lambda x: x.index_copy(1, torch.tensor([3, 0]), x[:, :2]),
        "index_fill": lambda x: x.index_fill(3, torch.tensor([0, 3]), 0.5),
        "assigned by an index": lambda x: assigned(x, (slice(None), torch.tensor([4, 1])), x[:, :2]),
        "assigned by a mask": lambda x: assigned(x, x < 0, 0.25), "diagonal": lambda x: x.diagonal(1, 2, 3),
        "diagonal below": lambda x: x.diagonal(-2, 3, 1), "trace": lambda x: torch.einsum("bcii->bc", x[..., :8]),
        "distant indices": lambda x: x[:, torch.tensor([0, 1]), :, torch.tensor([2, 3])].transpose(0, 1),
        "distances": lambda x: torch.cdist(x[:, 0], x[:, 1]), "of order 1": lambda x: torch.cdist(x[:, 0], x[:, 1], 1),
    },
    "pools": {
        "average": nn.AvgPool2d(3, 2, 1), "average, ceil": nn.AvgPool2d(3, 2, ceil_mode=True),
        "average of what is inside": nn.AvgPool2d(3, 2, 1, count_include_pad=False, ceil_mode=True),
        "average by a divisor": nn.AvgPool2d((3, 2), 2, 1, ceil_mode=True, divisor_override=5),
        "maximum": nn.MaxPool2d(3, 2, 1), "dilated": nn.MaxPool2d(3, 1, 1, dilation=2),
        "dilated, ceil": nn.MaxPool2d((2, 3), 2, 1, dilation=(1, 2), ceil_mode=True), "LP": nn.LPPool2d(2, 3, 2),
        "adaptive": nn.AdaptiveAvgPool2d((3, 7)), "adaptive of one axis": nn.AdaptiveAvgPool2d((None, 3)),
        "adaptive maximum": nn.AdaptiveMaxPool2d((3, 7)), "global maximum": nn.AdaptiveMaxPool2d(1),
        "adaptive, larger": nn.AdaptiveAvgPool2d((16, 10)), "rectangular": nn.MaxPool2d((2, 5), (1, 3)),
        "local response norm": nn.LocalResponseNorm(3),
    },
    "norms": {
        "layer norm of rows": nn.LayerNorm(10), "layer norm of all": nn.LayerNorm((6, 8, 10)),
        "layer norm, plain": nn.LayerNorm(10, elementwise_affine=False),
        "layer norm of channels": lambda x: F.layer_norm(
            x.permute(0, 2, 3, 1), (6,), numbers(6), numbers(6)
        ).permute(0, 3, 1, 2),
        "group norm": nn.GroupNorm(3, 6), "one group": nn.GroupNorm(1, 6),
        "group norm, plain": nn.GroupNorm(6, 6, affine=False),
        "instance norm": nn.InstanceNorm2d(6), "instance norm, affine": nn.InstanceNorm2d(6, affine=True),
        "instance norm with statistics": nn.InstanceNorm2d(6, track_running_stats=True), "RMS norm": nn.RMSNorm(10),
        "RMS norm of two axes": nn.RMSNorm((8, 10), eps=1e-3), "batch norm": nn.BatchNorm2d(6),
    },
    "paddings": {
        "zeros": lambda x: F.pad(x, (1, 2, 3, 0)), "a value": lambda x: F.pad(x, (1, 2, 3, 0), value=0.7),
        "cropping": lambda x: F.pad(x, (-1, 2, -3, -1)), "channels": lambda x: F.pad(x, (0, 0, 0, 0, 2, 1)),
        "channels, cropping": lambda x: F.pad(x, (0, 0, 0, 0, -2, 1)),
        "infinity": lambda x: F.pad(x, (1, 2, 3, 0), value=-torch.inf).exp(),
        "three axes": lambda x: F.pad(x, (1, 1, 1, 1, 1, 1), value=-1.0),
        "reflection": lambda x: F.pad(x, (2, 1, 3, 1), mode="reflect"),
        "replication": nn.ReplicationPad2d((2, 0, 1, 3)),
        "circular": nn.CircularPad2d((2, 1, 0, 3)),
    },
    "parts": {
        "ranges": lambda x: x[:, 1:4, ::2, 3:-2], "every other channel": lambda x: x[:, ::2],
        "last": lambda x: x[:, -1],
        "new axis": lambda x: x[..., None, 2], "every third row": lambda x: x[:, :, ::3],
        "chunk": lambda x: x.chunk(3, 1)[1], "chunks turned around": lambda x: torch.cat(x.chunk(4, 3)[::-1], 3),
        "split": lambda x: torch.cat(x.split([1, 2, 3], 1)[::-1], 1),
        "unbind": lambda x: x.unbind(1)[2] + x.unbind(1)[0],
        "stack": lambda x: torch.stack([x, x * 2], 2), "stack, last": lambda x: torch.stack([x, x * 2], -1),
        "beside each other": lambda x: torch.cat([x, x.relu()], 3),
        "zeros beside": lambda x: torch.cat([x, x.new_zeros(len(x), 1, 8, 10)], 1),
        "index": lambda x: x[:, torch.tensor([3, 0, 0])],
        "two indices": lambda x: x[:, :, torch.tensor([[0], [2]]), torch.tensor([1, 3, 4])],
        "index_select": lambda x: x.index_select(3, torch.tensor([4, 4, 1])),
        "windows": lambda x: F.unfold(x, 3, padding=1, stride=2), "unfold": lambda x: x.unfold(3, 4, 2),
        "fold": lambda x: F.fold(F.unfold(x, 3, stride=2, padding=1), (8, 10), 3, stride=2, padding=1),
        "assigned slice": lambda x: assigned(x, (slice(None), slice(0, 2)), 0.0),
        "assigned channel": lambda x: assigned(x, (slice(None), 1), x[:, 0] * 2), "shifted in time": shifted_in_time,
    },
    "shapes": {
        "permute": lambda x: x.permute(0, 3, 1, 2), "transpose": lambda x: x.transpose(2, 3),
        "movedim": lambda x: x.movedim(1, -1), "reshape": lambda x: x.reshape(-1, 4, 15, 8),
        "tokens, flat": lambda x: x.flatten(2).transpose(1, 2).reshape(len(x), -1),
        "roll": lambda x: x.roll((1, -2), (2, 3)), "flip": lambda x: x.flip((1, 3)),
        "rotated": lambda x: torch.rot90(x, 1, (2, 3)), "pixel shuffle": lambda x: F.pixel_shuffle(x[:, :4], 2),
        "pixel unshuffle": nn.PixelUnshuffle(2), "channel shuffle": nn.ChannelShuffle(3),
        "expand": lambda x: x[:, :1].expand(-1, 4, -1, -1), "repeat": lambda x: x.repeat(1, 2, 1, 3),
        "repeat_interleave": lambda x: x.repeat_interleave(2, 1), "tile": lambda x: x.tile((1, 1, 2, 1)),
        "unflatten": lambda x: x.unflatten(1, (2, 3)).mean(1), "squeeze": lambda x: x[:, :1].squeeze(1),
        "space to depth": lambda x: x.view(len(x), 6, 4, 2, 5, 2).permute(0, 3, 5, 1, 2, 4).reshape(len(x), 24, 4, 5),
    },
    "resizes": {
        "by 1.25": nn.Upsample(scale_factor=1.25), "by 0.7": nn.Upsample(scale_factor=0.7),
        "to a size": nn.Upsample((11, 13)),
        "recomputed": lambda x: F.interpolate(x, scale_factor=1.3, recompute_scale_factor=True),
        "exact": lambda x: F.interpolate(x, scale_factor=1.7, mode="nearest-exact"),
        "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        "bilinear, corners": lambda x: F.interpolate(x, size=(15, 7), mode="bilinear", align_corners=True),
        "bilinear, antialiased": lambda x: F.interpolate(x, size=(5, 6), mode="bilinear", antialias=True),
        "bicubic": lambda x: F.interpolate(x, scale_factor=1.5, mode="bicubic"),
        "area": lambda x: F.interpolate(x, size=(5, 6), mode="area"),
    },
    "convolutions": {
        "transposed": nn.ConvTranspose2d(6, 4, 4, 2, 1),
        "transposed, groups": nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1, groups=2, dilation=2),
        "transposed, cropping": nn.ConvTranspose2d(6, 3, 2, 1, 2),
        "transposed, rectangular": nn.ConvTranspose2d(6, 3, (3, 2), (1, 3), (0, 1)),
        "reflecting": nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"),
        "circular": nn.Conv2d(6, 4, 3, padding=(2, 1), padding_mode="circular"),
        "same": nn.Conv2d(6, 4, (2, 4), padding="same", dilation=2),
        "of volumes": nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Conv3d(2, 4, 3, padding=1)),
        "of volumes, groups": nn.Sequential(
            nn.Unflatten(1, (2, 3)), nn.Conv3d(2, 4, (2, 3, 2), (1, 2, 1), (1, 0, 2), (2, 1, 3), groups=2)
        ),
        "of volumes, same": nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv3d(1, 3, (2, 1, 4), padding="same")),
        "weights by batch norm": lambda x: F.conv2d(
            x, F.batch_norm(numbers(1, 4, 54), None, None, training=True).reshape(4, 6, 3, 3)
        ),
        "weight norm": nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 4, 3)),
    },
    "products": {
        "linear on rows": nn.Linear(10, 3), "constant on the right": lambda x: x @ numbers(10, 4),
        "constant on the left": lambda x: numbers(5, 8) @ x, "with itself": lambda x: x @ x.transpose(2, 3),
        "bmm": lambda x: torch.bmm(x[:, 0], x[:, 1].transpose(1, 2)), "vector": lambda x: x @ numbers(10),
        "einsum": lambda x: torch.einsum("bchw,cd->bdhw", x, numbers(6, 4)),
        "attention": lambda x: F.scaled_dot_product_attention(x, x, x * 2),
        "causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
        "masked, in some rows wholly": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=numbers(8, 8) < 0.5),
        "biased": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=numbers(8, 8), scale=0.2),
        "infinite mask": lambda x: (x @ x.mT + torch.full((8, 8), -torch.inf).triu(1)).softmax(-1),
        "bilinear layer": lambda x: F.bilinear(x, x.flip(2), numbers(3, 10, 10), numbers(3)),
        "computed bias": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=x[..., :8].abs()),
    },
}  # fmt: skip

SIGNALS: dict[str, Function] = {
    "convolution": nn.Conv1d(6, 4, 3, padding=1), "circular": nn.Conv1d(6, 4, 3, padding=1, padding_mode="circular"),
    "transposed": nn.ConvTranspose1d(6, 4, 3, 2), "nearest": nn.Upsample(scale_factor=2),
    "linear": lambda x: F.interpolate(x, size=20, mode="linear"), "maximum": nn.MaxPool1d(3, 2, 1),
    "dilated": nn.MaxPool1d(3, dilation=2), "average": nn.AvgPool1d(3, 2, 1, ceil_mode=True),
    "adaptive": nn.AdaptiveAvgPool1d(4), "adaptive maximum": nn.AdaptiveMaxPool1d(4), "batch norm": nn.BatchNorm1d(6),
    "instance norm": nn.InstanceNorm1d(6), "group norm": nn.GroupNorm(2, 6), "reflection": nn.ReflectionPad1d(2),
    "statistics": lambda x: torch.cat([x.mean(2), x.std(2)], 1), "prelu": nn.PReLU(6), "layer norm": nn.LayerNorm(11),
    "fully connected": nn.Linear(11, 5), "as an image": lambda x: x.unsqueeze(1),
}  # fmt: skip

TOKENS: dict[str, Function] = {
    "encoder": nn.TransformerEncoderLayer(12, 3, 16, batch_first=True),
    "encoder, norm first": nn.TransformerEncoderLayer(12, 3, 16, batch_first=True, norm_first=True, activation="gelu"),
    "layer norm": nn.LayerNorm(12), "linear": nn.Linear(12, 4), "positions": lambda x: x + numbers(1, 7, 12),
    "class token": lambda x: torch.cat([numbers(1, 1, 12).expand(len(x), -1, -1), x], 1)[:, 0],
    "heads": lambda x: F.scaled_dot_product_attention(
        *x.reshape(len(x), 7, 3, 2, 2).permute(2, 0, 3, 1, 4).unbind(0)
    ).transpose(1, 2).reshape(len(x), 7, 4),
    "mixing": nn.Sequential(nn.LayerNorm(12), nn.GLU(), nn.Linear(6, 7)), "mean": lambda x: x.mean(1),
    "windows": lambda x: x[:, :6].reshape(len(x) * 3, 2, 12).softmax(-1).reshape(len(x), 6, 12),
    "prelu": nn.PReLU(7), "convolution": lambda x: F.conv1d(x.transpose(1, 2), numbers(4, 12, 3)).transpose(1, 2),
}  # fmt: skip

VECTORS: dict[str, Function] = {
    "perceptron": nn.Sequential(nn.Linear(12, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3), nn.Softmax(-1)),
    "batch norm": nn.BatchNorm1d(12), "image": lambda x: x.view(-1, 3, 2, 2), "prelu": nn.PReLU(12),
    "outer product": lambda x: x[:, :, None] * x[:, None, :], "sum": lambda x: x.sum(-1),
}  # fmt: skip


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("family", IMAGES)
def test_operators_on_images(family: str) -> None:
    require_equal(All(IMAGES[family]), torch.randn(3, 6, 8, 10))


@pytest.mark.parametrize(
    ("functions", "shape"),
    [(SIGNALS, (3, 6, 11)), (TOKENS, (3, 7, 12)), (VECTORS, (3, 12))],
    ids=["signals", "tokens", "vectors"],
)
def test_operators_on_other_ranks(functions: dict[str, Function], shape: tuple[int, ...]) -> None:
    require_equal(All(functions), torch.randn(shape))


@dataclass
class Found:
    boxes: Tensor
    scores: tuple[Tensor, Tensor]
    nothing: None = None


class TwoInputs(nn.Module):
    def forward(self, image: Tensor, meta: Tensor) -> Found:
        return Found(image.mean((2, 3)) + meta, (meta * 2, image.relu()))


@pytest.mark.parametrize("form", ["sequence", "mapping"])
def test_several_inputs_and_named_outputs(form: str) -> None:
    image, meta = torch.randn(3, 6, 8, 10), torch.randn(3, 6)
    program = require_equal(TwoInputs(), (image, meta) if form == "sequence" else {"image": image, "meta": meta})
    assert list(program.outputs) == ["boxes", "scores.0", "scores.1"]
    assert dict(program.inputs) == {"meta": (6,)}


def test_a_network_that_returns_its_input() -> None:
    program = require_equal(nn.Identity(), torch.randn(2, 3, 4, 5))
    assert program.operations == ()


def test_a_constant_computed_in_forward_is_folded() -> None:
    program = packed(
        All({"y": lambda x: x + torch.arange(8.0).view(1, 1, 8, 1).sin().cumsum(2)}), torch.randn(2, 3, 8, 5)
    )
    assert [op.operation for op in program.operations] == ["constant", "binary"]


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(24, 4, 3, padding=1), nn.Conv2d(24, 4, 1, padding=1), nn.Conv2d(24, 4, 1, groups=2)]
)
def test_a_convolution_of_a_flattened_map_is_no_linear_layer(layer: nn.Conv2d) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(1)[:, :, None, None])

    require_equal(Model(), torch.randn(2, 4, 2, 3))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: torch.lgamma(x), r"prims\.lgamma.* is not supported"),
        (lambda x: x.flatten(1).repeat(1, 99).sort(1)[0], "makes 35,283,600 comparisons, and at most 4,194,304"),
        (lambda x: x + torch.rand_like(x), "other numbers in every call"),
        (lambda x: F.conv_transpose3d(x[:, None], torch.ones(1, 1, 2, 2, 2)), "convolution of 3 dimensions is not"),
        (lambda x: x.mean(0), "first axis is not the batch"),
        (lambda x: x[x > 0], "by a mask gives as many elements as the mask has; index by whole numbers"),
        (lambda x: x[:, x.argmax(1)], "by computed indices is not supported; use constant indices, or gather"),
        (lambda x: x.index_select(1, x.argmax(1).flatten()), "by a computed index is not supported; use gather"),
        (lambda x: torch.fft.rfft(x).abs(), "gives complex numbers, which are not supported; compute their real"),
        (lambda x: F.batch_norm(x, None, None, training=True), "normalizes by the other images of the batch"),
        (nn.BatchNorm2d(3, track_running_stats=False), "use track_running_stats=True, or an instance norm"),
        (lambda x: torch.linalg.inv(x[..., :4]), r"linalg_inv.* is not supported"),
        (lambda x: torch.where(x > 0, x, torch.nan), "reads a constant that has NaN, which no packed file has; use"),
        (lambda x: x.half(), "a conversion to torch.float16 rounds numbers as no packed file does"),
        (lambda x: F.rrelu(x, training=True), "an RReLU in training mode gives other numbers"),
        (lambda x: x.nope(), "the model fails on example_input: AttributeError"),
        (lambda _x: "a text", "the model returns a str where a tensor is expected"),
        (lambda _x: None, "returns no tensor"),
    ],
)
def test_refusals_are_one_line(function: Function, message: str) -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> object:
            return function(x)

    with pytest.raises(ExportError, match=message) as raised:
        packed(Model(), torch.randn(1, 3, 4, 5))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (torch.zeros(2, 3, 4, 5, 6), r"got shape \(2, 3, 4, 5, 6\)"),
        (torch.zeros(2, 3, 4, 5, dtype=torch.int64), "got torch.int64"),
        ((torch.zeros(2, 3, 4, 5), torch.zeros(2, 3)), "example_input has 2 inputs, and the model's forward takes 1"),
        ({}, "example_input has no tensor"),
    ],
)
def test_wrong_examples(example: object, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        packed(nn.ReLU(), example)
