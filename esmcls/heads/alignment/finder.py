"""The training sequences and the search for those that align best, for whichever labels these have."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from esmcls.cache.features import Features
from esmcls.errors import EngineMismatchError, ModelError, UsageError
from esmcls.heads.alignment.search import Engine, Hits, Limits, installed, open_engine, search
from esmcls.heads.saved_tensors import AGAIN, check_codes, check_rows, pack_sequences, read_tensors, unpack_sequences
from esmcls.heads.settings import ABOVE_0, AT_LEAST_1, check_ranges
from esmcls.plain_values import read_as, write_json
from esmcls.types import Indices

KEPT_SEARCHES = 3
"""Searches whose hits are kept: a prediction asks for classes, familiarity and nearest proteins of the same rows."""


_MAJOR: Final = re.compile(r"(0\.\d+|\d+)(?![0-9a-f]*[a-f])(?:[.+-]|$)")


def major(version: str) -> str:
    """Return what two versions share whose scores are comparable: all of it where it is the name of a commit.

    Examples
    --------
    >>> [major(text) for text in ("14-7e284+ds-1", "14.7e284", "15", "0.11.1", "1.2", "6f4521aa9dbcd6a1")]
    ['14', '14', '15', '0.11', '1', '6f4521aa9dbcd6a1']
    """
    leading = _MAJOR.match(version)
    return version if leading is None else leading[1]


@dataclass(frozen=True)
class AlignmentConfig:
    """Knobs of every head that aligns sequences.

    Parameters
    ----------
    engine : {"auto", "mmseqs", "phmmer"}
        What searches: "auto" is MMseqs2 where `mmseqs` is on the PATH, else pyhmmer's phmmer. When to change:
        the model is to be used where the other one is installed: the engine is part of a model.
    version : str, optional
        Of the engine; None is the one that is installed when the head is fitted. Another build of the same
        major version will do, and is said. When to change: a fit is to fail where another version is installed.
    any_version : bool
        Predict with another major version of the engine, too. When to change: the version cannot be had any
        more, and scores that differ a little will do.
    sensitivity : float
        Of MMseqs2, 1 (fast) to 7.5; phmmer has no such choice. When to change: searching takes too long and the
        proteins have near relatives: 4 or 5.7.
    evalue : float
        Hits above do not count. A weak hit beats none: on a held-out tenth of CATH S40's training domains
        MMseqs2's top hit is right for 76.1 % with 10, 71.8 % with 0.1 and 65.8 % with 1e-3, where a third has
        no hit. When to change: no answer is better than a wrong one: 1e-3.
    max_hits : int
        Hits a query, and targets that MMseqs2 aligns with it. When to change: families have more members than
        that (raise it), or searching takes too long.
    """

    engine: Literal["auto", "mmseqs", "phmmer"] = "auto"
    version: str | None = None
    any_version: bool = False
    sensitivity: float = 7.5
    evalue: float = 10.0
    max_hits: int = 300

    def __post_init__(self) -> None:
        check_ranges(self, {"sensitivity": (1, 7.5), "evalue": ABOVE_0, "max_hits": AT_LEAST_1})


class Finder:
    """Training sequences and the engine that searches them.

    Parameters
    ----------
    config : AlignmentConfig
        Its engine and version are those to search with, and no others.
    targets, ids : lists of str
        The training sequences and their ids.

    Examples
    --------
    >>> sequences = ["MKTAYIAKQRQISFVKSHFSRQ", "GSHMLEDPVDAFWLRTYQENIC"]
    >>> x = Features.from_arrays(np.zeros((2, 0), dtype=np.float32), sequences, ["a", "b"])
    >>> finder = Finder.of(x, AlignmentConfig("phmmer"))
    >>> finder.hits(x, 1).rows.tolist(), finder.nearest(x, 1)[1]
    ([[0], [1]], ['a', 'b'])
    """

    def __init__(self, config: AlignmentConfig, targets: list[str], ids: list[str]) -> None:
        self.config = config
        self.targets = targets
        self.ids = ids
        self._engine: Engine | None = None
        self._searched: list[tuple[dict[str, int], Hits]] = []

    @classmethod
    def of(cls, x: Features, config: AlignmentConfig) -> Finder:
        """Take the sequences of training rows; nothing is searched yet, but which engine will be is settled.

        Raises
        ------
        EngineMismatchError
            If the engine is not of the version that `config` asks for.
        UsageError
            If there are vectors alone, no sequences.
        """
        engine = open_engine(config.engine)
        wanted = replace(config, engine=engine.name, version=config.version or engine.version)
        finder = cls(wanted, sequences_of(x), list(x.ids))
        finder._engine = finder._checked(engine)
        finder.config = replace(wanted, version=engine.version)
        return finder

    def hits(self, x: Features, best: int) -> Hits:
        """Return at least the best hits of sequences; those of the last few searches are not searched for again.

        Raises
        ------
        EngineMismatchError
            If the engine is not the one that the head was fitted with, in the same major version.
        UsageError
            If there are vectors alone, no sequences.
        """
        queries = sequences_of(x)
        for known, hits in self._searched:
            if hits.rows.shape[1] >= best and known.keys() >= set(queries):
                return hits.take(np.array([known[query] for query in queries], dtype=np.int64))
        limits = Limits(self.config.sensitivity, self.config.evalue, self.config.max_hits)
        hits = search(self._open(), queries, self.targets, limits, best, torch.get_num_threads())
        rows = {query: row for row, query in enumerate(queries)}
        self._searched = [(rows, hits), *self._searched[: KEPT_SEARCHES - 1]]
        return hits

    def nearest(self, x: Features, best: int) -> tuple[npt.NDArray[np.float64], list[str | None]]:
        """Return the E-value of the best hit, (n,), and the id of its training row; without one, infinity and None.

        `best` is how many hits to ask for, that others may need of the same search.
        """
        hits = self.hits(x, best)
        return hits.evalues[:, 0], [self.ids[row] if row >= 0 else None for row in hits.rows[:, 0].tolist()]

    def check_engine(self) -> None:
        """Look for the engine now, not only when something is searched.

        Raises
        ------
        EngineMismatchError
            As `hits`.
        """
        self._open()

    def _open(self) -> Engine:
        """Return the engine that the head was fitted with, found when it is first needed."""
        if self._engine is None:
            self._engine = self._checked(installed(self.config.engine))
        return self._engine

    def _checked(self, engine: Engine | None) -> Engine:
        """Refuse another engine than the head was fitted with, or another major version; tell of another build."""
        name = self.config.engine
        version = self.config.version or ""
        if engine is None or engine.name != name:
            here = f"{engine.name} {engine.version}" if engine is not None else "none"
            raise EngineMismatchError(f"{name} {version}", here)
        if major(engine.version) != major(version) and not self.config.any_version:
            raise EngineMismatchError(f"{name} {version}", f"{engine.name} {engine.version}")
        if engine.version != version:
            builds = f"the model is of search engine {name} {version}, here is {engine.version}"
            logging.getLogger("esmcls").warning("%s: scores may differ a little", builds)
        return engine

    def save(self, folder: Path, codes: Indices) -> None:
        """Write `homology.safetensors` (codes int64; sequences uint8, one a line, through zlib) and `ids.json`.

        Parameters
        ----------
        folder : Path
        codes : int64 array, (training rows,)
            The class of each; 0 where rows have no class, but labels of another kind.
        """
        tensors = {"codes": torch.from_numpy(codes), "sequences": pack_sequences(self.targets)}
        save_file(tensors, folder / "homology.safetensors")
        write_json(folder / "ids.json", self.ids)

    @classmethod
    def load(cls, folder: Path, config: AlignmentConfig, n_classes: int) -> tuple[Finder, Indices]:
        """Read what `save` wrote, of a model of so many classes: the finder and the codes.

        The engine is looked for when it is first needed.

        Raises
        ------
        ModelError
            If a file is damaged, or they do not fit one another.
        """
        path = folder / "homology.safetensors"
        state = read_tensors(path, {"codes": ("int64", "rows"), "sequences": ("uint8", "bytes")})
        targets = unpack_sequences(path, state["sequences"])
        ids = read_as(folder / "ids.json", list[str], ModelError, AGAIN)
        codes = check_codes(path, state["codes"].numpy(), max(1, n_classes))
        check_rows(path, len(targets), len(codes))
        check_rows(folder / "ids.json", len(ids), len(codes))
        return cls(config, targets, ids), codes


def sequences_of(x: Features, head: str = "homology") -> list[str]:
    """Return the sequences of rows, for a head of that name.

    Raises
    ------
    UsageError
        If one has none.
    """
    bare = x.sequences.count("")
    if bare:
        rows = f"{bare} of {len(x)} rows are vectors without a sequence"
        raise UsageError(f"head {head} reads sequences, but {rows}; give Features.from_arrays(vectors, sequences)")
    return x.sequences
