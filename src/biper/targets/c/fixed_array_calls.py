"""The calls of C operators that compute operations on arrays in integers alone."""

from __future__ import annotations

from typing import Any

from biper.targets.c.array_calls import ArrayCalls
from biper.targets.c.array_functions import REDUCTIONS


class FixedArrayCalls(ArrayCalls):
    """Writes the calls of operations on arrays, with the integers that a `FixedOperation` has beside its operation."""

    def function_fields(self) -> dict[str, Any]:
        """A table in place of the function of one value."""
        return {"table": self.lookup_table()}

    def lookup_table(self) -> str:
        """The initializer of the table of the operation."""
        table = self.step.table
        assert table is not None
        values = self.writer.table(self.index, "values", table.values)
        return f"{{{values}, {table.first}, {table.low}, {table.high}, {table.cell}}}"

    def two_values_fields(self) -> dict[str, Any]:
        """The function in int32, and by which powers of 2 values are multiplied before and after it."""
        function = self.writer.use_function("integer_binary", self.step.op.attributes["function"])
        return {"function": function, "up": self.step.up[0], "right_up": self.step.up[1], "down": self.step.down}

    def choice_fields(self) -> dict[str, Any]:
        """By which powers of 2 both values and the result are multiplied."""
        return {"yes_up": self.step.up[1], "no_up": self.step.up[2], "down": self.step.down}

    def reduction_fields(self) -> dict[str, Any]:
        """A multiplier in place of the divisor."""
        function = self.writer.use_function("integer_binary", REDUCTIONS[self.step.op.attributes["function"]])
        multiplier = 0 if self.step.multiplier is None else int(self.step.multiplier[0])
        return {"function": function, "multiplier": multiplier, "up": self.step.up[0], "down": self.step.down}

    def softmax_fields(self) -> dict[str, Any]:
        """A table of the exponential; there is no logarithm."""
        return {"table": self.lookup_table(), "down": self.step.down}

    def normalization_fields(self) -> dict[str, Any]:
        """The count, and epsilon times its square."""
        get = self.step.op.attributes
        fields = {"epsilon": self.step.epsilon, "count": self.reduced(), "center": int(get["center"])}
        return fields | {"up": self.step.up[0], "exponent": self.step.exponent}

    def product_fields(self) -> dict[str, Any]:
        """By which power of 2 sums are multiplied."""
        return {"down": self.step.down}

    def sample_fields(self) -> dict[str, Any]:
        """Weights of sums."""
        if self.step.weight is None:
            return {}
        return {"weight": self.writer.table(self.index, "weight", self.step.weight), "down": self.step.down}
