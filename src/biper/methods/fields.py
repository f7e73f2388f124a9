"""The base class of all configuration tables, and types of bounded numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, NoReturn, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from biper.errors import BiperError, ModelError, RecipeError, nearest
from biper.io.toml import shortened

MOST = 1_000_000
"""The most epochs, images in a batch and so on: more is a mistake, and could take memory before anyone sees it."""
LARGEST_SIDE = 1 << 14
"""The most pixels of a side, or of a padding."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A finite number above 0."""
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A finite number from 0 on."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A finite number."""
Share = Annotated[float, Field(gt=0, le=1)]
"""A number above 0 and up to 1."""


MAX_PROBLEMS = 10
"""How many wrong values an error names."""


class Settings(BaseModel):
    """A frozen table of settings. Values of another type are errors and are not converted; unknown keys are errors.

    Whoever makes such a table from wrong values, or sets a value of one, gets an error of biper: `_error` is its class,
    and `_explain` says what is wrong. A table inside another leaves that to the outer one, which knows the whole key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    _error: ClassVar[type[BiperError]] = ModelError

    def __init__(self, /, **values: Any) -> None:
        with self._one_error():
            super().__init__(**values)

    # So that pydantic validates inner tables by itself, as those of a class without an __init__ of its own.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Make the table from a mapping; see `pydantic.BaseModel.model_validate`.

        Raises:
            BiperError: a value is wrong; the message names its key.
        """
        with cls._one_error():
            return super().model_validate(obj, **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Make the table from JSON; see `pydantic.BaseModel.model_validate_json`.

        Raises:
            BiperError: it is no JSON, or a value is wrong; the message names its key.
        """
        with cls._one_error():
            return super().model_validate_json(json_data, **options)

    @classmethod
    def read(cls, table: Any, what: str = "") -> Self:
        """Make the table from a mapping that was read from a file.

        Args:
            table: the mapping.
            what: the subject of the error message, such as ``"recipe digits"``.

        Raises:
            BiperError: a value is wrong; the message names its key.
        """
        with cls._one_error(what):
            return super().model_validate(table)

    def __setattr__(self, name: str, value: Any) -> None:
        self._refuse_change(name)

    def __delattr__(self, name: str) -> None:
        self._refuse_change(name)

    def _refuse_change(self, name: str) -> NoReturn:
        kind = type(self).__name__
        raise self._error(
            f"{kind}.{name} cannot be changed: make another {kind}, for example by model_copy(update={{{name!r}: ...}})"
        )

    @classmethod
    @contextmanager
    def _one_error(cls, what: str | None = None) -> Iterator[None]:
        """Turns what pydantic says in the ``with`` block into an error of biper in one line, about ``what``."""
        try:
            yield
        except ValidationError as error:
            subject = f"{cls.__name__}(...)" if what is None else what
            raise cls._error((f"{subject}: " if subject else "") + _problems_of(cls, error)) from error

    @classmethod
    def _explain(cls, problem: Any) -> str:
        """One problem as a text that names the key.

        Args:
            problem: an item of ``ValidationError.errors()``.
        """
        path = [str(part) for part in problem["loc"]]
        key = ".".join(path)
        match problem["type"]:
            case "extra_forbidden":
                near = _nearest_key(cls, path)
                return f"unknown key {key!r}" + (f"; did you mean {near!r}?" if near else "")
            case "missing":
                return f"missing key {key!r}"
        return f"{key}: {described(problem)}" if key else described(problem)


class RecipeTable(Settings):
    """A table of a recipe."""

    _error: ClassVar[type[BiperError]] = RecipeError


def _nearest_key(kind: type[Settings], path: list[str]) -> str | None:
    """The valid key nearest to an unknown one: in its own table first, else in any table."""
    tables: dict[str, type[BaseModel]] = {"": kind}
    for name, field in kind.model_fields.items():
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                tables[name] = inner
    table = ".".join(path[:-1])
    near = nearest(path[-1], tables[table].model_fields if table in tables else ())
    if near:
        return ".".join([*path[:-1], near])
    everywhere = {key: f"{name}.{key}".lstrip(".") for name, inner in tables.items() for key in inner.model_fields}
    near = nearest(path[-1], everywhere)
    return everywhere[near] if near else None


def _problems_of(kind: type[Settings], error: ValidationError) -> str:
    """What is wrong with the values of a table, in one line; at most `MAX_PROBLEMS` of them are named."""
    problems = error.errors(include_url=False, include_context=False)
    texts = [shortened(kind._explain(problem)) for problem in problems[:MAX_PROBLEMS]]
    more = len(problems) - len(texts)
    return "; ".join([*texts, *([f"and {more} more"] if more > 0 else [])])


def described(problem: Any) -> str:
    """What pydantic says about a wrong value, in the words of this library.

    Args:
        problem: an item of ``ValidationError.errors()``.
    """
    message = str(problem["msg"]).removeprefix("Input ").removeprefix("Value error, ").replace("should be", "must be")
    if problem["type"] == "value_error" and isinstance(problem["input"], dict):
        return message  # of a whole table, whose keys the message names
    return f"{message}, got {repr(problem['input'])[:200]}"
