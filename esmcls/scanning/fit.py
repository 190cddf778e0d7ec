"""From domains to a scanner: proteins put together, two heads fitted on their residues and windows, then calibrated.

domains + linkers ─▶ chains ─▶ residue vectors ─▶ rows of residues and of windows ─▶ two heads
validation domains + other linkers ─▶ chains, and the same shuffled ─▶ candidate windows ─▶ judge
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.errors import UsageError
from esmcls.heads.layers.linear import LinearConfig, LinearHead
from esmcls.labels.labels import Labels
from esmcls.scanning.chains import Annotated, Place, chains, found_in, shuffled, without_domains
from esmcls.scanning.judge import Judge, calibration, fit_scores, tail
from esmcls.scanning.scanner import Recogniser, ResidueVectors, ScanConfig, Scanner
from esmcls.scanning.selection import best_set
from esmcls.scanning.windows import Lengths, Windows, means, running_means, sums_from_start
from esmcls.types import Floats, Indices, Vectors

RESIDUES: Final = 25
"""Residues of a domain that the head of residues is fitted on; of what is none of these, one in four."""
RIGHT: Final = 0.5
"""The reciprocal overlap from which a domain is found."""
CLOSE: Final = 0.75
"""The one from which a window is a good one, which the choice between windows is made by."""
APART: Final = 0.3
"""The one up to which a window is none of these."""
LEAST_SCORE: Final = -4.0
"""Log odds of windows that calibration looks at."""

Rows: TypeAlias = tuple[Vectors, Indices]
"""Vectors and the code of each."""
NamedDomains: TypeAlias = Sequence[tuple[str, str]]
"""Residues and family of each."""


@dataclass(frozen=True)
class Material:
    """What a scanner is fitted on.

    Parameters
    ----------
    train, validation : sequences of (str, str)
        Domains: their residues and family. Those of validation whose family has no training domain are left out.
    linkers : sequence of str
        Stretches of proteins without a domain of these families; without any, shuffled pieces of domains stand in.
    proteins : sequence of str
        Whole proteins; those that hold a training domain, residue by residue, are learnt from, too.
    """

    train: NamedDomains
    validation: NamedDomains
    linkers: Sequence[str] = ()
    proteins: Sequence[str] = ()


def fit_scanner(
    material: Material,
    spec: EmbeddingSpec,
    residue_vectors: ResidueVectors,
    config: ScanConfig | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> Scanner:
    """Fit and calibrate a scanner.

    Parameters
    ----------
    material : Material
    spec : EmbeddingSpec
        Of the vectors.
    residue_vectors : callable
        Makes them.
    config : ScanConfig, optional
    seed : int
    device : str

    Raises
    ------
    UsageError
        If there are no training domains, none of validation of a family that is trained on, or none is recognised.
    """
    config = config or ScanConfig()
    families = tuple(sorted({family for _, family in material.train}))
    code_of = {family: code for code, family in enumerate(families)}
    train = [(residues, code_of[family]) for residues, family in material.train]
    held = [(residues, code_of[family]) for residues, family in material.validation if family in code_of]
    if not train or not held:
        which = "training" if not train else "validation"
        raise UsageError(f"there are no {which} domains of any family; embed a labelled data set with both parts")
    lengths, codes = np.array([(len(residues), code) for residues, code in train]).T
    for_train, for_held = linkers_for(material, train, seed)
    proteins = chains(train, for_train, len(families), seed) + found_in(material.proteins, train)
    checked = chains(held, for_held, len(families), seed + 1)
    checked += without_domains(shuffled([protein.sequence for protein in checked], seed), len(families))
    names = (*families, _unlike(families))
    size = Lengths.of(lengths, codes, len(families), config.lengths)
    drawn = [
        _Rows(config, size, len(families), seed + part).of(proteins_of, residue_vectors)
        for part, proteins_of in enumerate((proteins, checked))
    ]
    (residues, windows), (held_residues, held_windows) = drawn
    heads = [
        _head(names, rows, validation, seed, device)
        for rows, validation in ((residues, held_residues), (windows, held_windows))
    ]
    recogniser = Recogniser(heads[0], heads[1], size, config)
    judge = _judge(recogniser, checked, residue_vectors)
    sizes = tuple(int(np.median(lengths[codes == code])) for code in range(len(families)))
    return Scanner(families, sizes, spec, recogniser, judge)


def _unlike(families: Sequence[str]) -> str:
    """Return a name for none of these that no family has."""
    name = "none of these"
    while name in families:
        name += "_"
    return name


def linkers_for(material: Material, train: Sequence[tuple[str, int]], seed: int) -> tuple[list[str], list[str]]:
    """Return the linkers for training, and a fifth of them for validation."""
    linkers = [linker for linker in material.linkers if linker]
    if not linkers:
        linkers = shuffled([residues[: len(residues) // 2 + 1] for residues, _ in train], seed)
    order = np.random.default_rng(seed).permutation(len(linkers)).tolist()
    few = max(1, len(linkers) // 5)
    return [linkers[row] for row in order[few:]] or linkers, [linkers[row] for row in order[:few]]


def _head(names: tuple[str, ...], rows: Rows, held: Rows, seed: int, device: str) -> LinearHead:
    """Fit a linear head that chooses on the held rows."""
    validation = Features.from_arrays(held[0]), Labels(names, held[1])
    head = LinearHead(LinearConfig(epochs=4), device)
    return head.fit(Features.from_arrays(rows[0]), Labels(names, rows[1]), validation, seed)


class _Rows:
    """Draws rows to fit heads on from proteins: of residues, and of windows."""

    def __init__(self, config: ScanConfig, lengths: Lengths, n_families: int, seed: int) -> None:
        self.config, self.lengths, self.none = config, lengths, n_families
        self.draw = np.random.default_rng(seed)

    def of(self, proteins: Sequence[Annotated], residue_vectors: ResidueVectors) -> tuple[Rows, Rows]:
        """Return the rows of residues and those of windows."""
        of_residues: list[Rows] = []
        of_windows: list[Rows] = []
        vectors = residue_vectors([protein.sequence for protein in proteins])
        for protein, rows in zip(proteins, vectors, strict=True):
            wide = rows.astype(np.float32)
            positions = self._positions(protein)
            if len(positions):
                smooth = running_means(wide, self.config.smooth)[positions].astype(rows.dtype)
                of_residues.append((smooth, protein.codes[positions]))
            windows = self._windows(protein)
            if len(windows):
                sums = sums_from_start(wide)
                of_windows.append((means(sums, windows.starts, windows.ends).astype(rows.dtype), windows.codes))
        return _joined(of_residues), _joined(of_windows)

    def _positions(self, protein: Annotated) -> Indices:
        """Return positions whose residues are taken."""
        parts = [self._some(np.arange(place.start, place.end), RESIDUES) for place in protein.places]
        none = np.flatnonzero(protein.codes == self.none)
        return np.concatenate([*parts, self._some(none, -(-len(none) // 4))]).astype(np.int64)

    def _some(self, positions: Indices, most: int) -> Indices:
        return self.draw.permutation(positions)[:most]

    def _windows(self, protein: Annotated) -> Windows:
        """Return each domain as it is, with its ends moved a bit, and windows that are none of these."""
        rows = []
        for place in protein.places:
            rows.append((place.start, place.end, place.code))
            slack = (place.end - place.start) // 8
            start, end = self.draw.integers(-slack, slack + 1, size=2).tolist()
            rows.append((max(0, place.start + start), min(len(protein.sequence), place.end + end), place.code))
        for length in self.draw.choice(self.lengths.tried, size=2 * len(protein.places) + 1).tolist():
            if length < len(protein.sequence):
                start = int(self.draw.integers(len(protein.sequence) - length + 1))
                if self._is_none(protein, start, start + length):
                    rows.append((start, start + length, self.none))
        return Windows(*np.array(rows, dtype=np.int64).reshape(-1, 3).T)

    def _is_none(self, protein: Annotated, start: int, end: int) -> bool:
        known = bool((protein.codes[start:end] >= 0).all())
        return known and all(place.overlap(start, end) <= APART for place in protein.places)


def _joined(parts: Sequence[Rows]) -> Rows:
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([codes for _, codes in parts])


def overlaps(windows: Windows, places: Sequence[Place]) -> Floats:
    """Return the largest reciprocal overlap of each window with a domain of its family, (windows,)."""
    rows = zip(windows.starts.tolist(), windows.ends.tolist(), windows.codes.tolist(), strict=True)
    return np.array(
        [
            max((place.overlap(start, end) for place in places if place.code == code), default=0.0)
            for start, end, code in rows
        ]
    )


def _judge(recogniser: Recogniser, proteins: Sequence[Annotated], residue_vectors: ResidueVectors) -> Judge:
    """Fit on the candidates of proteins whose domains are all known, those without any shuffled ones."""
    found = []
    vectors = residue_vectors([protein.sequence for protein in proteins])
    for protein, rows in zip(proteins, vectors, strict=True):
        windows, measures = recogniser.candidates(rows)
        found.append((protein, windows, measures, overlaps(windows, protein.places)))
    close = np.concatenate([shares for *_, shares in found]) >= CLOSE
    judge = fit_scores(np.concatenate([measures for _, _, measures, _ in found]), close)
    scores, right, chance = [], [], []
    for protein, windows, measures, shares in found:
        of_windows = judge.scores(measures)
        chosen = best_set(windows, of_windows - LEAST_SCORE)
        scores += of_windows[chosen].tolist()
        right += (shares[chosen] >= RIGHT).tolist()
        chance += of_windows[chosen].tolist() if not protein.places else []
    slope, offset = calibration(np.array(scores), np.array(right, dtype=bool))
    residues = sum(len(protein.sequence) for protein in proteins if not protein.places)
    rate, location, scale = tail(np.array(chance), residues)
    return replace(judge, slope=slope, offset=offset, rate=rate, location=location, scale=scale)
