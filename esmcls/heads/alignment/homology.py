"""The homology head: no vectors; the class of a sequence is that of the training sequences that align best with it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from esmcls.cache.features import Features
from esmcls.errors import EngineMismatchError, UsageError
from esmcls.files import read_json, write_json
from esmcls.heads.alignment.search import Engine, Hits, Limits, installed, open_engine, search
from esmcls.heads.base import BaseHead, Validation
from esmcls.heads.blocks import HELD_OUT_MOST, check_labels, grid, score
from esmcls.heads.neighbours.votes import Tally, Votes, dense_of, priors_of, top_of
from esmcls.heads.registry import Log
from esmcls.labels.labels import Labels
from esmcls.types import Indices, Probabilities

if TYPE_CHECKING:
    from typing_extensions import Self

VOTERS = (1, 3, 5, 10, 20)
TEMPERATURES = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
DEPTH = 20
"""Hits whose classes are ranked below those that the k best vote for, by their bits."""
"""What is chosen from on validation."""
TEMPERATURE = 20.0
"""Where there is nothing to choose on."""
SEARCHES = 3
"""Searches whose hits are kept: a prediction asks for classes, familiarity and nearest proteins of the same rows."""
BLOCK = 256
"""Rows whose probabilities are computed at a time."""


@dataclass(frozen=True)
class HomologyConfig:
    """Every knob of the homology head; None is chosen on validation.

    Parameters
    ----------
    engine : {"auto", "mmseqs", "phmmer"}
        What searches: "auto" is MMseqs2 where `mmseqs` is on the PATH, else pyhmmer's phmmer.
    version : str, optional
        Of the engine; None is the one that is installed when the head is fitted.
    any_version : bool
        Predict with another version of the engine, too.
    sensitivity : float
        Of MMseqs2, 1 (fast) to 7.5; phmmer has no such choice.
    evalue : float
        Hits above do not count. A weak hit beats none: on a held-out tenth of CATH S40's training domains MMseqs2's top
        hit is right for 76.1 % with 10, 71.8 % with 0.1 and 65.8 % with 1e-3, where a third has no hit.
    max_hits : int
        Hits a query, and targets that MMseqs2 aligns with it.
    vote : {"top", "bits"}, optional
        The class of the best hit, or the class whose members among the best k hits have the largest sum of bit scores.
    k : int, optional
        Hits that vote; 1 with "top".
    temperature : float, optional
        In bits: a class of b bits weighs exp(b / temperature), all classes without a hit together as one of 0 bits.
        Classes of the twenty best hits that have no vote weigh by their best hit.
    """

    engine: Literal["auto", "mmseqs", "phmmer"] = "auto"
    version: str | None = None
    any_version: bool = False
    sensitivity: float = 7.5
    evalue: float = 10.0
    max_hits: int = 300
    vote: Literal["top", "bits"] | None = None
    k: int | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.sensitivity <= 7.5:
            raise UsageError(f"setting sensitivity: {self.sensitivity} is not from 1 to 7.5")
        for name in ("evalue", "temperature"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise UsageError(f"setting {name}: {value} is not above 0 and finite")
        for name in ("max_hits", "k"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"setting {name}: {value} is not at least 1")
        if self.vote == "top" and self.k not in (None, 1):
            raise UsageError(
                f"setting k: {self.k}, but with vote top the best hit alone decides; set vote bits, or no k"
            )


class HomologyHead(BaseHead):
    """Alignment with the training sequences (MMseqs2 or phmmer); the encoder plays no part.

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

    def __init__(self, config: HomologyConfig | None = None, device: str = "cpu") -> None:
        super().__init__(config, device)
        self._engine: Engine | None = None
        self._searched: list[tuple[list[str], Hits]] = []

    def _fit(self, x: Features, labels: Labels, validation: Validation, seed: int, log: Log | None) -> None:
        self.refit(x, labels, seed)
        self._choose(validation[0].take(slice(HELD_OUT_MOST)), validation[1].take(slice(HELD_OUT_MOST)), log)

    def refit(self, x: Features, labels: Labels, seed: int = 0, log: Log | None = None) -> Self:
        """Take the sequences to search, their classes and how frequent these are; nothing here is drawn or searched."""
        check_labels(x, labels)
        self._start(open_engine(self.chosen.engine))
        self.classes, self.ids, self.targets = labels.classes, list(x.ids), _sequences(x)
        self.codes, self.priors = labels.codes, priors_of(labels.codes, labels.n_classes)
        self._searched = []
        if self.chosen.k is None or self.chosen.temperature is None:  # nothing was chosen yet
            self._settle(self._voters()[0], self.config.temperature or TEMPERATURE)
        return self

    def _voters(self) -> tuple[int, ...]:
        return grid(self.config.k, VOTERS[:1] if self.config.vote == "top" else VOTERS)

    def _start(self, engine: Engine) -> None:
        """Keep which engine it is from now on."""
        version = engine.version if self.chosen.any_version else self.chosen.version or engine.version
        self.chosen = replace(self.chosen, engine=engine.name, version=version)
        self._engine = self._checked(engine)

    def _choose(self, x: Features, labels: Labels, log: Log | None) -> None:
        """Take the k with the best macro F1 on the held rows, the first of equals, and its temperature.

        All votes are counted on one search. A temperature moves no class past another: the log loss decides on it.
        """
        ks = self._voters()
        hits = self.hits(x, max(*ks, DEPTH))
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
        blocks = list(self._tallies(hits, k))
        losses = {
            one: float(
                np.concatenate([tally.weigh(self.priors, one).losses(truth[rows]) for rows, tally in blocks]).mean()
            )
            for one in grid(self.config.temperature, TEMPERATURES)
        }
        temperature = min(losses, key=losses.__getitem__)
        best = [tally.weigh(self.priors, temperature).top(1)[0][:, 0] for _, tally in blocks]
        return temperature, losses[temperature], np.concatenate(best)

    def _tallies(self, hits: Hits, k: int) -> Iterator[tuple[slice, Tally]]:
        """Give slices of rows with the classes that their k best hits vote for, and those of some hits beyond."""
        depth = max(k, DEPTH)
        for start in range(0, len(hits), BLOCK):
            rows = slice(start, start + BLOCK)
            found = hits.rows[rows, :depth]
            yield rows, Tally.of(np.where(found >= 0, self.codes[found], -1), hits.bits[rows, :depth], k)

    def hits(self, x: Features, best: int) -> Hits:
        """Return at least the best hits of sequences; those of the last few searches are not searched for again."""
        queries = _sequences(x)
        for known, hits in self._searched:
            if known == queries and hits.rows.shape[1] >= best:
                return hits
        limits = Limits(self.chosen.sensitivity, self.chosen.evalue, self.chosen.max_hits)
        hits = search(self._open(), queries, self.targets, limits, best, torch.get_num_threads())
        self._searched = [(queries, hits), *self._searched[: SEARCHES - 1]]
        return hits

    def _open(self) -> Engine:
        """Return the engine that the head was fitted with, found when it is first needed."""
        if self._engine is None:
            self._engine = self._checked(installed(self.chosen.engine))
        return self._engine

    def _checked(self, found: Engine | None) -> Engine:
        """Refuse another engine than the head was fitted with, or another version of it."""
        name, version = self.chosen.engine, self.chosen.version
        if found is None or found.name != name or (found.version != version and not self.chosen.any_version):
            here = f"{found.name} {found.version}" if found is not None else "none"
            raise EngineMismatchError(f"{name} {version}", here)
        return found

    def _votes(self, x: Features) -> Iterator[tuple[slice, Votes]]:
        k, temperature = self.chosen.k or 1, self.chosen.temperature or TEMPERATURE
        for rows, tally in self._tallies(self.hits(x, max(k, DEPTH)), k):
            yield rows, tally.weigh(self.priors, temperature)

    def predict_proba(self, x: Features) -> Probabilities:
        """Return probabilities, float32 (n, classes); without a hit, the share of each class in the training rows.

        Raises
        ------
        EngineMismatchError
            If the engine is not the one that the head was fitted with.
        UsageError
            If there are vectors alone, no sequences.
        """
        return dense_of(self._votes(x), len(x), len(self.classes))

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k best class codes a row and their probabilities, both (n, min(k, classes))."""
        return top_of(self._votes(x), len(x), min(k, len(self.classes)))

    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return the bits of the best hit, (n,); 0 without one."""
        hits = self.hits(x, DEPTH)
        return np.where(hits.rows[:, 0] >= 0, hits.bits[:, 0], 0.0).astype(np.float64)

    def nearest(self, x: Features) -> tuple[npt.NDArray[np.float64], list[str | None]]:
        """Return the E-value of the best hit, (n,), and the id of its training row; without one, infinity and None."""
        hits = self.hits(x, DEPTH)
        rows = hits.rows[:, 0].tolist()
        return hits.evalues[:, 0], [self.ids[row] if row >= 0 else None for row in rows]

    def save(self, folder: Path) -> None:
        """Write `homology.safetensors` (codes int64; sequences uint8, one a line, through zlib) and `ids.json`."""
        packed = np.frombuffer(zlib.compress("\n".join(self.targets).encode("ascii")), dtype=np.uint8)
        tensors = {"codes": torch.from_numpy(self.codes), "sequences": torch.from_numpy(packed.copy())}
        save_file(tensors, folder / "homology.safetensors")
        write_json(folder / "ids.json", self.ids)

    @classmethod
    def load(cls, folder: Path, config: HomologyConfig, classes: tuple[str, ...], device: str = "cpu") -> Self:
        """Read what `save` wrote; the engine is looked for when it is first needed."""
        head = cls(config, device)
        state = load_file(folder / "homology.safetensors")
        head.classes, head.codes = classes, state["codes"].numpy()
        head.targets = zlib.decompress(state["sequences"].numpy().tobytes()).decode("ascii").split("\n")
        head.priors = priors_of(head.codes, len(classes))
        head.ids = read_json(folder / "ids.json")
        return head


def _sequences(x: Features) -> list[str]:
    bare = x.sequences.count("")
    if bare:
        found = f"{bare} of {len(x)} rows are vectors without a sequence"
        raise UsageError(f"head homology reads sequences, but {found}; give Features.from_arrays(vectors, sequences)")
    return x.sequences
