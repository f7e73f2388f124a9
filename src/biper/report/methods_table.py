"""Methods side by side: what a comparison found, as cells of a table, as Markdown and as a plot."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from matplotlib.figure import Figure


@dataclass(frozen=True)
class FactorResult:
    """What one learning-rate factor reached with the first seed; a run that diverged reached nothing.

    Attributes:
        factor: multiplies the learning rate of latent weights.
        train_loss: the loss of the last epoch, in nats.
        held_out_accuracy: the accuracy on held-out images after the last epoch, where the recipe has them.
        accuracy: the final accuracy, 0 to 1.
    """

    factor: float
    train_loss: float | None
    held_out_accuracy: float | None
    accuracy: float | None


@dataclass(frozen=True)
class MethodRow:
    """One method, or one variant of it, with the best of the learning-rate factors.

    Attributes:
        label: the name of the row.
        settings: what the row changes in the recipe, as ``key=value``.
        method: the name of the method.
        stages: how many stages were trained.
        epochs: how many epochs all stages had together.
        grid: the results of all learning-rate factors.
        factor: the best factor.
        accuracies: the final accuracy of each seed that did not diverge, 0 to 1.
        seconds_per_epoch: mean over the runs with the best factor; training, evaluating and saving.
        relative_error: the share of energy that the final weights lose to one bit, mean over layers and seeds.
        packed_bytes: the size of the packed file; None if no run could be packed.
    """

    label: str
    settings: tuple[str, ...]
    method: str
    stages: int
    epochs: int
    grid: tuple[FactorResult, ...]
    factor: float
    accuracies: tuple[float, ...]
    seconds_per_epoch: float
    relative_error: float | None
    packed_bytes: int | None

    @property
    def mean(self) -> float | None:
        """The mean of the accuracies; None if there is none."""
        return statistics.fmean(self.accuracies) if self.accuracies else None

    @property
    def spread(self) -> float | None:
        """The sample standard deviation of the accuracies; None for fewer than two."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None


@dataclass(frozen=True)
class MethodComparison:
    """Methods that were trained with the same network, data, schedule and seeds.

    Attributes:
        recipe: the name of the recipe.
        network: the network and its bits.
        dataset: the name of the data set.
        split: ``"test"``, or ``"fit"`` if the recipe scores the training images.
        seeds: the seeds of the runs.
        chosen_by: what chose the factor, ``"held-out accuracy"`` or ``"training loss"``; never the test images.
        rows: one row for each method or variant.
    """

    recipe: str
    network: str
    dataset: str
    split: str
    seeds: tuple[int, ...]
    chosen_by: str
    rows: tuple[MethodRow, ...]


HEADERS = ("method", "stages", "epochs", "accuracy", "spread", "s/epoch", "error", "packed", "factors tried")


def cells(row: MethodRow) -> list[str]:
    """The cells of a row, in the order of `HEADERS`; the chosen factor has a star."""
    tried = []
    for point in row.grid:
        accuracy = "diverged" if point.accuracy is None else f"{point.accuracy:.2%}"
        tried.append(f"{point.factor:g}{'*' if point.factor == row.factor else ''}: {accuracy}")
    return [
        row.label,
        str(row.stages),
        str(row.epochs),
        "diverged" if row.mean is None else f"{row.mean:.2%}",
        "" if row.spread is None else f"{row.spread * 100:.2f}",
        f"{row.seconds_per_epoch:.1f}",
        "" if row.relative_error is None else f"{row.relative_error:.3f}",
        "" if row.packed_bytes is None else f"{row.packed_bytes:,}",
        ", ".join(tried),
    ]


def caption(comparison: MethodComparison) -> str:
    """A caption for the table, which says what the columns mean."""
    count = len(comparison.seeds)
    seeds = "one seed" if count == 1 else f"{count} seeds"
    what = "test images" if comparison.split == "test" else "the training images"
    return (
        f"{comparison.network} on {comparison.dataset}, recipe {comparison.recipe}, {seeds}: accuracy on {what} after "
        "the last epoch, its spread (standard deviation over seeds, points), error (share of energy that the final "
        "weights lose to one bit), packed bytes. Factors multiply the learning rate of latent weights; "
        f"{comparison.chosen_by} of the first seed chose the one with the star."
    )


def to_markdown(comparison: MethodComparison) -> str:
    """The table and its caption as Markdown."""
    lines = [f"| {' | '.join(HEADERS)} |", f"|{' --- |' * len(HEADERS)}"]
    lines += [f"| {' | '.join(cells(row))} |" for row in comparison.rows]
    return "\n".join([*lines, "", caption(comparison), ""])


def to_png(comparison: MethodComparison) -> bytes:
    """A plot as PNG: the accuracy of every seed and their mean, method by method.

    If several learning-rate factors were tried, a second plot shows the accuracy by factor.
    """
    several = any(len(row.grid) > 1 for row in comparison.rows)
    figure = Figure(figsize=(12 if several else 7, 1.5 + 0.4 * len(comparison.rows)), layout="constrained")
    axes = figure.subplots(1, 2 if several else 1, squeeze=False)[0]
    rows: Sequence[MethodRow] = sorted(comparison.rows, key=lambda row: row.mean or 0.0)
    colours = {row.label: f"C{number}" for number, row in enumerate(comparison.rows)}
    for height, row in enumerate(rows):
        points = [100 * accuracy for accuracy in row.accuracies]
        axes[0].plot(points, [height] * len(points), "o", color=colours[row.label], alpha=0.5)
        if row.mean is not None:
            axes[0].plot([100 * row.mean], [height], "k|", markersize=16)
    axes[0].set_yticks(range(len(rows)), [row.label for row in rows])
    axes[0].set_ylim(-0.6, len(rows) - 0.4)
    axes[0].set_xlabel(f"{comparison.split} accuracy, %")
    axes[0].set_title(f"{comparison.network} on {comparison.dataset}")
    axes[0].grid(axis="x", alpha=0.3)
    if several:
        for row in comparison.rows:
            tried = [(point.factor, 100 * point.accuracy) for point in row.grid if point.accuracy is not None]
            axes[1].plot(*zip(*tried, strict=True), "o-", color=colours[row.label], label=row.label) if tried else None
        factors = sorted({point.factor for row in comparison.rows for point in row.grid})
        axes[1].set_xscale("log")
        axes[1].set_xticks(factors, [f"{factor:g}" for factor in factors])
        axes[1].minorticks_off()
        axes[1].set_xlabel("factor of the latent weights' learning rate, first seed")
        axes[1].set_ylabel(f"{comparison.split} accuracy, %")
        axes[1].grid(alpha=0.3)
        axes[1].legend(fontsize="small")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
