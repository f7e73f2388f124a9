"""One self-contained page about a run, or about two runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import biper
from biper.io.files import atomic_write
from biper.report import html as page
from biper.report import plots
from biper.report.analysis import RunAnalysis
from biper.report.drawing import svg
from biper.report.html import Section
from biper.report.run_tables import (
    activation_table,
    class_table,
    error_table,
    half_period_table,
    network_table,
    operation_table,
    sign_table,
)
from biper.report.side_by_side import (
    SCORE_NAMES,
    difference_table,
    kept_share,
    layers_side_by_side,
    mean_error,
    run_names,
    stage_scores,
    summary_table,
)
from biper.report.table import Column, Table, percent, size

Runs = Sequence[RunAnalysis]

_MEASURES = (
    ("flip_ratio_step", "Flip ratio of a step", True),
    ("flip_ratio_epoch", "Flip ratio of an epoch", True),
    ("quantization_error", "Quantization error", False),
    ("sign_angle", "Angle between wave and signs, degrees", False),
    ("gradient_norm", "Gradient norm of latent weights", True),
)


def write_report(runs: Runs, path: str | Path) -> None:
    """Write a page about one run, or about two runs side by side.

    The page is one file of HTML that contains its plots and pictures. It opens from disk without a network, and it can
    be read without scripts.

    Args:
        runs: one or two runs, as `biper.analyze_run` gives them.
        path: the file to write; it is written atomically.

    Raises:
        OSError: the file could not be written.
    """
    atomic_write(Path(path), render_report(runs))


def render_report(runs: Runs) -> str:
    """The page as HTML text; see `write_report`."""
    sections = [
        make(runs) for make in (_summary, _training, _errors, _waves, _signs, _activations, _predictions, _packed)
    ]
    sections.append(_recipe(runs))
    title = " and ".join(dict.fromkeys(run.title for run in runs))
    described = [run.recipe.description for run in runs if run.recipe is not None]
    subtitle = " · ".join(dict.fromkeys([*run_names(runs), *described]))
    return page.document(
        title, subtitle, [section for section in sections if section.body], f"Written by biper {biper.__version__}."
    )


def _each(runs: Runs, make: Callable[[RunAnalysis, str], str]) -> str:
    """The parts (HTML) of several runs side by side; empty if every part is empty.

    Args:
        runs: the runs.
        make: makes the part of a run, from the run and from its number, which the names of its plots must contain.
    """
    parts = [make(run, str(number)) for number, run in enumerate(runs)]
    return page.pair(list(zip(run_names(runs), parts, strict=True))) if any(parts) else ""


def _plots(figures: Sequence[Figure], name: str) -> str:
    """Figures (HTML); ``name`` is a name that no other figures on the page have."""
    return page.plots([svg(figure, f"{name}-{place}") for place, figure in enumerate(figures)])


def _table(data: Table) -> str:
    """A table (HTML); empty if it has no rows."""
    return page.table(data) if data.rows else ""


def _summary(runs: Runs) -> Section:
    body = _each(runs, lambda run, _: page.notes(run.notes, warn=not run.complete) + page.tiles(_tiles(run)))
    body += page.table(summary_table(runs), facts=True)
    if len(runs) == 2:
        layers = layers_side_by_side(runs)
        if layers.rows:
            body += "<h3>Layers</h3>" + page.table(layers)
    return Section("Summary", "", body)


def _tiles(run: RunAnalysis) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    scores = stage_scores(run)
    if scores:
        score = scores[max(scores)]
        detail = f"after stage 1 {scores[1].accuracy:.2%}" if len(scores) == 2 else "so far, in stage 1"
        found.append((SCORE_NAMES[score.split], f"{score.accuracy:.2%}", detail))
    elif run.predictions is not None:
        found.append(("accuracy", f"{run.predictions.accuracy:.2%}", f"on {run.predictions.images:,} images"))
    if run.packed is not None:
        found.append(("packed file", size(run.packed.report.file_bytes), f"{run.times_smaller:.1f} times smaller"))
        if (speed := run.packed.speed) is not None:
            rate = f"{speed.images_per_second:,.0f} a second, one thread"
            found.append(("one image", f"{speed.median_seconds * 1e3:.3f} ms", rate))
    if (error := mean_error(run)) is not None:
        found.append(("quantization error", f"{error:.3f}", "mean over layers"))
    if (kept := kept_share(run)) is not None:
        found.append(("signs kept", percent(kept), "since stage 1"))
    return found


def _training(runs: Runs) -> Section:
    histories = {name: run.history for name, run in zip(run_names(runs), runs, strict=True) if run.history}
    if not histories:
        return Section("Training", "", "")
    curves = [plots.accuracy_curves(histories), plots.loss_curves(histories)]
    body = _plots(curves, "curves")
    layers = _each(runs, lambda run, number: page.plots(_layers_over_training(run, number)))
    if layers:
        body += f"<h3>Binary layers over training</h3>{layers}"
    elif any(run.weights for run in runs):
        body += '<p class="caption">This run did not log measures of single layers.</p>'
    return Section("Training", "After each epoch of stage 1 (sine) and stage 2 (square wave).", body)


def _layers_over_training(run: RunAnalysis, number: str) -> list[str]:
    drawn = []
    for measure, title, logarithmic in _MEASURES:
        if any(getattr(row.layers, measure) for row in run.history):
            figure = plots.layers_over_training(run.history, measure, title, logarithmic=logarithmic)
            drawn.append(svg(figure, f"{measure}{number}"))
    return drawn


def _errors(runs: Runs) -> Section:
    def make(run: RunAnalysis, number: str) -> str:
        if not run.errors:
            return ""
        figures = [make(run.errors, run.stage1_errors) for make in (plots.errors_by_layer, plots.angles_by_layer)]
        return _plots(figures, f"errors{number}") + _table(error_table(run))

    lead = (
        "The distance between the sine of each latent weight and its sign: measured, and by the closed form for "
        "weights that follow a Laplace distribution of the same mean magnitude. A click on a column sorts the rows."
    )
    return Section("Quantization error", lead, _each(runs, make))


def _waves(runs: Runs) -> Section:
    def make(run: RunAnalysis, number: str) -> str:
        if not run.waves:
            return ""
        weights = [svg(plots.weights_over_the_wave(wave), f"w{number}-{wave.layer}") for wave in run.waves]
        curves = [svg(plots.error_against_frequency(wave), f"f{number}-{wave.layer}") for wave in run.waves]
        return (
            "<h3>Weights over the wave</h3>"
            f"{page.plots(weights, small=True)}<h3>Error against frequency</h3>{page.plots(curves, small=True)}"
            f"<h3>Weights in each half-period</h3>{_table(half_period_table(run))}"
        )

    lead = (
        "The distribution of the latent weights, with the wave in orange; shaded where the sign is +1. Below it, the "
        "quantization error that the same weights would have at other frequencies: measured, and by the closed form."
    )
    return Section("Waves", lead, _each(runs, make))


def _signs(runs: Runs) -> Section:
    def make(run: RunAnalysis, number: str) -> str:
        if not run.weights:
            return ""
        figures = plots.signs_by_layer(run.weights, run.kept), plots.scale_distribution(run.scales)
        return _plots(figures, f"signs{number}") + _table(sign_table(run))

    lead = "The signs of the weights, how many of them changed, and the learned scales that multiply the sums."
    return Section("Signs and scales", lead, _each(runs, make))


def _activations(runs: Runs) -> Section:
    lead = "The inputs of binary layers, and the share of them that passes a gradient back."
    return Section("Activations", lead, _each(runs, lambda run, _: _table(activation_table(run))))


def _predictions(runs: Runs) -> Section:
    def make(run: RunAnalysis, _: str) -> str:
        if run.predictions is None:
            return ""
        answers = run.predictions
        tables = page.beside([page.confusion(answers), _table(class_table(run))])
        right = (
            f"{answers.correct:,} of {answers.images:,} {escape(run.image_split)} are right, {answers.accuracy:.2%}."
        )
        return (
            f"<p>{right}</p>{tables}<h3>Errors of highest confidence</h3>"
            '<p class="caption">Below each image: its class, the predicted class, and the confidence.</p>'
            f"{page.pictures(answers)}"
        )

    return Section("Predictions", "How often each class is predicted as which class.", _each(runs, make))


def _packed(runs: Runs) -> Section:
    def make(run: RunAnalysis, _: str) -> str:
        body = ""
        if run.packed is not None:
            facts = [["compared with the model", f"{run.packed.report} (on {run.packed.verified_on})"]]
            if (speed := run.packed.speed) is not None:
                facts.append(
                    [
                        "speed here",
                        f"median {speed.median_seconds * 1e3:.3f} ms of {speed.calls:,} calls of one image, one "
                        f"thread, {speed.instruction_set}; {size(speed.memory_bytes)} of memory",
                    ]
                )
            body += page.table(Table("", [Column(""), Column("")], facts), facts=True)
            if speed is not None:
                body += f"<h3>Operations</h3>{_table(operation_table(speed))}"
        if run.sizes is not None:
            body += f"<h3>Layers</h3>{_table(network_table(run.layers, run.sizes))}"
        return body

    return Section("Packed model", "The size of the network as one packed file, and its speed.", _each(runs, make))


def _recipe(runs: Runs) -> Section:
    def make(run: RunAnalysis, _: str) -> str:
        body = f"<pre>{escape(run.toml)}</pre>" if run.toml else ""
        if run.environment is not None:
            facts = [[name.replace("_", " "), _words(value)] for name, value in run.environment.items()]
            body += f"<h3>Environment</h3>{page.table(Table('', [Column(''), Column('')], facts), facts=True)}"
        return body

    body = _each(runs, make)
    if len(runs) == 2:
        differences = difference_table(runs)
        if differences.rows:
            body = f"<h3>Differences</h3>{page.table(differences, facts=True)}<h3>Both recipes</h3>{body}"
    return Section("Recipe and environment", "The recipe that was trained, and the machine that trained it.", body)


def _words(value: Any) -> str:
    """A value of environment.json as one line of text."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    return (
        (" " if value and "/" in str(value[0]) else ", ").join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )
