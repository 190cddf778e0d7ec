"""What the page shows of one protein: likely classes, the nearest known protein, the residues."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any, Final

from esmcls.app.answers import Answers, linked
from esmcls.labels.kinds import ONE_LABEL
from esmcls.reading.records import Protein

LINE: Final = 60
"""Residues a line."""


def details(answers: Answers, number: int) -> str:
    """Return HTML about a protein, by its number from 1."""
    protein, rows = answers.answered[number - 1].protein, answers.rows[number - 1]
    parts = [f"<h3>{html.escape(protein.id)}</h3><p>{html.escape(_described(protein))}</p>"]
    if answers.model.task.kind == ONE_LABEL and rows[0].rank is not None:
        parts.append(_classes(rows))
    if rows[0].note:
        parts.append(f"<p>Beware: {html.escape(rows[0].note)}</p>")
    parts.append(_sequence(protein))
    return "\n".join(parts)


def _described(protein: Protein) -> str:
    length = f"{len(protein.sequence):,} residues"
    return f"{protein.description}; {length}" if protein.description else length


def _classes(rows: Sequence[Any]) -> str:
    """Return the likeliest classes as bars, and the nearest known protein."""
    bars = "".join(
        f"<tr><td>{html.escape(row.label)}</td>"
        f'<td style="background:{_bar(row.probability)}">{row.probability:.3f}</td></tr>'
        for row in rows
    )
    first = rows[0]
    near = ""
    if first.nearest_id is not None:
        label = f" ({html.escape(first.nearest_label)})" if first.nearest_label else ""
        distance = "" if first.distance is None else f", distance {first.distance:.3g}"
        near = f"<p>Nearest known protein: {linked(first.nearest_id)}{label}{distance}</p>"
    return f"<table><tr><th>class</th><th>probability</th></tr>{bars}</table>{near}"


def _bar(share: float) -> str:
    """Return a background, coloured from the left as far as a share of the whole."""
    return f"linear-gradient(to right, #dbe7f5 {100 * share:.1f}%, transparent {100 * share:.1f}%)"


def _sequence(protein: Protein) -> str:
    return f'<p class="esmcls-sequence">{"<br>".join(_lines(protein.sequence))}</p>'


def _lines(sequence: str) -> Iterator[str]:
    for start in range(0, len(sequence), LINE):
        yield f"{start + 1:>6,} {html.escape(sequence[start : start + LINE])}".replace(" ", "&nbsp;")
