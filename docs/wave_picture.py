"""Draws ``docs/images/wave.svg``: what `PeriodicSign` makes of a latent weight in both stages, and its gradient.

    python docs/wave_picture.py

The picture is kept in the repository, because the README shows it. ``tests/test_docs.py`` compares it with what this
script draws.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from biper.quantizers import PeriodicSign

PICTURE = Path(__file__).parent / "images" / "wave.svg"
FREQUENCY = 20.0
SPAN = 0.4
"""Weights from minus this to this are drawn."""
POINTS = 401
WIDTH, HEIGHT, LEFT, TOP, GAP = 640, 300, 56, 34, 50
PLOT = WIDTH - LEFT - 20
ROW = (HEIGHT - TOP - GAP - 36) // 2


def curves() -> dict[str, list[tuple[float, float]]]:
    """Points (weight, value) of the sine, of its signs, and of the gradient divided by the frequency."""
    weights = torch.linspace(-SPAN, SPAN, POINTS, dtype=torch.float64, requires_grad=True)
    values = {stage: PeriodicSign(FREQUENCY, stage)(weights) for stage in ("relaxed", "binary")}
    (gradient,) = torch.autograd.grad(values["binary"].sum(), weights)
    values["gradient"] = gradient / FREQUENCY
    xs = weights.detach().tolist()
    return {name: list(zip(xs, ys.detach().tolist(), strict=True)) for name, ys in values.items()}


def place(weight: float, value: float, row: int) -> tuple[float, float]:
    """Where a point of a row is drawn, in pixels."""
    x = LEFT + (weight + SPAN) / (2 * SPAN) * PLOT
    y = TOP + row * (ROW + GAP) + (1 - value) / 2 * ROW
    return x, y


def line(points: list[tuple[float, float]], row: int, colour: str, name: str, extra: str = "") -> str:
    """One curve."""
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point, row) for point in points))
    return f'<polyline id="{name}" points="{drawn}" fill="none" stroke="{colour}" stroke-width="2.2" {extra}/>'


def text(x: float, y: float, words: str, colour: str = "#444", anchor: str = "start", size: int = 13) -> str:
    """One label."""
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}" text-anchor="{anchor}" font-size="{size}">{words}</text>'


def axes(row: int, top: str, bottom: str) -> list[str]:
    """The zero line of a row, its two labels, and a mark wherever a weight changes its sign."""
    _, zero = place(0, 0, row)
    parts = [f'<line x1="{LEFT}" y1="{zero:.1f}" x2="{LEFT + PLOT}" y2="{zero:.1f}" stroke="#bbb"/>']
    for value, label in ((1, top), (-1, bottom)):
        _, y = place(0, value, row)
        parts.append(text(LEFT - 8, y + 4, label, anchor="end", size=12))
    period = math.pi / FREQUENCY
    for step in range(-int(SPAN / period), int(SPAN / period) + 1):
        x, _ = place(step * period, 0, row)
        parts.append(f'<line x1="{x:.1f}" y1="{zero - 4:.1f}" x2="{x:.1f}" y2="{zero + 4:.1f}" stroke="#999"/>')
    return parts


def draw() -> str:
    """The picture as SVG."""
    points = curves()
    blue, orange, green = "#3949ab", "#e65100", "#2e7d32"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" role="img">',
        f"<title>The sine and the square wave of frequency {FREQUENCY:g}, and the gradient of both</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#fff"/>',
        *axes(0, "+1", "-1"),
        line(points["relaxed"], 0, blue, "relaxed"),
        line(points["binary"], 0, orange, "binary", 'stroke-linejoin="round"'),
        text(LEFT, 20, "stage 1: sin(ω w)", blue),
        text(LEFT + 140, 20, "stage 2: +1 if sin(ω w) ≥ 0, else -1", orange),
        *axes(1, "+ω", "-ω"),
        line(points["gradient"], 1, green, "gradient"),
        text(LEFT, TOP + ROW + GAP - 14, "gradient in both stages: ω cos(ω w)", green),
    ]
    for weight in (-0.4, -0.2, 0.0, 0.2, 0.4):
        x, y = place(weight, -1, 1)
        parts.append(text(x, y + 18, f"{weight:g}", anchor="middle", size=12))
    x, y = place(0, -1, 1)
    parts.append(text(x, y + 32, f"latent weight w, for frequency ω = {FREQUENCY:g}", anchor="middle", size=12))
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
