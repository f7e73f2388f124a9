"""The tables about one run, for a terminal and for the page: their columns, and what these mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from biper.report.table import Column, Table, decimals, percent, significant, size, whole, without_empty_columns

if TYPE_CHECKING:
    from biper.measure.size import LayerSummary, ModelSizes
    from biper.report.analysis import RunAnalysis
    from biper.runtime.bench import BenchReport

_LAYER = Column("layer")


def run_tables(run: RunAnalysis) -> list[Table]:
    """All tables about one run except its summary; tables without rows are left out."""
    tables = [
        error_table(run),
        sign_table(run),
        half_period_table(run),
        activation_table(run),
        class_table(run),
    ]
    if run.sizes is not None:
        tables.append(network_table(run.layers, run.sizes))
    if run.packed is not None and run.packed.speed is not None:
        tables.append(operation_table(run.packed.speed))
    return [table for table in tables if table.rows]


def error_table(run: RunAnalysis) -> Table:
    """The quantization errors of each layer, measured and by the closed form."""
    before = {row.layer: row for row in run.stage1_errors}
    third = decimals(3)
    columns = [
        _LAYER,
        Column("weights", whole, "Latent weights of the layer."),
        Column("ω", "{:g}".format, "Frequency, in radians per unit of weight."),
        Column("ωb", decimals(2), "Diversity of the phase of a fitted Laplace distribution: mean |ωw|, in radians."),
        Column("error after stage 1", third, "mean |sin ωw - q| of the weights at the end of stage 1.", bar=True),
        Column("error", third, "mean |sin ωw - q|: 0 if the sine is ±1 at every weight.", bar=True),
        Column("Laplace", third, "The closed form 1 - γ for the fitted ωb.", bar=True),
        Column(
            "σ", decimals(2), "Deviation of the phase of a fitted normal distribution: sqrt(mean (ωw)²), in radians."
        ),
        Column("normal", third, "The closed form 1 - γ for the fitted σ.", bar=True),
        Column("scaled error", decimals(4), "mean (sin ωw - γq)² with the best scale γ."),
        Column("Laplace QE(ω)", decimals(4), "The closed form E sin² - γ² for the fitted ωb."),
        Column("angle after stage 1, °", decimals(1), "Angle between the wave and its signs at the end of stage 1."),
        Column("angle, °", decimals(1), "Angle between the wave and its signs: cos = mean |sin| / sqrt(mean sin²)."),
    ]
    rows = []
    for row in run.errors:
        first = before.get(row.layer)
        rows.append(
            [
                row.layer,
                row.weights,
                row.frequency,
                row.phase_diversity,
                first and first.quantization_error,
                row.quantization_error,
                row.predicted_error,
                row.phase_deviation,
                row.predicted_normal_error,
                row.scaled_error,
                row.predicted_scaled_error,
                first and first.sign_angle,
                row.sign_angle,
            ]
        )
    return without_empty_columns(Table("Quantization error", columns, rows, f"{_about(run)} {_fit(run)}"))


def _about(run: RunAnalysis) -> str:
    """A sentence that says whose weights a table is about."""
    return f"These are the values of {run.model_of}."


def _fit(run: RunAnalysis) -> str:
    """A sentence about how well the closed form predicts the measured errors; empty without periodic layers."""
    if not run.waves:
        return ""
    trained = [abs(row.quantization_error - row.predicted_error) for row in run.errors]
    parts: dict[bool, list[float]] = {True: [], False: []}
    for wave in run.waves:
        for point in wave.curve:
            parts[point.frequency <= wave.frequency / 2].append(abs(point.measured - point.predicted))
    low, high = (sum(parts[half]) / len(parts[half]) for half in (True, False))
    mean = sum(trained) / len(trained)
    return (
        f"The closed form for Laplace weights differs from the measured error by {mean:.3f} at the trained frequency, "
        f"by {low:.3f} up to "
        f"half of it, and by {high:.3f} from there to three times of it (means over layers)."
    )


def sign_table(run: RunAnalysis) -> Table:
    """The signs of the weights of each layer, their changes, and the learned scales."""
    flips_step = run.history[-1].layers.flip_ratio_step if run.history else {}
    flips_epoch = run.history[-1].layers.flip_ratio_epoch if run.history else {}
    columns = [
        _LAYER,
        Column("+1", percent, "Share of weights whose sign is +1.", bar=True),
        Column("entropy", decimals(3), "Entropy of the signs of a channel, mean over channels, in bits.", bar=True),
        Column("lowest", decimals(3), "Entropy of the channel where it is lowest, in bits.", bar=True),
        Column(
            "to sign change",
            percent,
            "Mean distance to the nearest change of sign, as a share of the largest possible.",
            bar=True,
        ),
        Column("taken over", percent, "Share of signs at the end of stage 1 with which stage 2 began."),
        Column("kept", percent, "Share of signs at the end of stage 1 that are still the same.", bar=True),
        Column("flips a step", significant, "Share of signs that one step changed, mean over the last epoch."),
        Column("flips, last epoch", percent, "Share of signs that the last epoch changed."),
        Column("scale, median", significant, "Median of the learned scales of the output channels."),
        Column("lowest", significant, "The lowest scale."),
        Column("highest", significant, "The highest scale."),
        Column("negative", whole, "How many scales are below zero."),
    ]
    rows = [
        [
            row.layer,
            row.positive,
            row.entropy,
            row.lowest_entropy,
            row.relative_distance,
            run.initial_agreement.get(row.layer),
            run.kept.get(row.layer),
            flips_step.get(row.layer),
            flips_epoch.get(row.layer),
            row.median_scale,
            row.lowest_scale,
            row.highest_scale,
            row.negative_scales,
        ]
        for row in run.weights
    ]
    return without_empty_columns(Table("Signs and scales", columns, rows, _about(run)))


def half_period_table(run: RunAnalysis) -> Table:
    """The share of the weights of each layer in each half-period of the wave."""
    found = [row for row in run.weights if row.half_periods is not None]
    reach = len(found[0].half_periods or ()) // 2 if found else 0
    columns = [_LAYER]
    for number in range(-reach, reach):
        edge = {-reach: "≤ ", reach - 1: "≥ "}.get(number, "")
        sign = "+1" if number % 2 == 0 else "−1"
        meaning = f"Share of weights with ωw / π {edge or 'from '}{number} ({sign})."
        columns.append(Column(f"{edge}{number}: {sign}".replace("-", "−"), percent, meaning, bar=True))
    rows = [[row.layer, *(row.half_periods or ())] for row in found]
    caption = "Half-period k holds the weights with kπ ≤ ωw < (k + 1)π; the outermost ones also all beyond."
    return Table("Weights in each half-period", columns, rows, caption)


def activation_table(run: RunAnalysis) -> Table:
    """The inputs of each binary layer, and the gradients of its weights."""
    columns = [
        _LAYER,
        Column("+1", percent, "Share of inputs whose sign is +1.", bar=True),
        Column("entropy", decimals(3), "Entropy of the signs of a channel, mean over channels, in bits.", bar=True),
        Column("inside window", percent, "Share of inputs that pass a gradient.", bar=True),
        Column(
            "gradient norm",
            significant,
            "Norm of the gradient of the latent weights, in training mode.",
        ),
    ]
    rows = [[row.layer, row.positive, row.entropy, row.inside_window, row.gradient_norm] for row in run.activations]
    caption = f"Measured on the first {run.gradient_images} {run.image_split}."
    return without_empty_columns(Table("Activations and gradients", columns, rows, caption))


def class_table(run: RunAnalysis) -> Table:
    """For each class, how often predictions are right, and the most frequent wrong prediction."""
    columns = [
        Column("class"),
        Column("images", whole, "Images of the class."),
        Column("recall", percent, "Share of the images of the class that are predicted as it.", bar=True),
        Column("precision", percent, "Share of the images predicted as the class that are of it.", bar=True),
        Column("most frequent error"),
    ]
    rows: list[list[Any]] = []
    if run.predictions is not None:
        answers = run.predictions
        for number, name in enumerate(answers.classes):
            given, taken = answers.confusion[number], answers.confusion[:, number]
            right, others = int(given[number]), given.copy()
            others[number] = 0
            most = int(others.argmax())
            rows.append(
                [
                    name,
                    int(given.sum()),
                    right / int(given.sum()) if given.sum() else None,
                    right / int(taken.sum()) if taken.sum() else None,
                    f"{answers.classes[most]} ({others[most]:,})" if others.sum() else None,
                ]
            )
    return Table("Classes", columns, rows, f"Predictions for {run.image_split}.")


def network_table(layers: Sequence[LayerSummary], sizes: ModelSizes) -> Table:
    """The layers of a network; the sums over all layers are in the caption."""
    columns = [
        _LAYER,
        Column("kind"),
        Column("output"),
        Column("parameters", whole, "How many numbers are trained."),
        Column("bits", None, "Bits of weights and activations."),
        Column("MACs", lambda count: f"{count / 1e6:,.2f} M", "Multiply-accumulates of one image."),
        Column("float", size, "Size with everything in float32."),
        Column("packed", size, "Size with binary weights as bits."),
    ]
    rows = []
    for layer in layers:
        computes = layer.multiply_accumulates > 0
        rows.append(
            [
                layer.name,
                layer.kind,
                "x".join(map(str, layer.output_shape)),
                layer.parameters,
                f"W{layer.weight_bits}A{layer.input_bits}" if computes else None,
                layer.multiply_accumulates if computes else None,
                layer.float_bytes,
                layer.packed_bytes,
            ]
        )
    if not layers:
        return Table("Network", columns, rows)
    macs = sum(layer.multiply_accumulates for layer in layers)
    binary = sum(layer.multiply_accumulates for layer in layers if layer.weight_bits == layer.input_bits == 1)
    caption = (
        f"{sizes.parameters:,} parameters; {macs / 1e6:,.1f} M multiply-accumulates an image, "
        f"{binary / max(macs, 1):.1%} binary; float {size(sizes.float_bytes)}, "
        f"packed {size(sizes.packed_bytes)} (binary weights as bits, the rest float32)"
    )
    return Table("Network", columns, rows, caption)


def operation_table(report: BenchReport) -> Table:
    """The operations of a packed model, with their times for one image."""
    total = sum(op.seconds for op in report.operations) or 1.0  # a program may consist of views, which take no time
    columns = [
        Column("operation"),
        Column("kind"),
        Column("time", lambda seconds: f"{seconds * 1e6:.1f} µs", "Median time for one image."),
        Column("share", lambda share: f"{share:.1%}", "Share of the time of all operations."),
        Column("MACs", lambda count: f"{count / 1e6:,.2f} M", "Multiply-accumulates of one image."),
        Column("MACs/s", lambda rate: f"{rate / 1e9:,.0f} G", "Multiply-accumulates a second."),
    ]
    rows = []
    for op in report.operations:
        macs = op.binary_macs + op.real_macs
        rate = macs / op.seconds if macs and op.seconds else None
        rows.append([op.source, op.operation, op.seconds, op.seconds / total, macs or None, rate])
    return Table("Operations of the packed model", columns, rows)
