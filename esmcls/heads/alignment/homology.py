"""The homology head: no vectors; the class of a sequence is that of the training sequences that align best with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.heads.alignment.finder import AlignmentConfig, Finder
from esmcls.heads.alignment.search import Hits
from esmcls.heads.base import Log, Validation
from esmcls.heads.blocks import HELD_OUT_MOST, AnswerBlocks, first_held, grid, score
from esmcls.heads.neighbours.votes import Tally, least_loss, priors_of
from esmcls.heads.neighbours.voting import VotingHead
from esmcls.heads.settings import ABOVE_0, AT_LEAST_1, check_ranges
from esmcls.labels.labels import Labels
from esmcls.types import Indices

VOTERS = (1, 3, 5, 10, 20)
TEMPERATURES = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
"""The values that are tried on validation."""
DEPTH = 20
"""Hits whose classes are ranked below those that the k best vote for, by their bits."""
TEMPERATURE = 20.0
"""Where there is nothing to choose on."""
VOTED_ROWS = 256
"""Rows whose votes are counted at a time."""


@dataclass(frozen=True)
class HomologyConfig(AlignmentConfig):
    """Knobs of the homology head besides those of `esmcls.heads.alignment.finder.AlignmentConfig`.

    None is chosen on validation.

    Parameters
    ----------
    vote : {"top", "bits"}, optional
        The class of the best hit, or the class whose members among the best k hits have the largest sum of bit
        scores. When to change: there is no validation part: bits where families are large, top where they have
        a few members.
    k : int, optional
        Hits that vote; 1 with "top". When to change: there is no validation part and families are large: 5 or
        10.
    temperature : float, optional
        In bits: a class of b bits weighs exp(b / temperature), all classes without a hit together as one of 0
        bits. Classes of the twenty best hits that have no vote weigh by their best hit. When to change:
        probabilities are too sure on your own proteins: raise it; which class is first stays as it is.
    """

    vote: Literal["top", "bits"] | None = None
    k: int | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, {"k": AT_LEAST_1, "temperature": ABOVE_0})
        if self.vote == "top" and self.k not in (None, 1):
            raise UsageError(
                f"setting k: {self.k}, but with vote top the best hit alone decides; set vote bits, or no k"
            )


class HomologyHead(VotingHead):
    """Alignment with the training sequences (MMseqs2 or phmmer); the encoder plays no part.

    Without a hit a class has its share of the training rows.

    Examples
    --------
    >>> sequences = ["MKTAYIAKQRQISFVKSHFSRQ", "GSHMLEDPVDAFWLRTYQENIC"]
    >>> x = Features.from_arrays(np.zeros((2, 0), dtype=np.float32), sequences)
    >>> head = HomologyHead(HomologyConfig(engine="phmmer")).fit(x, Labels.from_names(["a", "b"]))
    >>> head.top_k(x, 1)[0].ravel().tolist()
    [0, 1]
    """

    Config: ClassVar[type[HomologyConfig]] = HomologyConfig
    reads_vectors: ClassVar[bool] = False
    config: HomologyConfig
    chosen: HomologyConfig
    finder: Finder

    def _fit(self, x: Features, labels: Labels, validation: Validation[Labels], seed: int, log: Log | None) -> None:
        self._refit(x, labels, seed, log)
        self._choose(*first_held(validation, HELD_OUT_MOST), log)

    def _refit(self, x: Features, labels: Labels, seed: int, log: Log | None) -> None:
        """Take the sequences to search, their classes and how frequent these are; nothing here is drawn or searched."""
        self.finder = Finder.of(x, self.chosen)
        self.chosen = replace(self.chosen, engine=self.finder.config.engine, version=self.finder.config.version)
        self._take_labels(labels)
        if self.chosen.k is None or self.chosen.temperature is None:  # nothing was chosen yet
            self._settle(self._voters()[0], self.config.temperature or TEMPERATURE)

    def _voters(self) -> tuple[int, ...]:
        return grid(self.config.k, VOTERS[:1] if self.config.vote == "top" else VOTERS)

    def _choose(self, x: Features, labels: Labels, log: Log | None) -> None:
        """Take the k with the best macro F1 on the held rows, the first of equals, and its temperature.

        All votes are counted on one search. A temperature moves no class past another: the log loss decides on it.
        """
        ks = self._voters()
        hits = self.finder.hits(x, max(*ks, DEPTH))
        for k in ks if len(x) else ():
            temperature, loss, best = self._weighed(hits, k, labels.codes)
            scores = score(labels, best)
            if not self.scores or scores["macro_f1"] > self.scores["macro_f1"]:
                self._settle(k, temperature)
                self.scores = scores
            if log is not None:
                log({"k": k, "temperature": temperature, "log_loss": loss, **scores})

    def _settle(self, k: int, temperature: float) -> None:
        vote = self.config.vote or ("top" if k == 1 else "bits")
        self.chosen = replace(self.chosen, vote=vote, k=k, temperature=temperature)

    def _weighed(self, hits: Hits, k: int, truth: Indices) -> tuple[float, float, Indices]:
        """Return the best temperature, its mean log loss, and the best class of each row, which is the same for all."""
        temperatures = grid(self.config.temperature, TEMPERATURES)
        return least_loss(list(self._tallies(hits, k)), self.priors, truth, temperatures)

    def _tallies(self, hits: Hits, k: int) -> Iterator[tuple[slice, Tally]]:
        """Give slices of rows with the classes that their k best hits vote for, and those of some hits beyond."""
        depth = max(k, DEPTH)
        for start in range(0, len(hits), VOTED_ROWS):
            rows = slice(start, start + VOTED_ROWS)
            targets = hits.rows[rows, :depth]
            yield rows, Tally.of(np.where(targets >= 0, self.codes[targets], -1), hits.bits[rows, :depth], k)

    def _answers(self, x: Features) -> AnswerBlocks:
        k = self.chosen.k or 1
        temperature = self.chosen.temperature or TEMPERATURE
        for rows, tally in self._tallies(self.finder.hits(x, max(k, DEPTH)), k):
            yield rows, tally.weigh(self.priors, temperature)

    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return the bits of the best hit, (n,); 0 without one."""
        hits = self.finder.hits(x, DEPTH)
        return np.where(hits.rows[:, 0] >= 0, hits.bits[:, 0], 0.0).astype(np.float64)

    def nearest(self, x: Features) -> tuple[npt.NDArray[np.float64], list[str | None]]:
        """Return the E-value of the best hit, (n,), and the id of its training row; without one, infinity and None."""
        return self.finder.nearest(x, DEPTH)

    @property
    def _row_ids(self) -> list[str]:
        return self.finder.ids

    def save(self, folder: Path) -> None:
        """Write `homology.safetensors` (codes int64; sequences uint8, one a line, through zlib) and `ids.json`."""
        self.finder.save(folder, self.codes)

    def _restore(self, folder: Path) -> None:
        self.finder, self.codes = Finder.load(folder, self.config, len(self.classes))
        self.priors = priors_of(self.codes, len(self.classes))
