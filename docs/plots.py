"""Draws the forward function and the gradient of every quantizer, as the quantizer itself computes them.

    python docs/plots.py FOLDER

writes one SVG for each quantizer, with the name of its class. The build of the documentation site calls `draw`, and the
pages in ``docs/quantizers/`` show the files. The files are the same, byte for byte, in every build.

Many quantizers depend on all weights of an output channel. Therefore each point of a plot is one weight (or input) of a
channel whose other weights are fixed: `OTHERS`, a normal distribution with mean 0 and standard deviation 1/2. The
plotted gradient is that of the quantized weight by the weight itself.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor, nn

from biper.nn import set_progress_
from biper.quantizers import (
    AdaBinInput,
    AdaBinWeight,
    ApproxSign,
    DoReFaInput,
    DoReFaWeight,
    ErrorDecaySign,
    LibraWeight,
    MagnitudeAwareSign,
    PeriodicSign,
    PowerSign,
    PowerWeight,
    RectifiedClampSign,
    RPReLU,
    RSign,
    StandardizedPeriodicSign,
    SteSign,
    TunedPeriodicSign,
    XnorSign,
)

OTHERS = torch.special.ndtri((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000) / 2
"""The other 1000 weights of each output channel: quantiles of a normal distribution."""

COLOURS = ("#3b82f6", "#f97316", "#10a37f")
"""The colours of the first, second and third curve, which stand out from a light and from a dark background."""

STYLE: Any = {
    "axes.edgecolor": "#808080",
    "axes.labelcolor": "#808080",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": "#808080",
    "axes.titlesize": 10,
    "font.family": "sans-serif",
    "font.size": 9,
    "legend.frameon": False,
    "legend.labelcolor": "#808080",
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "biper",
    "xtick.color": "#808080",
    "ytick.color": "#808080",
}
"""Grey text and axes on a transparent background, and names of SVG elements that do not change from build to build."""


class Plot(NamedTuple):
    """The plot of one quantizer."""

    variable: str
    """The name of the horizontal axis: ``w`` for a weight, ``x`` for an input."""
    limit: float
    """The horizontal axis goes from minus this number to this number."""
    variants: Mapping[str, Callable[[], nn.Module]]
    """For each curve, its label and a function that makes the quantizer."""


class Curve(NamedTuple):
    """One curve: points on the horizontal axis, with the forward function and the gradient at each of them."""

    points: Tensor
    forward: Tensor
    gradient: Tensor


def at_progress(make: Callable[[], nn.Module], labels: Mapping[float, str]) -> dict[str, Callable[[], nn.Module]]:
    """Return variants of the same quantizer at several fractions of the training stage, each with its label."""

    def variant(fraction: float) -> Callable[[], nn.Module]:
        return lambda: set_progress_(make(), fraction)

    return {label: variant(fraction) for fraction, label in labels.items()}


def with_values(module: nn.Module, **values: float) -> nn.Module:
    """Set the parameters of a quantizer to constant values, in place."""
    for name, value in values.items():
        nn.init.constant_(module.get_parameter(name), value)
    return module


_CHANNELS = len(OTHERS) + 1
_STEEPER = {0.0: "start of training, t = 0.1", 0.5: "half of training, t = 1", 1.0: "end of training, t = 10"}
_HIGHER_ORDER = {0.0: "start of training, o = 1", 0.5: "half of training, o = 2", 1.0: "end of training, o = 3"}

PLOTS: dict[str, Plot] = {
    "PeriodicSign": Plot(
        "w",
        0.4,
        {
            "stage 1, relaxed": lambda: PeriodicSign(20.0, "relaxed"),
            "stage 2, binary": lambda: PeriodicSign(20.0, "binary"),
        },
    ),
    "TunedPeriodicSign": Plot(
        "w",
        0.4,
        {
            "sine": lambda: TunedPeriodicSign(20.0),
            "triangle": lambda: TunedPeriodicSign(20.0, wave="triangle"),
            "sine, sharpened with k = 5": lambda: set_progress_(TunedPeriodicSign(20.0, sharpen_from=0.0), 0.5),
        },
    ),
    "StandardizedPeriodicSign": Plot(
        "w",
        2.0,
        {
            "σ = 0.8": lambda: StandardizedPeriodicSign(0.8),
            "σ = 1.5": lambda: StandardizedPeriodicSign(1.5),
            "σ = 1.5, mean kept, stage 2": lambda: StandardizedPeriodicSign(1.5, "binary", mean="kept"),
        },
    ),
    "ApproxSign": Plot(
        "x",
        2.0,
        {
            "normalize=False": ApproxSign,
            "normalize=True, standard deviation 1/2": lambda: ApproxSign(normalize=True),
        },
    ),
    "SteSign": Plot(
        "x",
        2.0,
        {
            "normalize=False": SteSign,
            "normalize=True, standard deviation 1/2": lambda: SteSign(normalize=True),
        },
    ),
    "XnorSign": Plot("w", 2.0, {"": XnorSign}),
    "MagnitudeAwareSign": Plot("w", 2.0, {"": MagnitudeAwareSign}),
    "DoReFaWeight": Plot("w", 2.0, {"": DoReFaWeight}),
    "DoReFaInput": Plot("x", 2.0, {"": DoReFaInput}),
    "ErrorDecaySign": Plot("x", 2.0, at_progress(ErrorDecaySign, _STEEPER)),
    "LibraWeight": Plot("w", 2.0, at_progress(LibraWeight, _STEEPER)),
    "RectifiedClampSign": Plot(
        "w",
        2.0,
        at_progress(RectifiedClampSign, {0.0: "start of training, τ = 0.85", 1.0: "end of training, τ = 0.99"}),
    ),
    "PowerSign": Plot("x", 2.0, at_progress(PowerSign, _HIGHER_ORDER)),
    "PowerWeight": Plot("w", 2.0, at_progress(PowerWeight, _HIGHER_ORDER)),
    "AdaBinWeight": Plot("w", 2.0, at_progress(AdaBinWeight, _STEEPER)),
    "AdaBinInput": Plot(
        "x",
        2.0,
        {
            "α = 1, β = 0": AdaBinInput,
            "α = 3/4, β = 1/2": lambda: with_values(AdaBinInput(), scale=0.75, offset=0.5),
        },
    ),
    "RSign": Plot(
        "x",
        2.0,
        {
            "β = 0": lambda: RSign(_CHANNELS),
            "β = 1/2": lambda: with_values(RSign(_CHANNELS), threshold=0.5),
        },
    ),
    "RPReLU": Plot(
        "x",
        2.0,
        {
            "γ = ζ = 0, b = 1/4": lambda: RPReLU(_CHANNELS),
            "γ = 1/2, ζ = -1/4, b = 1/4": lambda: with_values(RPReLU(_CHANNELS), shift_in=0.5, shift_out=-0.25),
        },
    ),
}
"""The plot of each quantizer by the name of its class."""


def curves_of(name: str) -> dict[str, Curve]:
    """Evaluate the forward function and the gradient of a quantizer on a grid, in float64.

    Args:
        name: the name of the class.

    Returns:
        The curves by their labels.
    """
    plot = PLOTS[name]
    points = torch.arange(-400, 401, dtype=torch.float64) / 400 * plot.limit  # with an exact zero
    channels = torch.cat([points[:, None], OTHERS.expand(len(points), -1)], 1)
    curves = {}
    for label, make in plot.variants.items():
        x = channels.clone().requires_grad_()
        forward = make().double()(x)[:, 0]
        (gradient,) = torch.autograd.grad(forward.sum(), x)
        curves[label] = Curve(points, forward.detach(), gradient[:, 0])
    return curves


@rc_context(STYLE)
def figure_of(name: str) -> Figure:
    """Draw the forward function of a quantizer on the left and its gradient on the right."""
    plot, curves = PLOTS[name], curves_of(name)
    figure = Figure(figsize=(7.2, 2.7 if len(curves) > 1 else 2.4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2), ("forward", "gradient"), strict=True):
        axes.axhline(0, color="#808080", linewidth=0.5)
        axes.axvline(0, color="#808080", linewidth=0.5)
        drawn: list[Tensor] = []
        for curve, colour in zip(curves.values(), COLOURS, strict=False):
            values: Tensor = getattr(curve, kind)
            covers = any(torch.allclose(values, other) for other in drawn)  # then dashes leave both curves visible
            style = (5 * len(drawn), (5, 5 * len(drawn))) if covers else "-"
            axes.plot(curve.points, values, color=colour, linestyle=style)
            drawn.append(values)
        axes.set_title(kind)
        axes.set_xlabel(plot.variable)
    if len(curves) > 1:
        lines = [Line2D([], [], color=colour, label=label) for label, colour in zip(curves, COLOURS, strict=False)]
        figure.legend(handles=lines, loc="outside lower center", ncols=len(curves))
    return figure


@rc_context(STYLE)
def svg_of(name: str) -> str:
    """Return the plot of a quantizer as the text of an SVG file, which is the same in every build."""
    written = io.StringIO()
    figure_of(name).savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return written.getvalue()


def draw(folder: Path) -> None:
    """Write the plots of all quantizers.

    Args:
        folder: the folder that gets one SVG file for each quantizer. It is created if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in PLOTS:
        (folder / f"{name}.svg").write_text(svg_of(name), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/plots.py FOLDER")
    draw(Path(sys.argv[1]))
