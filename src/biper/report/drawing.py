"""The style of plots, and their form as part of a page with a light and a dark theme."""

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
"""The colours of plots, by names under which a page can replace them; see `svg`."""

_RAMP = ((0x3B, 0x82, 0xF6), (0xA8, 0x55, 0xF7), (0xF0, 0x6A, 0x1C))
"""The colours of the first, the middle and the last layer, as red, green and blue. They are readable on both themes."""

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
"""The widths and heights of figures, in inches."""


def svg(figure: Figure, name: str) -> str:
    """A figure as an SVG element for a page.

    The element loads nothing, takes the size that the page gives it, and keeps text as text in the font of the page.
    Every colour of `COLOURS` becomes ``var(--plot-NAME, COLOUR)``, so that a page can replace it.

    Args:
        figure: a figure of `biper.report.plots`.
        name: a name that no other figure on the page has.
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
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text)  # coordinates only, no text
    text = text.replace('xlink:href="', 'href="')
    text = re.sub(r"\s*\n\s*", "\n", text)
    for colour, value in COLOURS.items():
        text = text.replace(value, f"var(--plot-{colour}, {value})")
    return text


def new_figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Make a figure of a width and height in inches, and its axes. The caller puts `STYLE` into force."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    # matplotlib makes ticks when it draws a figure, where another style may be in force
    axes.tick_params(
        length=0, labelsize=8.5, labelcolor=COLOURS["muted"], grid_color=COLOURS["grid"], grid_linewidth=0.6
    )
    return figure, axes


def legend_below(axes: Axes) -> None:
    """Put a legend in one row below the axes, where it covers no line."""
    axes.figure.legend(loc="outside lower center", ncols=4, columnspacing=1.4, handletextpad=0.4)


def dots(count: int) -> dict[str, Any]:
    """The style of the points of a line; a line of many points has no marks."""
    return {"marker": "o", "markersize": 2.8} if count <= 40 else {}


def ramp(share: float) -> str:
    """The colour of a layer by its place, from the first layer (0) to the last (1)."""
    low, high = (_RAMP[0], _RAMP[1]) if share < 0.5 else (_RAMP[1], _RAMP[2])
    part = share * 2 - (share >= 0.5)
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(low, high, strict=True))
