"""The profile head: no vectors; the class of a sequence is that of the family profile that it fits best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from esmcls.cache.features import Features
from esmcls.errors import EngineError, ModelError
from esmcls.heads.alignment.finder import KEPT_SEARCHES, sequences_of
from esmcls.heads.alignment.profiles.building import Sizes, build_families
from esmcls.heads.alignment.profiles.models import (
    LONGEST,
    Filters,
    Profile,
    import_hmmer,
    load_profiles,
    save_profiles,
    search_profiles,
)
from esmcls.heads.alignment.search import Hits
from esmcls.heads.base import Log, Validation
from esmcls.heads.blocks import HELD_OUT_MOST, AnswerBlocks, first_held, grid, score
from esmcls.heads.neighbours.votes import Tally, least_loss, priors_of
from esmcls.heads.neighbours.voting import VotingHead
from esmcls.heads.saved_tensors import AGAIN, check_codes, check_rows, pack_sequences, read_tensors, unpack_sequences
from esmcls.heads.settings import ABOVE_0, AT_LEAST_0, AT_LEAST_1, check_ranges
from esmcls.labels.labels import Labels
from esmcls.plain_values import read_as, write_json
from esmcls.types import Indices

TEMPERATURES = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
"""The values that are tried on validation."""
TEMPERATURE = 20.0
"""Where there is nothing to choose on."""
DEPTH = 20
"""Families that are ranked by their bits; of all others only the share of the training rows is known."""
VOTED_ROWS = 4096
"""Rows whose families are weighed at a time."""
HMMERS = (0.02, 1e-3, 1e-5)
"""HMMER's own thresholds of its three filters, as shares of random sequences that pass."""
WIDER = (10.0, 3.0, 1.0)
"""How much more than the last of the filters the first and the second let through, at least."""
WORD = 3
"""Residues of the words that a query shares with its nearest member."""


@dataclass(frozen=True)
class ProfileConfig:
    """Knobs of the profile head.

    None is chosen on validation.

    Parameters
    ----------
    max_members : int
        Members of a family that are aligned; of a larger one so many, spread evenly over it. When to
        change: fitting takes too long: lower it.
    subfamily : int
        Members of a branch of a family's guide tree that has a profile of its own beside the family's, at most; 0: none
        has. What all members of a diverse family share is little: on a held-out tenth of CATH S40's training domains
        60.6 % are right with 0, 80.6 % with 10, and 76.4 % by MMseqs2's hits. When to change: families are narrow, one
        profile is enough and searching is to be faster: 0.
    evalue : float
        Hits above do not count. It is the number of profiles, of all that the head has, that a random sequence would
        fit as well by chance; one above a fiftieth of them is HMMER's guess, and too small. With 100 81.2 % of those
        domains are right, and the search takes four times as long. When to change: no answer is better than a wrong
        one: 1e-3.
    filters : {"evalue", "hmmer", "off"}
        What HMMER aligns in full: "hmmer", one random sequence in 100,000, far fewer than an E-value of 10 asks for;
        "evalue", as many as the E-value asks for; "off", every sequence with every family, which is slow. When to
        change: searching takes too long and relatives are near: hmmer.
    temperature : float, optional
        In bits: a family of b bits weighs exp(b / temperature), all without a hit together as one of 0 bits. When to
        change: probabilities are too sure on your own proteins: raise it; which class is first stays as it is.
    """

    max_members: int = 100
    subfamily: int = 10
    evalue: float = 10.0
    filters: Literal["evalue", "hmmer", "off"] = "evalue"
    temperature: float | None = None

    def __post_init__(self) -> None:
        check_ranges(
            self, {"max_members": AT_LEAST_1, "subfamily": AT_LEAST_0, "evalue": ABOVE_0, "temperature": ABOVE_0}
        )

    def filters_of(self, profiles: int) -> Filters:
        """Return the filters of a search with so many profiles."""
        if self.filters == "off":
            return Filters(self.evalue, (1.0, 1.0, 1.0), bias=False)
        if self.filters == "hmmer":
            return Filters(self.evalue, HMMERS)
        chance = self.evalue / max(1, profiles)
        f1, f2, f3 = (min(1.0, max(usual, chance * wider)) for usual, wider in zip(HMMERS, WIDER, strict=True))
        return Filters(self.evalue, (f1, f2, f3))


class ProfileHead(VotingHead):
    """A profile hidden Markov model of each family (FAMSA aligns, HMMER searches); the encoder plays no part.

    A family of one sequence has that sequence's model; a large one has models of its branches, too. The E-value of a
    hit is of as many comparisons as there are profiles. The nearest training protein is the member of the best family
    that shares most words of three residues with the sequence, of equals the first.

    Examples
    --------
    >>> sequences = ["MKTAYIAKQRQISFVKSHFSRQ", "GSHMLEDPVDAFWLRTYQENIC"]
    >>> x = Features.from_arrays(np.zeros((2, 0), dtype=np.float32), sequences)
    >>> head = ProfileHead().fit(x, Labels.from_names(["a", "b"]))
    >>> head.top_k(x, 1)[0].ravel().tolist()
    [0, 1]
    """

    Config: ClassVar[type[ProfileConfig]] = ProfileConfig
    reads_vectors: ClassVar[bool] = False
    runs_unasked: ClassVar[bool] = False
    config: ProfileConfig
    chosen: ProfileConfig
    sequences: list[str]
    ids: list[str]
    profiles: list[Profile]
    families: Indices
    """The class of each profile."""
    keys: list[bytes]
    """Of the members that each profile is of: a refit builds no profile of the same members anew."""

    def _fit(self, x: Features, labels: Labels, validation: Validation[Labels], seed: int, log: Log | None) -> None:
        self._refit(x, labels, seed, log)
        self._choose(*first_held(validation, HELD_OUT_MOST), log)

    def _refit(self, x: Features, labels: Labels, seed: int, log: Log | None) -> None:
        """Build the profiles that there were none of, for the same members, before; nothing here is drawn."""
        import_hmmer()
        known = dict(zip(self.keys, self.profiles, strict=True)) if hasattr(self, "keys") else {}
        self.sequences = sequences_of(x, "profile")
        self.ids = list(x.ids)
        self._take_labels(labels)
        families = {code: members for code, members in self._members().items() if _known_residues(members)}
        sizes = Sizes(self.chosen.max_members, self.chosen.subfamily)
        built = build_families(list(families.values()), known, sizes, torch.get_num_threads())
        self.profiles = [profile for profiles in built for profile in profiles.values()]
        self.keys = [key for profiles in built for key in profiles]
        self.families = np.repeat(np.array(list(families), dtype=np.int64), [len(profiles) for profiles in built])
        self._searched: list[tuple[list[str], Hits]] = []
        if self.chosen.temperature is None:
            self.chosen = replace(self.chosen, temperature=TEMPERATURE)

    def _members(self) -> dict[int, list[str]]:
        """Return the distinct members of each class that has any."""
        order = np.argsort(self.codes, kind="stable")
        present, starts = np.unique(self.codes[order], return_index=True)
        return {
            code: list(dict.fromkeys(self.sequences[row] for row in rows.tolist()))
            for code, rows in zip(present.tolist(), np.split(order, starts[1:]), strict=True)
        }

    @property
    def explanation(self) -> str:
        """How many families there are, and how many of them were not aligned, or not whole."""
        sizes = [len(members) for members in self._members().values()]
        most = self.chosen.max_members
        large = sum(size > most for size in sizes)
        blank = len(sizes) - len(np.unique(self.families))
        line = f"{len(self.profiles):,} profiles of {len(sizes):,} families, {sizes.count(1):,} a single sequence"
        if large:
            line += f"; of {large:,} with more members, up to {max(sizes):,}, {most:,} each were aligned whole"
        return line + (f"; {blank:,} without a profile: no known residue, or over {LONGEST:,}" if blank else "")

    def _choose(self, x: Features, labels: Labels, log: Log | None) -> None:
        """Take the temperature with the least log loss on the held rows; it moves no class past another."""
        if not len(x):
            return
        temperatures = grid(self.config.temperature, TEMPERATURES)
        temperature, loss, best = least_loss(list(self._tallies(x)), self.priors, labels.codes, temperatures)
        self.chosen = replace(self.chosen, temperature=temperature)
        self.scores = score(labels, best)
        if log is not None:
            log({"temperature": temperature, "log_loss": loss, **self.scores})

    def hits(self, x: Features) -> Hits:
        """Return the best profiles of sequences, (n, 20), rows of `profiles`; the last few searches are kept.

        Raises
        ------
        EngineError
            If HMMER cannot take a sequence.
        MissingExtraError
            If pyhmmer is not installed.
        UsageError
            If there are vectors alone, no sequences.
        """
        queries = sequences_of(x, "profile")
        for known, hits in self._searched:
            if known == queries:
                return hits
        import_hmmer()
        filters = self.chosen.filters_of(len(self.profiles))
        try:
            hits = search_profiles(self.profiles, queries, filters, DEPTH, torch.get_num_threads())
        except (ValueError, RuntimeError) as error:
            raise EngineError("hmmer", f"failed ({error})", "leave the sequence out, or take another head") from error
        self._searched = [(queries, hits), *self._searched[: KEPT_SEARCHES - 1]]
        return hits

    def _tallies(self, x: Features) -> Iterator[tuple[slice, Tally]]:
        """Give slices of rows with their best families."""
        hits = self.hits(x)
        families = np.append(self.families, -1)
        for start in range(0, len(hits), VOTED_ROWS):
            rows = slice(start, start + VOTED_ROWS)
            yield rows, Tally.of(families[hits.rows[rows]], hits.bits[rows], 1)

    def _answers(self, x: Features) -> AnswerBlocks:
        temperature = self.chosen.temperature or TEMPERATURE
        for rows, tally in self._tallies(x):
            yield rows, tally.weigh(self.priors, temperature)

    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return the bits of the best family, (n,); 0 without one."""
        hits = self.hits(x)
        return np.where(hits.rows[:, 0] >= 0, hits.bits[:, 0], 0.0).astype(np.float64)

    @property
    def _row_ids(self) -> list[str]:
        return self.ids

    def nearest(self, x: Features) -> tuple[npt.NDArray[np.float64], list[str | None]]:
        """Return the E-value of the best family, (n,), and the id of its member that shares most words of a sequence.

        Without a family, infinity and None.
        """
        hits = self.hits(x)
        best = np.append(self.families, -1)[hits.rows[:, 0]]
        ids: list[str | None] = [None] * len(x)
        for code in np.unique(best[best >= 0]).tolist():
            rows = np.flatnonzero(self.codes == code).tolist()
            words = [_words(self.sequences[row]) for row in rows]
            for query in np.flatnonzero(best == code).tolist():
                asked = _words(x.sequences[query])
                ids[query] = self.ids[rows[int(np.argmax([len(asked & member) for member in words]))]]
        return hits.evalues[:, 0], ids

    def save(self, folder: Path) -> None:
        """Write `profiles.safetensors` (see `esmcls.heads.alignment.profiles.models`), `members.safetensors` and ids.

        The members: codes int64; sequences uint8, one a line, through zlib.
        """
        save_profiles(folder, self.profiles, self.families, self.keys)
        tensors = {"codes": torch.from_numpy(self.codes), "sequences": pack_sequences(self.sequences)}
        save_file(tensors, folder / "members.safetensors")
        write_json(folder / "ids.json", self.ids)

    def _restore(self, folder: Path) -> None:
        path = folder / "members.safetensors"
        state = read_tensors(path, {"codes": ("int64", "rows"), "sequences": ("uint8", "bytes")})
        self.codes = check_codes(path, state["codes"].numpy(), len(self.classes))
        self.sequences = unpack_sequences(path, state["sequences"])
        self.ids = read_as(folder / "ids.json", list[str], ModelError, AGAIN)
        check_rows(path, len(self.sequences), len(self.codes))
        check_rows(folder / "ids.json", len(self.ids), len(self.codes))
        self.priors = priors_of(self.codes, len(self.classes))
        self.profiles, self.families, self.keys = load_profiles(folder, self.codes)
        self._searched = []


def _known_residues(members: list[str]) -> bool:
    """Return whether there is anything that a family can be found by."""
    return any(member.strip("X") for member in members)


def _words(sequence: str) -> set[str]:
    """Return the words of three residues in a sequence."""
    return {sequence[start : start + WORD] for start in range(len(sequence) - WORD + 1)}
