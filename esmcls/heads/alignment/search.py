"""Searching training sequences by homology: MMseqs2's program, or HMMER's phmmer as a library (pyhmmer).

Both are asked the same way and answer in the same form, `Hits`. Which of them answered, and in which version, is for
the caller to keep: their bit scores and E-values are not the same.

MMseqs2: Steinegger and Söding (2017), Nat. Biotechnol. 35, 1026; phmmer: Eddy (2011), PLoS Comput. Biol. 7, e1002195,
through pyhmmer: Larralde and Zeller (2023), Bioinformatics 39, btad214.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from esmcls.errors import EngineError, MissingExtraError
from esmcls.files import temporary_folder
from esmcls.programs import run_program
from esmcls.types import Indices

EngineName: TypeAlias = Literal["mmseqs", "phmmer"]
Hit: TypeAlias = tuple[int, int, float, float]
"""Query and target as row numbers, E-value, bit score."""
Hitting: TypeAlias = Generator[Hit, None, None]

PROGRAM = "mmseqs"
"""The program that is looked for on the PATH."""
NO_WORDS = "No k-mer could be extracted"
"""The last words of MMseqs2 where every target is too short or of too low complexity to be found."""


@dataclass(frozen=True)
class Limits:
    """The limits of a search.

    Parameters
    ----------
    sensitivity : float
        MMseqs2's `-s`, 1 (fast) to 7.5; phmmer has no such choice.
    evalue : float
        Hits above are not told.
    max_hits : int
        Hits a query; MMseqs2 also aligns no more targets than these (`--max-seqs`).
    """

    sensitivity: float = 7.5
    evalue: float = 10.0
    max_hits: int = 300


@dataclass(frozen=True, eq=False)
class Hits:
    """The best hits of each query: by E-value, of equals by bit score, of equals the first target.

    Parameters
    ----------
    rows : int64 array, (n, best)
        Targets; -1 where there is no further hit.
    evalues : float64 array, (n, best)
        Infinite there.
    bits : float64 array, (n, best)
        0 there.
    """

    rows: Indices
    evalues: npt.NDArray[np.float64]
    bits: npt.NDArray[np.float64]

    @classmethod
    def none(cls, n: int, best: int) -> Hits:
        """Return n queries without a hit."""
        return cls(np.full((n, best), -1, dtype=np.int64), np.full((n, best), np.inf), np.zeros((n, best)))

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.rows)

    def take(self, queries: Indices) -> Hits:
        """Return the hits of some queries, by their numbers."""
        return Hits(self.rows[queries], self.evalues[queries], self.bits[queries])

    def put(self, query: int, hits: Iterable[Hit]) -> None:
        """Set the hits of a query, given in any order."""
        ranked = sorted((evalue, -bits, row) for _, row, evalue, bits in hits)[: self.rows.shape[1]]
        for place, (evalue, negative, row) in enumerate(ranked):
            self.rows[query, place] = row
            self.evalues[query, place] = evalue
            self.bits[query, place] = -negative


class Engine(Protocol):
    """A program or library that searches."""

    name: EngineName
    version: str

    def search(self, queries: Sequence[str], targets: Sequence[str], limits: Limits, threads: int) -> Hitting:
        """Give the hits, those of a query one after another; nothing is left behind when the iterator is closed."""
        ...


def installed(first: str = "mmseqs") -> Engine | None:
    """Return the engine of that name; where it is not installed, the other one; None where neither is."""
    for find in (_mmseqs, _phmmer) if first == "mmseqs" else (_phmmer, _mmseqs):
        if (engine := find()) is not None:
            return engine
    return None


def _mmseqs() -> Engine | None:
    program = shutil.which(PROGRAM)
    return MMseqs(program) if program is not None else None


def _phmmer() -> Engine | None:
    try:
        return Phmmer()
    except ModuleNotFoundError as error:
        if error.name != "pyhmmer":
            raise
        return None


def open_engine(name: Literal["auto"] | EngineName = "auto") -> Engine:
    """Return the engine of a name; "auto" is MMseqs2 where `mmseqs` is on the PATH, else phmmer.

    Raises
    ------
    EngineError
        If MMseqs2 is asked for and is not there.
    MissingExtraError
        If phmmer is asked for, or there is neither, and pyhmmer is not installed.
    """
    engine = installed("phmmer" if name == "phmmer" else "mmseqs")
    if engine is None or (name == "phmmer" and engine.name != name):
        raise MissingExtraError("head homology", "pyhmmer", "homology")
    if name == "mmseqs" and engine.name != name:
        raise EngineError(name, "no such program on the PATH", "install MMseqs2, or --set engine phmmer")
    return engine


def search(
    engine: Engine, queries: Sequence[str], targets: Sequence[str], limits: Limits, best: int, threads: int = 1
) -> Hits:
    """Search queries among targets, each distinct query once.

    Parameters
    ----------
    engine : Engine
        From `open_engine`.
    queries, targets : sequences of str
        Upper-case residues: the 20, X, B, U, Z and O.
    limits : Limits
    best : int
        Hits to keep a query.
    threads : int

    Returns
    -------
    Hits
        (n queries, best).

    Raises
    ------
    EngineError
        If the engine fails; its own last words are in it.

    Examples
    --------
    >>> query = "MKTAYIAKQRQISFVKSHFSRQ"
    >>> search(open_engine("phmmer"), [query], ["W" * 20, query], Limits(), best=3).rows.tolist()
    [[1, -1, -1]]
    """
    places: dict[str, int] = {}
    rows = np.array([places.setdefault(query, len(places)) for query in queries], dtype=np.int64)
    hits = Hits.none(len(places), best)
    if len(places) and len(targets):
        with contextlib.closing(engine.search(list(places), targets, limits, threads)) as answers:
            for query, group in itertools.groupby(answers, itemgetter(0)):
                hits.put(query, group)
    return hits.take(rows)


class MMseqs:
    """MMseqs2's program; its databases lie in a temporary folder for as long as a search takes."""

    name: EngineName = "mmseqs"

    def __init__(self, program: str) -> None:
        self.program = program
        self.version = self._run("version").strip()

    def search(self, queries: Sequence[str], targets: Sequence[str], limits: Limits, threads: int) -> Hitting:
        """Give the hits; see `Engine`."""
        with temporary_folder("homology") as place:
            for role, sequences in (("queries", queries), ("targets", targets)):
                self._create(place / role, sequences)
            if self._align(place, limits, threads):
                with open(place / "hits.tsv", encoding="ascii") as lines:
                    for line in lines:
                        query, target, evalue, bits = line.split("\t")
                        yield int(query), int(target), float(evalue), float(bits)

    def _create(self, path: Path, sequences: Sequence[str]) -> None:
        """Write a database in the order of `sequences`, which bears their row numbers as names."""
        fasta = path.with_suffix(".fasta")
        with open(fasta, "w", encoding="ascii") as handle:
            handle.writelines(f">{row}\n{sequence}\n" for row, sequence in enumerate(sequences))
        self._run(
            "createdb", fasta, path, "--dbtype", 1, "--shuffle", 0, "-v", 1
        )  # 1: peptides of A, C, G, T are no DNA

    def _align(self, place: Path, limits: Limits, threads: int) -> bool:
        """Search and write hits.tsv; return whether there was anything to be found."""
        both = (place / "queries", place / "targets")
        common = ("--threads", threads, "-v", 1)
        sought = ("-s", limits.sensitivity, "-e", limits.evalue, "--max-seqs", limits.max_hits)
        try:  # alignment mode 1: scores alone, no alignment is traced back
            self._run("search", *both, place / "found", place / "steps", *sought, "--alignment-mode", 1, *common)
        except EngineError as error:
            if NO_WORDS in error.said:
                return False
            raise
        columns = ("--format-output", "query,target,evalue,bits")
        self._run("convertalis", *both, place / "found", place / "hits.tsv", *columns, *common)
        return True

    def _run(self, command: str, *arguments: object) -> str:
        """Run a command of the program and return what it printed."""
        line = [self.program, command, *map(str, arguments)]
        code, out, err = run_program(line)
        if code:
            last = ([text.strip() for text in err.splitlines() if text.strip()] or ["it said nothing"])[-1]
            failure = f"`mmseqs {command}` failed with exit code {code} ({last})"
            raise EngineError("mmseqs", failure, "check memory, disk and TMPDIR, or --set engine phmmer", out + err)
        return out


class Phmmer:
    """HMMER's phmmer, in this process."""

    name: EngineName = "phmmer"

    def __init__(self) -> None:
        import pyhmmer

        self.version = str(pyhmmer.__version__)

    def search(self, queries: Sequence[str], targets: Sequence[str], limits: Limits, threads: int) -> Hitting:
        """Give the hits; see `Engine`."""
        from pyhmmer import easel, hmmer

        alphabet = easel.Alphabet.amino()

        def digital(sequences: Sequence[str]) -> Iterator[Any]:
            for row, sequence in enumerate(sequences):
                yield easel.TextSequence(name=str(row).encode(), sequence=sequence).digitize(alphabet)

        try:
            block = easel.DigitalSequenceBlock(alphabet, digital(targets))
            answers = hmmer.phmmer(digital(queries), block, cpus=max(1, threads), E=limits.evalue)
            for query, answer in enumerate(answers):
                for hit in itertools.islice(answer.reported, limits.max_hits):
                    yield query, int(hit.name), float(hit.evalue), float(hit.score)
        except (ValueError, RuntimeError) as error:
            raise EngineError(
                "phmmer", f"failed ({error})", "leave the sequence out, or --set engine mmseqs"
            ) from error
