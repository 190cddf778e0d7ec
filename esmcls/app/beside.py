"""What the page shows beside an answer: why a model says so, the domains along each protein, the map."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from esmcls.app.answers import Answers
from esmcls.files import atomic_text
from esmcls.insight.explanation.explain import Explainer
from esmcls.insight.explanation.page import explanation_page
from esmcls.insight.map.layout import require_opentsne
from esmcls.insight.map.page import map_page
from esmcls.insight.map.proteins import make_map
from esmcls.labels.kinds import ONE_LABEL
from esmcls.reading.records import Protein
from esmcls.scanning.folder import encoded, find_scanner, load_scanner
from esmcls.scanning.formats import write
from esmcls.scanning.scanner import Domain, Scanned
from esmcls.workspace.workspace import Workspace

ON_MAP: Final = 5000
"""Known proteins that are laid out, drawn where there are more: the page waits for it."""
WIDTH: Final = 1000
"""Of a drawing, in its own units."""
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def why(answers: Answers, number: int) -> str:
    """Return HTML about what each residue of a protein adds to the answer, or which known proteins it is like.

    Raises
    ------
    UsageError
        If the model's head is of a kind that says nothing of either.
    """
    explainer = Explainer(answers.model)
    explained = list(explainer.explain([answers.answered[number - 1].protein]))
    return framed(explanation_page(explained, answers.model.name, explainer.sentence), 420)


@dataclass(frozen=True)
class Domains:
    """Proteins with their domains, and as files.

    Parameters
    ----------
    scanned : list of Scanned
    paths : list of Path
    """

    scanned: list[Scanned]
    paths: list[Path]

    def drawing(self) -> str:
        """Return HTML: each protein as a line, to one scale, with its domains on it."""
        longest = max(len(chain.protein.sequence) for chain in self.scanned)
        families = sorted({domain.family for chain in self.scanned for domain in chain.domains})
        colours = {family: COLOURS[place % len(COLOURS)] for place, family in enumerate(families)}
        return "\n".join(_drawn(chain, WIDTH / longest, colours) for chain in self.scanned)


def domains(workspace: Path, proteins: Sequence[Protein], folder: Path, device: str = "cpu") -> Domains:
    """Find domains by the workspace's scanner; files go into a folder.

    Raises
    ------
    ModelError
        If the workspace has no scanner.
    UsageError
        If it has several.
    """
    scanner = load_scanner(find_scanner(workspace), device)
    scanned = list(scanner.scan(proteins, encoded(scanner.spec, device)))
    paths = [folder / "domains.tsv", folder / "domains.gff3", folder / "domains.domtblout"]
    for path in paths:
        with atomic_text(path) as handle:
            write(path.suffix.lstrip("."), scanner, scanned, handle)
    return Domains(scanned, paths)


def on_the_map(workspace: Path, answers: Answers) -> str:
    """Return HTML: the map of the workspace's proteins, with those that were asked over them.

    Raises
    ------
    MissingExtraError
        If openTSNE is not installed.
    WorkspaceError
        If the workspace has no data set, or no vectors of it.
    """
    require_opentsne()
    place = Workspace.open(workspace)
    model = answers.model if answers.model.task.kind == ONE_LABEL else None
    asked = [answered.protein for answered in answers.answered]
    drawn = make_map(place.latest_cache(), place.dataset, asked, model, most=ON_MAP)
    about = f"{drawn.known:,} known proteins and the {len(asked):,} that were asked."
    return framed(map_page(drawn, "The map", about), 720)


def framed(page: str, height: int) -> str:
    """Return a whole page as a frame in another: what it holds reaches nothing outside it."""
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(page)}" '
        f'style="width:100%;height:{height}px;border:0"></iframe>'
    )


def _drawn(scanned: Scanned, scale: float, colours: dict[str, str]) -> str:
    length = len(scanned.protein.sequence)
    boxes = "".join(_box(domain, scale, colours[domain.family]) for domain in scanned.domains)
    named = ", ".join(
        f"{html.escape(domain.family)} {domain.start}–{domain.end} ({domain.probability:.2f})"
        for domain in scanned.domains
    )
    return (
        f"<p><b>{html.escape(scanned.protein.id)}</b>, {length:,} residues: {named or 'none of these'}</p>"
        f'<div class="esmcls-strip"><svg viewBox="0 0 {WIDTH} 28" role="img" aria-label="domains">'
        f'<rect x="0" y="13" width="{length * scale:.1f}" height="2" fill="#888"/>{boxes}</svg></div>'
    )


def _box(domain: Domain, scale: float, colour: str) -> str:
    """Return a domain as a box, the paler the less sure."""
    said = f"{html.escape(domain.family)} {domain.start}–{domain.end}, probability {domain.probability:.2f}"
    at, width = (domain.start - 1) * scale, (domain.end - domain.start + 1) * scale
    return (
        f'<g><title>{said}</title><rect x="{at:.1f}" y="4" width="{width:.1f}" height="20" rx="4" fill="{colour}" '
        f'fill-opacity="{0.3 + 0.7 * domain.probability:.2f}"/></g>'
    )
