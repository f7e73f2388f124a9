"""Runs a packed model on pictures, with NumPy and Pillow, without PyTorch.

python examples/run_packed.py digits.biper picture.png ...
"""

from __future__ import annotations

import sys

from biper.runtime import Model


def main() -> None:
    """Command line."""
    path, *pictures = sys.argv[1:]
    model = Model.load(path)
    for picture, answers in zip(pictures, model.predict(pictures, top_k=3), strict=True):
        print(picture, *(f"{answer.name} {answer.probability:.1%}" for answer in answers), sep="  ")
    slowest = max(model.profile(), key=lambda row: row.seconds)
    print(f"slowest operation: {slowest.source}, {slowest.seconds * 1e6:.1f} microseconds")
    assert "torch" not in sys.modules


if __name__ == "__main__":
    main()
