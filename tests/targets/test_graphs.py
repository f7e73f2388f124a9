"""Programs as ONNX and OpenVINO graphs: every operation, whole networks, and weights that are stored as bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.array_programs import Builder, array_programs, other_inputs
from support.networks import packed_network, trained_like
from support.processor import OPENVINO_INT8_SATURATES
from support.programs import PADDED, operation, program_of, random_bits
from support.small_programs import small_programs
from torch import nn

import biper
from biper.errors import ExportError
from biper.lowering.custom_ops import ExportedLayer
from biper.lowering.exported_layers import with_exported_layers
from biper.runtime.agreement import RunProgram, compare_with_reference
from biper.runtime.program import Program
from biper.runtime.reader import read_program
from biper.runtime.reference import run_reference
from biper.targets.array_shapes import output_names

FORMS = ["onnx", "openvino"]
NEEDS = {"onnx": "onnxruntime", "openvino": "openvino"}


def built(form: str, program: Program, path: Path) -> tuple[dict[Path, bytes], RunProgram]:
    """The files of a format, and the function that runs them on the format's engine."""
    pytest.importorskip(NEEDS[form], reason=f"{NEEDS[form]} is not installed")
    if form == "onnx":
        pytest.importorskip("onnx")
        from biper.targets.onnx.files import build
    else:
        from biper.targets.openvino.files import build
    return build(program, path)


def images_of(program: Program, count: int = 3) -> NDArray[np.float32]:
    return np.random.Generator(np.random.PCG64(6)).standard_normal((count, *program.input_shape), np.float32)


@pytest.mark.parametrize("form", FORMS)
def test_every_operation_is_that_of_the_reference(form: str, tmp_path: Path) -> None:
    for name, program in small_programs().items():
        if form == "openvino" and name == "levels" and OPENVINO_INT8_SATURATES:
            continue
        _, run = built(form, program, tmp_path / "model")
        images = images_of(program)
        expected = run_reference(program, images)[program.output]
        actual = run({"image": images})[program.output]
        if "binary" in name or "threshold" in name or name in ("all_differ", "flat"):
            assert np.array_equal(actual, expected), name
        else:
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max(), err_msg=name)


@pytest.mark.parametrize("form", FORMS)
def test_every_operation_on_arrays_is_that_of_the_reference(form: str, tmp_path: Path) -> None:
    for name, program in array_programs().items():
        _, run = built(form, program, tmp_path / "model")
        images, others = images_of(program), other_inputs(program, 3)
        expected, actual = run_reference(program, images, others), run({"image": images, **others})
        assert actual.keys() == program.results.keys()
        for result, value in program.results.items():
            largest, where = np.abs(expected[value]).max(), f"{name}: {result}"
            assert actual[result].shape == expected[value].shape, where
            np.testing.assert_allclose(actual[result], expected[value], rtol=0, atol=5e-6 * largest, err_msg=where)


def test_names_of_onnx_outputs_are_those_of_the_results_where_no_other_value_has_them(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    program = array_programs()["inputs"]
    files, _ = built("onnx", program, tmp_path / "m.onnx")
    graph = onnx.load_from_string(next(iter(files.values()))).graph
    assert [entry.name for entry in graph.input] == ["image", "state", "scale"]
    assert [entry.name for entry in graph.output] == ["image_output", "v0_output", "next state", "a convolution"]
    alone = replace(program, outputs={}, output="image")
    assert output_names(alone) == {"image": "image_output"}
    images, others = images_of(alone), other_inputs(alone, 3)
    _, run = built("onnx", alone, tmp_path / "m.onnx")
    assert np.array_equal(run({"image": images, **others})["image"], images)


@pytest.mark.parametrize("form", FORMS)
def test_a_result_may_be_a_constant(form: str, tmp_path: Path) -> None:
    build = Builder((1, 2, 2))
    build.result("constant", build.constant([1.0, 2.0]))
    program = build.program()
    _, run = built(form, program, tmp_path / "model")
    assert compare_with_reference(run, program).equal_images == 16


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("bits", "float_layers"),
    [
        ("W1A1", "float32"),
        ("W1A1", "bfloat16"),
        pytest.param("W1A1", "int8", marks=pytest.mark.slow),
        pytest.param("W1A32", "float32", marks=pytest.mark.slow),
        pytest.param("W1A32", "int8", marks=pytest.mark.slow),
    ],
)
def test_networks_agree(form: str, bits: str, float_layers: str, tmp_path: Path) -> None:
    program = packed_network(tmp_path, "resnet20", "cifar10", bits, float_layers)
    _, run = built(form, program, tmp_path / "model")
    agreement = compare_with_reference(run, program, images_of(program, 8))
    assert agreement.equal_images >= 7
    assert agreement.difference < 1e-4


def test_onnx_has_standard_operators_and_weights_in_bits(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    program = packed_network(tmp_path, "resnet20", "cifar10")
    files, _ = built("onnx", program, tmp_path / "m.onnx")
    (content,) = files.values()
    model = onnx.load_from_string(content)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    assert len(content) < 75_000  # float weights of its binary layers alone would be a megabyte
    kept = {entry.key for entry in model.metadata_props}
    assert kept == {"mean", "std", "classes"}


def test_openvino_computes_in_bits_where_it_can(tmp_path: Path) -> None:
    files, _ = built("openvino", packed_network(tmp_path, "resnet20", "cifar10"), tmp_path / "m.xml")
    assert [path.name for path in files] == ["m.xml", "m.bin"]
    assert files[tmp_path / "m.xml"].count(b'type="BinaryConvolution"') == 18
    random = np.random.Generator(np.random.PCG64(0))
    signs = operation("elementwise", "image", bits="b")
    odd = operation("binary_convolution", "b", random_bits(random, 4, 12, 3, 3), real="y", attributes=PADDED)
    files, _ = built("openvino", program_of((12, 5, 5), [signs, odd], "y"), tmp_path / "m.xml")
    assert files[tmp_path / "m.xml"].count(b'type="BinaryConvolution"') == 0


def test_another_function_is_refused() -> None:
    program = small_programs()["real_padded"]
    with pytest.raises(ExportError, match=r"computes something else: outputs differ by up to .* equal on 0 of 16"):
        compare_with_reference(lambda _: {program.output: np.zeros((16, *program.output_shape), np.float32)}, program)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_thousand_real_images_are_those_of_torch(form: str, tmp_path: Path, cifar_dir: Path) -> None:
    from biper.data import load_dataset
    from biper.data.transforms import normalize

    pixels = load_dataset("cifar10", cifar_dir).split("test").first(1000)
    images = normalize(pixels, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    model = trained_like("resnet20", "cifar10")
    biper.export(model, tmp_path / "m.biper", images[:32])
    _, run = built(form, read_program(tmp_path / "m.biper"), tmp_path / "model")
    expected, near = torch_outputs(model, images)
    actual = next(iter(run({"image": images.numpy()}).values())).reshape(expected.shape)
    far = np.abs(actual - expected).max(1) > 1e-4 * np.abs(expected).max()
    counts = f"{int(far.sum())} of 1,000 images differ, {int(near.sum())} have a value within rounding of zero"
    assert not (far & ~near).any(), counts
    assert far.sum() < 100, counts
    other = actual.argmax(1) != expected.argmax(1)
    assert not (other & ~far).any()


def torch_outputs(model: nn.Module, images: torch.Tensor) -> tuple[NDArray, NDArray]:
    """The outputs of a model, and which images have an input of a binary layer within rounding of zero."""
    prepared = with_exported_layers(model).float()
    near = np.zeros(len(images), bool)
    start = 0

    def look(_layer: nn.Module, arguments: tuple[torch.Tensor, ...], _output: torch.Tensor) -> None:
        value = arguments[0].flatten(1).abs()
        found = (value.min(1).values <= 2e-6 * value.max()).numpy()
        near[start : start + len(found)] |= found

    for layer in prepared.modules():
        if isinstance(layer, ExportedLayer):
            layer.register_forward_hook(look)
    outputs = []
    with torch.inference_mode():
        for part in images.split(100):
            outputs.append(prepared(part.clone()).numpy())
            start += len(part)
    return np.concatenate(outputs), near
