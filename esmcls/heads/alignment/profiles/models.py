"""Profile hidden Markov models as arrays: what HMMER needs of each to search with it, kept in a model folder.

A file of HMMER's own is not kept: its parser trusts what it reads, and a model folder may come from a stranger. What
a search asks of a model are its probabilities and the statistics of its scores; both are tensors that are checked.

    match        row 0, and one a position: the 20 residues, in the order of their letters; row 0 is the begin state
    transitions  as many: match to match, insertion and deletion, insertion to match and insertion, deletion to match
                 and deletion
    statistics   location and slope of the scores of random sequences: of MSV, Viterbi and Forward

Emissions of insertions are those of the background, as a search counts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from esmcls.errors import MissingExtraError, ModelError
from esmcls.heads.alignment.search import Hits
from esmcls.heads.saved_tensors import AGAIN, read_tensors
from esmcls.types import Indices

Numbers: TypeAlias = npt.NDArray[np.float32]
FILE: Final = "profiles.safetensors"
KEY: Final = 32
"""Bytes of SHA-256."""
ROUNDING: Final = 1e-3
"""That a sum of probabilities may be off by."""
LONGEST: Final = 100_000
"""Positions of a model, and residues of a sequence: HMMER's own limit."""
STRANGE: Final = 1e6
"""No location or slope of scores is larger."""
FATES: Final = {"match": slice(0, 3), "insertion": slice(3, 5), "deletion": slice(5, 7)}
"""The columns of the transitions from each state."""


@dataclass(frozen=True, eq=False)
class Profile:
    """The model of a family.

    Parameters
    ----------
    match : float32 array, (positions + 1, 20)
    transitions : float32 array, (positions + 1, 7)
    statistics : float32 array, (6,)
    """

    match: Numbers
    transitions: Numbers
    statistics: Numbers

    @classmethod
    def of(cls, model: Any) -> Profile:
        """Take what a search needs of a `pyhmmer.plan7.HMM`."""
        return cls(
            np.array(model.match_emissions, dtype=np.float32),
            np.array(model.transition_probabilities, dtype=np.float32),
            np.array(model.evalue_parameters.as_vector(), dtype=np.float32),
        )

    @property
    def usable(self) -> bool:
        """Whether it can be searched with: not where no residue of a family is known, or too few are."""
        lengths = np.array([len(self.match)])
        return not _problem(lengths, self.match, self.transitions, self.statistics[None])

    def model(self) -> Any:
        """Return the `pyhmmer.plan7.HMM`."""
        from pyhmmer import easel, plan7

        alphabet = easel.Alphabet.amino()
        name = easel.TextSequence(name=b"family", sequence="").name  # bytes, or str from pyhmmer 0.12 on
        model: Any = plan7.HMM(alphabet, len(self.match) - 1, name)
        np.asarray(model.match_emissions)[:] = self.match
        np.asarray(model.insert_emissions)[:] = np.asarray(plan7.Background(alphabet).residue_frequencies)
        np.asarray(model.transition_probabilities)[:] = self.transitions
        np.asarray(model.evalue_parameters.as_vector())[:] = self.statistics
        model.set_composition()
        model.set_consensus()
        return model


@dataclass(frozen=True)
class Filters:
    """What a search passes over.

    Parameters
    ----------
    evalue : float
        Hits above are not told.
    chances : (float, float, float)
        HMMER's F1, F2 and F3: the shares of random sequences that pass the filters of MSV, Viterbi and Forward.
    bias : bool
        Whether a sequence that fits by its composition alone is passed over.
    """

    evalue: float
    chances: tuple[float, float, float]
    bias: bool = True


def import_hmmer() -> None:
    """Make sure that both packages are there.

    Raises
    ------
    MissingExtraError
        If one is not.
    """
    for package in ("pyfamsa", "pyhmmer"):
        try:
            __import__(package)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            raise MissingExtraError("head profile", package, "profile") from None


def search_profiles(
    profiles: Sequence[Profile], queries: Sequence[str], filters: Filters, best: int, threads: int = 1
) -> Hits:
    """Search sequences with profiles, each distinct sequence once; E-values are of as many comparisons as profiles.

    Parameters
    ----------
    profiles : sequence of Profile
    queries : sequence of str
        Upper-case residues.
    filters : Filters
    best : int
        Hits to keep a query.
    threads : int

    Returns
    -------
    Hits
        (n queries, best); its rows are profiles.

    Raises
    ------
    ValueError, RuntimeError
        If HMMER cannot take a sequence.
    """
    from pyhmmer import easel, hmmer

    places: dict[str, int] = {}
    rows = np.array([places.setdefault(query, len(places)) for query in queries], dtype=np.int64)
    if not len(rows) or not profiles:
        return Hits.none(len(rows), best)
    alphabet = easel.Alphabet.amino()
    block = easel.DigitalSequenceBlock(alphabet)
    for place, query in enumerate(places):
        block.append(easel.TextSequence(name=str(place).encode(), sequence=query).digitize(alphabet))
    f1, f2, f3 = filters.chances
    answers = hmmer.hmmsearch(
        (profile.model() for profile in profiles),
        block,
        cpus=max(1, threads),
        Z=len(profiles),
        E=filters.evalue,
        F1=f1,
        F2=f2,
        F3=f3,
        bias_filter=filters.bias,
    )
    return _ranked(_told(answers), len(places), best).take(rows)


def _told(answers: Iterator[Any]) -> Iterator[tuple[int, int, float, float]]:
    """Give query, profile, E-value and bits of each hit."""
    for number, answer in enumerate(answers):
        for hit in answer.reported:
            yield int(hit.name), number, float(hit.evalue), float(hit.score)


def _ranked(told: Iterator[tuple[int, int, float, float]], n: int, best: int) -> Hits:
    """Sort hits by query, E-value, bits and profile, and keep the best of each query."""
    columns = [("query", np.int64), ("profile", np.int64), ("evalue", np.float64), ("bits", np.float64)]
    table = np.fromiter(told, dtype=columns)
    table = table[np.lexsort((table["profile"], -table["bits"], table["evalue"], table["query"]))]
    first = np.searchsorted(table["query"], table["query"])
    place = np.arange(len(table)) - first
    kept, column = table[place < best], place[place < best]
    hits = Hits.none(n, best)
    hits.rows[kept["query"], column] = kept["profile"]
    hits.evalues[kept["query"], column] = kept["evalue"]
    hits.bits[kept["query"], column] = kept["bits"]
    return hits


def save_profiles(folder: Path, profiles: Sequence[Profile], codes: Indices, keys: Sequence[bytes]) -> None:
    """Write `profiles.safetensors`: all profiles one after the other, and the class and the key of each.

    Parameters
    ----------
    folder : Path
    profiles : sequence of Profile
    codes : int64 array, (profiles,)
    keys : sequence of bytes
        SHA-256 of the members that each is of.
    """
    matches = [profile.match for profile in profiles] or [np.zeros((0, 20), dtype=np.float32)]
    transitions = [profile.transitions for profile in profiles] or [np.zeros((0, 7), dtype=np.float32)]
    statistics = [profile.statistics for profile in profiles]
    tensors = {
        "codes": codes,
        "keys": np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY).copy(),
        "lengths": np.array([len(profile.match) for profile in profiles], dtype=np.int64),
        "match": np.concatenate(matches),
        "transitions": np.concatenate(transitions),
        "statistics": np.array(statistics, dtype=np.float32).reshape(-1, 6),
    }
    save_file({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, folder / FILE)


def load_profiles(folder: Path, known: Indices) -> tuple[list[Profile], Indices, list[bytes]]:
    """Read what `save_profiles` wrote of classes that have members, and make sure that HMMER can be trusted with it.

    Raises
    ------
    ModelError
        If a length, a probability or a statistic cannot be, or the classes are not those of the members.
    """
    path = folder / FILE
    shapes = {
        "codes": ("int64", "profiles"),
        "keys": ("uint8", "profiles", "digest"),
        "lengths": ("int64", "profiles"),
        "match": ("float32", "positions", "residues"),
        "transitions": ("float32", "positions", "transitions"),
        "statistics": ("float32", "profiles", "statistics"),
    }
    state = read_tensors(path, shapes, residues=20, transitions=7, statistics=6, digest=KEY)
    codes, keys, lengths, match, transitions, statistics = (state[name].numpy() for name in shapes)
    problem = _problem(lengths, match, transitions, statistics)
    if not np.isin(codes, known).all():
        problem = "a profile of a class without members"
    if problem:
        raise ModelError(path, problem, AGAIN)
    ends = np.cumsum(lengths)
    parts = [slice(start, end) for start, end in zip(ends - lengths, ends, strict=True)]
    profiles = [Profile(match[part], transitions[part], row) for part, row in zip(parts, statistics, strict=True)]
    return profiles, codes, [key.tobytes() for key in keys]


def _problem(lengths: Indices, match: Numbers, transitions: Numbers, statistics: Numbers) -> str:
    """Say what is wrong with the numbers of profiles; nothing where they can be searched with."""
    if len(lengths) and not (lengths.min() >= 2 and lengths.max() <= LONGEST + 1):
        return f"a profile without a position, or with more than {LONGEST:,}"
    if lengths.sum() != len(match):
        return f"{len(match):,} positions instead of {lengths.sum():,}"
    if (match < 0).any() or (transitions < 0).any():
        return "a probability below 0"
    sums = {"residues": match.sum(1), **{state: transitions[:, columns].sum(1) for state, columns in FATES.items()}}
    for what, sum_ in sums.items():
        if (np.abs(sum_ - 1) > ROUNDING).any():
            return f"probabilities of {what} that do not add up to 1"
    if not ((statistics[:, 1::2] > 0).all() and (np.abs(statistics) <= STRANGE).all()):
        return "scores of random sequences that cannot be"
    return ""
