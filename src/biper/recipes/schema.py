"""The schema of a recipe: which keys it has, their types and their ranges.

A recipe describes what is trained, on which data, and how. The device, the threads and the folders are not part of it;
they are arguments of `biper.train`. Unknown keys, wrong types and values out of range are errors that name the key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from biper.data.settings import DataRecipe
from biper.errors import RecipeError
from biper.io.toml import toml_value
from biper.methods.fields import MOST, Finite, NonNegative, Positive, RecipeTable
from biper.methods.settings import Method, explain_method
from biper.methods.weights import BiperWeights
from biper.models.own import OWN
from biper.recipes.decay import DecayKind, read_kinds

Decay = Annotated[float, Field(ge=0, lt=1)]

_IMPORT_PATH = r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*$"


class ModelRecipe(RecipeTable):
    """The network: one of biper's by its name, or a network of your own by the code that makes it.

    The data set determines the form of biper's networks, their input channels and their number of classes.
    """

    name: str
    """A network of biper; ``"own"``, which need not be written, with ``factory``."""
    factory: Annotated[str, Field(pattern=_IMPORT_PATH)] | None = None
    """A class or function of your own that makes the network, as ``"mypackage.models:make"``: a module that Python can
    import (the command line also looks into the current folder), a colon, and a name in it. The code runs on your
    machine, so that a recipe with this key is to be trusted like a program."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Arguments by name that the factory is called with: the table ``[model.arguments]``."""
    bits: Literal["W1A1", "W1A32", "W32A32"] = "W1A1"
    """Bits of the weights and of the inputs of the layers that a method makes binary; 32 stands for float32."""
    frequency: Positive = 20.0
    """ω of the binary layers, in radians per unit of latent weight."""
    sync_batch_norm: bool = False
    """Batch norms use the mean and variance of a batch over all processes, not of the share of one process."""

    @model_validator(mode="before")
    @classmethod
    def _own_if_made_by_a_factory(cls, value: Any) -> Any:
        return {"name": OWN} | value if isinstance(value, dict) and value.get("factory") is not None else value

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        if self.factory is not None and self.name != OWN:
            raise ValueError(f'expected a name or a factory, got both; leave out name = "{self.name}"')
        if self.arguments and self.factory is None:
            raise ValueError("arguments are those of a factory, and there is no factory")
        return self


class StageRecipe(RecipeTable):
    """One training stage: an optimizer under one learning-rate schedule."""

    epochs: Annotated[int, Field(ge=1, le=MOST)]
    """How many times the stage sees every training image."""
    learning_rate: Positive
    """The learning rate after the warm-up, from which the schedule falls."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """``"sgd"`` is gradient descent with momentum; ``"adamw"`` is Adam with decoupled weight decay (Loshchilov
    and Hutter, ICLR 2019, arXiv:1711.05101)."""
    betas: Annotated[tuple[Decay, Decay], Field(strict=False)] = (0.9, 0.999)
    """AdamW: how much of the running means of the gradient and of its square a step keeps."""
    epsilon: Positive = 1e-8
    """AdamW: what is added to the root of the running mean of the squared gradient, by which the step is divided."""
    weight_decay: NonNegative = 0.0
    """How strongly weights are pulled to zero: added to the gradient as a multiple of the weight (SGD), or subtracted
    from the weight as a multiple of itself and the learning rate (AdamW)."""
    weight_decay_on: Annotated[Literal["all", "weights"] | tuple[DecayKind, ...], BeforeValidator(read_kinds)] = "all"
    """The parameters that decay: ``"all"``; ``"weights"``, those of convolutions and linear layers; or a list of the
    kinds of `biper.recipes.decay`, such as ``["latent", "real", "norms"]``. On the command line the list may be a text
    with commas, ``latent,real,norms``. Each parameter is of one kind: ``latent``, the latent weights of binary layers;
    ``real``, the weights of other convolutions and linear layers; ``scales``, the scales of binary layers; ``inputs``,
    what input quantizers learn (thresholds of RSign); ``activations``, what activations learn (shifts and slopes of
    RPReLU and PReLU); ``norms``, weights and biases of normalizations; ``biases``, other biases; ``others``, all the
    rest, such as learned frequencies."""
    momentum: Decay = 0.9
    """SGD: how much of the running sum of gradients a step keeps."""
    periodic_penalty: Finite = 0.0
    """Strength τ of the periodic regularizer, τ times the sum over binary layers of mean sin²(ω w). A positive τ, as
    published, moves weights to the zeros of the sine; a negative τ moves them to its extremes, where the sine equals
    its sign; 0 switches the regularizer off."""
    warmup_epochs: Annotated[float, Field(ge=0, le=MOST)] = 0.0
    """Epochs, whole or fractional, in which the learning rate rises linearly from 0."""
    schedule: Literal["cosine", "linear", "constant", "restarts"] = "cosine"
    """How the learning rate falls after the warm-up. ``"restarts"`` falls along a cosine ``cycles`` times, each time
    from ``learning_rate`` to ``learning_rate_end`` (Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm
    Restarts", ICLR 2017, arXiv:1608.03983)."""
    cycles: Annotated[int, Field(ge=2, le=100)] | None = None
    """Restarts: how many cosines the stage has; required with this schedule, and an error with another."""
    cycle_growth: Annotated[float, Field(ge=1, le=10)] = 1.0
    """Restarts: how many times as long as the cycle before it each cycle is."""
    learning_rate_end: NonNegative = 0.0
    """The learning rate at the end of the stage, unless the schedule is constant; the next stage may start from it."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the target that is spread evenly over all classes in the cross-entropy."""
    average_epochs: Annotated[float, Field(ge=0, le=MOST)] = 0.0
    """Horizon h, in epochs, of the average of the weights that is evaluated and saved in place of the raw weights; 0
    averages nothing. After step t of the stage, ``average += (weights - average) / min(t, n)`` for the n steps of h
    epochs: the mean of the weights after all steps so far, then an exponential average. See
    `biper.training.average`."""
    batch_norm_images: Annotated[int, Field(ge=0, le=MOST)] | None = None
    """How many training images the running statistics of batch norms are measured on anew, in float32, at the end of
    the stage; 0 keeps those of training. Training itself is not changed by it. Default: 5,000 where training computes
    in bfloat16 or float16, 0 where it computes in float32. See `biper.training.batch_norm_statistics`."""

    @model_validator(mode="after")
    def _has_cycles_if_it_restarts(self) -> Self:
        if self.schedule == "restarts" and self.cycles is None:
            raise ValueError('schedule = "restarts" needs cycles, the number of cosines, such as cycles = 4')
        if self.schedule != "restarts" and (self.cycles is not None or self.cycle_growth != 1):
            raise ValueError(f'cycles and cycle_growth are for schedule = "restarts", not for "{self.schedule}"')
        return self


class TeacherRecipe(RecipeTable):
    """A network whose outputs both stages learn from, together with the labels: one in full precision, which the run
    trains first (``epochs``, ``learning_rate``), or a saved one (``file``).

    The loss of a stage becomes ``(1 - share) CE(y, z) + share T² KL(softmax(t / T) || softmax(z / T))`` for labels y,
    logits z, the teacher's logits t for the same augmented images, and the temperature T. Source: Hinton et al., 2015,
    arXiv:1503.02531.
    """

    epochs: Annotated[int, Field(ge=2, le=MOST)] | None = None
    """How many epochs the teacher is trained, both stages together."""
    learning_rate: Positive | None = None
    """Initial learning rate, which falls to 0 by the schedule of stage 1. All other settings of stage 1 hold for the
    teacher too."""
    name: str | None = None
    """The name of the network to train; default that of the recipe."""
    file: str | None = None
    """A saved model that is the teacher, of any network and any bits: a run folder, a ``model.safetensors``, a packed
    ``.biper``, or the name of a packaged model. A run that is resumed needs it, unchanged."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of the teacher in the loss; with 0 there is no teacher."""
    temperature: Positive = 4.0
    """T of the loss: both networks' logits are divided by it, so that small differences count."""

    @model_validator(mode="after")
    def _is_trained_or_saved(self) -> Self:
        trained = {"epochs": self.epochs, "learning_rate": self.learning_rate}
        if self.file is None and None in trained.values():
            missing = " and ".join(name for name, value in trained.items() if value is None)
            raise ValueError(
                f"expected epochs and learning_rate, to train a teacher, or file, a saved one; {missing} missing"
            )
        given = [name for name, value in (trained | {"name": self.name}).items() if value is not None]
        if self.file is not None and given:
            raise ValueError(f"the teacher of file is not trained: leave out {' and '.join(given)}, or file")
        return self


class Recipe(RecipeTable):
    """A training run: stage 1 trains with the sine, stage 2 with the square wave of the same period.

    A method that is binary from the start trains one stage. It has the settings of stage 1, the epochs of both stages,
    and the final learning rate of stage 2.
    """

    description: str
    """What the recipe trains, in a line for people."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides the first weights, the order of the images and their augmentation."""
    model: ModelRecipe
    method: Method = Method()
    """How weights and inputs become bits: the name of a method or three choices, and their options."""
    data: DataRecipe
    stage1: StageRecipe
    stage2: StageRecipe
    teacher: TeacherRecipe | None = None

    @classmethod
    def _explain(cls, problem: Any) -> str:
        if problem["loc"][:1] == ("method",):
            return explain_method({**problem, "loc": problem["loc"][1:]})
        return super()._explain(problem)

    @property
    def stages(self) -> tuple[StageRecipe, ...]:
        """The stages that are trained, in order."""
        if len(self.method.stages) == 2:
            return self.stage1, self.stage2
        whole = {"epochs": self.stage1.epochs + self.stage2.epochs, "learning_rate_end": self.stage2.learning_rate_end}
        return (self.stage1.model_copy(update=whole),)

    @property
    def saved_teacher(self) -> Path | None:
        """The saved model, or its run folder, that is the teacher, if there is one."""
        teacher = self.teacher
        return None if teacher is None or teacher.share == 0 or teacher.file is None else Path(teacher.file)

    @property
    def of_teacher(self) -> Recipe | None:
        """The recipe of the teacher, if one is to be trained: the same data, full precision, one stage."""
        teacher = self.teacher
        if teacher is None or teacher.share == 0 or teacher.epochs is None:
            return None
        settings = {"learning_rate": teacher.learning_rate, "learning_rate_end": 0.0, "periodic_penalty": 0.0}
        first = self.stage1.model_copy(update=settings | {"epochs": teacher.epochs - teacher.epochs // 2})
        network: dict[str, Any] = {"bits": "W32A32"}
        if teacher.name is not None:
            network |= {"name": teacher.name, "factory": None, "arguments": {}}
        return self.model_copy(
            update={
                "description": f"The teacher of: {self.description}",
                "model": self.model.model_copy(update=network),
                "method": Method(weights=BiperWeights(relaxed_stage=False)),
                "stage1": first,
                "stage2": first.model_copy(update={"epochs": teacher.epochs // 2, "warmup_epochs": 0.0}),
                "teacher": None,
            }
        )

    def require_even_shares(self, processes: int) -> None:
        """Check that a number of processes can share a batch evenly.

        Raises:
            RecipeError: the batch size is not a multiple of processes times ``data.accumulate``.
        """
        size, parts = self.data.batch_size, processes * self.data.accumulate
        if size % parts:
            among = f"{processes} processes" if processes > 1 else "one process"
            near = " or ".join(str(n) for n in (size // parts * parts, (size // parts + 1) * parts) if n >= 2)
            raise RecipeError(
                f"data.batch_size = {size} is the batch of all processes, and {among} with data.accumulate = "
                f"{self.data.accumulate} cannot share it evenly: choose a multiple of {parts}, such as {near}"
            )

    def scaled(self, factor: float) -> Recipe:
        """The same recipe with its epochs multiplied by a factor.

        They are the epochs of both stages (at least 1 each), of their warm-up, of the horizon of their averages, and of
        the teacher (at least 2).

        Raises:
            RecipeError: the factor is not a positive finite number, or gives more than `MOST` epochs.
        """
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < float("inf"):
            raise RecipeError(f"factor=... must be a positive number, got {factor!r}")
        document = self.model_dump()
        longest = max(self.stage1.epochs, self.stage2.epochs, (self.teacher and self.teacher.epochs) or 0)
        if longest * factor > MOST:
            raise RecipeError(f"factor=... must give at most {MOST:,} epochs, got {factor} times {longest}")
        for stage in ("stage1", "stage2"):
            table = document[stage]
            table["epochs"] = max(1, round(table["epochs"] * factor))
            table["warmup_epochs"] *= factor
            table["average_epochs"] *= factor
        if self.teacher is not None and self.teacher.epochs is not None:
            document["teacher"]["epochs"] = max(2, round(document["teacher"]["epochs"] * factor))
        return Recipe(**document)

    def to_toml(self) -> str:
        """The recipe as TOML that `load_recipe` reads back."""
        document = self.model_dump(exclude_none=True)
        scalars = [f"{key} = {toml_value(value)}" for key, value in document.items() if not isinstance(value, dict)]
        tables = [
            [
                f"\n[{name}]",
                *(f"{key} = {toml_value(value)}" for key, value in table.items() if value not in (None, {})),
            ]
            for name, table in document.items()
            if isinstance(table, dict)
        ]
        return "\n".join(scalars + ["\n".join(lines) for lines in tables]) + "\n"
