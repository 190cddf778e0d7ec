"""From the scores of sets of layers to the layers that are taken.

Each layer alone, then pairs and triples of the best ones, and the encoder's own. A set of layers takes the place of the
encoder's own where validation puts it ahead by more than chance, on the same proteins.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

from esmcls.reporting.phrases import decimal, percent

Layers: TypeAlias = tuple[int, ...]

BEST: Final = 4
"""Layers, the best alone, of which pairs and triples are tried."""
CHANCE: Final = 1.645
"""Standard errors that a difference must exceed: of a normal distribution 5 % lies beyond."""
IN_WORDS: Final = {"accuracy": "accuracy", "fmax": "Fmax", "spearman": "Spearman"}
IN_PERCENT: Final = ("accuracy",)
"""Measures that are said in percent."""


@dataclass(frozen=True)
class ScoredLayers:
    """What some layers side by side reach."""

    layers: Layers
    score: float


@dataclass(frozen=True)
class LayerChoice:
    """Layers that were compared, and those that were chosen.

    Parameters
    ----------
    encoder, digest : str
        Its short name, and that of its weights.
    spec : str
        The key of the spec of all that was compared.
    dataset_digest, split_digest : str
        Of what it was compared on.
    measure : str
        `accuracy`, `fmax` or `spearman`.
    asked : int
        Validation proteins.
    default : tuple of int
        The encoder's own layers.
    layers : tuple of int
        Those chosen.
    scored : tuple of ScoredLayers
        Each layer alone, in ascending order, then sets of them.
    """

    encoder: str
    digest: str
    spec: str
    dataset_digest: str
    split_digest: str
    measure: str
    asked: int
    default: Layers
    layers: Layers
    scored: tuple[ScoredLayers, ...]
    format: Literal[1] = 1
    by: str = "nearest neighbours"
    """The head that they were compared by, in words."""

    @property
    def alone(self) -> tuple[ScoredLayers, ...]:
        """The curve: each layer alone."""
        return tuple(scored for scored in self.scored if len(scored.layers) == 1)

    @property
    def last(self) -> Layers:
        """The last of all layers."""
        return self.alone[-1].layers

    def score_of(self, layers: Layers) -> float:
        """Return what some of the sets that were compared reach."""
        return next(scored.score for scored in self.scored if scored.layers == layers)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Say what was chosen, and of what."""
        are = "s {} are" if len(self.layers) > 1 else " {} is"
        chosen = f"layer{are.format(in_words(self.layers))} chosen"
        remark = ", the encoder's own" if self.layers == self.default else ""
        measure = IN_WORDS.get(self.measure, self.measure)
        reached = f"{measure} {self.in_words(self.score_of(self.layers))} on {self.asked:,} validation proteins"
        others = {self.default: f"the encoder's own {in_words(self.default)}", self.last: "the last alone"}
        beside = [
            f"{name} {self.in_words(self.score_of(layers))}" for layers, name in others.items() if layers != self.layers
        ]
        return ["; ".join([f"{chosen}{remark}: {reached} by {self.by}", *beside])]

    def in_words(self, score: float) -> str:
        """Say a score as its measure is usually said."""
        return f"{percent(score)} %" if self.measure in IN_PERCENT else decimal(score)


def in_words(layers: Layers) -> str:
    """Say layers.

    Examples
    --------
    >>> in_words((2, 3, 4))
    '2,3,4'
    """
    return ",".join(map(str, layers))


def compare_layers(
    score: Callable[[Layers], float], layers: Sequence[int], default: Layers
) -> tuple[ScoredLayers, ...]:
    """Score each layer alone, the encoder's own, and the pairs and triples of the best ones.

    Parameters
    ----------
    score : callable
        From layers to what they reach; the higher, the better.
    layers : sequence of int
        All, in ascending order.
    default : tuple of int

    Examples
    --------
    >>> tried = compare_layers(lambda some: sum(some) / 10, range(6), (5,))
    >>> [entry.layers for entry in tried][:7], len(tried)
    ([(0,), (1,), (2,), (3,), (4,), (5,), (2, 3)], 16)
    """
    scores: dict[Layers, float] = {(layer,): score((layer,)) for layer in layers}
    best = sorted(sorted(scores, key=lambda alone: -scores[alone])[:BEST])  # of equals the first
    for combination in _sets([alone[0] for alone in best], default):
        if combination not in scores:
            scores[combination] = score(combination)
    return tuple(ScoredLayers(combination, reached) for combination, reached in scores.items())


def _sets(best: Sequence[int], default: Layers) -> Iterator[Layers]:
    yield from itertools.combinations(best, 2)
    yield from itertools.combinations(best, 3)
    yield default


def choose(scored: Sequence[ScoredLayers], default: Layers, error: Callable[[Layers], float]) -> Layers:
    """Return the best layers, or the encoder's own where these are behind by no more than chance.

    Parameters
    ----------
    scored : sequence of ScoredLayers
        The encoder's own among them.
    default : tuple of int
    error : callable
        From layers to the standard error of how far they are ahead of the encoder's own.

    Examples
    --------
    >>> scored = [ScoredLayers((1,), 0.5), ScoredLayers((2,), 0.45), ScoredLayers((1, 2), 0.5)]
    >>> choose(scored, (2,), lambda layers: 0.04), choose(scored, (2,), lambda layers: 0.02)
    ((2,), (1,))
    """
    best = min(scored, key=lambda entry: (-entry.score, len(entry.layers)))
    of_default = next(entry.score for entry in scored if entry.layers == default)
    return default if best.score - of_default <= CHANCE * error(best.layers) else best.layers
