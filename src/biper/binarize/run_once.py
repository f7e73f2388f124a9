"""Run a model once on an example and leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from biper.errors import ModelError


def run_once(model: nn.Module, arguments: tuple[Any, ...]) -> None:
    """Run a model without gradients, in the mode (training or evaluation) that it is in.

    Its buffers, such as the running statistics of batch norms, and torch's random generators are put back afterwards.

    Args:
        model: any module.
        arguments: the positional arguments of the model.

    Raises:
        ModelError: the model does not run on the arguments.
    """
    try:
        with _unchanged(model), torch.no_grad():
            model(*arguments)
    except ModelError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the model does not run on `example`: {first}") from error


def input_of(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Tensor:
    """The tensor that a layer was called on, by position or by name."""
    (x,) = (value for value in (*arguments, *keywords.values()) if isinstance(value, Tensor))
    return x


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Put back, afterwards, the model's buffers and torch's random generators.

    Meanwhile torch's fast path of transformers is off, which would use the weights of layers without calling them.
    """
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers() if not is_lazy(buffer)}
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in buffers and buffer.shape == buffers[name].shape:
                    buffer.copy_(buffers[name])
