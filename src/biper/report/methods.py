"""Comparing methods under one recipe: the same network, data, schedule and seeds, and the same tuning for each.

Every run is an ordinary run folder, ``OUT/LABEL/factor-F-seed-S``. A comparison that was stopped therefore resumes, and
a comparison that is repeated with more variants, factors or seeds trains only the new runs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from biper.errors import ExportError, NonFiniteLossError, RecipeError, TrainingInterrupted
from biper.io.files import atomic_write
from biper.recipes.load import load_recipe
from biper.recipes.schema import Recipe
from biper.report.methods_table import FactorResult, MethodComparison, MethodRow, to_markdown, to_png
from biper.report.variants import Variant
from biper.runs.folder import RunFolder, write_json
from biper.runs.records import MetricsRow, RunSummary
from biper.targets.packed.saved import export_saved
from biper.training.options import RunOptions
from biper.training.progress import Progress
from biper.training.run import train


def compare_methods(
    source: str | Path,
    variants: Sequence[Variant],
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    scale_epochs: float = 1.0,
    seeds: int = 1,
    factors: Sequence[float] = (),
    progress: Callable[[], Progress] = Progress,
    options: RunOptions | None = None,
    **changes: Any,
) -> MethodComparison:
    """Train every variant of a recipe, and compare what they reach.

    With several learning-rate factors, each variant is trained with each factor and the first seed. The other seeds are
    trained with the best factor only: the one with the best accuracy on held-out images, or, where the recipe has none,
    the one with the lowest training loss in the last epoch. The test images choose nothing.

    Args:
        source: the name or the file of a recipe, see `biper.load_recipe`.
        variants: the rows of the comparison; their labels differ.
        out: the folder for the run folders, ``compare.json``, ``compare.md`` and ``compare.png``.
        overrides: settings for all variants, as ``"key=value"``.
        scale_epochs: multiplies the epochs of both stages.
        seeds: how many seeds; the first is that of the recipe, and each further one is larger by 1.
        factors: the learning-rate factors of latent weights to try; by default each variant keeps its own.
        progress: makes the object that shows the progress of one run.
        options: where and how to compute; every run is resumed.
        **changes: single options that differ from ``options``, such as ``device``; see `biper.train`.

    Raises:
        TypeError: there is no option of that name.
        RecipeError: two labels are the same, a setting is wrong, or a run folder holds another recipe.
        TrainingInterrupted: the process received SIGINT (Ctrl-C) or SIGTERM; the same call continues the comparison.
    """
    labels = [variant.label for variant in variants]
    if len(set(labels)) < len(labels) or not labels:
        raise RecipeError(f"a comparison needs variants with labels that differ, got {', '.join(labels) or 'none'}")
    if any(override.split("=")[0].split(".")[0].strip() == "method" for override in overrides):
        raise RecipeError(
            "overrides=... is for all variants, so that it cannot set the method: set it in one of variants=..., such "
            "as 'LABEL method.name=recu'"
        )
    out = Path(out)
    options = replace((options or RunOptions()).changed(changes, "compare_methods"), resume=True)
    base = load_recipe(source, overrides)

    def recipe_for(variant: Variant, seed: int, factor: float | None) -> Recipe:
        settings = [*overrides, *variant.settings, f"seed={seed}"]
        if factor is not None:
            settings.append(f"method.learning_rate_factor={float(factor)}")
        return load_recipe(source, settings).scaled(scale_epochs)

    for variant in variants:  # a wrong setting of the last variant must be found before the first one trains
        recipe_for(variant, base.seed, None)
    all_seeds = tuple(range(base.seed, base.seed + seeds))
    rows = []
    for variant in variants:
        own = recipe_for(variant, base.seed, None)
        tried = list(factors) or [own.method.learning_rate_factor]

        def run(seed: int, factor: float, variant: Variant = variant) -> _RunResult:
            folder = out / variant.label / f"factor-{factor:g}-seed-{seed}"
            shown = progress()
            shown.message(f"{variant.label}, learning-rate factor {factor:g}, seed {seed}: {folder}")
            return _train_run(recipe_for(variant, seed, factor), RunFolder(folder), shown, options)

        grid = [run(all_seeds[0], factor) for factor in tried]
        best = max(range(len(tried)), key=lambda index: grid[index].merit)
        runs = [grid[best], *(run(seed, tried[best]) for seed in all_seeds[1:])]
        rows.append(_row(variant, own, [(factor, one) for factor, one in zip(tried, grid, strict=True)], best, runs))
        comparison = MethodComparison(
            recipe=Path(source).stem,
            network=f"{base.model.name} {base.model.bits}",
            dataset=base.data.name,
            split="fit" if base.data.evaluate_on == "train" else "test",
            seeds=all_seeds,
            chosen_by="held-out accuracy" if base.data.selection == "held-out" else "training loss",
            rows=tuple(rows),
        )
        _save(comparison, out)
    return comparison


@dataclass(frozen=True)
class _RunResult:
    """What one run reached; a run that diverged reached nothing."""

    summary: RunSummary | None = None
    last_row: MetricsRow | None = None
    packed_bytes: int | None = None

    @property
    def train_loss(self) -> float | None:
        """The training loss of the last epoch."""
        return None if self.last_row is None else self.last_row.train_loss

    @property
    def held_out_accuracy(self) -> float | None:
        """The accuracy on held-out images after the last epoch, where the recipe has them."""
        if self.last_row is None or self.last_row.score.split != "held_out":
            return None
        return self.last_row.score.accuracy

    @property
    def merit(self) -> float:
        """What chooses between learning-rate factors: the higher, the better."""
        if self.train_loss is None:
            return -float("inf")
        return -self.train_loss if self.held_out_accuracy is None else self.held_out_accuracy

    @property
    def accuracy(self) -> float | None:
        """The final accuracy, on the test images or on those that the recipe names."""
        return None if self.summary is None else self.summary.final.score.accuracy


def _train_run(recipe: Recipe, folder: RunFolder, progress: Progress, options: RunOptions) -> _RunResult:
    """Train one run, or read what it reached if it has finished, and pack its model."""
    try:
        summary = train(recipe, folder.path, options=options, progress=progress)
    except NonFiniteLossError as error:
        progress.message(f"diverged: {error}")
        return _RunResult()
    except TrainingInterrupted as error:
        raise TrainingInterrupted(
            f"stopped in {folder.path}, everything is saved; repeat the comparison to continue from there"
        ) from error
    packed = folder.path / "model.biper"
    try:
        if not packed.exists():
            export_saved(folder.model_file, packed, data_dir=options.data_dir)
    except ExportError as error:  # a row without a size is better than losing hours of training
        progress.message(f"not packed: {error}")
    return _RunResult(summary, folder.read_metrics()[-1], packed.stat().st_size if packed.exists() else None)


def _row(
    variant: Variant, recipe: Recipe, grid: list[tuple[float, _RunResult]], best: int, runs: list[_RunResult]
) -> MethodRow:
    """The row of a variant, from the runs of its factors and from those of its seeds."""
    finished = [run.summary for run in runs if run.summary is not None]
    errors = [value for summary in finished for value in (summary.final.relative_error or {}).values()]
    epochs = sum(stage.epochs for stage in recipe.stages)
    return MethodRow(
        label=variant.label,
        settings=variant.settings,
        method=recipe.method.name,
        stages=len(recipe.stages),
        epochs=epochs,
        grid=tuple(FactorResult(factor, run.train_loss, run.held_out_accuracy, run.accuracy) for factor, run in grid),
        factor=grid[best][0],
        accuracies=tuple(run.accuracy for run in runs if run.accuracy is not None),
        seconds_per_epoch=statistics.fmean(summary.seconds / epochs for summary in finished) if finished else 0.0,
        relative_error=statistics.fmean(errors) if errors else None,
        packed_bytes=next((run.packed_bytes for run in runs if run.packed_bytes is not None), None),
    )


def _save(comparison: MethodComparison, out: Path) -> None:
    """Write the rows so far as JSON, as Markdown and as a plot, each file atomically."""
    rows = [{**asdict(row), "mean": row.mean, "spread": row.spread} for row in comparison.rows]
    write_json(out / "compare.json", {**asdict(comparison), "rows": rows})
    atomic_write(out / "compare.md", to_markdown(comparison))
    atomic_write(out / "compare.png", to_png(comparison))
