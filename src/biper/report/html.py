"""The parts of a self-contained page as HTML text: tables, plots, matrices and pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

import numpy as np
from PIL import Image

from biper.measure.predictions import Predictions
from biper.report.table import Column, Table

MATRIX_CLASSES = 20
"""The largest number of classes with a confusion matrix. With more, the most frequent confusions are listed."""

CONFUSIONS = 30
"""How many confusions are listed if there are too many classes for a matrix."""

THUMBNAIL = 96
"""The largest width and height of a picture on the page, in pixels."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""The content security policy: the browser loads nothing from outside the page."""


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: its title.
        lead: one or two sentences that introduce it, as HTML.
        body: its content, as HTML; an empty section is left out.
    """

    title: str
    lead: str
    body: str

    @property
    def anchor(self) -> str:
        """The name of the section in links."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


def document(title: str, subtitle: str, sections: Sequence[Section], footer: str) -> str:
    """The whole page."""
    here = resources.files("biper.report")
    style, script = (here.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    links = "\n".join(f'<a href="#{section.anchor}">{escape(section.title)}</a>' for section in sections)
    parts = "\n".join(
        f'<section id="{section.anchor}">\n<h2>{escape(section.title)}</h2>\n'
        f'<p class="lead">{section.lead}</p>\n{section.body}\n</section>'
        for section in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header><div><h1>{escape(title)}</h1>
<p>{escape(subtitle)}</p></div></header>
<nav><div>{links}
<button id="theme" type="button">Dark</button></div></nav>
<main>
{parts}
<footer>{escape(footer)}</footer>
</main>
<script>
{script}</script>
</body>
</html>
"""


def tiles(facts: Iterable[tuple[str, str, str]]) -> str:
    """The most important numbers in large type, each with its name before it and a detail after it."""
    boxes = (
        f"<div><span>{escape(what)}</span><b>{escape(value)}</b><span>{escape(detail)}</span></div>"
        for what, value, detail in facts
    )
    return f'<div class="tiles">{"".join(boxes)}</div>'


def notes(lines: Sequence[str], *, warn: bool) -> str:
    """Notes at the top of the page, one paragraph for each line; an empty text if there are none."""
    return (
        f'<div class="notes{" warn" if warn else ""}">{"".join(f"<p>{escape(line)}</p>" for line in lines)}</div>'
        if lines
        else ""
    )


def pair(columns: Sequence[tuple[str, str]]) -> str:
    """Parts (heading, HTML) side by side; a single part has no heading."""
    if len(columns) == 1:
        return columns[0][1]
    parts = "".join(f"<div><h3>{escape(heading)}</h3>{body}</div>" for heading, body in columns)
    return f'<div class="pair">{parts}</div>'


def beside(parts: Sequence[str]) -> str:
    """Parts (HTML) side by side if the screen is wide enough, else one below the other."""
    return f'<div class="beside">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def plots(drawings: Sequence[str], *, small: bool = False) -> str:
    """SVG elements in as many columns as the screen is wide enough for."""
    if not drawings:
        return ""
    return f'<div class="plots{" small" if small else ""}">{"".join(f"<div>{svg}</div>" for svg in drawings)}</div>'


def table(data: Table, *, facts: bool = False) -> str:
    """A table as HTML.

    Args:
        data: the table.
        facts: whether the table holds names and texts; otherwise a click on a column sorts the rows.
    """
    names = [column.show is None or facts for column in data.columns]
    heads = []
    for column, name in zip(data.columns, names, strict=True):
        label = escape(column.title)
        button = label if facts else f'<button type="button" title="{escape(column.meaning)}">{label}</button>'
        heads.append(f'<th scope="col"{" class=name" if name else ""}>{button}</th>')
    rows = []
    for row in data.rows:
        texts = zip(data.columns, names, row, data.text(row), strict=True)
        rows.append(f"<tr>{''.join(_cell(*each) for each in texts)}</tr>")
    head = "" if facts and len(data.columns) == 2 else f"<thead><tr>{''.join(heads)}</tr></thead>"
    meanings = [(column.title, column.meaning) for column in data.columns if column.meaning]
    text = f'<div class="scroll"><table class="{"facts" if facts else "sortable"}">{head}<tbody>'
    text += "\n".join(rows) + "</tbody></table></div>"
    if data.caption:
        text += f'<p class="caption">{escape(data.caption)}</p>'
    if meanings:
        entries = "".join(f"<dt>{escape(title)}</dt><dd>{escape(meaning)}</dd>" for title, meaning in meanings)
        text += f"<details><summary>What the columns mean</summary><dl>{entries}</dl></details>"
    return text


def confusion(answers: Predictions) -> str:
    """The confusion matrix, or the most frequent confusions if the matrix would be too large to read."""
    if len(answers.classes) > MATRIX_CLASSES:
        return table(_most_frequent_confusions(answers))
    names = [escape(name) for name in answers.classes]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = []
    for number, given in enumerate(answers.confusion):
        total = max(int(given.sum()), 1)
        cells = []
        for other, count in enumerate(given.tolist()):
            share = count / total
            what = f"{names[number]} predicted as {names[other]}: {count:,} of {total:,}"
            right = ' class="right"' if other == number else ""
            shade = 0.75 * share if other == number else min(3 * share, 0.75)
            shown = f"{count:,}" if count else "·"
            cells.append(f'<td{right} style="--share:{shade:.3f}" title="{what}">{shown}</td>')
        rows.append(f'<tr><th scope="row" class="name">{names[number]}</th>{"".join(cells)}</tr>')
    caption = "Rows: the class of an image; columns: the predicted class. Errors have three times stronger shading."
    inner = f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll matrix"><table>{inner}</table></div><p class="caption">{caption}</p>'


def pictures(answers: Predictions) -> str:
    """The errors of highest confidence, with their pictures."""
    figures = []
    for wrong in answers.wrong:
        label, answer = (escape(answers.classes[number]) for number in (wrong.label, wrong.answer))
        figures.append(
            f'<figure><img alt="image {wrong.index}, {label}" src="{_png(wrong.pixels)}"><figcaption><b>{label}</b><br>'
            f"{answer} {wrong.confidence:.0%}</figcaption></figure>"
        )
    return f'<div class="pictures">{"".join(figures)}</div>'


def _cell(column: Column, name: bool, value: object, text: str) -> str:
    """A cell of a table; ``name`` marks a column of names."""
    kinds, style = ["name"] if name else [], ""
    if column.bar and isinstance(value, float):
        kinds.append("bar")
        style = f' style="--share:{min(max(value, 0), 1):.3f}"'
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    return f'<td{kind}{style} data-value="{escape("" if value is None else str(value))}">{escape(text)}</td>'


def _most_frequent_confusions(answers: Predictions) -> Table:
    """The most frequent confusions of one class with another."""
    errors = answers.confusion.copy()
    np.fill_diagonal(errors, 0)
    rows = []
    for place in np.argsort(-errors, axis=None, kind="stable")[:CONFUSIONS].tolist():
        label, answer = divmod(place, len(answers.classes))
        if errors[label, answer]:
            total = int(answers.confusion[label].sum())
            rows.append([answers.classes[label], answers.classes[answer], int(errors[label, answer]), total])
    columns = [
        Column("class"),
        Column("predicted as"),
        Column("images", lambda count: f"{count:,}", "How often this confusion happens."),
        Column("of", lambda count: f"{count:,}", "Images of the class."),
    ]
    return Table("Most frequent confusions", columns, rows, f"The {len(rows)} most frequent confusions.")


def _png(pixels: np.ndarray) -> str:
    """Pixels (H, W, C) as a PNG in a data URL, reduced to `THUMBNAIL`."""
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()
