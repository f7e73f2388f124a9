"""Networks by name: `create_model("resnet18", dataset="cifar10")`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from biper.data.specs import dataset_spec
from biper.errors import ModelError, did_you_mean
from biper.methods.build import choose_frequencies_
from biper.methods.settings import Method, read_method
from biper.models.digits_cnn import DigitsCnn
from biper.models.layers import Bits
from biper.models.mobilenet import MobileNet
from biper.models.resnet_cifar import CifarResNet
from biper.models.resnet_imagenet import ImageNetResNet
from biper.models.vgg import VggSmall
from biper.nn import DEFAULT_FREQUENCY

_EIGHTEEN, _THIRTY_FOUR = (2, 2, 2, 2), (3, 4, 6, 3)


def _plain(blocks: Sequence[int], widths: Sequence[int]) -> Callable[..., nn.Module]:
    return partial(CifarResNet, blocks, widths, bi_real=False)


_REGISTRY: dict[str, dict[str, Callable[..., nn.Module]]] = {
    "cifar": {
        "digits_cnn": DigitsCnn,
        "resnet20": partial(CifarResNet, (3, 3, 3), (16, 32, 64), bi_real=True),
        "resnet18": _plain(_EIGHTEEN, (64, 128, 256, 512)),
        "resnet18a": _plain(_EIGHTEEN, (32, 32, 64, 128)),
        "resnet18b": _plain(_EIGHTEEN, (32, 64, 128, 256)),
        "resnet18c": _plain(_EIGHTEEN, (64, 64, 128, 256)),
        "resnet34": _plain(_THIRTY_FOUR, (64, 128, 256, 512)),
        "vgg_small": VggSmall,
    },
    "imagenet": {
        "resnet18": partial(ImageNetResNet, _EIGHTEEN),
        "resnet34": partial(ImageNetResNet, _THIRTY_FOUR),
        "mobilenet": MobileNet,
    },
}
"""Networks by family of data sets; resnet18a, b and c are the method's authors' narrower widths."""


def model_names(dataset: str) -> list[str]:
    """The names that `create_model` takes for a data set."""
    return list(_REGISTRY[dataset_spec(dataset).family])


def create_model(
    name: str,
    *,
    dataset: str,
    num_classes: int | None = None,
    bits: Bits | str = Bits.W1A1,
    frequency: float = DEFAULT_FREQUENCY,
    method: Method | str | Mapping[str, Any] | None = None,
    **options: Any,
) -> nn.Module:
    """Make a network with fresh weights.

    Args:
        name: ``"resnet18"``, say; `model_names` lists those of a data set.
        dataset: which data set's form of the network: sets the channels of the input and the default classes.
        num_classes: outputs of the last layer; default the data set's.
        bits: ``"W1A1"`` (binary), ``"W1A32"`` (binary weights alone, and relu in place of hardtanh) or
            ``"W32A32"`` (full precision).
        frequency: ω of the binary layers, in radians per unit of weight.
        method: how weights and inputs become bits: ``"ir-net"``, say, or a table of a name and options; default BiPer.
        options: further arguments of the network's class.

    Returns:
        The network on the CPU in float32, in training mode and stage ``"relaxed"``.

    Raises:
        DataError: unknown data set.
        ModelError: unknown network for that data set (the nearest one is named) or method, or an option out of range.
    """
    spec = dataset_spec(dataset)
    family = _REGISTRY[spec.family]
    if name not in family:
        raise ModelError(f"no network {name!r} for {dataset}{did_you_mean(name, family)}")
    if bits not in list(Bits):
        raise ModelError(f"bits must be one of {', '.join(Bits)}, got {bits!r}")
    classes = spec.num_classes if num_classes is None else num_classes
    if classes < 1:
        raise ModelError(f"num_classes must be at least 1, got {classes}")
    method = read_method(method)
    options |= {"num_classes": classes, "in_channels": spec.channels, "bits": Bits(bits)}
    return choose_frequencies_(family[name](frequency=frequency, method=method, **options), method)


__all__ = ["create_model", "model_names"]
