"""Export: any trained model becomes one small packed file, and a packed file what a device takes.

The only door between training and runtime. What starts from a packed program (`c_source`, `html_page`, `onnx_graph`,
`openvino_graph`) needs no torch, so nothing is imported here before it is used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from biper.errors import MissingDependencyError

if TYPE_CHECKING:
    from biper.export.trained import FloatLayers, export, lower
    from biper.export.verify import ExportReport

_MODULES = {"ExportReport": "verify", "FloatLayers": "trained", "export": "trained", "lower": "trained"}

__all__ = ["ExportReport", "FloatLayers", "export", "lower"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'biper.export' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"biper.export.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "biper":
            raise
        raise MissingDependencyError(
            f"biper.export needs the package {error.name!r}: pip install 'biper[train]'"
        ) from error


class _CallableModule(ModuleType):
    """`biper.export` is this room of the house and the function in it: calling the module calls the function."""

    def __call__(self, *arguments: Any, **options: Any) -> ExportReport:
        report: ExportReport = __getattr__("export")(*arguments, **options)
        return report


sys.modules[__name__].__class__ = _CallableModule
