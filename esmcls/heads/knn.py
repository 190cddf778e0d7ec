"""The kNN head: the nearest training rows vote after within-class whitening; their distance tells how far to trust."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from esmcls.errors import UsageError
from esmcls.features import Features
from esmcls.files import read_json, write_json
from esmcls.heads import Log
from esmcls.heads.common import HELD_OUT_MOST, checked_vectors, hold_out, score, training_vectors
from esmcls.heads.search import Engine, Search
from esmcls.labels import Labels
from esmcls.types import Indices, Probabilities, Vectors
from esmcls.whitening import SHRINKAGES, Whitening, WithinClass, row_blocks

if TYPE_CHECKING:
    from typing_extensions import Self

NEIGHBOURS = (1, 3, 5, 10, 20)
TEMPERATURES = (0.02, 0.05, 0.1, 0.2)
"""What is chosen from on validation."""

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
    engine: Engine = "auto"
    pooling: str = "mean"

    def __post_init__(self) -> None:
        if self.shrinkage is not None and not 0 <= self.shrinkage <= 1:
            raise UsageError(f"setting shrinkage: {self.shrinkage} is not from 0 to 1")
        if self.k is not None and self.k < 1:
            raise UsageError(f"setting k: {self.k} is not at least 1")
        if self.temperature is not None and not self.temperature > 0:
            raise UsageError(f"setting temperature: {self.temperature} is not above 0")


class KNNHead:
    """Nearest neighbours among the training rows.

    Examples
    --------
    >>> vectors = np.array([[0, 1], [0, 2], [5, 1], [5, 2]], dtype=np.float32)
    >>> head = KNNHead().fit(Features.from_arrays(vectors), Labels.from_names(["a", "a", "b", "b"]))
    >>> head.top_k(Features.from_arrays(vectors), 1)[0].ravel().tolist()
    [0, 0, 1, 1]
    """

    Config: ClassVar[type[KNNConfig]] = KNNConfig

    def __init__(self, config: KNNConfig | None = None, device: str = "cpu") -> None:
        self.config = self.chosen = config or KNNConfig()
        self.device = device
        self.classes: tuple[str, ...] = ()
        self.scores: dict[str, float] = {}

    def fit(
        self,
        x: Features,
        labels: Labels,
        validation: tuple[Features, Labels] | None = None,
        seed: int = 0,
        log: Log | None = None,
    ) -> Self:
        """Fit; see `esmcls.heads.Head`."""
        vectors = training_vectors(x, labels, self.config.pooling)
        self.classes, self.chosen, self.scores = labels.classes, self.config, {}
        if validation is not None and len(validation[0]):
            held = checked_vectors(validation[0], self.config.pooling, vectors.shape[1])
            self._choose(vectors, labels, (held, validation[1]), log)
        else:
            rows, choose = hold_out(labels.codes, seed)
            if len(choose):
                self._choose(vectors[rows], labels.take(rows), (vectors[choose], labels.take(choose)), log)
        self._index(vectors, labels, self._within(vectors, labels))
        self.ids = list(x.ids) if x.ids is not None else [str(row) for row in range(len(x))]
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
        self.codes = labels.codes

    def _project(self, block: Tensor) -> Tensor:
        if self.chosen.metric == "cosine":
            return self.whitening.unit(block)
        return self.whitening(block) / math.sqrt(block.shape[1])

    def _choose(self, vectors: Vectors, labels: Labels, held: Held, log: Log | None) -> None:
        """Take shrinkage, k and temperature with the best macro F1 on the held rows; the first of equals."""
        held = held[0][:HELD_OUT_MOST], held[1].take(slice(HELD_OUT_MOST))
        within, best = self._within(vectors, labels), self.config
        for shrinkage in _grid(self.config.shrinkage, SHRINKAGES if within is not None else (1.0,)):
            self.chosen = replace(self.config, shrinkage=shrinkage)
            self._index(vectors, labels, within)
            for config, scores in self._votes(held):
                if not self.scores or scores["macro_f1"] > self.scores["macro_f1"]:
                    best, self.scores = config, scores
                if log is not None:
                    log({"shrinkage": shrinkage, "k": config.k or 0, "temperature": config.temperature or 0, **scores})
        self.chosen = best

    def _votes(self, held: Held) -> Iterator[tuple[KNNConfig, dict[str, float]]]:
        """Give what every k and temperature reaches on the held rows, with one search."""
        counts = _grid(self.config.k, NEIGHBOURS)
        blocks = [(nearness, self.codes[found]) for _, nearness, found in self._nearest(held[0], max(counts))]
        nearness, codes = (np.concatenate(part) for part in zip(*blocks, strict=True))
        for k in counts:
            for temperature in _grid(self.config.temperature, TEMPERATURES if k > 1 else TEMPERATURES[:1]):
                best = _ranked(nearness[:, :k], codes[:, :k], temperature)[0][:, 0]
                yield replace(self.chosen, k=k, temperature=temperature), score(held[1], best)

    def _nearest(self, vectors: Vectors, k: int) -> Iterator[tuple[slice, Scores, Indices]]:
        """Give slices of rows with nearness and training rows of the k nearest, both (rows, min(k, training rows))."""
        for rows, block in row_blocks(vectors, self.device):
            yield rows, *self.search(self._project(block), k)

    def _vote(self, x: Features) -> Iterator[tuple[slice, Indices, Probabilities]]:
        """Give slices of rows with their neighbours' classes, the likeliest first, and the probabilities."""
        vectors = checked_vectors(x, self.config.pooling, len(self.whitening.mean))
        for rows, nearness, found in self._nearest(vectors, self.chosen.k or NEIGHBOURS[0]):
            yield rows, *_ranked(nearness, self.codes[found], self.chosen.temperature or TEMPERATURES[0])

    def predict_proba(self, x: Features) -> Probabilities:
        """Return probabilities, float32 (n, classes); a class without a neighbour has 0, the rows sum to 1."""
        out = np.zeros((len(x), len(self.classes)), dtype=np.float32)
        for rows, codes, mass in self._vote(x):
            row, place = np.nonzero(codes >= 0)
            out[rows][row, codes[row, place]] = mass[row, place]
        return out

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k best class codes a row and their probabilities, both (n, min(k, classes))."""
        k = min(k, len(self.classes))
        best, out = np.zeros((len(x), k), dtype=np.int64), np.zeros((len(x), k), dtype=np.float32)
        for rows, codes, mass in self._vote(x):
            best[rows], out[rows] = _filled(codes, mass, k)
        return best, out

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
        head.whitening = Whitening(state["mean"].clone(), state["matrix"].clone())  # aligned; a mapped file is not
        head.search = Search.load(folder / "index.faiss", config.metric, config.engine, device)
        head.ids = read_json(folder / "ids.json")
        return head


def _grid(fixed: Any, choices: tuple[Any, ...]) -> tuple[Any, ...]:
    return choices if fixed is None else (fixed,)


def _ranked(nearness: Scores, codes: Indices, temperature: float) -> tuple[Indices, Probabilities]:
    """Sum the votes of each class's neighbours; return classes by votes, then by their nearest member.

    Both results are (n, k); a place after the last class of a row holds -1 and 0.

    Examples
    --------
    >>> codes, mass = _ranked(np.array([[1.0, 0.9, 0.9]], dtype=np.float32), np.array([[4, 7, 7]]), temperature=1.0)
    >>> codes.tolist(), mass.round(2).tolist()
    ([[7, 4, -1]], [[0.6..., 0.3..., 0.0]])
    """
    votes = np.exp((nearness.astype(np.float64) - nearness[:, :1]) / temperature)  # (n, k)
    same = codes[:, :, None] == codes[:, None, :]  # (n, k, k)
    mass = (votes[:, None, :] * same).sum(2) / votes.sum(1, keepdims=True)
    first = same.argmax(2) == np.arange(codes.shape[1])  # the nearest of its class
    order = np.argsort(np.where(first, -mass, 1.0), axis=1, kind="stable")
    mass, codes = np.where(first, mass, 0.0), np.where(first, codes, -1)
    return np.take_along_axis(codes, order, 1), np.take_along_axis(mass, order, 1).astype(np.float32)


def _filled(codes: Indices, mass: Probabilities, k: int) -> tuple[Indices, Probabilities]:
    """Cut ranked classes to k columns; where there are fewer, the lowest other codes follow with probability 0."""
    [n, found] = codes.shape
    if found >= k and (codes[:, :k] >= 0).all():
        return codes[:, :k], mass[:, :k]
    spare = np.arange(found + k)  # enough, whatever the neighbours are
    taken = (spare[None, :, None] == codes[:, None, :]).any(2)  # (n, found + k)
    spare = np.take_along_axis(np.tile(spare, (n, 1)), np.argsort(taken, axis=1, kind="stable"), 1)[:, :k]
    wide = np.concatenate((codes, np.full((n, k), -1)), 1)
    kept = (wide >= 0).sum(1)[:, None]  # ranked classes stand first
    places = np.arange(k)[None, :]
    fill = np.take_along_axis(spare, np.maximum(places - kept, 0), 1)
    out = np.zeros((n, k), dtype=np.float32)
    out[:, : min(k, found)] = mass[:, :k]
    return np.where(places < kept, wide[:, :k], fill), out
