"""Methods under one recipe: the same network, data, schedule and seeds, and the same tuning effort for each.

Every run is an ordinary run folder, ``OUT/LABEL/factor-F-seed-S``, so that a comparison that stopped goes on where it
stopped and one that is asked again, or for more, trains only what is new.
"""

from __future__ import annotations

import re
import shlex
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from biper.errors import ExportError, NonFiniteLossError, RecipeError, TrainingInterrupted
from biper.io.files import atomic_write
from biper.methods.settings import METHODS
from biper.recipes.load import load_recipe
from biper.recipes.schema import Recipe
from biper.report.methods_table import MethodComparison, MethodRow, Tried, to_markdown, to_png
from biper.runs.folder import RunFolder, write_json
from biper.targets.packed.saved import export_saved
from biper.training.progress import Progress
from biper.training.run import train


@dataclass(frozen=True)
class Variant:
    """A row of a comparison: a label, and what it changes in the recipe, as ``key=value``."""

    label: str
    settings: tuple[str, ...] = ()

    @classmethod
    def of_method(cls, name: str) -> Variant:
        """A method as published, by its name.

        Raises:
            RecipeError: there is no such method.
        """
        if name not in METHODS:
            raise RecipeError(f"no method {name!r}; known: {', '.join(METHODS)}")
        return cls(name, (f'method={{name="{name}"}}',))

    @classmethod
    def read(cls, text: str) -> Variant:
        """A label and settings from a text such as ``"slow-wave model.frequency=5 stage1.periodic_penalty=0"``.

        Raises:
            RecipeError: the text has no label, or no settings.
        """
        label, *settings = shlex.split(text) or [""]
        if not re.fullmatch(r"[\w.+-]+", label) or not settings or not all("=" in setting for setting in settings):
            raise RecipeError(
                "--variant expects a label of letters, digits and ._+- and then settings, such as "
                f"'slow-wave model.frequency=5', got {text!r}"
            )
        return cls(label, tuple(settings))


def read_factors(text: str | None) -> list[float]:
    """Learning-rate factors from a text such as ``"1,10,30"``; none from None.

    Raises:
        RecipeError: one of them is no positive number, or repeats.
    """
    try:
        factors = [float(part) for part in (text or "").split(",") if part.strip()]
    except ValueError:
        factors = [-1.0]
    if any(not 0 < factor < float("inf") for factor in factors) or len(set(factors)) < len(factors):
        raise RecipeError(f"--learning-rates expects positive numbers that differ, such as 1,10,30, got {text!r}")
    return factors


def compare(
    source: str | Path,
    variants: Sequence[Variant],
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    scale_epochs: float = 1.0,
    seeds: int = 1,
    factors: Sequence[float] = (),
    progress: Callable[[], Progress] = Progress,
    data_dir: str | Path | None = None,
    **options: Any,
) -> MethodComparison:
    """Train every variant of a recipe, and say how they compare.

    With several factors, each variant is trained with each of them and the first seed; the one with the best accuracy
    on held-out training images, or with the least training loss of the last epoch where the recipe holds none out,
    trains the other seeds. Test images choose nothing.

    Args:
        source: a recipe's name or file, see `biper.load_recipe`.
        variants: what to compare; their labels differ.
        out: the folder for all of it: the run folders, ``compare.json``, ``compare.md`` and ``compare.png``.
        overrides: settings for all variants, as ``"key=value"``.
        scale_epochs: factor of the epochs of both stages.
        seeds: how many, from the recipe's on.
        factors: learning-rate factors of latent weights to try; none keeps the recipe's or the method's own.
        progress: makes what shows the progress of a run.
        data_dir: where the data is; see `biper.load_dataset`.
        options: of `biper.train`: ``device``, ``precision``, ``workers``.

    Raises:
        RecipeError: labels repeat, a setting is wrong, or a run folder holds another recipe.
        TrainingInterrupted: Ctrl-C or SIGTERM; calling it again goes on.
    """
    labels = [variant.label for variant in variants]
    if len(set(labels)) < len(labels) or not labels:
        raise RecipeError(f"a comparison needs variants with labels that differ, got {', '.join(labels) or 'none'}")
    if any(override.split("=")[0].split(".")[0].strip() == "method" for override in overrides):
        raise RecipeError(
            "--set is for all variants of a comparison, a method for one: use --variant 'LABEL KEY=VALUE'"
        )
    out = Path(out)
    options = {"data_dir": data_dir, **options}
    base = load_recipe(source, overrides)

    def recipe_of(variant: Variant, seed: int, factor: float | None) -> Recipe:
        settings = [*overrides, *variant.settings, f"seed={seed}"]
        if factor is not None:
            settings.append(f"method.learning_rate_factor={float(factor)}")
        return load_recipe(source, settings).scaled(scale_epochs)

    for variant in variants:  # so that a wrong setting of the last one is found before the first one trains
        recipe_of(variant, base.seed, None)
    all_seeds = tuple(range(base.seed, base.seed + seeds))
    rows = []
    for variant in variants:
        own = recipe_of(variant, base.seed, None)
        tried = list(factors) or [own.method.learning_rate_factor]

        def run(seed: int, factor: float, variant: Variant = variant) -> _Run:
            folder = out / variant.label / f"factor-{factor:g}-seed-{seed}"
            shown = progress()
            shown.message(f"{variant.label}, learning-rate factor {factor:g}, seed {seed}: {folder}")
            return _run(recipe_of(variant, seed, factor), RunFolder(folder), shown, options)

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
class _Run:
    """What a run reached; one that diverged has reached nothing."""

    summary: dict[str, Any] | None = None
    last: dict[str, Any] | None = None
    """The row of its last epoch."""
    packed_bytes: int | None = None

    @property
    def merit(self) -> float:
        """What chooses between learning-rate factors: the larger the better."""
        if self.last is None:
            return -float("inf")
        return self.last.get("held_out_accuracy", -self.last["train_loss"])

    @property
    def result(self) -> dict[str, Any] | None:
        """Of its last stage."""
        return None if self.summary is None else self.summary.get("stage2", self.summary["stage1"])

    @property
    def accuracy(self) -> float | None:
        """On the test images, or how it fits the training images where the recipe scores those."""
        return None if self.result is None else self.result.get("test_accuracy", self.result.get("fit_accuracy"))


def _run(recipe: Recipe, folder: RunFolder, progress: Progress, options: dict[str, Any]) -> _Run:
    try:
        summary = train(recipe, folder.path, resume=True, progress=progress, **options)
    except NonFiniteLossError as error:
        progress.message(f"diverged: {error}")
        return _Run()
    except TrainingInterrupted as error:
        raise TrainingInterrupted(
            f"stopped in {folder.path}, everything is saved; the same command goes on from there"
        ) from error
    packed = folder.path / "model.biper"
    try:
        if not packed.exists():
            export_saved(folder.model_file, packed, data_dir=options["data_dir"])
    except ExportError as error:  # after hours of training, a row without a size is better than no row
        progress.message(f"not packed: {error}")
    return _Run(summary, folder.read_metrics()[-1], packed.stat().st_size if packed.exists() else None)


def _row(variant: Variant, recipe: Recipe, grid: list[tuple[float, _Run]], best: int, runs: list[_Run]) -> MethodRow:
    finished = [(run.summary, run.result) for run in runs if run.summary is not None and run.result is not None]
    errors = [value for _, result in finished for value in result["relative_error"].values()]
    epochs = sum(stage.epochs for stage in recipe.stages)
    return MethodRow(
        label=variant.label,
        settings=variant.settings,
        method=recipe.method.name,
        stages=len(recipe.stages),
        epochs=epochs,
        grid=tuple(
            Tried(
                factor,
                None if run.last is None else run.last["train_loss"],
                None if run.last is None else run.last.get("held_out_accuracy"),
                run.accuracy,
            )
            for factor, run in grid
        ),
        factor=grid[best][0],
        accuracies=tuple(run.accuracy for run in runs if run.accuracy is not None),
        seconds_per_epoch=statistics.fmean(summary["seconds"] / epochs for summary, _ in finished) if finished else 0.0,
        relative_error=statistics.fmean(errors) if errors else None,
        packed_bytes=next((run.packed_bytes for run in runs if run.packed_bytes is not None), None),
    )


def _save(comparison: MethodComparison, out: Path) -> None:
    """Write what is known so far, each file atomically."""
    rows = [{**asdict(row), "mean": row.mean, "spread": row.spread} for row in comparison.rows]
    write_json(out / "compare.json", {**asdict(comparison), "rows": rows})
    atomic_write(out / "compare.md", to_markdown(comparison))
    atomic_write(out / "compare.png", to_png(comparison))
