"""The table of operator handlers: one handler for each operator, and a tracer that uses the table it is given."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from biper.errors import ExportError
from biper.lowering.operators import FAMILIES, HANDLERS
from biper.lowering.pack import pack_graph
from biper.lowering.trace import trace
from biper.lowering.tracer import Tracer
from biper.lowering.values import Value
from biper.runtime.reference import run_reference


def exported(model: nn.Module) -> torch.export.ExportedProgram:
    return torch.export.export(model.eval(), (torch.zeros(1, 2, 3, 3),)).run_decompositions({})


class InPlaceOnViews(nn.Module):
    """Changes a view of a view in place, and reads the view."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = (x * 2)[:, :, ::2, ::2]
        return nn.functional.hardtanh(y, inplace=True) + 1


class InPlaceOnThePart(nn.Module):
    """Changes a part in place, and reads the whole."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[:, :, ::2].relu_()
        return y


class InPlaceAtTheEnd(nn.Module):
    """Changes a view in place, and returns the view."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.hardtanh((x * 2)[:, :, ::2, ::2], inplace=True)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "model", [InPlaceOnViews(), InPlaceOnThePart(), InPlaceAtTheEnd()], ids=lambda m: type(m).__name__
)
def test_an_activation_in_place_on_a_view_is_lowered(model: nn.Module) -> None:
    images = torch.randn(2, 3, 6, 6)
    program = pack_graph(trace(model, images), mean=(0.0,) * 3, std=(1.0,) * 3, classes=())
    values = run_reference(program, images.numpy())
    torch.testing.assert_close(torch.from_numpy(values[program.output]), model(images.clone()))


def test_no_operator_is_in_two_families() -> None:
    counts = Counter(name for family in FAMILIES for name in family.HANDLERS)
    assert set(counts.values()) == {1}
    assert set(HANDLERS) == set(counts)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.export warns about torch's own internals
def test_the_tracer_uses_the_handlers_it_is_given() -> None:
    def lgamma(tracer: Tracer, node: torch.fx.Node) -> Value:
        value = tracer.value(node.args[0])
        return Value.image(value.shape, tracer.emit("lgamma", [tracer.image(value)], value.shape[1:]))

    class LogGamma(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.lgamma(x)

    program = exported(nn.Sequential(LogGamma(), nn.ReLU()))
    with pytest.raises(ExportError, match=r"0: operator aten\.lgamma\.default is not supported"):
        Tracer(program, HANDLERS).run()
    graph = Tracer(program, {**HANDLERS, "lgamma": lgamma}).run()
    assert [node.operation for node in graph.nodes] == ["lgamma", "elementwise"]
    with pytest.raises(ExportError, match=r"1: operator aten\.relu\.default is not supported"):
        Tracer(program, {"lgamma": lgamma}).run()
