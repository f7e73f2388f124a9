"""Methods of binarization as data: three choices, of weights, inputs and activation, as they stand in a recipe.

`biper.methods.build` makes the quantizers of a method, and `biper.quantizers` documents what each of them computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from biper.errors import ModelError, did_you_mean, nearest
from biper.methods.fields import Positive, Settings, described
from biper.methods.inputs import ACTIVATIONS, INPUTS, Activation, ApproxSignInputs, Inputs, NetworkActivation
from biper.methods.presets import METHODS
from biper.methods.weights import WEIGHTS, BiperWeights, Weights

CHOICES: dict[str, Mapping[str, type[Settings]]] = {"weights": WEIGHTS, "inputs": INPUTS, "activation": ACTIVATIONS}
"""The three choices of a method: the settings classes by name, for each key of the table."""


class Method(Settings):
    """How weights and inputs become bits, and which activation the network has: three choices, any with any.

    In a recipe, each choice is a name, or a table of a name and options. Options may also stand beside the choices;
    each then belongs to every choice that has it. ``name`` is the name of a published method
    (`biper.methods.presets.METHODS`) and stands for its three choices; choices beside it replace those of the method.
    """

    weights: Annotated[Weights, Field(discriminator="name")] = BiperWeights()
    """How latent weights become bits."""
    inputs: Annotated[Inputs, Field(discriminator="name")] = ApproxSignInputs()
    """How the inputs of a binary layer become bits."""
    activation: Annotated[Activation, Field(discriminator="name")] = NetworkActivation()
    """The activation of the network."""
    learning_rate_factor: Positive = 1.0
    """The learning rate of latent weights as a multiple of the stage's learning rate. Methods need different ones: for
    example, the gradient of a wave has the frequency as a factor."""

    @model_validator(mode="before")
    @classmethod
    def _from_table(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            return value
        try:
            return _choices_of(value)
        except ModelError as error:
            raise PydanticCustomError("method", "{message}", {"message": str(error)}) from error

    @model_serializer
    def _as_table(self) -> dict[str, Any]:
        """The table that stands for the method: a published name or three names, and the options beside them.

        Each choice is a table of its own where two of them have the same option with another value.
        """
        choices = {key: getattr(self, key).model_dump() for key in CHOICES}
        factor = {"learning_rate_factor": self.learning_rate_factor}
        names = {"name": self.preset} if self.preset else {key: choice["name"] for key, choice in choices.items()}
        options = {name: value for choice in choices.values() for name, value in choice.items() if name != "name"}
        short = names | factor | options
        return short if _choices_of(short) == choices | factor else choices | factor

    @classmethod
    def _explain(cls, problem: Any) -> str:
        return explain_method(problem)

    @property
    def preset(self) -> str | None:
        """The name of the published method that has these three choices, whatever their options; None if none has."""
        chosen = tuple(getattr(self, key).name for key in CHOICES)
        found = (name for name, each in METHODS.items() if (each.weights, each.inputs, each.activation) == chosen)
        return next(found, None)

    @property
    def name(self) -> str:
        """The name of the published method, or else the names of the three choices, joined by plus signs."""
        return self.preset or "+".join(getattr(self, key).name for key in CHOICES)

    @property
    def stages(self) -> tuple[int, ...]:
        """The stages that the method trains, of 1 (relaxed) and 2 (binary). Most methods are binary from the start."""
        return self.weights.stages


def read_method(value: Method | str | Mapping[str, Any] | None) -> Method:
    """Convert a method that is given as settings, as a name or as a table.

    Args:
        value: the settings of a method, the name of a published one, or a table as in a recipe; None gives BiPer with
            its defaults.

    Returns:
        The settings.

    Raises:
        ModelError: there is no such method or choice, or an option is unknown or has a wrong value.
    """
    return value if isinstance(value, Method) else Method.read({} if value is None else value)


def explain_method(problem: Any) -> str:
    """One problem that pydantic found with a method, as a text that names the key.

    Args:
        problem: an item of ``ValidationError.errors()``; its location begins below the method.
    """
    if problem["type"] == "method":
        return str(problem["msg"])
    place = [str(part) for part in problem["loc"]]
    if place and place[0] in CHOICES:  # pydantic adds the name of the choice; an option may stand beside the choices
        place = place[2:]
    return f"{'.'.join(['method', *place])}: {described(problem)}"


def _choices_of(table: Mapping[str, Any]) -> dict[str, Any]:
    """The three choices that a table stands for, each as a table with its name, and the learning-rate factor.

    Raises:
        ModelError: a name or an option is unknown, or something is said twice.
    """
    options = dict(table)
    name = options.pop("name", None)
    given = {key: options.pop(key, None) for key in CHOICES}
    factor = {key: options.pop(key) for key in ("learning_rate_factor",) if key in options}
    if name is not None and (not isinstance(name, str) or name not in METHODS):
        raise ModelError(f"no method {name!r}{did_you_mean(str(name), METHODS)}")
    if name is not None and all(value is not None for value in given.values()):
        raise ModelError(
            f"method.name = {name!r} has no effect beside method.weights, method.inputs and method.activation, which "
            f'replace its three choices: leave out some of them, or set the whole method, method={{name="{name}"}}'
        )
    preset = METHODS[name or "biper"]
    found = {key: _choice(key, value, getattr(preset, key)) for key, value in given.items()}
    kinds = {key: CHOICES[key][choice["name"]].model_fields for key, choice in found.items()}
    written = {(key, option) for key, choice in found.items() for option in choice}
    for option, value in options.items():
        takers = [key for key in CHOICES if option in kinds[key]]
        if not takers:
            raise ModelError(_unknown(option, [*CHOICES, "name", "learning_rate_factor", *_options(kinds)]))
        if all((key, option) in written for key in takers):
            raise ModelError(f"method.{option} and method.{takers[0]}.{option} set the same option: set one of them")
        for key in takers:
            found[key].setdefault(option, value)
    for key, choice in found.items():
        if not _names(given[key]):
            found[key] = {option: preset.options[option] for option in kinds[key] if option in preset.options} | choice
    return found | factor


def _names(value: Any) -> bool:
    """Whether a value names a choice, and so replaces that of a published method."""
    return isinstance(value, str | Settings) or (isinstance(value, Mapping) and "name" in value)


def _choice(key: str, value: Any, default: str) -> dict[str, Any]:
    """One choice as a table with its name, from a name, a table or settings.

    Raises:
        ModelError: a name or an option is unknown, or the value is something else.
    """
    if isinstance(value, Settings):
        value = value.model_dump()
    if not isinstance(value, str | Mapping | None):
        raise ModelError(f"method.{key}: expected a name or a table with a name, got {value!r}")
    table = {"name": default} | ({} if value is None else {"name": value} if isinstance(value, str) else dict(value))
    if not isinstance(table["name"], str) or table["name"] not in CHOICES[key]:
        raise ModelError(f"method.{key}: there is no {table['name']!r}{did_you_mean(str(table['name']), CHOICES[key])}")
    fields = CHOICES[key][table["name"]].model_fields
    for option in table:
        if option not in fields:
            raise ModelError(_unknown(f"{key}.{option}", [f"{key}.{field}" for field in fields]))
    return table


def _options(kinds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [option for fields in kinds.values() for option in fields if option != "name"]


def _unknown(key: str, known: list[str]) -> str:
    """A message about an unknown key, with the nearest valid one, or with the choices that have such an option."""
    near = nearest(key, known)
    option = key.rpartition(".")[2]
    places = [
        f'{each} = "{name}"' for each, kinds in CHOICES.items() for name in kinds if option in kinds[name].model_fields
    ]
    hint = f"; it is an option of {', '.join(places)}" if places else f"; did you mean 'method.{near}'?" if near else ""
    return f"unknown key 'method.{key}'{hint}"
