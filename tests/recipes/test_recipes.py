from __future__ import annotations

from pathlib import Path

import pytest

from biper import create_model, load_recipe
from biper.errors import RecipeError
from biper.recipes.load import recipe_from_document, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid_and_its_network_exists(name: str) -> None:
    recipe = load_recipe(name)
    model = recipe.model
    assert recipe.description
    if name in ("short", "quick"):  # general schedules: the network and the data are the caller's
        assert (model.name, model.factory, recipe.data.name) == ("own", None, "given")
    else:
        create_model(model.name, dataset=recipe.data.name, bits=model.bits, frequency=model.frequency)


def test_a_network_of_ones_own_is_named_by_its_code(tmp_path: Path) -> None:
    changes = [
        "model.factory=mypackage.models:Net.make",
        'model.arguments={width = 8, names = ["a\\n", "b"], deep = {x = 1.5}}',
    ]
    recipe = load_recipe("short", changes)
    assert recipe.model.arguments == {"width": 8, "names": ["a\n", "b"], "deep": {"x": 1.5}}
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(path) == recipe
    taught = load_recipe("short", [*changes, "teacher.epochs=2", "teacher.learning_rate=0.1"])
    assert taught.of_teacher is not None
    assert taught.of_teacher.model == recipe.model.model_copy(update={"bits": "W32A32"})


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("digits", "model.factory=a:b", 'expected a name or a factory, got both; leave out name = "digits_cnn"'),
        ("digits", "model.arguments={a = 1}", "arguments are those of a factory"),
        ("short", "model.factory=a.b", "model.factory: .*pattern"),
        ("short", "model.factory=a:b()", "model.factory: .*pattern"),
        ("short", "data.signal_fit=cut", "data.signal_fit: must be 'pad' or 'resample'"),
    ],
)
def test_a_wrong_origin_is_named(name: str, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(name, [override])


def test_the_papers_settings() -> None:
    for network in ("resnet18", "resnet20", "vgg-small"):
        recipe = load_recipe(f"cifar10-{network}")
        one, two = recipe.stages
        assert (one.epochs, one.learning_rate, one.weight_decay, one.periodic_penalty) == (600, 0.021, 0.0016, 0.037)
        assert (two.epochs, two.learning_rate, two.weight_decay, two.periodic_penalty) == (300, 0.0037, 0.00016, 0.0468)
        assert (recipe.data.batch_size, recipe.model.frequency) == (256, 20.0)
        assert {(s.momentum, s.schedule, s.warmup_epochs) for s in recipe.stages} == {(0.9, "cosine", 5.0)}


def test_the_papers_settings_for_imagenet() -> None:
    for network in ("resnet18", "resnet34"):
        recipe = load_recipe(f"imagenet-{network}")
        assert (recipe.model.name, recipe.model.frequency, recipe.data.batch_size) == (network, 20.0, 512)
        assert [(s.epochs, s.learning_rate, s.warmup_epochs) for s in recipe.stages] == [
            (200, 0.1, 5.0),
            (100, 0.01, 0.0),
        ]
        shared = {
            (s.weight_decay, s.weight_decay_on, s.periodic_penalty, s.momentum, s.schedule) for s in recipe.stages
        }
        assert shared == {(1e-4, "weights", 0.0, 0.9, "cosine")}
        data = recipe.data
        assert (data.crop_scale, data.crop_ratio, data.flip, data.colour_jitter) == ((0.08, 1), (3 / 4, 4 / 3), True, 0)
        assert (data.image_size, data.selection, data.evaluate_on) == (None, "last", "test")


def test_the_recipe_of_a_teacher() -> None:
    settings = ["teacher.epochs=15", "teacher.learning_rate=0.3", "teacher.name=resnet18", "method.sharpen_from=0.5"]
    recipe = load_recipe("cifar10-resnet20", settings)
    teacher = recipe.of_teacher
    assert teacher is not None
    assert (teacher.model.name, teacher.model.bits, teacher.data) == ("resnet18", "W32A32", recipe.data)
    (stage,) = teacher.stages
    assert (stage.epochs, stage.learning_rate, stage.learning_rate_end, stage.periodic_penalty) == (15, 0.3, 0.0, 0.0)
    assert (stage.weight_decay, stage.momentum) == (recipe.stage1.weight_decay, recipe.stage1.momentum)
    assert recipe_from_document(teacher.model_dump(), "teacher") == teacher
    assert teacher.of_teacher is None
    assert load_recipe("cifar10-resnet20", [*settings, "teacher.share=0.0"]).of_teacher is None


def test_overrides_take_toml_and_plain_text() -> None:
    recipe = load_recipe("digits", ["stage1.epochs=3", "data.flip=true", "data.selection=held-out", "seed = 7"])
    assert (recipe.stage1.epochs, recipe.data.flip, recipe.data.selection, recipe.seed) == (3, True, "held-out", 7)


def test_a_resolved_recipe_reads_back_the_same(tmp_path: Path) -> None:
    changes = ['description="ω = 20, \\"quoted\\" 😀"', "stage1.learning_rate=1e-5", "data.crop_scale=[0.1, 1]"]
    recipe = load_recipe("digits", changes)
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(path) == recipe


def test_scaling_keeps_proportions_and_at_least_one_epoch() -> None:
    recipe = load_recipe("cifar10-resnet20")
    half = recipe.scaled(0.05)
    assert (half.stage1.epochs, half.stage2.epochs, half.stage1.warmup_epochs) == (30, 15, 0.25)
    assert recipe.scaled(1e-6).stage2.epochs == 1
    taught = load_recipe("cifar10-resnet20", ["teacher.epochs=40", "teacher.learning_rate=0.1"])
    assert [taught.scaled(factor).teacher.epochs for factor in (0.5, 1e-6)] == [20, 2]  # type: ignore[union-attr]
    for factor in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RecipeError, match="positive number"):
            recipe.scaled(factor)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stage1.epoch=3", "unknown key 'stage1.epoch'; did you mean 'stage1.epochs'?"),
        ("stage1.freq=3", "unknown key 'stage1.freq'; did you mean 'model.frequency'?"),
        ("stagee1.epochs=3", "unknown key 'stagee1'; did you mean 'stage1'?"),
        ("stage1.epochs=ten", "stage1.epochs: must be a valid integer, got 'ten'"),
        ("stage1.epochs=1.5", "stage1.epochs: must be a valid integer, got 1.5"),
        ("stage1.epochs=0", "stage1.epochs: must be greater than or equal to 1, got 0"),
        ("stage1.learning_rate=nan", "stage1.learning_rate: must be a finite number"),
        ("model.bits=W2A2", "model.bits: must be 'W1A1', 'W1A32' or 'W32A32', got 'W2A2'"),
        ("data.selection=test", "data.selection: must be 'last' or 'held-out', got 'test'"),
        (
            "data.crop_scale=[0.5, 0.2]",
            "data.crop_scale: the first number must not be above the second, got [0.5, 0.2]",
        ),
        ("data.crop_scale=[0.0, 1.0]", "data.crop_scale.0: must be greater than 0, got 0.0"),
        ("data.crop_scale=0.5", "data.crop_scale: must be a valid tuple, got 0.5"),
        ("teacher.epochs=20", "teacher: expected epochs and learning_rate, to train a teacher, or file, a saved one"),
        ("teacher={file='m',epochs=2}", "teacher: the teacher of file is not trained: leave out epochs, or file"),
        ("teacher.epoch=20", "did you mean 'teacher.epochs'?"),
        ("teacher.share=1.5", "teacher.share: must be less than or equal to 1, got 1.5"),
        ("data=3", "data: "),
        ("stage1.epochs", "overrides=... expects key=value"),
        ("description.x=3", "description is a value, not a table"),
    ],
)
def test_bad_overrides_say_what_is_wrong(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_malformed_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe 'digit'; did you mean 'digits'"):
        load_recipe("digit")
    with pytest.raises(RecipeError, match="cannot read recipe"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("seed = ")
    with pytest.raises(RecipeError, match="not valid TOML"):
        load_recipe(tmp_path / "bad.toml")
    (tmp_path / "part.toml").write_text('description = "x"')
    with pytest.raises(RecipeError, match="missing key 'model'"):
        load_recipe(tmp_path / "part.toml")
