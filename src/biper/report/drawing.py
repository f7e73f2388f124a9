"""How plots look, and how they become a part of a page that has a light and a dark form."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "ink": "#1f2328",
    "muted": "#6a737d",
    "grid": "#e4e7eb",
    "first": "#1f6feb",
    "second": "#d4690c",
    "third": "#2e8b57",
    "tint": "#e3ecfa",
}
"""What a page may replace by colours of its own, see `svg`."""

_RAMP = ((0x3B, 0x82, 0xF6), (0xA8, 0x55, 0xF7), (0xF0, 0x6A, 0x1C))
"""From the first layer to the last; readable on light and on dark."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 8.5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "axes.labelcolor": COLOURS["muted"],
    "axes.edgecolor": COLOURS["muted"],
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": COLOURS["ink"],
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}

WIDE, SMALL = (5.4, 2.9), (3.5, 2.2)
"""Widths and heights of figures in inches."""


def svg(figure: Figure, name: str) -> str:
    """A figure as an SVG element for a page: no network, no size of its own, text as text in the page's font.

    Every colour of `COLOURS` becomes ``var(--plot-NAME, COLOUR)``, so that a page can set others.

    Args:
        figure: of `biper.report.plots`.
        name: unlike that of any other figure on the page.
    """
    written = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" role="img">', text, count=1)
    text = re.sub(
        r' id="(figure|axes|patch|line2d|text|xtick|ytick|matplotlib|legend|FillBetween|StepPatch)[^"]*"', "", text
    )
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*; ?", "", text)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text)  # places, not what is written
    text = text.replace('xlink:href="', 'href="')
    text = re.sub(r"\s*\n\s*", "\n", text)
    for colour, value in COLOURS.items():
        text = text.replace(value, f"var(--plot-{colour}, {value})")
    return text


def new_figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """A figure of a width and height in inches, and its axes; to be called with `STYLE` in force."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    # ticks are made as late as when a figure is drawn, and would then have whatever style is in force
    axes.tick_params(
        length=0, labelsize=8.5, labelcolor=COLOURS["muted"], grid_color=COLOURS["grid"], grid_linewidth=0.6
    )
    return figure, axes


def legend_below(axes: Axes) -> None:
    """A legend in one row under the axes, where no line can run through it."""
    axes.figure.legend(loc="outside lower center", ncols=4, columnspacing=1.4, handletextpad=0.4)


def dots(count: int) -> dict[str, Any]:
    """Marks on a line of few points."""
    return {"marker": "o", "markersize": 2.8} if count <= 40 else {}


def ramp(share: float) -> str:
    """A colour for a layer, from the first (0) to the last (1)."""
    low, high = (_RAMP[0], _RAMP[1]) if share < 0.5 else (_RAMP[1], _RAMP[2])
    part = share * 2 - (share >= 0.5)
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(low, high, strict=True))
