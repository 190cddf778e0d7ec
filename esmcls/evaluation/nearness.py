"""How near test proteins are to those that models were trained on: by identity where MMseqs2 is there, else by cosine.

What was searched for once is kept in reports/identities/, by the sequences and the engine.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch

from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.errors import EngineError, EsmclsError
from esmcls.evaluation.neighbours import nearest_in_cache
from esmcls.heads.alignment import search as engines
from esmcls.metrics.classification import Floats
from esmcls.plain_values import read_json, write_json
from esmcls.programs import run_program
from esmcls.tasks.closeness import Nearness
from esmcls.types import Indices
from esmcls.workspace.workspace import Workspace

MOST: Final = 5000
"""Test proteins that are looked at; of more, so many are drawn."""
LEAST: Final = (0.3, 0.5, 0.7, 0.9)
"""Identities from which a new bin begins."""
NAMES: Final = ("no alignment", "< 30 %", "30–50 %", "50–70 %", "70–90 %", "≥ 90 %")
COSINE_BINS: Final = 5
_BY_IDENTITY: Final = (
    "The highest share of identical residues in an alignment with a protein that was trained on, of those that cover "
    "half of the test protein or more (MMseqs2 {}, E ≤ 0.001)."
)
_BY_COSINE: Final = (
    "The cosine of a test protein’s {} vector with the nearest one that was trained on, in bins of about as many "
    "proteins each: {}, which would tell the identity of sequences."
)
_SEARCH: Final = (
    *("-s", "5.7", "-e", "0.001", "-c", "0.5", "--cov-mode", "2", "--alignment-mode", "3", "--dbtype", "1"),
    *("--format-output", "query,fident", "-v", "1"),
)
"""Of `mmseqs easy-search`: alignments that cover half of the query, identical residues counted in each."""


def nearness(
    asked: Sequence[tuple[Dataset, Dataset]], workspace: Workspace | None, cache: EmbeddingCache | None = None
) -> Nearness | None:
    """Measure how near each test protein is to its nearest training protein; None where nothing can tell.

    Parameters
    ----------
    asked : sequence of (Dataset, Dataset)
        Test and training proteins: one such pair, or one of each fold, whose test proteins stand one after another.
    workspace : Workspace or None
        Where what was searched for is kept.
    cache : EmbeddingCache, optional
        Of the vectors of all, for where MMseqs2 is not installed.
    """
    measured = [_measure(test, train, workspace, cache) for test, train in asked]
    known = [part for part in measured if part is not None]
    if len(known) < len(measured) or len({part.sentence for part in known}) != 1:
        return None
    values = np.concatenate([part.values for part in known])
    looked_at = ~np.isneginf(values)
    names, bins = (_identity_bins if known[0].by_identity else _cosine_bins)(values[looked_at])
    places = np.full(len(values), -1, dtype=np.int64)
    places[looked_at] = bins
    drawn = f" {looked_at.sum():,} of the {len(values):,} test proteins were looked at, drawn by chance."
    relatives = [part.relatives for part in known if part.relatives is not None]
    counts = np.concatenate(relatives) if len(relatives) == len(known) else None
    return Nearness(known[0].sentence + ("" if looked_at.all() else drawn), names, places, counts)


class _Measured(NamedTuple):
    """How near each test protein is: NaN where nothing aligns with it, minus infinity where it was not looked at.

    `relatives` counts the training proteins that align, -1 where it was not looked at; None where nobody counted.
    """

    sentence: str
    by_identity: bool
    values: Floats
    relatives: Indices | None = None


def _measure(
    test: Dataset, train: Dataset, workspace: Workspace | None, cache: EmbeddingCache | None
) -> _Measured | None:
    if not len(test) or not len(train):
        return None
    rows = _looked_at(test.sequences)
    queries = [test.sequences[row] for row in rows]
    values = np.full(len(test), -np.inf)
    program, reason = shutil.which(engines.PROGRAM), "MMseqs2 is not installed here"
    if program is not None:
        try:
            version, aligned = _aligned(program, queries, train, workspace)
            values[rows] = [np.nan if value is None else value for value in aligned.identities]
            return _Measured(_BY_IDENTITY.format(version), True, values, aligned.spread(rows, len(test)))
        except EngineError as error:
            reason = f"MMseqs2 failed ({error})"
    if cache is None:
        return None
    pooling = cache.spec.pooled[0]
    try:
        values[rows], _ = nearest_in_cache(cache.read(queries, pooling), cache, train.sequences, pooling)
    except EsmclsError:  # the vectors of one are not there
        return None
    return _Measured(_BY_COSINE.format(cache.spec.short_name, reason), False, values)


def _looked_at(sequences: Sequence[str]) -> list[int]:
    """Return the rows to look at: all, or `MOST` that are drawn by their sequences, in order."""
    if len(sequences) <= MOST:
        return list(range(len(sequences)))
    keys = [hashlib.sha256(sequence.encode()).digest() for sequence in sequences]
    return sorted(sorted(range(len(sequences)), key=lambda row: (keys[row], row))[:MOST])


# By identity


def _identity_bins(identities: Floats) -> tuple[tuple[str, ...], Indices]:
    """Return the names of the bins and the bin of each identity; NaN where nothing aligns.

    Examples
    --------
    >>> _identity_bins(np.array([np.nan, 0.2, 0.3, 0.95]))[1].tolist()
    [0, 1, 2, 5]
    """
    return NAMES, np.where(np.isnan(identities), 0, 1 + np.searchsorted(LEAST, identities, side="right"))


class _Aligned(NamedTuple):
    """Of each query the highest identity, None where nothing aligns, and how many do; None where none counted them."""

    identities: list[float | None]
    counts: list[int] | None

    def spread(self, rows: Sequence[int], n: int) -> Indices | None:
        """Return the counts of n proteins of which those of some rows were the queries, -1 of the others."""
        if self.counts is None:
            return None
        counts = np.full(n, -1, dtype=np.int64)
        counts[rows] = self.counts
        return counts


def _aligned(program: str, queries: list[str], train: Dataset, workspace: Workspace | None) -> tuple[str, _Aligned]:
    """Return MMseqs2's version and what aligns with each query, from an earlier search if there was one."""
    version = _run(program, "version").strip()
    targets = list(dict.fromkeys(train.sequences))
    facts = "\n".join([version, *_SEARCH, "", *queries, "", *sorted(targets)])
    file = None if workspace is None else workspace.reports / "identities" / f"{_digest(facts)}.json"
    aligned = None if file is None else _kept(file, len(queries))
    if aligned is None:
        aligned = _search(program, queries, targets)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {"format": 1, **aligned._asdict()})
    return version, aligned


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _kept(path: Path, n: int) -> _Aligned | None:
    """Return what was kept; None where there is nothing, or not of so many proteins. 0.1.0 kept no counts."""
    try:
        stored = read_json(path)
        values, counts = stored["identities"], stored.get("counts")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    counted = isinstance(counts, list) and len(counts) == n and all(isinstance(number, int) for number in counts)
    sound = isinstance(values, list) and all(value is None or isinstance(value, (int, float)) for value in values)
    return _Aligned(values, counts if counted else None) if sound and len(values) == n else None


def _search(program: str, queries: list[str], targets: list[str]) -> _Aligned:
    best: list[float | None] = [None] * len(queries)
    counts = [0] * len(queries)
    with tempfile.TemporaryDirectory(prefix="esmcls-identity-") as folder:
        place = Path(folder)
        for name, sequences in (("queries", queries), ("targets", targets)):
            lines = (f">{row}\n{sequence}\n" for row, sequence in enumerate(sequences))
            (place / f"{name}.fasta").write_text("".join(lines), encoding="ascii")
        paths = (place / "queries.fasta", place / "targets.fasta", place / "hits.tsv", place / "steps")
        try:
            _run(program, "easy-search", *map(str, paths), *_SEARCH, "--threads", str(torch.get_num_threads()))
        except EngineError as error:
            if "No k-mer could be extracted" in error.said:
                return _Aligned(best, counts)
            raise
        for line in (place / "hits.tsv").read_text(encoding="ascii").splitlines():
            query, identity = line.split("\t")
            best[int(query)] = max(best[int(query)] or 0.0, float(identity))
            counts[int(query)] += 1
    return _Aligned(best, counts)


def _run(program: str, command: str, *arguments: str) -> str:
    try:
        code, out, err = run_program([program, command, *arguments])
    except OSError as error:
        raise EngineError("mmseqs", f"cannot be run ({error})", "install it again") from error
    if code:
        last = ([line.strip() for line in err.splitlines() if line.strip()] or ["it said nothing"])[-1]
        failure = f"`mmseqs {command}` ended with exit code {code}: {last}"
        raise EngineError("mmseqs", failure, "check memory, disk and TMPDIR", out + err)
    return out


# By cosine


def _cosine_bins(cosines: Floats) -> tuple[tuple[str, ...], Indices]:
    """Return bins of about as many proteins each, by cosines to three places.

    Examples
    --------
    >>> names, places = _cosine_bins(np.array([0.9, 0.5, 0.95, 0.7, 0.1]))
    >>> names[0], names[-1], places.tolist()
    ('< 0.500', '≥ 0.950', [3, 1, 4, 2, 0])
    """
    rounded = np.floor(np.round(cosines * 1000, 1)) / 1000
    ordered = np.sort(rounded)
    firsts = np.unique(ordered[[len(ordered) * place // COSINE_BINS for place in range(COSINE_BINS)]])
    places = (np.searchsorted(firsts, rounded, side="right") - 1).astype(np.int64)
    ends = [f"{first:.3f}" for first in firsts]
    middle = [f"{low}–{high}" for low, high in itertools.pairwise(ends[1:])]
    names = (f"< {ends[1]}", *middle, f"≥ {ends[-1]}") if len(ends) > 1 else ("all alike",)
    return names, places
