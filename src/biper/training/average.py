"""Averages of the weights of a stage, which are evaluated and saved in place of the raw weights.

Training goes on with the raw weights; the average only follows them. It is applied to the network after each epoch, to
compute the score of the epoch, and at the end of the stage, where it becomes the model of the stage. The next stage
therefore starts from the average.

What is averaged are the parameters. For a layer of 1-bit weights these are its latent weights, and the bits of the
average are the signs of the averaged latent weights, not an average of signs. Running statistics of batch norms are
not averaged, because those of other signs say nothing about these: they are measured anew with the averaged weights,
see `biper.training.batch_norm_statistics`. Other buffers are those of the raw network.

Source: exponential averages as in Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM
J. Control Optim. 30(4), 1992.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from biper.data.batches import TrainingBatches
from biper.runs.state import entries
from biper.training.batch_norm_statistics import measure_statistics_
from biper.training.distributed.processes import Processes

_make_update: Any = get_ema_multi_avg_fn

PREFIX = "average/"
"""The prefix of the names under which a checkpoint keeps the averaged parameters."""


class WeightAverage:
    """The average of the parameters of a network over the steps of a stage.

    With ``n = max(1, round(horizon))`` and the parameters ``w_t`` after step t of the stage, counted from 1:

        average_t = average_(t-1) + (w_t - average_(t-1)) / min(t, n)

    It is the mean of ``w_1`` to ``w_t`` for the first n steps, and then an exponential average in which the weights of
    n steps ago count 1/e as much as those of now.

    Args:
        module: the network, on its device.
        horizon: n, in steps; with 0 there is no average, and nothing of this class does anything.
        batches: the training batches, which the statistics of batch norms are measured on.
        processes: the processes that train together; all have the same average.
    """

    def __init__(self, module: nn.Module, horizon: float, batches: TrainingBatches, processes: Processes) -> None:
        self.module, self.batches, self.processes = module, batches, processes
        self.horizon = max(1, round(horizon)) if horizon else 0
        named = module.named_parameters() if horizon else ()
        self.parameters = {name: parameter.detach() for name, parameter in named}
        self.averages = {name: parameter.clone() for name, parameter in self.parameters.items()}

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Continue from what `state` put into a checkpoint of the same stage.

        Raises:
            KeyError, ValueError: the checkpoint does not have the average of these parameters.
        """
        found = entries(saved, PREFIX)
        for name, average in self.averages.items():
            if found[name].shape != average.shape:
                raise ValueError(f"{PREFIX}{name} has the shape {tuple(found[name].shape)}, not {tuple(average.shape)}")
            average.copy_(found[name])

    def add_step(self, step: int) -> None:
        """Take in the parameters after a step.

        Args:
            step: its number within the stage, counted from 1.
        """
        if self.horizon:
            update = _make_update(1 - 1 / min(step, self.horizon))
            update(list(self.averages.values()), list(self.parameters.values()), step)

    def state(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint must keep."""
        return {PREFIX + name: average for name, average in self.averages.items()}

    @contextmanager
    def applied(self, stage: int, epoch: int) -> Iterator[None]:
        """A context in which the network has the average; afterwards it has its own parameters and buffers again."""
        tensors = [*self.parameters.values(), *self.module.buffers()] if self.horizon else []
        kept = [tensor.clone() for tensor in tensors]
        self.apply_(stage, epoch)
        try:
            yield
        finally:
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)

    def apply_(self, stage: int, epoch: int) -> None:
        """Give the network the average, and statistics of batch norms that belong to it.

        Args:
            stage: the stage whose batches the statistics are measured on, 1 or 2.
            epoch: the epoch of these batches, counted from 0.
        """
        if not self.horizon:
            return
        for name, parameter in self.parameters.items():
            parameter.copy_(self.averages[name])
        measure_statistics_(self.module, self.batches, self.processes, stage=stage, epoch=epoch, mixed=True)
