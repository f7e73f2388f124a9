"""The pages and plots of the quantizers: all of them exist, and their curves follow the formulas."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from biper import quantizers

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((DOCS / "quantizers").glob("*.md"))}


def load_plots() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_plots", DOCS / "plots.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plots = load_plots()
BASE_CLASSES = {"Quantizer", "ShiftedSign", "SlopedSign"}
MODULES = [
    name
    for name in quantizers.__all__
    if isinstance(kind := getattr(quantizers, name), type) and issubclass(kind, nn.Module) and name not in BASE_CLASSES
]


def test_every_quantizer_has_a_plot_and_a_page_that_shows_it() -> None:
    assert len(MODULES) >= 17
    assert set(plots.PLOTS) == set(MODULES)
    for name in MODULES:
        showing = [page for page, text in PAGES.items() if f"]({name}.svg)" in text]
        assert len(showing) == 1, name
        assert f"`{name}`" in PAGES["index.md"]
        assert f"]({showing[0]})" in PAGES["index.md"]


def test_every_page_has_python() -> None:
    assert [name for name, page in PAGES.items() if "```python\n" not in page] == []


def test_plots_are_written_and_are_the_same_in_every_build(tmp_path: Path) -> None:
    plots.draw(tmp_path)
    assert {path.stem for path in tmp_path.glob("*.svg")} == set(MODULES)
    for path in tmp_path.glob("*.svg"):
        assert path.stat().st_size < 50_000
    assert (tmp_path / "PeriodicSign.svg").read_text(encoding="utf-8") == plots.svg_of("PeriodicSign")


def test_every_option_of_a_quantizer_is_on_its_page() -> None:
    for name in MODULES:
        page = next(text for text in PAGES.values() if f"]({name}.svg)" in text)
        code = getattr(quantizers, name).__init__.__code__
        for option in code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]:
            assert re.search(rf"^\|.*`{option}`.*\|", page, re.MULTILINE), (name, option)


# The formulas of the pages. Each function takes a matrix with one row of weights (or inputs) for each point of the
# plot, the plotted weight first, and returns the forward function and the gradient of each curve.

Curves = list[tuple[Tensor, Tensor]]


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0).double()


def triangle_window(x: Tensor) -> Tensor:
    return (2 - 2 * x.abs()).clamp(min=0)


def box(x: Tensor, limit: Tensor | float = 1.0) -> Tensor:
    return (x.abs() <= limit).double()


def bell(x: Tensor, t: float) -> Tensor:
    return max(1 / t, 1) * t * (1 - torch.tanh(t * x) ** 2)


def power_slope(x: Tensor, o: float) -> Tensor:
    size = x.abs()
    slope = torch.where(size <= 0.1, 0.1 ** (1 / o) / 0.1, size.clamp(min=0.1) ** ((1 - o) / o) / o)
    return torch.where(size <= 1.5, slope, 0.0)


def periodic(w: Tensor) -> Curves:
    sine, slope = torch.sin(20 * w[:, 0]), 20 * torch.cos(20 * w[:, 0])
    return [(sine, slope), (sign(sine), slope)]


def tuned_periodic(w: Tensor) -> Curves:
    phase = 20 * w[:, 0]
    sine, slope = torch.sin(phase), 20 * torch.cos(phase)
    triangle = 2 / math.pi * torch.asin(sine), 20 * 2 / math.pi * sign(torch.cos(phase))
    return [(sine, slope), triangle, (torch.tanh(5 * sine) / math.tanh(5), slope)]


def standardized_periodic(w: Tensor) -> Curves:
    v, through = through_standardization(w, 0.0)
    curves = [(torch.sin(σ * v), σ * torch.cos(σ * v) * through) for σ in (0.8, 1.5)]
    n, deviation = w.shape[1], w.std(1)
    phase = 1.5 * w[:, 0] / deviation
    kept = 1 / deviation - w[:, 0] * (w[:, 0] - w.mean(1)) / ((n - 1) * deviation**3)
    return [*curves, (sign(torch.sin(phase)), 1.5 * torch.cos(phase) * kept)]


def windowed(window: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Curves]:
    def curves(x: Tensor) -> Curves:
        y, n = x[:, 0], x.shape[1]
        deviation = torch.sqrt(x.var(1) + 1e-5)
        through = 1 / deviation - y * (y - x.mean(1)) / ((n - 1) * deviation**3)
        return [(sign(y), window(y)), (sign(y), window(y / deviation) * through)]

    return curves


def xnor(w: Tensor) -> Curves:
    scale = w.abs().mean(1)
    return [(scale * sign(w[:, 0]), 1 / w.shape[1] + scale * box(w[:, 0]))]


def magnitude_aware(w: Tensor) -> Curves:
    scale = w.abs().mean(1)
    return [(scale * sign(w[:, 0]), scale * box(w[:, 0]))]


def dorefa_weight(w: Tensor) -> Curves:
    return [(w.abs().mean() * sign(w[:, 0]), torch.ones(len(w)).double())]


def dorefa_input(x: Tensor) -> Curves:
    y = x[:, 0]
    return [((y >= 0.5).double(), ((y >= 0) & (y <= 1)).double())]


def error_decay(x: Tensor) -> Curves:
    return [(sign(x[:, 0]), bell(x[:, 0], t)) for t in (0.1, 1.0, 10.0)]


def through_standardization(w: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The standardized weight of each point, and its derivative by the weight."""
    n, difference = w.shape[1], w[:, 0] - w.mean(1)
    deviation = torch.sqrt(w.var(1) + epsilon)
    return difference / deviation, (1 - 1 / n) / deviation - difference**2 / ((n - 1) * deviation**3)


def libra(w: Tensor) -> Curves:
    v, through = through_standardization(w, 0.0)
    whole = (w - w.mean(1, keepdim=True)) / w.std(1, keepdim=True)
    scale = 2 ** torch.round(torch.log2(whole.abs().mean(1)))
    return [(scale * sign(v), scale * bell(v, t) * through) for t in (0.1, 1.0, 10.0)]


def recu(w: Tensor) -> Curves:
    v, through = (math.sqrt(8) * each for each in through_standardization(w, 1e-5))
    whole = math.sqrt(8) * (w - w.mean(1, keepdim=True)) / torch.sqrt(w.var(1, keepdim=True) + 1e-5)
    limits = [-math.log(2 - 2 * tau) * whole.abs().mean() for tau in (0.85, 0.99)]
    return [(sign(v), box(v, limit) * through) for limit in limits]


def power(x: Tensor) -> Curves:
    return [(sign(x[:, 0]), power_slope(x[:, 0], o)) for o in (1.0, 2.0, 3.0)]


def power_weight(w: Tensor) -> Curves:
    scale, signs = w.abs().mean(), sign(w[:, 0])
    of_scale = w[:, 0].sign() / w.numel() * signs.sum()  # |w| has the derivative 0 at 0
    return [(scale * signs, scale * power_slope(w[:, 0], o) + of_scale) for o in (1.0, 2.0, 3.0)]


def adabin_weight(w: Tensor) -> Curves:
    n, offset = w.shape[1], w.mean(1)
    scale = w.std(1, correction=0)
    v = (w[:, 0] - offset) / scale
    through = 1 - 1 / n - v**2 / n
    return [(offset + scale * sign(v), 1 / n + v.abs() / n + bell(v, t) * through) for t in (0.1, 1.0, 10.0)]


def adabin_input(x: Tensor) -> Curves:
    pairs = ((1.0, 0.0), (0.75, 0.5))
    scaled = [(scale, offset, (x[:, 0] - offset) / scale) for scale, offset in pairs]
    return [(offset + scale * sign(v), triangle_window(v)) for scale, offset, v in scaled]


def rsign(x: Tensor) -> Curves:
    return [(sign(x[:, 0] - threshold), triangle_window(x[:, 0] - threshold)) for threshold in (0.0, 0.5)]


def rprelu(x: Tensor) -> Curves:
    curves = []
    for shift_in, shift_out in ((0.0, 0.0), (0.5, -0.25)):
        slope = torch.where(x[:, 0] > shift_in, 1.0, 0.25).double()
        curves.append((slope * (x[:, 0] - shift_in) + shift_out, slope))
    return curves


FORMULAS: dict[str, Callable[[Tensor], Curves]] = {
    "PeriodicSign": periodic,
    "TunedPeriodicSign": tuned_periodic,
    "StandardizedPeriodicSign": standardized_periodic,
    "ApproxSign": windowed(triangle_window),
    "SteSign": windowed(box),
    "XnorSign": xnor,
    "MagnitudeAwareSign": magnitude_aware,
    "DoReFaWeight": dorefa_weight,
    "DoReFaInput": dorefa_input,
    "ErrorDecaySign": error_decay,
    "LibraWeight": libra,
    "RectifiedClampSign": recu,
    "PowerSign": power,
    "PowerWeight": power_weight,
    "AdaBinWeight": adabin_weight,
    "AdaBinInput": adabin_input,
    "RSign": rsign,
    "RPReLU": rprelu,
}


@pytest.mark.parametrize("name", MODULES)
def test_the_curves_of_a_plot_follow_the_formulas_of_its_page(name: str) -> None:
    curves = list(plots.curves_of(name).values())
    points = curves[0].points
    expected = FORMULAS[name](torch.cat([points[:, None], plots.OTHERS.expand(len(points), -1)], 1))
    for curve, (forward, gradient) in zip(curves, expected, strict=True):
        torch.testing.assert_close(curve.forward, forward, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(curve.gradient, gradient, rtol=1e-7, atol=1e-9)
