"""What a run wrote about itself: the typed forms of ``summary.json`` and of a line of ``metrics.jsonl``.

`RunSummary` and `MetricsRow` are what the code passes around. `to_json` gives exactly the keys and values that stand in
the files, and `from_json` reads them back. Keys that this version does not know are ignored; a value that is missing or
of another kind is a `ValueError`, which `biper.runs.folder.RunFolder` turns into a `CheckpointError` with the file's
name.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from biper.measure.monitor import LayerMeasures
from biper.measure.size import ModelSizes
from biper.runs.fields import Fields

SPLITS = ("test", "held_out", "fit")
"""The prefixes of scores in the files. ``"fit"`` stands for training images that are scored after training."""


class Record(Mapping[str, Any]):
    """A typed record that is also a read-only mapping of its JSON form.

    Version 0.1 returned dictionaries. Programs that index them, such as ``summary["stage2"]["test_accuracy"]``, keep
    working; new code uses the attributes.
    """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, with the keys that stand in the file."""

    def __getitem__(self, key: str) -> Any:
        return self.to_json()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_json())

    def __len__(self) -> int:
        return len(self.to_json())


@dataclass(frozen=True)
class SplitScore:
    """Scores on one split.

    Attributes:
        split: one of `SPLITS`.
        loss: mean cross-entropy, in nats.
        accuracy: top-1, 0 to 1.
    """

    split: str
    loss: float
    accuracy: float

    def to_json(self) -> dict[str, float]:
        """Both scores, by keys such as ``"test_loss"`` and ``"test_accuracy"``."""
        return {f"{self.split}_loss": self.loss, f"{self.split}_accuracy": self.accuracy}

    @classmethod
    def from_fields(cls, fields: Fields) -> SplitScore:
        """The scores among the fields of a record.

        Raises:
            ValueError: there are none, or one is no number.
        """
        for split in SPLITS:
            if f"{split}_accuracy" in fields:
                return cls(split, fields.number(f"{split}_loss"), fields.number(f"{split}_accuracy"))
        raise ValueError("expected an accuracy on test, held-out or training images, found none")


@dataclass(frozen=True)
class MetricsRow(Record):
    """One finished epoch: a line of ``metrics.jsonl``.

    Attributes:
        stage: 1 or 2.
        epoch: counted from 1 within the stage.
        epochs: of the whole stage.
        train_loss: mean cross-entropy in nats over the training images of the epoch, as they were trained on.
        train_accuracy: top-1 on the same, 0 to 1.
        learning_rate: of the last step.
        images_per_second: images trained on in a second of training, over all processes.
        score: the scores after the epoch, on held-out images where the recipe has them.
        layers: what was measured of the binary layers; empty for a network without them.
    """

    stage: int
    epoch: int
    epochs: int
    train_loss: float
    train_accuracy: float
    learning_rate: float
    images_per_second: float
    score: SplitScore
    layers: LayerMeasures

    def scalars(self) -> dict[str, float]:
        """The numbers about the whole network, by their keys in the file."""
        return {
            "train_loss": self.train_loss,
            "train_accuracy": self.train_accuracy,
            "learning_rate": self.learning_rate,
            "images_per_second": self.images_per_second,
            **self.score.to_json(),
        }

    def to_json(self) -> dict[str, Any]:
        """The line as it stands in the file."""
        where = {"stage": self.stage, "epoch": self.epoch, "epochs": self.epochs}
        return {**where, **self.scalars(), **self.layers.to_json()}

    @classmethod
    def from_json(cls, document: object) -> MetricsRow:
        """Read a line that was parsed as JSON.

        Raises:
            ValueError: a value is missing or of another kind.
        """
        fields = Fields(document)
        return cls(
            stage=fields.integer("stage"),
            epoch=fields.integer("epoch"),
            epochs=fields.integer("epochs"),
            train_loss=fields.number("train_loss"),
            train_accuracy=fields.number("train_accuracy"),
            learning_rate=fields.number("learning_rate"),
            images_per_second=fields.number("images_per_second"),
            score=SplitScore.from_fields(fields),
            layers=LayerMeasures(**{name: fields.numbers(name) or {} for name in LayerMeasures.names()}),
        )


@dataclass(frozen=True)
class StageResult(Record):
    """What one stage reached.

    Attributes:
        epochs: how many were trained.
        selected_epoch: the epoch whose weights the stage ended with.
        score: the scores of these weights, computed in their own precision.
        quantization_error: of each periodic layer, by its name; see `biper.quantization_errors`.
        relative_error: of each binary layer, by its name; see `biper.measure.quantization_error.relative_errors`. None
            where the run did not record it.
    """

    epochs: int
    selected_epoch: int
    score: SplitScore
    quantization_error: Mapping[str, float]
    relative_error: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The table of a stage as it stands in ``summary.json``."""
        relative = {} if self.relative_error is None else {"relative_error": dict(self.relative_error)}
        return {
            "epochs": self.epochs,
            "selected_epoch": self.selected_epoch,
            **self.score.to_json(),
            "quantization_error": dict(self.quantization_error),
            **relative,
        }

    @classmethod
    def from_json(cls, document: object) -> StageResult:
        """Read the table of a stage.

        Raises:
            ValueError: a value is missing or of another kind.
        """
        fields = Fields(document)
        return cls(
            epochs=fields.integer("epochs"),
            selected_epoch=fields.integer("selected_epoch"),
            score=SplitScore.from_fields(fields),
            quantization_error=fields.numbers("quantization_error") or {},
            relative_error=fields.numbers("relative_error"),
        )


@dataclass(frozen=True)
class TeacherResult(Record):
    """What the teacher of a run reached.

    Attributes:
        name: its network.
        stage: the result of its only stage.
        seconds: how long its training took.
    """

    name: str
    stage: StageResult
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The table ``"teacher"`` as it stands in ``summary.json``."""
        return {"name": self.name, **self.stage.to_json(), "seconds": self.seconds}

    @classmethod
    def from_json(cls, document: object) -> TeacherResult:
        """Read the table of a teacher.

        Raises:
            ValueError: a value is missing or of another kind.
        """
        fields = Fields(document)
        return cls(fields.text("name"), StageResult.from_json(document), fields.number("seconds"))


@dataclass(frozen=True)
class RunSummary(Record):
    """What a finished run reached: the content of ``summary.json``, and what `biper.train` returns.

    Attributes:
        recipe: the recipe as JSON values, with the keys of the version that trained it.
        selection: ``"last"`` or ``"held-out"``: which epoch's weights a stage ends with.
        stages: one result for each stage, in order; the last one is that of the final model.
        scored_images: how many images the results of the stages were scored on.
        sizes: of the final model.
        seconds: spent training, evaluating and saving, with the teacher's.
        model: the path of the final model, as the run was told it.
        teacher: what the teacher reached, if there was one.
    """

    recipe: Mapping[str, Any]
    selection: str
    stages: tuple[StageResult, ...]
    scored_images: int
    sizes: ModelSizes
    seconds: float
    model: str
    teacher: TeacherResult | None = None

    @property
    def final(self) -> StageResult:
        """The result of the last stage."""
        return self.stages[-1]

    def to_json(self) -> dict[str, Any]:
        """The document as it stands in ``summary.json``."""
        return {
            "recipe": dict(self.recipe),
            "selection": self.selection,
            **stages_to_json(self.stages),
            f"{self.final.score.split}_images": self.scored_images,
            "sizes": self.sizes.to_json(),
            **({} if self.teacher is None else {"teacher": self.teacher.to_json()}),
            "seconds": self.seconds,
            "model": self.model,
        }

    @classmethod
    def from_json(cls, document: object) -> RunSummary:
        """Read a document that was parsed as JSON.

        Raises:
            ValueError: a value is missing or of another kind.
        """
        fields = Fields(document)
        stages, sizes = stages_from_json(fields), Fields(fields.table("sizes"))
        if not stages:
            raise ValueError("expected a table 'stage1', found none")
        return cls(
            recipe=fields.table("recipe"),
            selection=fields.text("selection"),
            stages=stages,
            scored_images=fields.integer(f"{stages[-1].score.split}_images"),
            sizes=ModelSizes(**{name: sizes.integer(name) for name in ModelSizes.names()}),
            seconds=fields.number("seconds"),
            model=fields.text("model"),
            teacher=TeacherResult.from_json(fields.table("teacher")) if "teacher" in fields else None,
        )


def stages_to_json(stages: tuple[StageResult, ...]) -> dict[str, Any]:
    """The results of stages by the keys ``"stage1"``, ``"stage2"``."""
    return {f"stage{number}": result.to_json() for number, result in enumerate(stages, 1)}


def stages_from_json(fields: Fields) -> tuple[StageResult, ...]:
    """The results of the stages that are among the fields, in order.

    Raises:
        ValueError: a value is missing or of another kind.
    """
    return tuple(StageResult.from_json(fields.table(key)) for key in ("stage1", "stage2") if key in fields)
