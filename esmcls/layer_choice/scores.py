"""How well a cheap head does on validation rows with some of the layers that a cache holds.

The head is fitted in closed form, with its knobs as the kind of task fixes them: `knn`, of numbers `ridge`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.errors import WorkspaceError
from esmcls.labels.kinds import WITHOUT_CLASSES
from esmcls.tasks.task import AnyTask
from esmcls.types import Floats

MOST_TRAINED_ON: Final = 20_000
MOST_ASKED: Final = 3_000
"""Training and validation proteins that are looked at; of more, whole classes are drawn, or proteins where each has
many labels."""


class LayerScores:
    """Scores of sets of layers, each on the same rows.

    Parameters
    ----------
    task : Task
    dataset : Dataset
        Of it the train and the validation part are looked at, never the test part.
    cache : EmbeddingCache
        Of several layers; holds the vectors of both parts.
    device : str
    seed : int
        Of what is drawn of a large set.

    Raises
    ------
    WorkspaceError
        If one of these parts is empty.
    CacheError
        If a vector is not there.
    """

    def __init__(
        self, task: AnyTask, dataset: Dataset, cache: EmbeddingCache, *, device: str = "cpu", seed: int = 0
    ) -> None:
        parts = [_embedded(dataset.part(name), cache) for name in ("train", "validation")]
        train, held = sampled(parts[0], parts[1], task.many or task.kind in WITHOUT_CLASSES, seed)
        if not len(train) or not len(held):
            lacking = "train" if not len(train) else "validation"
            problem = f"the {lacking} part has no proteins, and layers are chosen by what train tells of validation"
            raise WorkspaceError("data set", problem, "give one (--validation FILE), or name the layers")
        self.task = task
        self.spec = cache.spec
        self.device = device
        self.pooling = cache.spec.pooled[0]
        self.labels = task.labels(train)
        self.held_labels = task.labels(held, self.labels.classes)
        self.x = Features.from_cache(cache, train)
        self.held = Features.from_cache(cache, held)
        self.reached: dict[tuple[int, ...], float] = {}
        self.marks: dict[tuple[int, ...], Floats | None] = {}

    def __len__(self) -> int:
        """Return the number of validation proteins that are asked about."""
        return len(self.held)

    def __call__(self, layers: tuple[int, ...]) -> float:
        """Return what validation rows say of some layers, by the score that layers are compared by."""
        head_class = self.task.head_class(self.task.layer_head)
        head = head_class(head_class.Config(**self.task.layer_knobs, pooling=self.pooling), self.device)
        held = self._narrowed(self.held, layers), self.held_labels
        self.task.fit_head(head, self._narrowed(self.x, layers), self.labels, held, 0, None)
        self.marks[layers] = self.task.marks(head, *held)
        self.reached[layers] = float(head.scores[self.task.layer_score])
        return self.reached[layers]

    def error(self, layers: tuple[int, ...], default: tuple[int, ...]) -> float:
        """Return the standard error of the difference between two sets of layers that were scored.

        Of the marks of the same proteins, where there are any; else at most that of one mean of numbers from 0 to 1.
        """
        better, of_default = self.marks[layers], self.marks[default]
        if better is None or of_default is None:
            return math.sqrt(self.reached[default] * (1 - self.reached[default]) / len(self))
        return float(np.std(better - of_default)) / math.sqrt(len(self))

    def _narrowed(self, x: Features, layers: tuple[int, ...]) -> Features:
        """Return the same proteins with the numbers of some layers alone."""
        columns = of_layers(self.spec, layers).columns_in(self.spec)
        vectors = x.vectors(self.pooling)
        chosen = vectors if columns is None else vectors[:, columns]  # None: these are all that there are
        return Features.from_arrays({self.pooling: chosen}, x.sequences, x.ids)


def _embedded(part: Dataset, cache: EmbeddingCache) -> Dataset:
    """Leave out what was too large to be embedded."""
    missing = {part.sequences[row] for row in cache.missing(part.sequences)}
    return part.take([row for row, sequence in enumerate(part.sequences) if sequence not in missing])


def of_layers(spec: EmbeddingSpec, layers: Iterable[int]) -> EmbeddingSpec:
    """Return the spec of some of the layers of another's vectors."""
    chosen = tuple(sorted(set(layers)))
    return replace(spec, layers=chosen, width=spec.width // len(spec.layers) * len(chosen))


def sampled(train: Dataset, held: Dataset, many: bool, seed: int) -> tuple[Dataset, Dataset]:
    """Return the rows that are looked at: all, or of a large set whole classes, or any rows where labels are `many`.

    Examples
    --------
    >>> rows = [str(row) for row in range(30_000)]
    >>> large = Dataset(rows, rows, [row[-1] for row in rows], ["train"] * 30_000)
    >>> train, held = sampled(large, large.take(range(20)), many=False, seed=1)
    >>> len(train), len(held), set(train.labels) == set(held.labels)
    (18000, 12, True)
    """
    chance = random.Random(seed)
    if len(train) > MOST_TRAINED_ON and many:
        train = train.take(sorted(chance.sample(range(len(train)), MOST_TRAINED_ON)))
    elif len(train) > MOST_TRAINED_ON:
        classes = _drawn_classes(train.labels, chance)
        train, held = (
            part.take([row for row, label in enumerate(part.labels) if label in classes]) for part in (train, held)
        )
    if len(held) > MOST_ASKED:
        held = held.take(sorted(chance.sample(range(len(held)), MOST_ASKED)))
    return train, held


def _drawn_classes(labels: list[str], chance: random.Random) -> set[str]:
    """Draw classes until their rows would be too many; at least one."""
    sizes: dict[str, int] = {}
    for label in labels:
        sizes[label] = sizes.get(label, 0) + 1
    names = sorted(sizes)
    chance.shuffle(names)
    drawn = {names[0]}
    rows = sizes[names[0]]
    for name in names[1:]:
        if rows + sizes[name] <= MOST_TRAINED_ON:
            drawn.add(name)
            rows += sizes[name]
    return drawn
