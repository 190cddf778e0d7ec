"""What a model of terms reached on the test proteins and what each of them has right: all that a comparison needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.files import atomic_path
from esmcls.heads.term_heads import TermHead
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import Block, Counts, Sums
from esmcls.tasks.go_terms.evaluation import evaluate_terms, with_unseen
from esmcls.tasks.go_terms.hierarchy import Terms

_SUMS: Final = ("plain", "weighted")
_PARTS: Final = ("true", "predicted", "members")


@dataclass(frozen=True, eq=False)
class TermAnswers:
    """A model's answers for n proteins.

    Parameters
    ----------
    counts : Counts
    evaluation : dict
        `TermEvaluation.to_json`.
    seconds : (float, float)
        Of fitting, None where that is not known, and of predicting with vectors at hand.
    about : dict
        model: see `esmcls.evaluation.keeping`; validation: the scores there; megabytes.
    """

    counts: Counts
    evaluation: dict[str, Any]
    seconds: tuple[float | None, float]
    about: dict[str, Any]

    @property
    def mean_fmax(self) -> float:
        """The mean over aspects of Fmax."""
        return float(np.mean([one["metrics"]["fmax"]["value"] for one in self.evaluation["aspects"].values()]))

    def save(self, path: Path, key: str) -> None:
        """Write a safetensors file, whole or not at all; `key` says what the answers are of."""
        facts = {"evaluation": self.evaluation, "seconds": self.seconds, "about": self.about}
        told = json.dumps(facts | {"groups": self.counts.groups})  # in their own order: it is that of columns
        with atomic_path(path) as temporary:
            save_file(_arrays(self.counts), temporary, {"key": key, "told": told})

    @classmethod
    def load(cls, path: Path, key: str | None = None) -> TermAnswers | None:
        """Read what `save` wrote; None where there is no file, or one of another key, if any is given."""
        try:
            with safe_open(path, "numpy") as file:
                found = file.metadata() or {}
                if key is not None and found.get("key") != key:
                    return None
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            told = json.loads(found["told"])
            fit, predict = told["seconds"]
            counts = _counts(tuple(told["groups"]), arrays)
            return cls(counts, told["evaluation"], (fit, predict), told["about"])
        except (OSError, SafetensorError, KeyError, ValueError):
            return None  # as if it were not there: it is computed again


def _arrays(counts: Counts) -> dict[str, npt.NDArray[Any]]:
    sums = {name: getattr(counts, name) for name in _SUMS if getattr(counts, name) is not None}
    pairs = ((name, one, part) for name, one in sums.items() for part in _PARTS)
    return {f"{name}_{part}": np.ascontiguousarray(getattr(one, part)) for name, one, part in pairs}


def _counts(groups: tuple[str, ...], arrays: Mapping[str, npt.NDArray[Any]]) -> Counts:
    plain, weighted = (
        Sums(*(arrays[f"{name}_{part}"] for part in _PARTS)) if f"{name}_true" in arrays else None for name in _SUMS
    )
    if plain is None:
        raise KeyError("plain_true")
    return Counts(groups, plain, weighted)


@dataclass(frozen=True, eq=False)
class TermQuestions:
    """Who is asked about, and what is true of them.

    Parameters
    ----------
    part : Dataset
    truth : LabelSets
        Their terms, propagated.
    bits : dict of str to float
        Information accretion of each training term; any other adds none.
    """

    part: Dataset
    truth: LabelSets
    bits: Mapping[str, float]

    def ask(
        self,
        head: TermHead,
        terms: Terms,
        x: Features,
        counts: Iterable[int],
        seed: int,
        fit_seconds: float | None,
        about: dict[str, Any],
    ) -> TermAnswers:
        """Ask a head about all of them.

        Parameters
        ----------
        head : TermHead
        terms : Terms
            Of the model.
        x : Features
            Of the proteins, in their order.
        counts : iterable of int, (classes,)
            Training proteins of each class.
        seed : int
            Of the bootstrap.
        fit_seconds, about
            See `TermAnswers`.
        """
        truth = with_unseen(self.truth, terms.classes, terms.groups)
        bits = np.array([self.bits.get(name, 0.0) for name in truth.classes])
        if x.width and x.spec is not None:
            x.vectors(x.spec.pooled[0])  # read before it is timed
        took: list[float] = []
        found = evaluate_terms(
            truth,
            _timed(terms.blocks(head, x), took.append),
            np.fromiter(counts, dtype=np.int64),
            bits,
            seed,
            lengths=np.array([len(sequence) for sequence in self.part.sequences], dtype=np.int64),
        )
        return TermAnswers(found.counts, found.to_json(), (fit_seconds, sum(took)), about)


def _timed(blocks: Iterator[Block], told: Callable[[float], None]) -> Iterator[Block]:
    """Pass blocks on and tell how long each took to make."""
    while True:
        began = perf_counter()
        block = next(blocks, None)
        told(perf_counter() - began)
        if block is None:
            return
        yield block
