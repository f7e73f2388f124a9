"""Networks of your own: finding the code that makes one, making it, and checking that it fits the data.

The code of a network is named by a recipe or given by the caller. It is never named by a file of weights, so that
loading weights runs no code that the caller does not know of.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biper.binarize.policy import BinarizeConfig
from biper.binarize.replace import binarize_
from biper.binarize.report import BinarizeReport
from biper.binarize.run_once import run_once
from biper.errors import ModelError, did_you_mean
from biper.io.files import read_regular
from biper.io.toml import MAX_BYTES, parse_toml
from biper.methods.settings import Method, read_method
from biper.nn import binary_layers
from biper.nn.convert import make_real_

OWN = "own"
"""The name that a recipe gives a network which is not one of biper's."""

RECIPE_FILE = "recipe.toml"
"""The file beside a model of a run that names its factory."""

Factory = Callable[[], nn.Module]
"""Makes a network of your own, with any initial weights."""

_EXAMPLES = 16


def find_factory(path: str, arguments: Mapping[str, Any] | None = None) -> Factory:
    """Import the code that an import path names.

    Args:
        path: ``"package.module:name"``, a class or a function that makes a `torch.nn.Module`.
        arguments: arguments by name that it is called with.

    Returns:
        A function without arguments that makes the network.

    Raises:
        ModelError: the module cannot be imported, or has no such name, or belongs to Python itself, which has
            none.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ModelError(f"factory {path!r}: expected module:name, such as mypackage.models:make")
    if module_name.split(".")[0] in sys.stdlib_module_names:
        raise ModelError(f"factory {path!r}: {module_name} belongs to Python itself, and makes no networks")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        where = "it must be installed, or lie in the current folder or in one of PYTHONPATH"
        raise ModelError(f"factory {path!r}: no module {error.name}; {where}") from error
    except Exception as error:
        raise ModelError(f"factory {path!r}: importing {module_name} fails: {_line(error)}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            public = [each for each in vars(found) if not each.startswith("_")]
            raise ModelError(f"factory {path!r}: {module_name} has no {name}{did_you_mean(part, public, listed=False)}")
        found = getattr(found, part)
    if not callable(found):
        raise ModelError(f"factory {path!r}: expected a class or a function, got a {type(found).__name__}")
    return partial(found, **(arguments or {}))


def factory_of_run(model_file: Path) -> Factory | None:
    """The factory that the recipe beside a model of a run names; None if there is no recipe, or it names none.

    Raises:
        ModelError: the recipe cannot be read, or its factory cannot be imported; see `find_factory`.
    """
    recipe = model_file.parent / RECIPE_FILE
    if not recipe.is_file():
        return None
    try:
        table = parse_toml(read_regular(recipe, MAX_BYTES).decode()).get("model", {})
        path, arguments = table.get("factory"), dict(table.get("arguments", {}))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{recipe} cannot be read: {_line(error)}") from error
    try:
        return None if path is None else find_factory(str(path), arguments)
    except ModelError as error:
        raise ModelError(f"{recipe}: {error}") from error


def make_own(
    factory: Factory,
    *,
    bits: str,
    frequency: float,
    method: Method | Mapping[str, Any],
    shape: tuple[int, ...],
    seed: int,
) -> nn.Module:
    """Make a network of your own, in full precision or binary.

    A network without a binary layer is made binary by `biper.binarize_`. It follows the data flow of random examples,
    which are the same every time, so that training, resuming and loading find the same layers.

    Args:
        factory: makes the network.
        bits: ``"W1A1"``, ``"W1A32"``, or ``"W32A32"``, which makes binary layers real.
        frequency: ω of the layers that become binary here, in radians per unit of weight.
        method: how their weights and inputs become bits; see `biper.methods.settings`.
        shape: the shape of one sample, (C, H, W), or (C, L) for signals.
        seed: the seed of torch's generator for the initial weights; the generator is put back afterwards.

    Returns:
        The network on the CPU, in training mode.

    Raises:
        ModelError: the factory fails or makes no network, or the network does not run on samples of this shape, or no
            layer of it can become binary.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = factory()
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"the factory of the network fails: {_line(error)}") from error
        if not isinstance(model, nn.Module):
            raise ModelError(f"the factory of the network made a {type(model).__name__}, expected a torch.nn.Module")
        network: nn.Module = model.cpu().train()
        examples = torch.randn((_EXAMPLES, *shape), generator=torch.Generator().manual_seed(0))
        make_fit_(network, examples, bits=bits, frequency=frequency, method=method)
    return network


def make_fit_(
    model: nn.Module, examples: Tensor, *, bits: str, frequency: float, method: Method | Mapping[str, Any]
) -> BinarizeReport | None:
    """Give a network the bits that a recipe asks for, in place.

    Args:
        model: any network.
        examples: a batch, normalized.
        bits, frequency, method: see `make_own`.

    Returns:
        The report of `biper.binarize_`; None if the network had the right bits already.

    Raises:
        ModelError: see `biper.binarize_`.
    """
    binary = binary_layers(model)
    if bits == "W32A32":
        for layer in binary.values():
            make_real_(layer)
        return None
    if binary:
        return None
    config = BinarizeConfig.model_validate({"bits": bits, "frequency": frequency, "method": read_method(method)})
    return binarize_(model, config, example=examples)


def require_outputs(model: nn.Module, examples: Tensor, classes: int) -> None:
    """Check that a network has one output for each class.

    Args:
        model: any network; it runs once, in evaluation mode, and is left as it was.
        examples: a batch, normalized.
        classes: how many classes the data have.

    Raises:
        ModelError: it does not run, or its outputs have another shape.
    """
    outputs = output_shape(model, examples)
    if outputs != (len(examples), classes):
        raise ModelError(
            f"the network gives outputs of shape {outputs} for samples of shape {tuple(examples.shape)}, expected "
            f"({len(examples)}, {classes}): one for each class"
        )


def output_shape(model: nn.Module, examples: Tensor) -> tuple[int, ...]:
    """The shape of the outputs of a network for a batch; see `require_outputs`.

    Raises:
        ModelError: the network does not run on the batch, or its output is no tensor.
    """
    found: list[Any] = []
    training = model.training
    handle = model.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    first = next(model.parameters(), examples)
    try:
        run_once(model.eval(), (examples.to(first.device, first.dtype),))
    except ModelError as error:
        reason = str(error).partition(": ")[2]
        raise ModelError(f"the network does not run on samples of shape {tuple(examples.shape)}: {reason}") from error
    finally:
        handle.remove()
        model.train(training)
    if not found or not isinstance(found[-1], Tensor):
        kind = type(found[-1]).__name__ if found else "nothing"
        raise ModelError(f"the network gives a {kind}, expected one tensor of logits (N, classes)")
    return tuple(found[-1].shape)


def _line(error: BaseException) -> str:
    """An error of any kind in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
