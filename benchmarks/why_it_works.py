"""Which of the field's claims hold: the logs of compared runs, a row for each variant, and what goes with accuracy.

    biper compare digits --seeds 3 --threads 1 --out runs/why --variant 'frequency-5 model.frequency=5' ...
    python benchmarks/why_it_works.py runs/why --plot why-it-works.svg

docs/concepts/why-it-works.md has the whole command, the table, and what follows from it. For each run the script reads
the metrics of every epoch and the weights at the end of both stages. The columns are means over the seeds:

- test accuracy and training loss after the last epoch;
- the quantization error ``mean |sin(φ) - q(w)|`` and the share of the energy of the weights that one bit loses, at the
  end of stage 1, means over the layers;
- flips: the share of signs that one step changes, mean over the layers and the last third of the epochs, which is
  stage 2 of the recipe;
- lasting: of the sign changes within an epoch of that third, the share that still differs at the end of the epoch;
- turned: the angle between the latent weights before and after stage 2, in degrees;
- kept: the share of signs at the end of stage 1 that stage 2 keeps;
- crests: the share of weights with ``|cos φ| < 0.1`` at the end, whose gradient is less than a tenth of the largest.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biper.data import load_dataset
from biper.measure.flips import sign_agreement
from biper.models.saved import load_model
from biper.nn import binary_layers
from biper.quantizers import PeriodicSign

COLUMNS = {
    "accuracy": "test % (deviation)", "loss": "loss", "error": "error", "lost": "energy lost, %",
    "flips": "flips a step, %", "lasting": "lasting, %", "turned": "turned, °", "kept": "kept, %",
    "crests": "crests, %",
}  # fmt: skip
IN_PERCENT = {"accuracy", "lost", "flips", "lasting", "kept", "crests"}


def main() -> None:
    """Print the table, and the rank correlation of each column with accuracy over the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder of `biper compare`")
    parser.add_argument("--plot", type=Path, help="where to draw accuracy by error, and the flips of each epoch")
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    rows, curves, seeds = {}, {}, set()
    for variant in sorted(path for path in arguments.folder.iterdir() if path.is_dir()):
        runs = sorted(path.parent for path in variant.glob("*/summary.json"))
        if runs:
            found = [measured(run, arguments.data_dir) for run in runs]
            rows[variant.name] = {key: mean(each[key] for each in found) for key in COLUMNS}
            rows[variant.name]["deviation"] = float(
                np.std([each["accuracy"] for each in found], ddof=min(1, len(runs) - 1))
            )
            curves[variant.name] = np.mean([flips_by_epoch(run) for run in runs], 0)
            seeds.add(len(runs))
    print(f"{len(rows)} variants, seeds a row: {sorted(seeds)}\n")
    print("| variant | " + " | ".join(COLUMNS.values()) + " |\n|" + " --- |" * (len(COLUMNS) + 1))
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["accuracy"]):
        shown = {key: text(key, row[key]) for key in COLUMNS}
        shown["accuracy"] += f" ({100 * row['deviation']:.2f})"
        print(f"| {name} | " + " | ".join(shown.values()) + " |")
    print("\nrank correlation with test accuracy, over the rows that have the figure:")
    for key in list(COLUMNS)[1:]:
        pairs = [(row[key], row["accuracy"]) for row in rows.values() if not math.isnan(row[key])]
        if len(pairs) > 2:
            print(f"{COLUMNS[key]}: {rank_correlation(*zip(*pairs, strict=True)):+.2f} over {len(pairs)} rows")
    if arguments.plot:
        draw(rows, curves, arguments.plot)


def mean(values: Iterable[float]) -> float:
    """The mean of numbers; NaN for none, or where one is NaN."""
    known = list(values)
    return sum(known) / len(known) if known else math.nan


def text(key: str, value: float) -> str:
    """A number as the table has it."""
    if math.isnan(value):
        return ""
    if key == "flips":
        return f"{100 * value:.4f}"
    return f"{100 * value:.2f}" if key in IN_PERCENT else f"{value:.3f}" if key != "turned" else f"{value:.1f}"


def rank_correlation(x: Iterable[float], y: Iterable[float]) -> float:
    """Spearman's coefficient; equal numbers share their mean rank."""
    ranks = []
    for values in (np.array(list(x)), np.array(list(y))):
        ranks.append([((values < value).sum() + (values <= value).sum() - 1) / 2 for value in values])
    return float(np.corrcoef(ranks)[0, 1])


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def flips_by_epoch(run: Path) -> list[float]:
    """The share of signs that a step of each epoch changes, mean over the layers."""
    return [mean(row["flip_ratio_step"].values()) for row in metrics_of(run)]


def measured(run: Path, data_dir: Path | None) -> dict[str, float]:
    """The columns of one run."""
    summary, last = json.loads((run / "summary.json").read_text()), metrics_of(run)
    data: Mapping[str, Any] = summary["recipe"]["data"]
    steps = len(load_dataset(data["name"], data_dir).split("train")) // data["batch_size"]
    late = last[-(len(last) // 3) :]
    first, final = summary["stage1"], summary.get("stage2") or summary["stage1"]
    before, after = (load_model(run / name)[0] for name in ("stage1.safetensors", "model.safetensors"))
    two_stages = "stage2" in summary
    return {
        "accuracy": final["test_accuracy"],
        "loss": last[-1]["train_loss"],
        "error": mean(first["quantization_error"].values()),
        "lost": mean((first["relative_error"] or {}).values()),
        "flips": mean(mean(row["flip_ratio_step"].values()) for row in late),
        "lasting": mean(lasting(row, steps) for row in late),
        "turned": turned(before, after) if two_stages else math.nan,
        "kept": mean(sign_agreement(before, after).values()) if two_stages else math.nan,
        "crests": crests(after),
    }


def lasting(row: Mapping[str, Any], steps: int) -> float:
    """Of the sign changes in the steps of an epoch, the share that is there at its end."""
    changes = mean(row["flip_ratio_step"].values()) * steps
    return mean(row["flip_ratio_epoch"].values()) / changes if changes else 1.0


def turned(before: torch.nn.Module, after: torch.nn.Module) -> float:
    """The angle between the latent weights of two models, in degrees, mean over the layers."""
    angles = []
    for one, other in zip(binary_layers(before).values(), binary_layers(after).values(), strict=True):
        cosine = torch.nn.functional.cosine_similarity(
            one.weight.detach().flatten(), other.weight.detach().flatten(), dim=0
        )
        angles.append(math.degrees(math.acos(min(1.0, float(cosine)))))
    return mean(angles)


def crests(model: torch.nn.Module) -> float:
    """The share of weights near a crest of the wave, mean over the layers; NaN for layers without a wave."""
    quantizers = [(layer.weight_quantizer, layer.weight) for layer in binary_layers(model).values()]
    return mean(
        float((quantizer.phase(weight.detach()).cos().abs() < 0.1).float().mean())
        for quantizer, weight in quantizers
        if isinstance(quantizer, PeriodicSign)
    )


def draw(rows: Mapping[str, Mapping[str, float]], curves: Mapping[str, Any], path: Path) -> None:
    """Draw accuracy by quantization error, and the flips of a step by epoch."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "biper"
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, row in rows.items():
        if not math.isnan(row["error"]):
            left.plot(row["error"], 100 * row["accuracy"], "o")
            left.annotate(name, (row["error"], 100 * row["accuracy"]), (4, 3), textcoords="offset points", fontsize=7)
    left.set(xlabel="quantization error at the end of stage 1", ylabel="test accuracy, %")
    for name, curve in curves.items():
        right.semilogy(range(1, len(curve) + 1), 100 * np.maximum(curve, 1e-7), label=name, linewidth=1)
    right.set(xlabel="epoch", ylabel="signs that a step changes, %")
    right.legend(fontsize=6)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
