"""The plots about a run, each as a matplotlib figure; `biper.report.drawing.svg` turns a figure into part of a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from biper.report.drawing import COLOURS, SMALL, STYLE, WIDE, dots, legend_below, new_figure, ramp

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from biper.measure.quantization_error import ErrorRow
    from biper.measure.weights import WeightRow
    from biper.report.analysis import LayerWave
    from biper.runs.records import MetricsRow

_LINES = ("-", (0, (4, 2)))
"""The line styles of the first and of the second run."""

_SPLIT_NAMES = {"test": "test", "held_out": "held-out", "fit": "training images"}
"""What the lines of the scores on each of `biper.runs.records.SPLITS` are called."""

Histories = Mapping[str, Sequence["MetricsRow"]]
"""The rows of several runs, by the name of the run."""


@rc_context(STYLE)
def accuracy_curves(histories: Histories) -> Figure:
    """The accuracy in training and the accuracy of the score after each epoch, both stages in a row."""

    def draw(axes: Axes) -> None:
        _draw_two_curves(axes, histories, lambda row: (row.train_accuracy, row.score.accuracy))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.legend(loc="lower right")

    return _over_epochs("Accuracy", histories, draw)


@rc_context(STYLE)
def loss_curves(histories: Histories) -> Figure:
    """The loss in training and the loss of the score after each epoch, both stages in a row."""
    losses = [loss for rows in histories.values() for row in rows for loss in (row.train_loss, row.score.loss)]
    lowest, highest = min(losses, default=0), max(losses, default=0)

    def draw(axes: Axes) -> None:
        _draw_two_curves(axes, histories, lambda row: (row.train_loss, row.score.loss))
        if lowest > 0 and highest > 20 * lowest:
            axes.set_yscale("log")
        axes.legend(loc="upper right")

    return _over_epochs("Loss, nats", histories, draw)


def _draw_two_curves(axes: Axes, histories: Histories, values: Callable[[MetricsRow], tuple[float, float]]) -> None:
    """Draw two values of each epoch: the one in training and the one of the score."""
    for (name, rows), line in zip(histories.items(), _LINES, strict=False):
        prefix = f"{name}: " if len(histories) > 1 else ""
        labels = "in training", _SPLIT_NAMES[rows[0].score.split]
        curves = zip(*map(values, rows), strict=True)
        for curve, label, colour in zip(curves, labels, ("second", "first"), strict=True):
            style: dict[str, Any] = {"color": COLOURS[colour], "linestyle": line, **dots(len(rows))}
            axes.plot(range(1, len(rows) + 1), curve, label=prefix + label, **style)


@rc_context(STYLE)
def layers_over_training(rows: Sequence[MetricsRow], measure: str, title: str, *, logarithmic: bool = False) -> Figure:
    """A measure of `biper.measure.monitor.LayerMeasures` after each epoch, with a line for each layer.

    Args:
        rows: the rows of one run.
        measure: the name of the measure.
        title: the title of the plot.
        logarithmic: whether the axis of the values is logarithmic; values of 0 are then left out.
    """

    def draw(axes: Axes) -> None:
        found = _by_layer(rows, measure)
        for number, points in enumerate(found.values()):
            label = {0: "first layer", len(found) - 1: "last layer"}.get(number)
            epochs, values = zip(*points, strict=True)
            shown = [value if value > 0 or not logarithmic else math.nan for value in values]
            colour = ramp(number / max(len(found) - 1, 1))
            axes.plot(epochs, shown, color=colour, linewidth=1.0, label=label, **dots(len(points)))
        if logarithmic:
            axes.set_yscale("log")
        legend_below(axes)

    return _over_epochs(title, {"": rows}, draw)


@rc_context(STYLE)
def weights_over_the_wave(wave: LayerWave) -> Figure:
    """The distribution of the latent weights of a layer, with the wave over it; shaded where the sign is +1."""
    figure, axes = new_figure(SMALL)
    edges, frequency = wave.weights.edges, wave.frequency
    reach, highest = edges[-1], max(wave.weights.density) * 1.08
    half = math.pi / frequency
    for number in range(-math.ceil(reach / half), math.ceil(reach / half)):
        if number % 2 == 0:
            start, end = max(number * half, -reach), min((number + 1) * half, reach)
            axes.axvspan(start, end, color=COLOURS["tint"], linewidth=0)
    axes.stairs(wave.weights.density, edges, fill=True, color=COLOURS["first"], alpha=0.75, linewidth=0)
    points = [-reach + 2 * reach * step / 400 for step in range(401)]
    heights = [highest * (1 + math.sin(frequency * point)) / 2 for point in points]
    axes.plot(points, heights, color=COLOURS["second"], linewidth=0.9, alpha=0.9)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(0, highest)
    axes.set_yticks([])
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4, prune="both"))
    axes.set_title(wave.layer)
    axes.set_xlabel("latent weight")
    return figure


@rc_context(STYLE)
def error_against_frequency(wave: LayerWave) -> Figure:
    """The error that the weights of a layer would have at other frequencies: measured, and by the closed forms."""
    figure, axes = new_figure(SMALL)
    frequencies = [point.frequency for point in wave.curve]
    predicted, measured = [point.predicted for point in wave.curve], [point.measured for point in wave.curve]
    axes.plot(frequencies, predicted, color=COLOURS["muted"], linewidth=1.1, linestyle=(0, (3, 2)), label="Laplace")
    normal = [point.predicted_normal for point in wave.curve]
    axes.plot(frequencies, normal, color=COLOURS["muted"], linewidth=1.1, linestyle=(0, (1, 1.5)), label="normal")
    axes.plot(frequencies, measured, color=COLOURS["first"], label="measured")
    nearest = min(wave.curve, key=lambda point: abs(point.frequency - wave.frequency))
    axes.plot([nearest.frequency], [nearest.measured], "o", color=COLOURS["second"], markersize=5, label="trained")
    axes.set_xlim(0, frequencies[-1])
    axes.set_ylim(0, 1)
    axes.set_title(wave.layer)
    axes.set_xlabel("ω, radians per unit of weight")
    legend_below(axes)
    return figure


@rc_context(STYLE)
def errors_by_layer(errors: Sequence[ErrorRow], stage1: Sequence[ErrorRow]) -> Figure:
    """The quantization error of each layer: after stage 1, now, and by the closed form."""
    figure, axes = new_figure(WIDE)
    predicted = [row.predicted_error for row in errors]
    places = range(1, len(errors) + 1)
    axes.plot(places, predicted, "_", color=COLOURS["ink"], markersize=9, markeredgewidth=1.6, label="Laplace")
    _before_and_now(axes, [row.quantization_error for row in stage1], [row.quantization_error for row in errors])
    axes.set_ylim(0, 1)
    axes.set_title("Quantization error, layer by layer")
    return figure


@rc_context(STYLE)
def angles_by_layer(errors: Sequence[ErrorRow], stage1: Sequence[ErrorRow]) -> Figure:
    """The angle between the wave and its signs for each layer: after stage 1, and now."""
    figure, axes = new_figure(WIDE)
    _before_and_now(axes, [row.sign_angle for row in stage1], [row.sign_angle for row in errors])
    axes.set_ylim(0, 90)
    axes.set_yticks(range(0, 91, 15))
    axes.yaxis.set_major_formatter("{x:.0f}°")
    axes.set_title("Angle between the wave and its signs")
    return figure


def _before_and_now(axes: Axes, before: Sequence[float], now: Sequence[float]) -> None:
    """Draw a measure of each layer after stage 1, if it is known, and now, with a line between the two."""
    places = range(1, len(now) + 1)
    if len(before) == len(now):
        for place, *ends in zip(places, before, now, strict=True):
            axes.plot([place] * 2, ends, color=COLOURS["grid"], linewidth=2.5, zorder=1)
        axes.plot(places, before, "o", color=COLOURS["third"], markersize=4, label="after stage 1")
    axes.plot(places, now, "o", color=COLOURS["first"], markersize=5, label="now")
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.set_xlabel("binary layer, from the first to the last")
    legend_below(axes)


@rc_context(STYLE)
def signs_by_layer(weights: Sequence[WeightRow], kept: Mapping[str, float]) -> Figure:
    """For each layer the share of signs +1, the share that stage 2 kept, and the distance to a change of sign."""
    figure, axes = new_figure(WIDE)
    places = range(1, len(weights) + 1)
    measures: list[tuple[str, str, list[float | None]]] = [
        ("first", "+1", [row.positive for row in weights]),
        ("third", "kept since stage 1", [kept.get(row.layer) for row in weights]),
        ("second", "distance to sign change", [row.relative_distance for row in weights]),
    ]
    for colour, label, values in measures:
        points = [(place, value) for place, value in zip(places, values, strict=True) if value is not None]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=COLOURS[colour], markersize=4, linewidth=1, label=label)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.set_xlabel("binary layer, from the first to the last")
    axes.set_title("Signs, layer by layer")
    legend_below(axes)
    return figure


@rc_context(STYLE)
def scale_distribution(scales: Mapping[str, Sequence[float]]) -> Figure:
    """The learned scales of the output channels of each layer."""
    figure, axes = new_figure(WIDE)
    for number, values in enumerate(scales.values()):
        offsets = [number + 1 + 0.5 * ((place + 0.5) / len(values) - 0.5) for place in range(len(values))]
        colour = ramp(number / max(len(scales) - 1, 1))
        # at most 128 dots for each layer show the distribution and keep the page small
        step = -(-len(values) // 128)
        chosen = sorted(values)[:: step or 1]
        axes.plot(offsets[:: step or 1], chosen, ".", color=colour, markersize=2.6, markeredgewidth=0)
    axes.axhline(0, color=COLOURS["muted"], linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.set_xlabel("binary layer, its channels in the order of their scales")
    axes.set_title("Learned scales")
    return figure


def _by_layer(rows: Sequence[MetricsRow], measure: str) -> dict[str, list[tuple[int, float]]]:
    """The values of a measure by layer, each with its epoch counted through both stages."""
    found: dict[str, list[tuple[int, float]]] = {}
    for number, row in enumerate(rows, 1):
        for layer, value in getattr(row.layers, measure).items():
            found.setdefault(layer, []).append((number, value))
    return found


def _over_epochs(title: str, histories: Histories, draw: Callable[[Axes], None]) -> Figure:
    """Make a figure over the epochs of both stages, with a line where stage 2 begins; ``draw`` draws on its axes."""
    figure, axes = new_figure(WIDE)
    draw(axes)
    lengths = [sum(row.stage == 1 for row in rows) for rows in histories.values()]
    for rows, line in zip(histories.values(), _LINES, strict=False):
        first = sum(row.stage == 1 for row in rows)
        if first < len(rows):
            axes.axvline(first + 0.5, color=COLOURS["muted"], linewidth=0.8, linestyle=(0, (2, 2)))
            if line == "-" or len(set(lengths)) > 1:
                top = axes.get_xaxis_transform()
                axes.text(first + 0.5, 1.01, "stage 2", transform=top, fontsize=8, color=COLOURS["muted"], va="bottom")
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.set_xlabel("epoch")
    axes.set_title(title)
    return figure
