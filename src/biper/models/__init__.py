"""Networks by name: `create_model` makes one, as by ``create_model("resnet18", dataset="cifar10")``."""

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
        "resnet18a_bi_real": partial(CifarResNet, _EIGHTEEN, (32, 32, 64, 128), bi_real=True),
        "resnet18b": _plain(_EIGHTEEN, (32, 64, 128, 256)),
        "resnet18b_bi_real": partial(CifarResNet, _EIGHTEEN, (32, 64, 128, 256), bi_real=True),
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
"""Networks by family of data sets; resnet18a, b and c have the narrower widths of the method's authors, and
resnet18a_bi_real and resnet18b_bi_real have these in the form in which each convolution has a shortcut of its own."""


def model_names(dataset: str) -> list[str]:
    """The names that `create_model` takes for a data set.

    Raises:
        DataError: no data set has that name.
    """
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
    """Make a network with random initial weights.

    Args:
        name: of the network, such as ``"resnet18"``; `model_names` lists the names for a data set.
        dataset: the data set whose form of the network is made; it sets the input channels and the default number of
            classes.
        num_classes: outputs of the last layer; default the number of classes of the data set.
        bits: ``"W1A1"`` (binary), ``"W1A32"`` (only the weights are binary, and relu replaces hardtanh) or
            ``"W32A32"`` (full precision).
        frequency: ω of the binary layers, in radians per unit of weight.
        method: how weights and inputs become bits: a name such as ``"ir-net"``, or a table of a name and options, see
            `biper.methods.settings`; default BiPer.
        options: further arguments of the class of the network.

    Returns:
        The network on the CPU in float32, in training mode and stage ``"relaxed"``.

    Raises:
        DataError: no data set has that name.
        ModelError: no network for that data set or no method has that name, or an option is out of range.
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
