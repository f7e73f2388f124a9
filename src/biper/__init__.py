"""biper: train 1-bit neural networks with a binary periodic function, and ship them as real 1-bit programs.

Importing this module imports nothing heavy: each name below loads its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biper import interop
    from biper.binarize.check import check_binary_inputs
    from biper.binarize.policy import BinarizeConfig
    from biper.binarize.replace import binarize_
    from biper.data import load_dataset
    from biper.errors import BiperError
    from biper.hub import from_pretrained, push_to_hub
    from biper.io.preprocessing import Preprocessing
    from biper.measure.evaluation import evaluate
    from biper.measure.quantization_error import quantization_errors
    from biper.measure.size import summarize
    from biper.models import create_model
    from biper.models.saved import load_model, save_model
    from biper.nn import (
        BinaryConv1d,
        BinaryConv2d,
        BinaryLinear,
        keep_signs_,
        periodic_penalty,
        set_progress_,
        set_stage_,
    )
    from biper.quantizers import ApproxSign, PeriodicSign, SteSign
    from biper.recipes.load import load_recipe
    from biper.recipes.schema import Recipe
    from biper.report.analysis import analyze_run
    from biper.report.fit import FitResult, fit
    from biper.report.run_page import write_report
    from biper.runtime.model import Model
    from biper.targets.packed.export import export
    from biper.training.run import train

__version__ = "0.1.0"

_MODULES = {
    "ApproxSign": "quantizers",
    "BinarizeConfig": "binarize.policy",
    "BinaryConv1d": "nn",
    "BinaryConv2d": "nn",
    "BinaryLinear": "nn",
    "BiperError": "errors",
    "FitResult": "report.fit",
    "Model": "runtime.model",
    "PeriodicSign": "quantizers",
    "Preprocessing": "io.preprocessing",
    "Recipe": "recipes.schema",
    "SteSign": "quantizers",
    "analyze_run": "report.analysis",
    "binarize_": "binarize.replace",
    "check_binary_inputs": "binarize.check",
    "create_model": "models",
    "evaluate": "measure.evaluation",
    "export": "targets.packed.export",
    "fit": "report.fit",
    "from_pretrained": "hub",
    "interop": "interop",
    "keep_signs_": "nn",
    "load_dataset": "data",
    "load_model": "models.saved",
    "load_recipe": "recipes.load",
    "periodic_penalty": "nn",
    "push_to_hub": "hub",
    "quantization_errors": "measure.quantization_error",
    "save_model": "models.saved",
    "set_progress_": "nn",
    "set_stage_": "nn",
    "summarize": "measure.size",
    "train": "training.run",
    "write_report": "report.run_page",
}

__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'biper' has no attribute {name!r}")
    from biper.errors import optional_packages

    with optional_packages("train", f"biper.{name}"):
        module = importlib.import_module(f"biper.{_MODULES[name]}")
    return module if name == _MODULES[name] else getattr(module, name)  # biper.interop is a package, the rest are names


def __dir__() -> list[str]:
    return sorted(__all__)
