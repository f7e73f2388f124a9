"""Hostile recipes and overrides give a `RecipeError` of one line at once; odd but valid texts can be read again."""

from __future__ import annotations

import copy
import random
import time
import tomllib
import unicodedata
from pathlib import Path

import pytest
from attacks.gallery import Attack
from attacks.mutations import VALUES, copied, near, places
from attacks.recipes import RECIPES

from biper.errors import RecipeError
from biper.recipes.load import load_recipe, recipe_from_document
from biper.recipes.packaged import recipe_names, recipe_text


@pytest.mark.parametrize("attack", RECIPES.parameters())
def test_a_hostile_recipe_is_refused_at_once(attack: Attack, tmp_path: Path) -> None:
    made = attack.make()
    file = tmp_path / "r.toml"
    if isinstance(made, str):
        file.write_text(made, encoding="utf-8")
    start = time.perf_counter()
    with pytest.raises(RecipeError) as caught:
        load_recipe(*((file,) if isinstance(made, str) else ("digits", made)))
    assert time.perf_counter() - start < 1
    assert str(caught.value).replace(str(file), "FILE") == attack.error


def test_a_recipe_that_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.toml").symlink_to("/dev/zero")
    with pytest.raises(RecipeError, match="expected a regular file"):
        load_recipe(tmp_path / "r.toml")


def test_every_character_that_toml_can_hold_is_written_and_read_again(tmp_path: Path) -> None:
    odd = "".join(map(chr, [*range(1, 0x100), 0x2028, 0x2029, 0xFEFF, 0x202E, 0x1F600])) + "'\"\\"
    recipe = load_recipe("digits").model_copy(update={"description": odd})
    (tmp_path / "r.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(tmp_path / "r.toml") == recipe
    assert not [letter for letter in recipe.to_toml() if unicodedata.category(letter) == "Cc" and letter != "\n"]


def test_arguments_of_every_type_are_written_and_read_again(tmp_path: Path) -> None:
    """The arguments of one's own network may be anything that TOML has."""
    values = '[1, 1e300, inf, -inf, true, "\\u007f", 1979-05-27T07:32:00Z, 1979-05-27, 07:32:00, {"a b" = {}}]'
    recipe = load_recipe("digits", ['model={factory = "m:f"}', f"model.arguments={{x = {values}}}"])
    (tmp_path / "r.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(tmp_path / "r.toml") == recipe


@pytest.mark.parametrize("factor", [1e300, 1e9])
def test_epochs_are_not_scaled_beyond_a_million(factor: float) -> None:
    with pytest.raises(RecipeError, match=r"factor=\.\.\. must give at most 1,000,000 epochs, got"):
        load_recipe("digits").scaled(factor)


@pytest.mark.parametrize("count", [500, pytest.param(50_000, marks=pytest.mark.slow)])
def test_mutated_recipes_are_refused_or_can_be_written_and_read_again(count: int, tmp_path: Path) -> None:
    documents = [tomllib.loads(recipe_text(name)) for name in recipe_names()]
    written = 0
    for seed in range(count):
        choice = random.Random(seed)
        document = copy.deepcopy(choice.choice(documents))
        for _ in range(choice.choice((1, 1, 2))):
            parent, key = choice.choice(list(places(document)))
            parent[key] = copied(choice.choice(VALUES)) if choice.random() < 0.5 else near(parent[key], choice)
        try:
            recipe = recipe_from_document(document, "mutated")
        except RecipeError:
            continue
        (tmp_path / "r.toml").write_text(recipe.to_toml(), encoding="utf-8")
        assert str(load_recipe(tmp_path / "r.toml")) == str(recipe)
        written += 1
    assert written > count / 20
