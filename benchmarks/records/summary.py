"""The table of the README, from the record of a machine."""

from __future__ import annotations

from records.schema import Record, RecordError
from records.tables import markdown, milliseconds


def summary(record: Record) -> str:
    """The table of the README: one image, biper beside the best engine of each kind, networks with float32 layers.

    Raises:
        RecordError: the record has no comparison of engines.
    """
    if record.comparisons.engines is None:
        raise RecordError(f"{record.machine.title}: no engines were compared there, so there is no summary")
    found = [row for row in record.comparisons.engines.rows if row.batch == 1 and "float layers" not in row.network]
    lines = []
    for network in dict.fromkeys(row.network for row in found):
        mine = {row.engine: row for row in found if row.network == network}
        kinds = (
            [row for name, row in mine.items() if name.endswith(" float32")],
            [row for name, row in mine.items() if name.endswith(" int8")],
            [row for name, row in mine.items() if name == "openvino binary"],
        )
        best = [f"{min(row.ratio for row in kind):.1f} times" if kind else "" for kind in kinds]
        lines.append([network, milliseconds(mine["biper"].median), *best])
    heads = ["one image, one core", "biper", "best float32 takes", "best int8", "OpenVINO's binary operator"]
    return markdown(heads, lines)
