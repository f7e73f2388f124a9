"""Recipes: a training run as commented TOML, read strictly.

A recipe says what is trained, on what, and how; it never says where (device, threads, folders are options of
the command). Unknown keys, wrong types and values out of range are errors that name the key.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator

from biper.errors import RecipeError
from biper.methods import METHODS, AnyMethod, BiperMethod, Method
from biper.settings import Finite, NonNegative, Positive, Share, Table


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the first number must not be above the second")
    return pair


class ModelRecipe(Table):
    """Which network; the data set decides its form, its input channels and its number of classes."""

    name: str
    bits: Literal["W1A1", "W1A32", "W32A32"] = "W1A1"
    frequency: Positive = 20.0
    """ω of the binary layers, in radians per unit of latent weight."""
    sync_batch_norm: bool = False
    """Batch norms take the mean and variance of a batch over all processes, not of each process's share of it."""


class DataRecipe(Table):
    """Which images, how they are augmented, and which epoch's weights a stage hands on."""

    name: str
    batch_size: Annotated[int, Field(ge=2)]
    """Images of a step, over all processes."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Parts that a process takes its share of a batch in, one after the other, to save memory; their gradients are
    averaged. Batch norms take each part for itself."""
    crop_padding: Annotated[int, Field(ge=0)] = 0
    """Random crops of the original size after this many black pixels are added on each side."""
    flip: bool = False
    """Mirror half of the images, left to right."""
    image_size: Annotated[int, Field(ge=8)] | None = None
    """Height and width that images are brought to, in pixels, where they are decoded from files (imagenet)."""
    crop_scale: Annotated[tuple[Share, Share], Field(strict=False), AfterValidator(_rising)] | None = None
    """Random-resized crops whose area is this share of the image's, from and to; without it the crop of evaluation."""
    crop_ratio: Annotated[tuple[Positive, Positive], Field(strict=False), AfterValidator(_rising)] = (3 / 4, 4 / 3)
    """Width through height of random-resized crops, from and to."""
    colour_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Brightness, contrast and saturation are each multiplied by a random number up to this far from 1."""
    max_unreadable: Annotated[int, Field(ge=0)] = 100
    """How many unreadable images are left out, and listed in the run folder, before the run stops."""
    evaluate_on: Literal["test", "train"] = "test"
    """``"train"`` scores the training images themselves, unaugmented, and calls that ``fit``: for data without
    test images."""
    selection: Literal["last", "held-out"] = "last"
    """``"last"``: the last epoch. ``"held-out"``: the epoch with the best accuracy on a fixed, seeded part of
    the training images, which are then not trained on. The test set never selects."""


class StageRecipe(Table):
    """One training stage: stochastic gradient descent with momentum under one learning-rate schedule."""

    epochs: Annotated[int, Field(ge=1)]
    learning_rate: Positive
    weight_decay: NonNegative = 0.0
    weight_decay_on: Literal["all", "weights"] = "all"
    """``"weights"``: of convolutions and linear layers; no biases, scales and batch norms."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    periodic_penalty: Finite = 0.0
    """Strength τ of the periodic regularizer, τ times the sum over binary layers of mean sin²(ω w). Positive, as
    published, it draws weights to the zeros of the wave; negative to its crests, where it meets its signs; 0 is off."""
    warmup_epochs: NonNegative = 0.0
    """Epochs (or parts of one) over which the learning rate rises linearly from zero."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    learning_rate_end: NonNegative = 0.0
    """What it falls to, where it falls: the next stage may go on from there."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class TeacherRecipe(Table):
    """A full-precision network, trained first, whose answers both stages learn from beside the labels.

    The loss of a stage becomes ``(1 - share) CE(y, z) + share T² KL(softmax(t / T) || softmax(z / T))`` for labels y,
    logits z, the teacher's logits t for the same augmented images, and the temperature T. Source: Hinton et al., 2015,
    arXiv:1503.02531.
    """

    epochs: Annotated[int, Field(ge=2)]
    learning_rate: Positive
    """It starts from this, and falls to 0 as stage 1 says; what else is in stage 1 holds for the teacher too."""
    name: str | None = None
    """Which network; without it the recipe's own."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of the teacher in the loss; with 0 there is none."""
    temperature: Positive = 4.0


class Recipe(Table):
    """A whole run: stage 1 trains with the sine, stage 2 with the square wave of the same period.

    A method that is binary from the start trains one stage, with the settings of stage 1, the epochs of both, and the
    learning rate that stage 2 ends with.
    """

    description: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    model: ModelRecipe
    method: AnyMethod = BiperMethod()
    """How weights and inputs become bits: the name of a method, and its options."""
    data: DataRecipe
    stage1: StageRecipe
    stage2: StageRecipe
    teacher: TeacherRecipe | None = None

    @field_validator("method", mode="before")
    @classmethod
    def _biper_if_unnamed(cls, value: Any) -> Any:
        return {"name": "biper"} | value if isinstance(value, dict) else value

    @property
    def stages(self) -> tuple[StageRecipe, ...]:
        """What is trained, in order."""
        if len(self.method.stages) == 2:
            return self.stage1, self.stage2
        whole = {"epochs": self.stage1.epochs + self.stage2.epochs, "learning_rate_end": self.stage2.learning_rate_end}
        return (self.stage1.model_copy(update=whole),)

    @property
    def of_teacher(self) -> Recipe | None:
        """What the teacher is trained by, if there is one: the same data, full precision, one stage."""
        teacher = self.teacher
        if teacher is None or teacher.share == 0:
            return None
        settings = {"learning_rate": teacher.learning_rate, "learning_rate_end": 0.0, "periodic_penalty": 0.0}
        first = self.stage1.model_copy(update=settings | {"epochs": teacher.epochs - teacher.epochs // 2})
        network = {"name": teacher.name or self.model.name, "bits": "W32A32"}
        return self.model_copy(
            update={
                "description": f"The teacher of: {self.description}",
                "model": self.model.model_copy(update=network),
                "method": BiperMethod(relaxed_stage=False),
                "stage1": first,
                "stage2": first.model_copy(update={"epochs": teacher.epochs // 2, "warmup_epochs": 0.0}),
                "teacher": None,
            }
        )

    def require_even_shares(self, processes: int) -> None:
        """Check that the processes can share a batch evenly.

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
        """The same recipe with all epochs multiplied by ``factor``: of both stages (at least 1), warm-up and teacher.

        Raises:
            RecipeError: the factor is not a positive finite number.
        """
        if not 0 < factor < float("inf"):
            raise RecipeError(f"--scale-epochs must be a positive number, got {factor}")
        document = self.model_dump()
        for stage in ("stage1", "stage2"):
            table = document[stage]
            table["epochs"] = max(1, round(table["epochs"] * factor))
            table["warmup_epochs"] *= factor
        if document["teacher"] is not None:
            document["teacher"]["epochs"] = max(2, round(document["teacher"]["epochs"] * factor))
        return Recipe(**document)

    def to_toml(self) -> str:
        """The recipe as TOML that `load_recipe` reads back."""
        document = self.model_dump(exclude_none=True)
        scalars = [
            f"{key} = {json.dumps(value, ensure_ascii=False)}"
            for key, value in document.items()
            if not isinstance(value, dict)
        ]
        tables = [
            "\n".join(
                [f"\n[{name}]", *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items())]
            )
            for name, table in document.items()
            if isinstance(table, dict)
        ]
        return "\n".join(scalars + tables) + "\n"


def recipe_names() -> list[str]:
    """The names of the recipes that come with biper."""
    folder = resources.files("biper").joinpath("recipes")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Args:
        source: the name of a recipe that comes with biper (``"digits"``) or the path of a TOML file.
        overrides: ``"key=value"`` texts such as ``"stage1.epochs=10"``, applied in order; values are TOML, and
            text that is not TOML stands for itself.

    Raises:
        RecipeError: no such recipe, not TOML, an unknown key (the nearest valid one is named), a wrong type or
            a value out of range.
    """
    path = Path(source)
    if path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"cannot read recipe {path}: {error}") from error
    else:
        names = recipe_names()
        if str(source) not in names:
            near = difflib.get_close_matches(str(source), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)};"
            raise RecipeError(f"no recipe {str(source)!r}; {hint} A path must end in .toml; `biper recipes` lists all")
        text = resources.files("biper").joinpath("recipes", f"{source}.toml").read_text(encoding="utf-8")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {source} is not valid TOML: {error}") from error
    for override in overrides:
        _apply_override(document, override)
    return recipe_from_document(document, str(source))


def recipe_from_document(document: dict[str, Any], source: str) -> Recipe:
    """Validate a recipe that was already read; ``source`` names it in errors.

    Raises:
        RecipeError: as `load_recipe`.
    """
    try:
        return Recipe(**document)
    except ValidationError as error:
        raise RecipeError(f"recipe {source}: " + "; ".join(_explain(error))) from error


def _apply_override(document: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path):
        raise RecipeError(f"--set expects key=value such as stage1.epochs=10, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        value = text.strip()
    for part in path[:-1]:
        document = document.setdefault(part, {})
        if not isinstance(document, dict):
            raise RecipeError(f"--set {key}: {part} is a value, not a table")
    document[path[-1]] = value


def _explain(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        near: str | None
        path = [str(part) for part in problem["loc"]]
        method = path.pop(1) if path[0] == "method" and len(path) > 1 else ""  # names the table that was chosen
        key = ".".join(path)
        match problem["type"]:
            case "extra_forbidden":
                near = _nearest_key(path, METHODS.get(method))
                yield f"unknown key {key!r}" + (f"; did you mean {near!r}?" if near else "")
            case "missing":
                yield f"missing key {key!r}"
            case "union_tag_invalid":
                name = problem["input"]["name"]
                near = next(iter(difflib.get_close_matches(str(name), METHODS, n=1)), None)
                hint = f"did you mean {near!r}? " if near else ""
                yield f"no method {name!r}; {hint}Known: {', '.join(METHODS)}"
            case _:
                message = (
                    problem["msg"].removeprefix("Input ").removeprefix("Value error, ").replace("should be", "must be")
                )
                yield f"{key}: {message}, got {problem['input']!r}"


def _nearest_key(path: list[str], method: type[Method] | None) -> str | None:
    """The valid key nearest to an unknown one: in its own table first, else in any table."""
    tables: dict[str, type[BaseModel]] = {"": Recipe} | ({"method": method} if method else {})
    for name, field in Recipe.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if name != "method" and isinstance(kind, type) and issubclass(kind, BaseModel):
                tables[name] = kind
    table = ".".join(path[:-1])
    near = difflib.get_close_matches(path[-1], list(tables[table].model_fields) if table in tables else [], n=1)
    if near:
        return ".".join([*path[:-1], near[0]])
    everywhere = {key: f"{name}.{key}".lstrip(".") for name, kind in tables.items() for key in kind.model_fields}
    near = difflib.get_close_matches(path[-1], everywhere, n=1)
    return everywhere[near[0]] if near else None
