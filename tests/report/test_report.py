"""The analysis of a run folder, and the page about it in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from biper import create_model, load_model, load_recipe, save_model, train
from biper.data.dataset import Split
from biper.data.digits import load_digits
from biper.errors import CheckpointError, ModelError, TrainingInterrupted
from biper.measure.activations import activation_rows
from biper.measure.evaluation import evaluate
from biper.measure.monitor import LayerMeasures
from biper.measure.predictions import Predictions, WrongAnswer, predict_split
from biper.models.saved import ModelInfo
from biper.nn import binary_layers
from biper.report import html as page
from biper.report import plots
from biper.report.analysis import RunAnalysis, analyze_run
from biper.report.drawing import svg
from biper.report.run_page import render_report, write_report
from biper.report.run_tables import error_table, run_tables, sign_table
from biper.report.side_by_side import run_names, summary_table
from biper.runs.folder import RunFolder
from biper.training.progress import Progress

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "</script><script>alert(1)</script> & <b>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short finished run on the digits, whose description would be a script if the page did not escape it."""
    path = tmp_path_factory.mktemp("runs") / "short"
    recipe = load_recipe("digits", ["stage1.epochs=2", "stage2.epochs=1"])
    train(recipe.model_copy(update={"description": HOSTILE}), path, device="cpu")
    return path


@pytest.fixture(scope="module")
def run(folder: Path) -> RunAnalysis:
    return analyze_run(folder, bench_seconds=0.02)


def test_a_run_is_looked_at_from_all_sides(run: RunAnalysis, folder: Path) -> None:
    assert (run.title, run.notes, run.complete) == ("digits_cnn W1A1 on digits", [], True)
    model, info = load_model(folder / "model.safetensors")
    names = list(binary_layers(model))
    for table in (run.errors, run.stage1_errors, run.weights, run.activations, run.waves):
        assert [row.layer for row in table] == names
    assert run.predictions is not None
    scores = evaluate(model, load_digits().split("test"), info.mean, info.std)
    assert (run.predictions.correct, run.predictions.images) == (scores.correct, scores.images)
    assert run.packed is not None
    assert run.packed.report.wrong_sums == 0
    assert run.packed.speed is not None
    assert run.packed.speed.median_seconds > 0
    assert set(run.initial_agreement.values()) == {1.0}
    found = json.loads(json.dumps(run.to_json(), allow_nan=False))
    assert found["errors"][0]["quantization_error"] == run.errors[0].quantization_error
    assert found["recipe"]["description"] == HOSTILE
    assert "pixels" not in found["predictions"]["wrong"][0]


def test_the_tables_hold_what_was_found(run: RunAnalysis) -> None:
    facts = {row[0]: row[1] for row in summary_table([run]).rows}
    assert facts["stage 2: test accuracy"] == f"{run.history[-1].score.accuracy:.2%}"
    total = sum(row.weights for row in run.weights)
    kept = sum(row.weights * run.kept[row.layer] for row in run.weights) / total
    assert total == 9216 + 9216 + 18432 + 36864
    assert facts["signs kept since stage 1"] == f"{kept:.1%}"
    errors = error_table(run)
    titles = [column.title for column in errors.columns]
    assert [row[titles.index("error")] for row in errors.rows] == [row.quantization_error for row in run.errors]
    signs = sign_table(run)
    titles = [column.title for column in signs.columns]
    flips = [row[titles.index("flips a step")] for row in signs.rows]
    assert flips == list(run.history[-1].layers.flip_ratio_step.values())
    for table in run_tables(run):
        assert all(len(row) == len(table.columns) == len(table.text(row)) for row in table.rows)
    without = [replace(row, layers=LayerMeasures()) for row in run.history]
    assert "flips a step" not in [column.title for column in sign_table(replace(run, history=without)).columns]


def test_activations_by_hand() -> None:
    """The inputs of the layer are the images; its window is 1 around zero, after division by their deviation."""
    model = torch.nn.Sequential(create_model("digits_cnn", dataset="digits").get_submodule("block1.conv1"))
    images = torch.randn(8, 32, 8, 8) + 0.5
    layer = model[0]
    labels = torch.zeros(8, dtype=torch.int64)
    pooled = torch.nn.Sequential(layer, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    (row,) = activation_rows(pooled, images, labels)
    assert row.positive == (images >= 0).double().mean().item()
    deviation = images.flatten(1).std(1).view(-1, 1, 1, 1)
    assert row.inside_window == pytest.approx((images.abs() < deviation).double().mean().item(), abs=1e-3)
    share = (images >= 0).double().mean((0, 2, 3))
    entropy = -(share * share.log2() + (1 - share) * (1 - share).log2()).mean().item()
    assert row.entropy == pytest.approx(entropy)
    pooled.train()
    torch.nn.functional.cross_entropy(pooled(images), labels).backward()
    assert row.gradient_norm == pytest.approx(layer.weight.grad.norm().item(), rel=1e-5)


def test_predictions_by_hand() -> None:
    """The model predicts the number of the brightest of three pixels."""
    pixels = torch.zeros(5, 1, 3, 1, dtype=torch.uint8)
    for image, (answer, brightness) in enumerate([(0, 9), (1, 8), (2, 250), (2, 100), (0, 20)]):
        pixels[image, 0, answer] = brightness
    split = Split(pixels, torch.tensor([0, 1, 0, 1, 0]))
    found = predict_split(torch.nn.Flatten(), split, (0.0,), (1.0,), ("a", "b", "c"))
    assert found.confusion.tolist() == [[2, 0, 1], [0, 1, 1], [0, 0, 0]]
    assert (found.correct, found.images, found.accuracy) == (3, 5, 0.6)
    assert [(wrong.index, wrong.label, wrong.answer) for wrong in found.wrong] == [(2, 0, 2), (3, 1, 2)]
    assert found.wrong[0].pixels.tolist() == pixels[2].tolist()
    few = predict_split(torch.nn.Flatten(), split, (0.0,), (1.0,), ("a", "b", "c"), limit=3)
    assert few.images == 3


class StopsAt(Progress):
    """Stops a run at a step, without saving anything more."""

    def __init__(self, step: int) -> None:
        self.left = step

    def step(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise TrainingInterrupted("stop")


def test_a_run_that_is_not_finished_is_analyzed_as_far_as_it_is(tmp_path: Path) -> None:
    recipe = load_recipe("digits", ["stage1.epochs=2", "stage2.epochs=1"])
    with pytest.raises(TrainingInterrupted):
        train(recipe, tmp_path / "begun", device="cpu", progress=StopsAt(1))
    begun = analyze_run(tmp_path / "begun")
    assert begun.notes[0] == "This run is not finished: 0 of 3 epochs are done."
    assert "no model or checkpoint yet" in begun.notes[1]
    assert "0 of 3 epochs" in render_report([begun])
    assert begun.to_json()["sizes"] == {}
    with pytest.raises(TrainingInterrupted):
        train(recipe, tmp_path / "half", device="cpu", progress=StopsAt(30))
    half = analyze_run(tmp_path / "half", bench_seconds=0.02)
    assert half.notes == [
        "This run is not finished: 1 of 3 epochs are done.",
        "Weights, predictions and sizes are those of the newest checkpoint, after stage 1 epoch 1.",
    ]
    assert half.errors
    assert half.packed is not None
    assert half.predictions is not None
    assert half.predictions.accuracy == half.history[0].score.accuracy
    text = render_report([half])
    assert "1 of 3 epochs" in text
    assert "so far, in stage 1" in text


@pytest.mark.parametrize("method", ['{name="adabin"}', '{name="biper", learn_frequency="channel"}'])
def test_an_unfinished_run_of_another_method_and_a_custom_recipe_is_analyzed(method: str, tmp_path: Path) -> None:
    """The method has parameters of its own, which the network of the default method does not have."""
    own = load_recipe("digits", ["model.frequency=7.0", "stage1.epochs=2", "stage2.epochs=1", f"method={method}"])
    (tmp_path / "own.toml").write_text(own.to_toml())
    with pytest.raises(TrainingInterrupted):
        train(load_recipe(tmp_path / "own.toml"), tmp_path / "run", device="cpu", progress=StopsAt(30))
    found = analyze_run(tmp_path / "run", bench_seconds=0.02)
    assert found.info == ModelInfo.of_recipe(own)
    assert (found.info.frequency, found.info.method) == (7.0, own.method.model_dump())
    assert len(found.weights) == 4
    assert found.packed is not None
    assert found.predictions is not None
    assert found.predictions.accuracy == found.history[0].score.accuracy


def test_an_imported_model_and_a_real_valued_one(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "imported").mkdir()
    shutil.copy(folder / "model.safetensors", tmp_path / "imported")
    imported = analyze_run(tmp_path / "imported", bench_seconds=0.02)
    assert imported.notes == ["This is an imported model: it has no recipe, and nothing is known about its training."]
    assert imported.errors
    assert "<h2>Training</h2>" not in render_report([imported])
    (tmp_path / "real").mkdir()
    info = ModelInfo("digits_cnn", "digits", 10, "W32A32", 20.0, (0.3,), (0.4,), tuple("0123456789"))
    save_model(tmp_path / "real/model.safetensors", info.create(), info)
    real = analyze_run(tmp_path / "real", bench_seconds=0.02)
    assert "no binary layers" in real.notes[-1]
    assert "<h2>Waves</h2>" not in render_report([real])


def test_what_is_no_run_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelError, match=r"no run folder .*nothing: expected a folder"):
        analyze_run(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"is not a run folder: it holds neither recipe\.toml nor model\.safetensors"):
        analyze_run(tmp_path)
    shutil.copytree(folder, tmp_path / "bad")
    with open(RunFolder(tmp_path / "bad").metrics_file, "a") as file:
        file.write('{"stage": ')
    with pytest.raises(CheckpointError, match=r"line 4 of .*bad/metrics\.jsonl is corrupt"):
        analyze_run(tmp_path / "bad")


class Links(HTMLParser):
    """Collects every address and every id of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, _tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.found.append(value or "")
            if name == "id":
                self.ids.append(value or "")


def test_the_page_holds_everything_that_it_shows(run: RunAnalysis) -> None:
    """Every id is unique, even on a page with the same run twice."""
    text = render_report([run, run])
    links = Links()
    links.feed(text)
    assert len(links.ids) == len(set(links.ids))
    assert {link.split(",")[0].split("base64")[0] for link in links.found if not link.startswith("#")} == {
        "data:",
        "data:image/png;",
    }
    assert {link[1:] for link in links.found if link.startswith("#")} <= set(links.ids)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", text)
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(links.ids)
    assert HOSTILE not in text
    assert HOSTILE in unescape(text)
    assert text.count("<h2>Summary</h2>") == 1
    assert text.count('<div class="tiles">') == 2
    assert run_names([run]) == ["short"]
    assert run_names([run, run]) == [str(run.path)] * 2


def test_many_classes_have_a_list_instead_of_a_matrix() -> None:
    names = tuple(f"class {number}" for number in range(30))
    confusion = np.diag(np.full(30, 5))
    confusion[3, 7] = 4
    wrong = WrongAnswer(0, 3, 7, 0.9, np.zeros((200, 300, 3), np.uint8))
    answers = Predictions(names, confusion, (wrong,))
    text = page.confusion(answers)
    assert "matrix" not in text
    assert re.search(r'data-value="class 3">class 3</td><td[^>]*>class 7</td><td data-value="4">4</td>', text)
    assert "<b>class 3</b><br>class 7 90%" in page.pictures(answers)


def test_plots_of_one_page_share_no_names(run: RunAnalysis) -> None:
    drawn = [svg(plots.weights_over_the_wave(wave), wave.layer) for wave in run.waves]
    names = [name for text in drawn for name in re.findall(r'id="([^"]*)"', text)]
    assert names
    assert len(names) == len(set(names))
    assert all("var(--plot-first, #1f6feb)" in text for text in drawn)


def test_numbers_on_an_axis_are_written_in_full() -> None:
    figure = Figure()
    figure.add_subplot().set_yticks([0.125, 0.375])
    text = svg(figure, "axis")
    assert ">0.125</text>" in text
    assert ">0.375</text>" in text
    assert not re.search(r'[ "]\d+\.\d{3}', text)


PROBE = """<script>
const section = document.getElementById("quantization-error");
const column = [...section.querySelectorAll("th")].find((head) => head.textContent === "error");
const order = () => [...section.querySelectorAll("tbody tr")].map((row) => row.cells[0].textContent);
const found = {first: order(), width: [document.documentElement.scrollWidth, innerWidth]};
const colour = () => getComputedStyle(document.body).backgroundColor;
for (const turn of ["descending", "ascending", "restored"]) { column.firstChild.click(); found[turn] = order(); }
found.colours = [colour()];
document.getElementById("theme").click();
found.colours.push(colour());
found.pictures = [...document.images].map((image) => image.naturalWidth);
document.body.textContent = "found:" + JSON.stringify(found) + ":end";
</script></body>"""


def browse(file: Path, *options: str) -> tuple[str, list[str]]:
    """The document after headless Chromium has run its scripts, and the lines in the console of the browser."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += [f"--user-data-dir={file.parent / 'browser'}", *options, file.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout, [line for line in result.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
def test_a_browser_shows_the_page_without_complaint(run: RunAnalysis, tmp_path: Path) -> None:
    """On a narrow screen the page does not overflow, columns sort, the theme changes, and pictures are shown."""
    file = tmp_path / "report.html"
    file.write_text(render_report([run]).replace("</body>", PROBE), encoding="utf-8")
    content, console = browse(file, "--window-size=500,900")
    assert console == []
    answer = re.search("found:(.*):end", content)
    assert answer, content[:2000]
    found = json.loads(unescape(answer[1]))
    by_error = sorted(run.errors, key=lambda row: row.quantization_error)
    assert found["ascending"] == [row.layer for row in by_error]
    assert found["descending"] == found["ascending"][::-1]
    assert found["first"] == found["restored"] == [row.layer for row in run.errors]
    assert found["width"][0] <= found["width"][1]
    assert len(set(found["colours"])) == 2
    assert run.predictions is not None
    assert found["pictures"] == [8] * len(run.predictions.wrong)
    write_report([run], file)
    broken = file.read_text(encoding="utf-8").replace("const system", "nonsense; const system")
    file.write_text(broken, encoding="utf-8")
    _, console = browse(file)
    assert len(console) == 1
    assert "nonsense is not defined" in console[0]
