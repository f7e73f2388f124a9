"""The web page: its engine and its resizing of pictures in Node, and the whole page in a headless browser."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.array_programs import Builder, array_programs, in_c_order, normalized, other_inputs
from support.browser import Browser
from support.compiled import require
from support.networks import packed_network
from support.pictures import picture
from support.programs import PLAIN, operation, program_of
from support.small_programs import random_pixels, small_programs

from biper.errors import ExportError
from biper.io.preprocessing import Preprocessing
from biper.runtime.engine import Engine
from biper.runtime.model import Model
from biper.runtime.program import write_program
from biper.runtime.reference import run_reference
from biper.targets.web import OPERATIONS
from biper.targets.web.page import html_page

RUN_ALL = """
const fs = require("fs");
const part = (name) => fs.readFileSync(`${process.argv[2]}/${name}.js`, "utf8");
const names = ["engine", "operators", "arrays", "picture"];
const returned = "return { loadModel, OPERATORS, ARRAY_OPERATORS, preprocess };";
const text = `${names.map(part).join(";")};${returned}`;
const { loadModel, OPERATORS, ARRAY_OPERATORS, preprocess } = new Function(text)();
const read = (file) => new Uint8Array(fs.readFileSync(`${process.argv[3]}/${file}`));
const write = (file, array) => fs.writeFileSync(`${process.argv[3]}/${file}`, Buffer.from(array.buffer));
"""


def run_in_node(folder: Path, code: str) -> None:
    """Run JavaScript that can call the functions of the page, and `read` and `write` for files of the folder."""
    (folder / "run.js").write_text(RUN_ALL + code)
    web = str(resources.files("biper.targets.web"))
    done = subprocess.run([require("node"), "run.js", web, str(folder)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_operation_is_that_of_the_scalar_engine(tmp_path: Path) -> None:
    programs = small_programs() | {
        f"{name}_{float_layers}": packed_network(tmp_path, name, dataset, bits, float_layers)
        for name, dataset, bits, float_layers in (
            ("digits_cnn", "digits", "W1A1", "int8"),
            ("resnet20", "cifar10", "W1A1", "float16"),
            ("digits_cnn", "digits", "W1A1", "bfloat16"),
        )
    }
    for name, program in programs.items():
        (tmp_path / f"{name}.biper").write_bytes(write_program(program))
        random_pixels(program.input_shape).tofile(tmp_path / f"{name}.pixels")
    run_in_node(
        tmp_path,
        f"for (const name of {json.dumps(list(programs))}) {{"
        """
  const model = loadModel(read(`${name}.biper`)), pixels = read(`${name}.pixels`);
  const size = model.channels * model.height * model.width, outputs = [];
  for (let at = 0; at < pixels.length; at += size) outputs.push(...model.run(pixels.subarray(at, at + size)));
  write(`${name}.outputs`, Float32Array.from(outputs));
}""",
    )
    for name, program in programs.items():
        expected = Engine(program, "scalar")(Model(program).normalized(random_pixels(program.input_shape)))
        actual = np.fromfile(tmp_path / f"{name}.outputs", np.float32)
        assert np.array_equal(actual, expected.transpose(0, 2, 3, 1).reshape(-1)), name


def test_the_operators_of_the_page_are_those_that_are_listed(tmp_path: Path) -> None:
    run_in_node(
        tmp_path,
        "fs.writeFileSync('operations.json', JSON.stringify(Object.keys({ ...OPERATORS, ...ARRAY_OPERATORS })));",
    )
    assert set(json.loads((tmp_path / "operations.json").read_text())) == OPERATIONS


def test_every_operation_on_arrays_is_that_of_the_reference(tmp_path: Path) -> None:
    programs = array_programs()
    for name, program in programs.items():
        (tmp_path / f"{name}.biper").write_bytes(write_program(program))
        random_pixels(program.input_shape, 1).tofile(tmp_path / f"{name}.pixels")
        for key, array in other_inputs(program, 1).items():
            in_c_order(program.inputs[key], array[0]).tofile(tmp_path / f"{name}.{key}")
    results = {name: list(program.results) for name, program in programs.items()}
    inputs = {name: list(program.inputs) for name, program in programs.items()}
    run_in_node(
        tmp_path,
        f"const results = {json.dumps(results)}, inputs = {json.dumps(inputs)};"
        """
for (const name in results) {
  const model = loadModel(read(`${name}.biper`));
  for (const key of inputs[name]) model.value(key).data.set(new Float32Array(read(`${name}.${key}`).buffer));
  model.run(read(`${name}.pixels`));
  results[name].forEach((key, i) => write(`${name}.${i}`, model.value(key).data));
}""",
    )
    for name, program in programs.items():
        images = normalized(program, random_pixels(program.input_shape, 1))
        expected = run_reference(program, images, other_inputs(program, 1))
        for number, (key, value) in enumerate(program.results.items()):
            real = expected[value][0]
            actual = np.fromfile(tmp_path / f"{name}.{number}", np.float32)
            off = np.abs(actual - in_c_order(real.shape, real)).max()
            assert off <= 5e-6 * np.abs(real).max(), f"{name}: {key}"


def test_pictures_become_the_pixels_of_the_runtime(tmp_path: Path) -> None:
    random = np.random.Generator(np.random.PCG64(3))
    sizes = [(32, 32), (31, 40), (7, 5), (200, 33), (32, 9), (1, 1), (640, 481), (300, 301)]
    ways = [
        Preprocessing((32, 32)),
        Preprocessing((32, 32), channels="L"),
        Preprocessing((28, 28), resize=32),
        Preprocessing((20, 32), resize=37, channels="BGR", interpolation="bicubic"),
        Preprocessing((24, 20), resize=(30, 31), channels="L", interpolation="lanczos"),
        Preprocessing((28, 28), resize=32, interpolation="nearest"),
    ]
    for number, (width, height) in enumerate(sizes):
        # Of black beside white the filters with negative weights cut what is out of range after each direction.
        random.integers(64, 192, (height, width, 4), np.uint8).tofile(tmp_path / f"{number}.rgba")
    run_in_node(
        tmp_path,
        f"const sizes = {json.dumps(sizes)}, ways = {json.dumps([way.to_json() for way in ways])};"
        """
sizes.forEach(([width, height], number) => ways.forEach((way, index) => {
  write(`${number}.${index}`, preprocess(read(`${number}.rgba`), width, height, way));
}));""",
    )
    for number, (width, height) in enumerate(sizes):
        rgba = np.fromfile(tmp_path / f"{number}.rgba", np.uint8).reshape(height, width, 4)
        for index, way in enumerate(ways):
            expected = way.pixels(Image.fromarray(np.ascontiguousarray(rgba[..., :3]))).astype(int)
            actual = np.fromfile(tmp_path / f"{number}.{index}", np.uint8).reshape(expected.shape)
            # Which direction Pillow rounds first depends on its release.
            allowed = 0 if way.interpolation == "nearest" else 1
            assert np.abs(actual - expected).max() <= allowed, (width, height, way)


def wait_for(browser: Browser, expression: str) -> Any:
    """Wait until an expression is true; returns its value."""
    for _ in range(300):
        if found := browser.evaluate(expression):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{expression} did not become true; {browser.problems()}")


def pictures(folder: Path, data: Path | None, count: int) -> list[Path]:
    """PNG files of real images of CIFAR-10, or of random ones where ``data`` is None, and one larger picture."""
    from biper.data import load_dataset

    if data is None:
        images = np.random.Generator(np.random.PCG64(4)).integers(0, 256, (count, 32, 32, 3), np.uint8)
    else:
        images = load_dataset("cifar10", data).split("test").first(count).numpy()
    paths = [folder / f"{number}.png" for number in range(count)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    large = folder / "large.png"
    Image.fromarray(images[0]).resize((301, 217), Image.Resampling.BICUBIC).save(large)
    return [*paths, large]


def test_the_page_answers_as_the_runtime_does(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    try:
        data = request.getfixturevalue("cifar_dir")
    except pytest.skip.Exception:
        data = None
    program = replace(packed_network(tmp_path, "resnet20", "cifar10"), classes=tuple("abcdefghij"))
    model = Model(program)
    (tmp_path / "page.html").write_text(html_page(program, "a <b> & 'c'"))
    with Browser() as browser:
        browser.open(tmp_path / "page.html")
        assert browser.evaluate("document.querySelector('h1').textContent") == "a <b> & 'c'"
        files = pictures(tmp_path, data, 8)
        for path in files:
            browser.choose_file("#file", path)
            wait_for(browser, "window.biper.last !== null")
            pixels = browser.evaluate("Array.from(window.biper.last.pixels)")
            assert np.array_equal(np.array(pixels, np.uint8).reshape(32, 32, 3), model.prepare(path)), path.name
            (answer,) = model.predict([path])
            assert browser.evaluate("document.getElementById('best').textContent") == answer[0].name
            share = browser.evaluate("document.querySelector('#answers .best .share').textContent")
            assert float(share.split()[0]) == pytest.approx(100 * answer[0].probability, abs=0.06)
            browser.evaluate("document.getElementById('clear').click()")
        browser.choose_file("#file", files[0])
        milliseconds = wait_for(
            browser, "window.biper.last && window.biper.last.final && window.biper.last.milliseconds"
        )
        assert 0 < milliseconds < 1000
        assert "ms" in browser.evaluate("document.querySelector('#facts dd').textContent")
        (tmp_path / "no.png").write_text("no image")
        browser.choose_file("#file", tmp_path / "no.png")
        message = wait_for(browser, "document.getElementById('message').textContent")
        assert message == "no.png is no image that the browser can read."
        assert browser.problems() == []


@pytest.mark.parametrize("turned", [True, False])
def test_the_page_prepares_pictures_of_every_kind_as_the_runtime_does(turned: bool, tmp_path: Path) -> None:
    way = Preprocessing((24, 24), resize=29, background=(200, 10, 30), exif_orientation=turned)
    weight = np.full((1, 3, 24, 24), 0.001, np.float32)
    conv = operation("convolution", "image", {"weight": weight}, real="y", attributes=PLAIN)
    program = replace(program_of((3, 24, 24), [conv], "y"), preprocessing=way)
    (tmp_path / "page.html").write_text(html_page(program, "kinds"))
    colour, tag = picture(5, 157, 93), Image.Exif()
    tag[0x112] = 6
    alpha = colour.convert("RGBA")
    alpha.putalpha(colour.convert("L"))
    files: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "turned.jpg": (colour, {"quality": 95, "exif": tag}),
        "turned.png": (colour, {"exif": tag}),
        "grey.png": (colour.convert("L"), {}),
        "palette.png": (colour.convert("P"), {}),
        "cmyk.jpg": (colour.convert("CMYK"), {}),
        "alpha.png": (alpha, {}),
        "deep.png": (Image.fromarray((np.asarray(colour.convert("L")) * 256.9).astype(np.uint16)), {}),
    }
    with Browser() as browser:
        browser.open(tmp_path / "page.html")
        for name, (image, options) in files.items():
            image.save(tmp_path / name, **options)
            browser.choose_file("#file", tmp_path / name)
            pixels = wait_for(browser, "window.biper.last && Array.from(window.biper.last.pixels)")
            off = np.abs(np.array(pixels).reshape(24, 24, 3) - Model(program).prepare(tmp_path / name).astype(int))
            # The browser blends transparency, and makes 8 bits of 16, with roundings of its own.
            assert off.max() <= (2 if name in ("alpha.png", "deep.png") else 1), name
            answer = browser.evaluate("document.querySelector('#answers .best .share').textContent")
            (expected,) = Model(program).predict([tmp_path / name])
            assert float(answer.split()[0]) == pytest.approx(100 * expected[0].probability, abs=0.2)
            assert browser.evaluate("document.getElementById('best').textContent") == "positive"
            browser.evaluate("document.getElementById('clear').click()")
        assert browser.problems() == []


def test_a_digit_is_drawn_and_read(tmp_path: Path) -> None:
    program = packed_network(tmp_path, "digits_cnn", "digits")
    (tmp_path / "page.html").write_text(html_page(program, "digits"))
    with Browser(width=400) as browser:  # the width of a telephone
        browser.open(tmp_path / "page.html")
        box = browser.evaluate("JSON.stringify(document.getElementById('picture').getBoundingClientRect())")
        place = json.loads(box)
        points = [(0.5 + 0.02 * step, 0.2 + 0.06 * step) for step in range(11)]
        browser.drag([(place["x"] + x * place["width"], place["y"] + y * place["height"]) for x, y in points])
        pixels = wait_for(browser, "window.biper.last && Array.from(window.biper.last.pixels)")
        image = np.array(pixels, np.uint8).reshape(1, 8, 8, 1)
        assert (image.max((0, 2, 3)) > 128).all()  # the drawing fills all rows
        assert (image[0, :, [0, 7]] == 0).all()  # and it is centred
        best = Model(program)(image).argmax()
        assert browser.evaluate("document.getElementById('best').textContent") == str(best)
        assert browser.evaluate("document.documentElement.scrollWidth") <= 400
        assert browser.problems() == []


def test_a_page_with_operations_on_arrays_shows_their_classes(tmp_path: Path) -> None:
    build = Builder((1, 4, 4))
    row = build.add("reshape", "image", shape=[1, 16])
    weight = build.constant(np.random.default_rng(0).standard_normal((16, 3)))
    build.result("y", build.add("matmul", row, weight))
    program = replace(build.program(), classes=("x", "y", "z"))
    (tmp_path / "page.html").write_text(html_page(program, "arrays"))
    pixels = random_pixels((1, 4, 4), 1)
    expected = run_reference(program, normalized(program, pixels))[program.output].reshape(-1)
    with Browser() as browser:
        browser.open(tmp_path / "page.html")
        actual = browser.evaluate(f"Array.from(model.run(Uint8Array.from({pixels.reshape(-1).tolist()})))")
        assert np.allclose(actual, expected, atol=1e-5)
        assert browser.evaluate("model.classes.join('')") == "xyz"
        assert browser.problems() == []


def test_what_is_no_picture_is_refused() -> None:
    conv = {"weight": np.ones((2, 4, 1, 1), np.float32)}
    program = program_of((4, 3, 3), [operation("convolution", "image", conv, real="y", attributes=PLAIN)], "y")
    with pytest.raises(ExportError, match=r"maps \(4, 3, 3\) to \(2, 3, 3\): expected 1 or 3 channels"):
        html_page(program, "x")
    build = Builder((1, 2, 2), {"state": (3,)})
    build.result("y", build.add("unary", "state", function="tanh"))
    with pytest.raises(ExportError, match="gives a model one picture, but this one also takes state: export it as"):
        html_page(build.program(), "x")
