"""Tables of one run, or of several runs side by side: what they reached, and where they differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from biper.report.table import Column, Table, decimals, percent, size, whole

if TYPE_CHECKING:
    from biper.report.analysis import RunAnalysis
    from biper.runs.records import SplitScore

SCORE_NAMES = {"test": "test accuracy", "held_out": "held-out accuracy", "fit": "accuracy on its training images"}
"""What the score on each of `biper.runs.records.SPLITS` is called."""


def run_names(runs: Sequence[RunAnalysis]) -> list[str]:
    """The names of runs side by side: those of their folders, or the whole paths if two folders have the same name."""
    names = [run.path.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def summary_table(runs: Sequence[RunAnalysis]) -> Table:
    """What runs reached, with a column for each run."""
    facts = [_facts(run) for run in runs]
    names = list(dict.fromkeys(name for each in facts for name in each))
    columns = [Column(""), *(Column(name, str) for name in run_names(runs))]
    return Table("Summary", columns, [[name, *(each.get(name) for each in facts)] for name in names])


def layers_side_by_side(runs: Sequence[RunAnalysis]) -> Table:
    """The errors and signs of two runs, layer by layer; layers that only one of them has are left out."""
    names = run_names(runs)
    measures: list[tuple[str, Callable[[float], str], bool]] = [
        ("error", decimals(3), True),
        ("angle, °", decimals(1), False),
    ]
    columns = [Column("layer")]
    for what, show, bar in measures:
        columns += [Column(f"{what}: {name}", show, f"Quantization {what} of {name}.", bar) for name in names]
    columns += [
        Column(f"same as stage 1: {name}", percent, f"Signs that stage 2 kept in {name}.", True) for name in names
    ]
    found = [{row.layer: row for row in run.errors} for run in runs]
    rows = []
    for layer in (name for name in found[0] if all(name in each for each in found)):
        both = [each[layer] for each in found]
        row: list[Any] = [layer, *(each.quantization_error for each in both), *(each.sign_angle for each in both)]
        rows.append([*row, *(run.kept.get(layer) for run in runs)])
    return Table("Layers", columns, rows)


def difference_table(runs: Sequence[RunAnalysis]) -> Table:
    """The keys in which the recipes of two runs differ."""
    flat = [dict(_keys(run.recipe.model_dump())) if run.recipe is not None else {} for run in runs]
    names = dict.fromkeys(key for each in flat for key in each)
    rows = [
        [key, *(_toml(each.get(key)) for each in flat)]
        for key in names
        if len({repr(each.get(key)) for each in flat}) > 1
    ]
    return Table("Recipes", [Column("key"), *(Column(name) for name in run_names(runs))], rows)


def stage_scores(run: RunAnalysis) -> dict[int, SplitScore]:
    """The score of each stage that was begun: of the weights that it ended with, or of its last epoch so far."""
    scores = {row.stage: row.score for row in run.history}
    if run.summary is not None:
        scores |= {stage: result.score for stage, result in enumerate(run.summary.stages, 1)}
    return dict(sorted(scores.items()))


def mean_error(run: RunAnalysis) -> float | None:
    """The mean of the quantization errors of the layers; None without periodic layers."""
    return sum(row.quantization_error for row in run.errors) / len(run.errors) if run.errors else None


def kept_share(run: RunAnalysis) -> float | None:
    """The share of all binary weights that still have the sign with which stage 1 ended; None if it is unknown."""
    found = [(row.weights, run.kept[row.layer]) for row in run.weights if row.layer in run.kept]
    return sum(count * kept for count, kept in found) / sum(count for count, _ in found) if found else None


def _facts(run: RunAnalysis) -> dict[str, str]:
    """The rows of the summary of one run: names and values."""
    facts = {"network": run.title}
    if run.recipe is not None:
        stages = run.recipe.stages
        facts["epochs"] = " + ".join(str(stage.epochs) for stage in stages)
        facts["state"] = "complete" if run.complete else f"{len(run.history)} epochs done"
    for stage, score in stage_scores(run).items():
        facts[f"stage {stage}: {SCORE_NAMES[score.split]}"] = f"{score.accuracy:.2%}"
    if run.predictions is not None:
        answers = run.predictions
        facts["right answers"] = f"{answers.correct:,} of {answers.images:,} {run.image_split}"
    if (error := mean_error(run)) is not None:
        facts["quantization error, mean over layers"] = f"{error:.3f}"
        facts["the closed form's for Laplace weights"] = (
            f"{sum(row.predicted_error for row in run.errors) / len(run.errors):.3f}"
        )
    if (kept := kept_share(run)) is not None:
        facts["signs kept since stage 1"] = percent(kept)
    if run.sizes is not None:
        facts["parameters"] = whole(run.sizes.parameters)
        facts["float32 size"] = size(run.sizes.float_bytes)
    if run.packed is not None:
        facts["packed file"] = f"{size(run.packed.report.file_bytes)}, {run.times_smaller:.1f} times smaller"
        if (speed := run.packed.speed) is not None:
            facts["one image, one thread"] = f"{speed.median_seconds * 1e3:.3f} ms ({speed.instruction_set})"
    if run.summary is not None:
        facts["training time"] = f"{run.summary.seconds:,.0f} s"
    return facts


def _keys(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables, by keys such as ``"stage1.epochs"``."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _toml(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)
