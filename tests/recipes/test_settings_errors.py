"""Tables of settings that are made in Python from wrong values: one line of biper, never an error of pydantic."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

import biper
from biper.data.settings import DataRecipe
from biper.errors import BiperError, ModelError, RecipeError
from biper.methods.inputs import ApproxSignInputs
from biper.methods.settings import Method, read_method
from biper.methods.weights import BiperWeights
from biper.recipes.load import load_recipe
from biper.recipes.schema import ModelRecipe, Recipe, StageRecipe, TeacherRecipe

WRONG: list[tuple[Callable[[], object], type[BiperError], str]] = [
    (
        lambda: biper.Recipe(description=3),
        RecipeError,
        "Recipe(...): description: must be a valid string, got 3; missing key 'model'; missing key 'data'; missing key "
        "'stage1'; missing key 'stage2'",
    ),
    (
        lambda: StageRecipe(epochs=0, learning_rate=math.nan),
        RecipeError,
        "StageRecipe(...): epochs: must be greater than or equal to 1, got 0; learning_rate: must be a finite number, "
        "got nan",
    ),
    (
        lambda: StageRecipe(epochs=1, learning_rate=0.1, momentun=0.9),
        RecipeError,
        "StageRecipe(...): unknown key 'momentun'; did you mean 'momentum'?",
    ),
    (
        lambda: ModelRecipe(name="a", factory="b:c"),
        RecipeError,
        'ModelRecipe(...): expected a name or a factory, got both; leave out name = "a"',
    ),
    (lambda: TeacherRecipe(), RecipeError, "TeacherRecipe(...): expected epochs and learning_rate, to train a teacher"),
    (lambda: DataRecipe(name="cifar10"), RecipeError, "DataRecipe(...): missing key 'batch_size'"),
    (
        lambda: Recipe.model_validate(3),
        RecipeError,
        "Recipe(...): must be a valid dictionary or instance of Recipe, got 3",
    ),
    (
        lambda: Recipe.model_validate_json("{"),
        RecipeError,
        "Recipe(...): Invalid JSON: EOF while parsing an object at line 1 column 1, got '{'",
    ),
    (
        lambda: setattr(load_recipe("digits"), "seed", 1),
        RecipeError,
        "Recipe.seed cannot be changed: make another Recipe, for example by model_copy(update={'seed': ...})",
    ),
    (
        lambda: load_recipe("digits").scaled("2"),  # type: ignore[arg-type]
        RecipeError,
        "factor=... must be a positive number, got '2'",
    ),
    (lambda: Method(name="nope"), ModelError, "Method(...): no method 'nope'; known: biper, bnn, "),
    (
        lambda: Method(weights="nope"),
        ModelError,
        "Method(...): method.weights: there is no 'nope'; known: biper, ste, ",
    ),
    (
        lambda: Method(wieghts="ste"),
        ModelError,
        "Method(...): unknown key 'method.wieghts'; did you mean 'method.weights'?",
    ),
    (lambda: read_method(3), ModelError, "method: must be a valid dictionary or instance of Method, got 3"),
    (
        lambda: BiperWeights(relaxed_stage="yes"),
        ModelError,
        "BiperWeights(...): relaxed_stage: must be a valid boolean, ",
    ),
    (lambda: ApproxSignInputs(colour=1), ModelError, "ApproxSignInputs(...): unknown key 'colour'"),
    (lambda: biper.BinarizeConfig(method="nope"), ModelError, "BinarizeConfig(...): no method 'nope'; known: biper, "),
    (
        lambda: biper.BinarizeConfig(bits="W2A2"),
        ModelError,
        "BinarizeConfig(...): bits: must be 'W1A1' or 'W1A32', got ",
    ),
    (
        lambda: biper.BinarizeConfig(incude=()),
        ModelError,
        "BinarizeConfig(...): unknown key 'incude'; did you mean 'include'?",
    ),
    (
        lambda: biper.BinarizeConfig(frequency=math.nan),
        ModelError,
        "BinarizeConfig(...): frequency: must be a finite number, ",
    ),
    (
        lambda: delattr(biper.BinarizeConfig(), "bits"),
        ModelError,
        "BinarizeConfig.bits cannot be changed: make another ",
    ),
]


@pytest.mark.parametrize(("make", "kind", "text"), WRONG)
def test_wrong_settings_are_an_error_of_biper(make: Callable[[], object], kind: type[BiperError], text: str) -> None:
    with pytest.raises(BiperError) as error:
        make()
    assert type(error.value) is kind
    assert str(error.value).startswith(text)
    assert len(str(error.value).splitlines()) == 1


def test_many_wrong_values_are_named_up_to_ten() -> None:
    with pytest.raises(ModelError) as error:
        biper.BinarizeConfig(**{f"key{number}": 0 for number in range(15)})
    assert str(error.value).count("unknown key") == 10
    assert str(error.value).endswith("; and 5 more")


def test_right_settings_are_as_before() -> None:
    recipe = load_recipe("digits")
    assert Recipe(**recipe.model_dump()) == Recipe.model_validate(recipe.model_dump()) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()).stage1 == recipe.stage1
    assert recipe.model_copy(update={"seed": 7}).seed == 7
    assert biper.BinarizeConfig(include=["a*"]).include == ("a*",)
    assert Method(name="bnn").name == "bnn"
