"""The networks of the method's authors: their names, the names of their parameters, and their state dicts.

Their state dicts differ from ours in these entries:

- The names differ by the rules of `_NETWORKS`; all of them may have the prefix ``module.`` of DataParallel.
- ``alpha``, (out, 1, 1), is our ``scale``, (out,).
- ``beta``, which their forward pass never uses, and ``tau``, the strength of their regularizer as a scalar or of shape
  (1,), have no counterpart and are ignored.
- Frequency and stage are missing: in their code both come from the command line.

Source: the authors' published code, https://github.com/edmav4/BiPer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from biper.data.specs import SPECS, dataset_spec
from biper.errors import CheckpointError, ModelError, did_you_mean
from biper.interop.plain_tensors import problem_of
from biper.io.toml import shortened
from biper.models import create_model
from biper.models.layers import Bits
from biper.models.saved import require_classes
from biper.nn import set_stage_
from biper.quantizers import Stage

Rename = tuple[str, str | Callable[[re.Match[str]], str]]
"""A pattern and what replaces it, as `re.sub` takes them."""


@dataclass(frozen=True)
class _Network:
    """Our form of one of the authors' networks, and the rules from our names of its entries to theirs."""

    name: str
    bits: Bits
    renames: tuple[Rename, ...]

    def their_name(self, ours: str) -> str:
        """The authors' name of an entry of our state dict."""
        for pattern, replacement in self.renames:
            ours = re.sub(pattern, replacement, ours)
        return ours


_SCALE = (r"\.scale$", ".alpha")
_GROUPS: Rename = (r"^groups\.(\d)\.", lambda match: f"layer{int(match[1]) + 1}.")
_CIFAR_RESNET = (_SCALE, _GROUPS, (r"^fc\.", "linear."))
_IMAGENET_RESNET = (_SCALE, _GROUPS, (r"\.shortcut\.", ".downsample."))
_VGG = (_SCALE, (r"^layers\.(\d)\.(conv|bn)\.", r"\2\1."))
_MOBILENET = (
    _SCALE,
    (r"^conv1\.", "model.0.0."),
    (r"^bn1\.", "model.0.1."),
    (r"^blocks\.(\d+)\.", lambda match: f"model.{int(match[1]) + 1}."),
)

_NETWORKS = {
    "cifar": {
        "resnet20_1w1a": _Network("resnet20", Bits.W1A1, _CIFAR_RESNET),
        "resnet20_1w32a": _Network("resnet20", Bits.W1A32, _CIFAR_RESNET),
        "resnet18_1w1a": _Network("resnet18", Bits.W1A1, _CIFAR_RESNET),
        "resnet18A_1w1a": _Network("resnet18a", Bits.W1A1, _CIFAR_RESNET),
        "resnet18B_1w1a": _Network("resnet18b", Bits.W1A1, _CIFAR_RESNET),
        "resnet18C_1w1a": _Network("resnet18c", Bits.W1A1, _CIFAR_RESNET),
        "resnet34_1w1a": _Network("resnet34", Bits.W1A1, _CIFAR_RESNET),
        "vgg_small_1w1a": _Network("vgg_small", Bits.W1A1, _VGG),
    },
    "imagenet": {
        "resnet18_1w1a": _Network("resnet18", Bits.W1A1, _IMAGENET_RESNET),
        "resnet34_1w1a": _Network("resnet34", Bits.W1A1, _IMAGENET_RESNET),
        "mobilenet_1w1a": _Network("mobilenet", Bits.W1A1, _MOBILENET),
    },
}
"""By family of data sets, then by the authors' name."""


def reference_models(dataset: str) -> list[str]:
    """The authors' names of their networks for a data set: what `load_reference_state_dict` takes as ``model``.

    Raises:
        DataError: the data set is unknown.
    """
    return list(_NETWORKS[dataset_spec(dataset).family])


def our_network(model: str, dataset: str) -> tuple[str, Bits]:
    """The name and the bits with which `biper.create_model` makes one of the authors' networks.

    Raises:
        DataError: the data set is unknown.
        ModelError: the authors have no such network for that data set (the message gives the nearest name).
    """
    network = _network(model, dataset)
    return network.name, network.bits


def reference_names(model: str, *, dataset: str) -> dict[str, str]:
    """Map the authors' names of parameters and buffers to our names, for all that both networks have.

    The names serve to compare gradients: ``dict(ours.named_parameters())[names["layer1.0.conv1.alpha"]]``.

    Args:
        model: the authors' name of the network, such as ``"resnet20_1w1a"``.
        dataset: ``"cifar10"`` or ``"imagenet"``, or another of the same family.

    Raises:
        DataError, ModelError: the data set or the network is unknown.
    """
    network = _network(model, dataset)
    with torch.device("meta"):  # only the names are needed, not the weights
        ours = create_model(network.name, dataset=dataset, bits=network.bits)
    return _names(network, ours.state_dict())


def load_reference_state_dict(
    model: str,
    state_dict: Mapping[str, Tensor],
    *,
    dataset: str,
    frequency: float,
    stage: Stage | str | int,
    num_classes: int | None = None,
) -> nn.Module:
    """Make our form of one of the authors' networks from their state dict.

    Args:
        model: the authors' name of the network, such as ``"resnet20_1w1a"``; see `reference_models`.
        state_dict: as their code saves it, on any device; it is copied. The prefix ``module.``, ``beta``, ``tau`` and
            counts of batches are optional.
        dataset: ``"cifar10"`` or ``"imagenet"``, or another of the same family; it sets the form of the network.
        frequency: ω of all binary layers, in radians per unit of weight. There is no default: with another
            frequency than the one that the weights were trained with, their signs are wrong.
        stage: 1 (the sine of the weights) or 2 (its sign), as their flag ``--stage2`` had it.
        num_classes: outputs of the last layer; default the number in the state dict.

    Returns:
        The network on the CPU in evaluation mode, in the floating-point dtype of the state dict.

    Raises:
        DataError: the data set is unknown.
        ModelError: the authors have no such network for that data set; or the frequency or the stage is
            out of range.
        CheckpointError: entries are missing, unexpected or of another shape; the message names them.
    """
    network = _network(model, dataset)
    stage = Stage.of(stage)
    entries = _without_prefix(state_dict)
    what = f"the state dict of {model} for {dataset}"
    for name, value in entries.items():
        if isinstance(value, Tensor) and (problem := problem_of(value)):
            raise CheckpointError(f"{what}: {shortened(name)} {problem}")
    if num_classes is None:
        num_classes = _classes_of(model, dataset, entries)
        if num_classes is None:
            raise CheckpointError(f"{what} lacks {network.their_name('fc.weight')}, which says how many classes it has")
    settings: dict[str, Any] = {
        "dataset": dataset,
        "num_classes": num_classes,
        "bits": network.bits,
        "frequency": frequency,
    }
    last = network.their_name("fc.weight")

    def make(classes: int) -> nn.Module:
        return create_model(network.name, **settings | {"num_classes": classes})

    require_classes(f"{what}: {last}", entries.get(last), num_classes, make)
    ours = make(num_classes)
    state = ours.state_dict()
    names = _names(network, state)
    _check_names(what, names, entries)
    for theirs, name in names.items():
        if theirs in entries:
            state[name] = _like(state[name], entries[theirs], theirs, what)
    ours.to(reduce(torch.promote_types, [state[name].dtype for name, _ in ours.named_parameters()]))
    ours.load_state_dict(state)
    return set_stage_(ours, stage).eval()


def datasets_of(model: str, state_dict: Mapping[str, Tensor]) -> list[str]:
    """The data sets of the authors' code that have the names and the number of classes of a state dict.

    Raises:
        ModelError: the authors have no such network for any data set (the message gives the nearest name).
    """
    known = sorted({name for networks in _NETWORKS.values() for name in networks})
    if model not in known:
        raise _no_network(model, known)
    return [
        spec.name
        for spec in SPECS.values()
        if spec.name != "images"
        and spec.channels == 3
        and model in _NETWORKS[spec.family]
        and _classes_of(model, spec.name, state_dict) == spec.num_classes
    ]


def _network(model: str, dataset: str) -> _Network:
    networks = _NETWORKS[dataset_spec(dataset).family]
    if model not in networks:
        raise _no_network(model, list(networks), f" for {dataset}")
    return networks[model]


def _classes_of(model: str, dataset: str, state_dict: Mapping[str, Tensor]) -> int | None:
    """How many classes the last layer of a state dict has, if it is of that network."""
    weight = _without_prefix(state_dict).get(_network(model, dataset).their_name("fc.weight"))
    return len(weight) if isinstance(weight, Tensor) and weight.dim() == 2 else None


def _no_network(model: str, known: Sequence[str], where: str = "") -> ModelError:
    return ModelError(f"the authors have no network {model!r}{where}{did_you_mean(model, known)}")


def _names(network: _Network, ours: Iterable[str]) -> dict[str, str]:
    """``{theirs: ours}``; the quantizers' frequency and stage have no counterpart."""
    return {network.their_name(name): name for name in ours if "_quantizer." not in name}


def _without_prefix(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries without DataParallel's prefix, if all of them have it."""
    if all(name.startswith("module.") for name in state_dict):
        return {name.removeprefix("module."): value for name, value in state_dict.items()}
    return dict(state_dict)


def _check_names(what: str, names: Mapping[str, str], entries: Mapping[str, Any]) -> None:
    missing = [name for name in names if name not in entries and not name.endswith("num_batches_tracked")]
    layers = [name.removesuffix(".alpha") for name in names if name.endswith(".alpha")]
    ignored = {f"{layer}.{name}" for layer in layers for name in ("beta", "tau")}
    unexpected = [name for name in entries if name not in names and name not in ignored]
    faults = (("lacks", missing), ("should not have", unexpected))
    problems = [f"{verb} {_first_few(listed)}" for verb, listed in faults if listed]
    if problems:
        raise CheckpointError(f"{what} {' and '.join(problems)}; is it one of another network or data set?")


def _like(ours: Tensor, theirs: Any, name: str, what: str) -> Tensor:
    """The authors' tensor ``name`` in the shape of ours."""
    expected = (*ours.shape, 1, 1) if name.endswith(".alpha") else tuple(ours.shape)
    got = type(theirs).__name__
    if isinstance(theirs, Tensor):
        real = theirs.is_floating_point() or not ours.is_floating_point()
        if real and tuple(theirs.shape) == expected:
            return theirs.reshape(ours.shape)
        got = f"{str(theirs.dtype).removeprefix('torch.')} of shape {tuple(theirs.shape)}"
    raise CheckpointError(f"{what} should have real numbers of shape {expected} as {name}, got {got}")


def _first_few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
