"""From domains to a scanner: templates of training domains as they are within proteins, then what chance gives.

domains + linkers ─▶ chains ─▶ residue vectors ─▶ templates;  the same shuffled ─▶ what templates score by chance
validation domains + other linkers ─▶ chains, and shuffled ones ─▶ aligned with training domains ─▶ judge
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, TypeAlias

import numpy as np

from esmcls.cache.spec import EmbeddingSpec
from esmcls.errors import UsageError
from esmcls.heads.alignment.residues.reduction import Codes, Reduction
from esmcls.scanning.chains import Annotated, Place, chains, found_in, shuffled, without_domains
from esmcls.scanning.judge import Judge, calibration, fit_scores, tail
from esmcls.scanning.scanner import ResidueVectors, Scanner
from esmcls.scanning.selection import best_set
from esmcls.scanning.templates import Templates
from esmcls.scanning.windows import Windows
from esmcls.types import Floats, Vectors

RIGHT: Final = 0.5
"""The reciprocal overlap from which a domain is found."""
CLOSE: Final = 0.75
"""The one from which a window is a good one, which the choice between windows is made by."""
LEAST_SCORE: Final = -4.0
"""Log odds of windows that calibration looks at."""
SAMPLED: Final = 60_000
"""Residues that the reduction is fitted on."""
DECOYS: Final = 60_000
"""Residues of shuffled proteins that templates are aligned with; the judge learns chance from as many others."""
DECOYS_OF_RESIDUE: Final = 10
"""For each residue of the chains, at most."""

NamedDomains: TypeAlias = Sequence[tuple[str, str]]
"""Residues and family of each."""
CodedDomains: TypeAlias = Sequence[tuple[str, int]]
"""Residues of each and the code of its family."""


@dataclass(frozen=True)
class ScanConfig:
    """What proteins are aligned with.

    Parameters
    ----------
    members : int
        Domains of a family, at most: the more, the slower. When to change: families are diverse and time is there.
    components : int
        Principal components of residue vectors that are compared, a byte each a residue of a template. When to
        change: the scanner's folder is too large.
    """

    members: int = 20
    components: int = 64


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
        Whole proteins; a training domain that one holds, residue by residue, is taken as it is there.
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

    Raises
    ------
    UsageError
        If there are no training domains, none of validation of a family that is trained on, or none is recognised.
    """
    config = config or ScanConfig()
    families = tuple(sorted({family for _, family in material.train}))
    code_of = {family: code for code, family in enumerate(families)}
    every = [(residues, code_of[family]) for residues, family in material.train]
    train = first_of_each(every, config.members, seed)
    known = [(residues, code_of[family]) for residues, family in material.validation if family in code_of]
    held = first_of_each(known, config.members, seed)
    if not train or not held:
        which = "training" if not train else "validation"
        raise UsageError(f"there are no {which} domains of any family; embed a labelled data set with both parts")
    for_train, for_held = linkers_for(material, train, seed)
    learnt = found_in(material.proteins, train) + chains(train, for_train, len(families), seed)
    checked = chains(held, for_held, len(families), seed + 1)

    reduction, vectors = _reduced([protein.sequence for protein in learnt], residue_vectors, config.components)
    of_train = _domain_codes(learnt, vectors, reduction)
    of_held = _domain_codes(checked, residue_vectors([protein.sequence for protein in checked]), reduction)
    room = Counter(dict.fromkeys(range(len(families)), config.members)) - Counter(code for _, code in of_train)
    rows = [*of_train, *_within(of_held, room)]
    sequences = [protein.sequence for protein in [*learnt, *checked]]
    templates = Templates.of(rows, reduction).fitted(residue_vectors(decoys(sequences, seed)))
    of_chance = without_domains(decoys(sequences, seed + 1), len(families))
    judge, share = _judge(templates.take(np.arange(len(of_train))), [*checked, *of_chance], residue_vectors)
    judge = replace(judge, rate=judge.rate * len(rows) / len(of_train))  # validation domains are templates now, too
    sizes = [[len(residues) for residues, family in every if family == code] for code in range(len(families))]
    return Scanner(families, tuple(int(np.median(of_family)) for of_family in sizes), spec, templates, judge, share)


def first_of_each(domains: CodedDomains, most: int, seed: int) -> list[tuple[str, int]]:
    """Return domains in any order, `most` different ones of a family at most.

    Examples
    --------
    >>> sorted(first_of_each([("MK", 0), ("MK", 0), ("VA", 0), ("GG", 1)], most=2, seed=0))
    [('GG', 1), ('MK', 0), ('VA', 0)]
    """
    different = list(dict.fromkeys(domains))
    counts: Counter[int] = Counter()
    chosen = []
    for row in np.random.default_rng(seed).permutation(len(different)).tolist():
        code = different[row][1]
        counts[code] += 1
        if counts[code] <= most:
            chosen.append(different[row])
    return chosen


def linkers_for(material: Material, train: CodedDomains, seed: int) -> tuple[list[str], list[str]]:
    """Return the linkers for training, and a fifth of them for validation."""
    linkers = [linker for linker in material.linkers if linker]
    if not linkers:
        linkers = shuffled([residues[: len(residues) // 2 + 1] for residues, _ in train], seed)
    order = np.random.default_rng(seed).permutation(len(linkers)).tolist()
    few = max(1, len(linkers) // 5)
    return [linkers[row] for row in order[few:]] or linkers, [linkers[row] for row in order[:few]]


def decoys(sequences: Sequence[str], seed: int) -> list[str]:
    """Return sequences with their residues in any order, each several times where that takes few residues."""
    total = sum(map(len, sequences))
    enough = min(DECOYS, DECOYS_OF_RESIDUE * total)
    order = np.random.default_rng(seed).permutation(len(sequences)).tolist()
    taken: list[str] = []
    residues = 0
    while residues < enough:
        for row in order:
            if residues < enough:
                taken.append(sequences[row])
                residues += len(sequences[row])
    return shuffled(taken, seed)


def _reduced(
    sequences: Sequence[str], residue_vectors: ResidueVectors, components: int
) -> tuple[Reduction, Iterator[Vectors]]:
    """Fit the reduction on the first proteins; return it and the vectors of all of them, as they come."""
    stream = iter(residue_vectors(sequences))
    sample: list[Vectors] = []
    while sum(map(len, sample)) < SAMPLED and (vectors := next(stream, None)) is not None:
        sample.append(vectors)
    reduction = Reduction.of(np.concatenate(sample).astype(np.float32)[:SAMPLED], components)
    return reduction, chain(sample, stream)


def _domain_codes(
    proteins: Sequence[Annotated], vectors: Iterable[Vectors], reduction: Reduction
) -> list[tuple[Codes, int]]:
    """Return the reduced residues of each domain of proteins, where it is first met, and the code of its family."""
    codes: dict[tuple[str, int], Codes] = {}
    for protein, rows in zip(proteins, vectors, strict=True):
        for place in protein.places:
            domain = protein.sequence[place.start : place.end], place.code
            if domain not in codes:
                codes[domain] = reduction.codes(rows[place.start : place.end])
    return [(rows, code) for (_, code), rows in codes.items()]


def _within(domains: Sequence[tuple[Codes, int]], room: Counter[int]) -> list[tuple[Codes, int]]:
    """Return domains for which their family has room."""
    left = room.copy()
    chosen = []
    for codes, family in domains:
        if left[family] > 0:
            left[family] -= 1
            chosen.append((codes, family))
    return chosen


def overlaps(windows: Windows, places: Sequence[Place]) -> Floats:
    """Return the largest reciprocal overlap of each window with a domain of its family, (windows,)."""
    rows = zip(windows.starts.tolist(), windows.ends.tolist(), windows.codes.tolist(), strict=True)
    return np.array(
        [
            max((place.overlap(start, end) for place in places if place.code == code), default=0.0)
            for start, end, code in rows
        ]
    )


def _judge(templates: Templates, proteins: Sequence[Annotated], residue_vectors: ResidueVectors) -> tuple[Judge, float]:
    """Fit on the candidates of proteins whose domains are all known; return the judge and the share that it finds."""
    candidates = []
    vectors = residue_vectors([protein.sequence for protein in proteins])
    for protein, rows in zip(proteins, vectors, strict=True):
        windows, measures = templates.candidates(rows)
        candidates.append((protein, windows, measures, overlaps(windows, protein.places)))
    close = np.concatenate([shares for *_, shares in candidates]) >= CLOSE
    judge = fit_scores(np.concatenate([measures for _, _, measures, _ in candidates]), close)
    scores: list[float] = []
    right: list[bool] = []
    chance: list[float] = []
    for protein, windows, measures, shares in candidates:
        of_windows = judge.scores(measures)
        chosen = best_set(windows, of_windows - LEAST_SCORE)
        scores += of_windows[chosen].tolist()
        right += (shares[chosen] >= RIGHT).tolist()
        chance += of_windows[chosen].tolist() if not protein.places else []
    slope, offset = calibration(np.array(scores), np.array(right, dtype=bool))
    residues = sum(len(protein.sequence) for protein in proteins if not protein.places)
    rate, location, scale = tail(np.array(chance), residues)
    judge = replace(judge, slope=slope, offset=offset, rate=rate, location=location, scale=scale)
    probable = judge.log_odds(np.array(scores)) > 0
    places = sum(len(protein.places) for protein in proteins)
    return judge, float((probable & np.array(right, dtype=bool)).sum() / places)
