"""The kNN head: the nearest training rows vote after within-class whitening; their distance tells how far to trust."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from esmcls.cache.features import Features
from esmcls.errors import UsageError
from esmcls.files import read_json, write_json
from esmcls.heads.base import BaseHead, Validation
from esmcls.heads.blocks import HELD_OUT_MOST, checked_vectors, grid, score, training_vectors
from esmcls.heads.neighbours.search import Engine, Search
from esmcls.heads.neighbours.votes import Tally, Votes, dense_of, priors_of, top_of
from esmcls.heads.registry import Log
from esmcls.heads.whitening import SHRINKAGES, Whitening, WithinClass, row_blocks
from esmcls.labels.labels import Labels
from esmcls.types import Indices, Probabilities, Vectors

if TYPE_CHECKING:
    from typing_extensions import Self

NEIGHBOURS = (5, 20)
TEMPERATURES = (0.005, 0.02, 0.05, 0.1, 0.2)
"""What is chosen from on validation; with the lowest temperature the nearest row decides alone."""
DEPTH = 20
"""The neighbour whose nearness stands for classes without a vote."""
SOFTNESS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)

Held = tuple[Vectors, Labels]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class KNNConfig:
    """Every knob of the kNN head; None is chosen on validation.

    Parameters
    ----------
    metric : {"cosine", "l2"}
        Nearness of two whitened vectors: their cosine, or minus half the squared distance a dimension.
    whiten : bool
        Whiten by the within-class covariance of the training rows; else only the mean is subtracted.
    shrinkage : float, optional
        Of that covariance towards a multiple of the identity, 0 to 1.
    k : int, optional
        Neighbours that vote.
    temperature : float, optional
        A neighbour votes with exp(nearness / temperature).
    softness : float, optional
        A class whose votes amount to those of one neighbour of nearness s weighs exp(s / softness), all classes without
        a vote together as one of the twentieth neighbour's nearness: the least log loss on validation.
    engine : {"auto", "faiss", "torch"}
        What searches; the answers are the same up to ties.
    pooling : str
        The pooled vectors to take.
    """

    metric: Literal["cosine", "l2"] = "cosine"
    whiten: bool = True
    shrinkage: float | None = None
    k: int | None = None
    temperature: float | None = None
    softness: float | None = None
    engine: Engine = "auto"
    pooling: str = "mean"

    def __post_init__(self) -> None:
        if self.shrinkage is not None and not 0 <= self.shrinkage <= 1:
            raise UsageError(f"setting shrinkage: {self.shrinkage} is not from 0 to 1")
        if self.k is not None and self.k < 1:
            raise UsageError(f"setting k: {self.k} is not at least 1")
        for name in ("temperature", "softness"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"setting {name}: {value} is not above 0")


class KNNHead(BaseHead):
    """Nearest neighbours among the training rows.

    Examples
    --------
    >>> vectors = np.array([[0, 1], [0, 2], [5, 1], [5, 2]], dtype=np.float32)
    >>> head = KNNHead().fit(Features.from_arrays(vectors), Labels.from_names(["a", "a", "b", "b"]))
    >>> head.top_k(Features.from_arrays(vectors), 1)[0].ravel().tolist()
    [0, 0, 1, 1]
    """

    Config: ClassVar[type[KNNConfig]] = KNNConfig

    def _fit(self, x: Features, labels: Labels, validation: Validation, seed: int, log: Log | None) -> None:
        vectors = training_vectors(x, labels, self.config.pooling)
        held = checked_vectors(validation[0], self.config.pooling, vectors.shape[1])
        self._choose(vectors, labels, (held, validation[1]), log)
        self.refit(x, labels, seed, log)

    def refit(self, x: Features, labels: Labels, seed: int = 0, log: Log | None = None) -> Self:
        """Index all rows with what was chosen; nothing here is drawn, whatever the seed."""
        vectors = training_vectors(x, labels, self.config.pooling)
        self.classes, self.ids = labels.classes, list(x.ids)
        self._index(vectors, labels, self._within(vectors, labels))
        return self

    def _within(self, vectors: Vectors, labels: Labels) -> WithinClass | None:
        return WithinClass.of(vectors, labels.codes, labels.n_classes, self.device) if self.chosen.whiten else None

    def _index(self, vectors: Vectors, labels: Labels, within: WithinClass | None) -> None:
        """Put the training rows, whitened, into the index."""
        if within is None:
            total = sum((block.double().sum(0) for _, block in row_blocks(vectors)), torch.zeros(()))
            self.whitening = Whitening((total / len(vectors)).float(), torch.eye(vectors.shape[1]))
        else:
            shrinkage = self.chosen.shrinkage
            self.whitening = within(SHRINKAGES[1] if shrinkage is None else shrinkage)
        width = self.whitening.matrix.shape[1]
        self.search = Search.empty(width, self.chosen.metric, self.chosen.engine, self.device)
        for _, block in row_blocks(vectors, self.device):
            self.search.add(self._project(block))
        self.codes, self.priors = labels.codes, priors_of(labels.codes, labels.n_classes)

    def _project(self, block: Tensor) -> Tensor:
        if self.chosen.metric == "cosine":
            return self.whitening.unit(block)
        return self.whitening(block) / math.sqrt(block.shape[1])

    def _choose(self, vectors: Vectors, labels: Labels, held: Held, log: Log | None) -> None:
        """Take shrinkage, k and temperature of the best macro F1 on held rows, the first of equals; then softness."""
        held = held[0][:HELD_OUT_MOST], held[1].take(slice(HELD_OUT_MOST))
        within, best = self._within(vectors, labels), self.config
        for shrinkage in grid(self.config.shrinkage, SHRINKAGES if within is not None else (1.0,)):
            self.chosen = replace(self.config, shrinkage=shrinkage)
            self._index(vectors, labels, within)
            for config, tally, scores in self._trials(held):
                if not self.scores or scores["macro_f1"] > self.scores["macro_f1"]:
                    best, won, self.scores = config, tally, scores
                if log is not None:
                    log({"shrinkage": shrinkage, "k": config.k or 0, "temperature": config.temperature or 0, **scores})
        losses = {
            one: won.weigh(self.priors, one).losses(held[1].codes).mean() for one in grid(best.softness, SOFTNESS)
        }
        self.chosen = replace(best, softness=min(losses, key=losses.__getitem__))

    def _trials(self, held: Held) -> Iterator[tuple[KNNConfig, Tally, dict[str, float]]]:
        """Give what every k and temperature reaches on the held rows, with one search."""
        counts = grid(self.config.k, NEIGHBOURS)
        blocks = [(nearness, self.codes[found]) for _, nearness, found in self._nearest(held[0], max(*counts, DEPTH))]
        nearness, codes = (np.concatenate(part) for part in zip(*blocks, strict=True))
        for k in counts:
            for temperature in grid(self.config.temperature, TEMPERATURES if k > 1 else TEMPERATURES[:1]):
                tally = Tally.soft(codes[:, :k], nearness, temperature)
                yield replace(self.chosen, k=k, temperature=temperature), tally, score(held[1], tally.codes[:, 0])

    def _nearest(self, vectors: Vectors, k: int) -> Iterator[tuple[slice, Scores, Indices]]:
        """Give slices of rows with nearness and training rows of the k nearest, both (rows, min(k, training rows))."""
        for rows, block in row_blocks(vectors, self.device):
            yield rows, *self.search(self._project(block), k)

    def neighbours(self, x: Features, k: int) -> Iterator[tuple[slice, Scores, Indices]]:
        """Give slices of rows with nearness and training rows of the k nearest, both (rows, min(k, training rows))."""
        yield from self._nearest(checked_vectors(x, self.config.pooling, len(self.whitening.mean)), k)

    def _votes(self, x: Features) -> Iterator[tuple[slice, Votes]]:
        vectors = checked_vectors(x, self.config.pooling, len(self.whitening.mean))
        temperature, softness = self.chosen.temperature or TEMPERATURES[0], self.chosen.softness or SOFTNESS[4]
        k = self.chosen.k or NEIGHBOURS[-1]
        for rows, nearness, found in self._nearest(vectors, max(k, DEPTH)):
            yield rows, Tally.soft(self.codes[found[:, :k]], nearness, temperature).weigh(self.priors, softness)

    def predict_proba(self, x: Features) -> Probabilities:
        """Return probabilities, float32 (n, classes); classes without a neighbour share what their priors give them."""
        return dense_of(self._votes(x), len(x), len(self.classes))

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k best class codes a row and their probabilities, both (n, min(k, classes))."""
        return top_of(self._votes(x), len(x), min(k, len(self.classes)))

    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return minus the distance of the nearest training row, (n,)."""
        return -self.nearest(x)[0].astype(np.float64)

    def nearest(self, x: Features) -> tuple[Scores, list[str]]:
        """Return the distance of the nearest training row, float32 (n,), and its id.

        The distance is 1 - cosine ("cosine") or the root mean square difference of the whitened vectors ("l2").
        """
        vectors = checked_vectors(x, self.config.pooling, len(self.whitening.mean))
        far, ids = np.zeros(len(vectors), dtype=np.float32), []
        for rows, nearness, found in self._nearest(vectors, 1):
            far[rows] = 1 - nearness[:, 0] if self.chosen.metric == "cosine" else np.sqrt(-2 * nearness[:, 0])
            ids += [self.ids[row] for row in found[:, 0]]
        return np.maximum(far, 0), ids

    def save(self, folder: Path) -> None:
        """Write `index.faiss`, `ids.json` and `knn.safetensors` (codes int64; mean, matrix float32)."""
        self.search.save(folder / "index.faiss")
        write_json(folder / "ids.json", self.ids)
        tensors = {"codes": torch.from_numpy(self.codes), "mean": self.whitening.mean, "matrix": self.whitening.matrix}
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, folder / "knn.safetensors")

    @classmethod
    def load(cls, folder: Path, config: KNNConfig, classes: tuple[str, ...], device: str = "cpu") -> Self:
        """Read what `save` wrote."""
        head = cls(config, device)
        state = load_file(folder / "knn.safetensors")
        head.classes, head.codes = classes, state["codes"].numpy()
        head.priors = priors_of(head.codes, len(classes))
        head.whitening = Whitening(state["mean"].clone(), state["matrix"].clone())  # aligned; a mapped file is not
        head.search = Search.load(folder / "index.faiss", config.metric, config.engine, device)
        head.ids = read_json(folder / "ids.json")
        return head
