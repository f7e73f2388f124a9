"""The names that users may import are all there; a name leaves this list only with a major version."""

from __future__ import annotations

from importlib import import_module

import pytest

import biper

TOP = (
    "ApproxSign",
    "BinarizeConfig",
    "BinaryConv1d",
    "BinaryConv2d",
    "BinaryLinear",
    "BiperError",
    "FitResult",
    "Model",
    "PeriodicSign",
    "Preprocessing",
    "Recipe",
    "SteSign",
    "__version__",
    "analyze_run",
    "binarize_",
    "check_binary_inputs",
    "create_model",
    "evaluate",
    "export",
    "fit",
    "from_pretrained",
    "interop",
    "keep_signs_",
    "load_dataset",
    "load_model",
    "load_recipe",
    "periodic_penalty",
    "push_to_hub",
    "quantization_errors",
    "save_model",
    "set_progress_",
    "set_stage_",
    "summarize",
    "train",
    "write_report",
)

BELOW = {
    "biper.errors": (
        "BiperError",
        "CheckpointError",
        "DataError",
        "ExportError",
        "HubError",
        "LostProcessError",
        "MissingDependencyError",
        "ModelError",
        "ModelFormatError",
        "NonFiniteLossError",
        "RecipeError",
        "TrainingInterrupted",
    ),
    "biper.hub": ("from_pretrained", "model_card", "push_to_hub"),
    "biper.interop": (
        "ReferenceCheckpoint",
        "import_reference",
        "load_reference_checkpoint",
        "load_reference_state_dict",
        "read_reference_checkpoint",
        "reference_models",
        "reference_names",
    ),
    "biper.nn": ("BinaryConv2d", "BinaryLinear", "binary_layers", "periodic_weights", "set_progress_", "set_stage_"),
    "biper.quantizers": (
        "AdaBinInput",
        "AdaBinWeight",
        "ApproxSign",
        "DoReFaInput",
        "DoReFaWeight",
        "ErrorDecaySign",
        "LibraWeight",
        "MagnitudeAwareSign",
        "PeriodicSign",
        "PowerSign",
        "PowerWeight",
        "Quantizer",
        "RPReLU",
        "RSign",
        "RectifiedClampSign",
        "Stage",
        "StandardizedPeriodicSign",
        "SteSign",
        "TunedPeriodicSign",
        "XnorSign",
    ),
    "biper.runtime": ("Model", "PredictedMap", "Prediction", "Preprocessing", "load_pretrained"),
}


def test_the_top_level_names_are_these() -> None:
    assert tuple(sorted(biper.__all__)) == TOP


@pytest.mark.parametrize("module", BELOW)
def test_the_names_of_a_public_module_are_there(module: str) -> None:
    missing = [name for name in BELOW[module] if not hasattr(import_module(module), name)]
    assert not missing
