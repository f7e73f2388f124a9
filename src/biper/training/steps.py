"""The steps of a stage: gradient, update, and the numbers that are read of them, at each step or later.

On a CPU the numbers of a step are read at once, and a value that is not finite stops training before its update. On a
GPU reading a number waits until the device has computed it. There the sums stay on the device, and are read every
`READ_EVERY` steps and at the end of an epoch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from biper.runs.state import Position
from biper.training.step import TrainingStep

READ_EVERY = 100
"""After how many steps the numbers are read from a device where they stay. Positions of an epoch count from its start,
so that a resumed epoch reads them at the same steps."""


Work = Callable[[Tensor, Tensor], None]
"""A function of images and labels that takes a training step."""


def reads_late(device: torch.device) -> bool:
    """Whether the numbers of a step stay on a device; see `LateSteps`."""
    return device.type == "cuda"


@dataclass
class NonFinite(Exception):
    """A loss or gradient of a step is not finite.

    Attributes:
        what: ``"loss"`` or ``"gradient"``.
        value: NaN or infinity.
        step: the number of the step within the epoch, counted from 1.
        updated: whether the weights were changed since; they must not be saved then.
    """

    what: str
    value: float
    step: int
    updated: bool


class Steps(ABC):
    """The steps of a stage.

    Attributes:
        loss: the mean loss over the images of the epoch, as far as it has been read, in nats.
        accuracy: the share of them that were classified correctly.
        learning_rate: of the first group of parameters, in the last step.

    Args:
        step: computes the gradient of a batch.
        optimizer: makes the update.
    """

    def __init__(self, step: TrainingStep, optimizer: torch.optim.Optimizer) -> None:
        self.step, self.optimizer, self.processes = step, optimizer, step.processes
        self.loss = self.accuracy = 0.0
        self.learning_rate = float(optimizer.param_groups[0]["lr"])

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the next step; groups of parameters may have a factor of their own."""
        self.learning_rate = rate * self.optimizer.param_groups[0].get("learning_rate_factor", 1.0)
        for group in self.optimizer.param_groups:
            value = rate * group.get("learning_rate_factor", 1.0)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(value)
            else:
                group["lr"] = value

    @abstractmethod
    def take(self, position: Position, images: Tensor, labels: Tensor) -> None:
        """Take a step and count it in the position.

        Raises:
            NonFinite: this step, or an earlier one that is read now, has a loss or gradient that is not finite.
        """

    def may_communicate(self, position: Position) -> bool:  # noqa: ARG002
        """Whether the processes may exchange a number after this step, for which each waits for its device."""
        return True

    @abstractmethod
    def read(self, position: Position) -> None:
        """Bring the sums of the position up to date; it may be saved afterwards.

        Raises:
            NonFinite: as `take`.
        """

    def _show(self, position: Position) -> None:
        if position.images:
            self.loss, self.accuracy = position.train_loss, position.train_accuracy


class PromptSteps(Steps):
    """Steps whose numbers are read at once. A value that is not finite stops before the update of its step."""

    def take(self, position: Position, images: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        sums = self.step.add_gradients(images, labels).tolist()
        objective, loss, correct, count = self.processes.sum([*sums, len(labels)])
        if not math.isfinite(objective):
            raise NonFinite("loss", objective, position.step + 1, updated=False)
        norm = self.step.gradient_norm().item()
        if not math.isfinite(norm):
            raise NonFinite("gradient", norm, position.step + 1, updated=False)
        self.optimizer.step()
        position.add_step(loss, int(correct), int(count))
        self._show(position)

    def read(self, position: Position) -> None:
        """Nothing is left to read."""


class LateSteps(Steps):
    """Steps whose numbers stay on the device until they are read, so that no step waits for it.

    A value that is not finite is found when it is read. The weights have been updated with it by then, and the last
    checkpoint is the last good state.

    Args:
        step: computes the gradient of a batch.
        optimizer: makes the update.
        device: where the model is.
        recorder: turns the function that takes a step into one that does the same in another way, such as
            `biper.training.recorded.Recorded`; default none.
    """

    def __init__(
        self,
        step: TrainingStep,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        recorder: Callable[[Work], Work] | None = None,
    ) -> None:
        super().__init__(step, optimizer)
        self._run = self._work if recorder is None else recorder(self._work)
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)
        self._steps = torch.zeros((), dtype=torch.float64, device=device)
        self._first_bad = torch.zeros(3, dtype=torch.float64, device=device)
        self._unread = 0

    def take(self, position: Position, images: Tensor, labels: Tensor) -> None:
        self._run(images, labels)
        self._unread += 1
        position.add_step(0.0, 0, len(labels) * self.processes.count)
        if position.step % READ_EVERY == 0:
            self.read(position)

    def read(self, position: Position) -> None:
        if not self._unread:
            return
        numbers = torch.cat([self._sums, self._first_bad]).tolist()
        for tensor in (self._sums, self._steps, self._first_bad):
            tensor.zero_()
        rows = self.processes.gather(numbers)
        first, self._unread = position.step - self._unread, 0
        bad = [row[3:] for row in rows if row[3]]
        if bad:
            number = min(step for step, *_ in bad)
            there = [(objective, norm) for step, objective, norm in bad if step == number]
            losses = [objective for objective, _ in there if not math.isfinite(objective)]
            what, value = ("loss", losses[0]) if losses else ("gradient", there[0][1])
            raise NonFinite(what, value, first + int(number), updated=True)
        position.loss_sum += sum(row[1] for row in rows)
        position.correct += int(sum(row[2] for row in rows))
        self._show(position)

    def may_communicate(self, position: Position) -> bool:
        return self.processes.count == 1 or position.step % READ_EVERY == 0

    def _work(self, images: Tensor, labels: Tensor) -> None:
        """Compute the gradient, make the update and count the step, all on the device."""
        self.optimizer.zero_grad(set_to_none=True)
        sums, norm = self.step.add_gradients(images, labels), self.step.gradient_norm()
        self._sums += sums
        self._steps += 1
        is_bad = ~(torch.isfinite(sums[0]) & torch.isfinite(norm)) & (self._first_bad[0] == 0)
        this = torch.stack([self._steps, sums[0], norm.double()])
        self._first_bad.copy_(torch.where(is_bad, this, self._first_bad))
        self.optimizer.step()
