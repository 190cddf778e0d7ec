"""Explain what a model says of proteins: what each residue adds to an output, and the training proteins it is like."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
import torch

from esmcls.cache.features import Features, batches
from esmcls.encoders.esm2 import ESM2Encoder, read_weights
from esmcls.encoders.windows import parse_long
from esmcls.errors import UsageError
from esmcls.heads.alignment.residues.segments import positions_seen
from esmcls.heads.base import FindsNearest, ShowsAlignments
from esmcls.heads.registry import reads_vectors
from esmcls.insight.explanation.evidence import Evidence, Neighbour
from esmcls.insight.explanation.opened import KNN_HEADS, OpenedHead, opened, opened_at_nearest
from esmcls.insight.explanation.residues import Contributions, contributions
from esmcls.insight.explanation.through_encoder import ThroughEncoder
from esmcls.labels.kinds import OF_RESIDUES, STRUCTURE, WITHOUT_CLASSES
from esmcls.models.given_vectors import workspace_of
from esmcls.models.model import Model, check_encoder, has_own_encoder
from esmcls.reading.records import Protein
from esmcls.types import Floats, Vectors

Method: TypeAlias = Literal["auto", "residues", "gradients"]
NEIGHBOURS: Final = 5
"""Training proteins that are shown."""
AT_ONCE: Final = 64
"""Proteins whose residue vectors are held at a time."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a model says what it says of one protein.

    Parameters
    ----------
    protein : Protein
    of : str
        What is explained: a class or term, `number`, or the training protein whose nearness it is; empty where nothing
        is said of residues.
    quantity : {"logit", "number", "cosine", ""}
        What `output` is.
    probability : float or None
        Of the class.
    method : {"residues", "gradients", ""}
    values : float64 array, (residues,)
        What each residue adds; NaN of those that the encoder did not see. Empty where nothing is said of residues.
    base, output : float
        Of what the protein is compared with, and of the protein.
    neighbours : tuple of Neighbour
    """

    protein: Protein
    of: str
    quantity: str
    probability: float | None
    method: str
    values: Floats
    base: float
    output: float
    neighbours: tuple[Neighbour, ...] = ()

    @property
    def rest(self) -> float:
        """What base and residues together lack of the output."""
        return self.output - self.base - float(np.nansum(self.values))


@dataclass(frozen=True, eq=False)
class Explainer:
    """A model, and how what it says is explained.

    Parameters
    ----------
    model : Model
    wanted : str, optional
        The class or term whose logit is explained; default the likeliest of each protein.
    method : {"auto", "residues", "gradients"}
        By the residue vectors that the head reads, or by gradients through the encoder; auto takes the latter where
        the encoder was fine-tuned with the head and the protein is one encoder input.
    most : int
        Training proteins that are shown.

    Raises
    ------
    UsageError
        If the model is of a kind that says nothing of residues or neighbours, has no such class, or the method is not
        for it.
    """

    model: Model
    wanted: str | None = None
    method: Method = "auto"
    most: int = NEIGHBOURS

    def __post_init__(self) -> None:
        head = self.model.head
        if self.model.task.kind in OF_RESIDUES:
            asked = "pairs of residues" if self.model.task.kind == STRUCTURE else "each residue by its own vector"
            raise UsageError(f"model {self.model.name} answers {asked}; explain a model of whole proteins")
        if self.wanted is not None and self.model.task.kind in WITHOUT_CLASSES:
            raise UsageError(f"model {self.model.name} predicts no classes; leave --class out")
        if self.wanted is not None and self.wanted not in self.model.classes:
            near = difflib.get_close_matches(self.wanted, self.model.classes, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(
                f"model {self.model.name} has no class {self.wanted!r}; {hint}name one of its "
                f"{len(self.model.classes):,}, or leave --class out for the likeliest"
            )
        if self.opened is None and not isinstance(head, (FindsNearest, ShowsAlignments)):
            raise UsageError(
                f"model {self.model.name} has the head {self.model.head_name}, whose answer is no sum over residues "
                "and names no training protein; explain a linear, ridge, mlp, knn or align one (--model NAME)"
            )
        if reads_vectors(head):
            check_encoder(self.model)
            if not self.model.spec.of_residues:
                raise UsageError(
                    f"encoder {self.model.spec.encoder} has no vectors of residues; explain a model on ESM-2 or "
                    "another language model"
                )
        if self.method == "gradients" and self.through is None:
            raise UsageError(
                f"--method gradients is for linear, ridge and mlp heads on ESM-2; model {self.model.name} has the head "
                f"{self.model.head_name} on {self.model.spec.encoder}: take --method residues"
            )

    @cached_property
    def opened(self) -> OpenedHead | None:
        """The head in its parts, where it has such."""
        return opened(self.model.head)

    @property
    def adds(self) -> bool:
        """Whether anything is said of residues, and not of training proteins alone."""
        head = self.model.head
        return self.opened is not None or (isinstance(head, KNN_HEADS) and head.finder.search.metric == "cosine")

    @property
    def sentence(self) -> str:
        """A sentence about how it is explained."""
        named = f"Model {self.model.name} has the head {self.model.head_name} on {self.model.spec.short_name}"
        if self.opened is None:
            return f"{named}: it answers by training proteins that are near."
        if self.method == "gradients" or (self.method == "auto" and has_own_encoder(self.model.folder)):
            return f"{named}: integrated gradients through the encoder, from residues whose embedding is zero."
        if self.opened.linear:
            return f"{named}: its logit is a sum over residues, each against the mean training protein."
        return f"{named}: integrated gradients from the mean training protein."

    @cached_property
    def through(self) -> ThroughEncoder | None:
        """The encoder below the head, for gradients; None where there is none that they go through."""
        if self.opened is None or self.opened.of_inputs or not isinstance(self.model.encoder, ESM2Encoder):
            return None
        model, source = self.model, self.model.source
        if source is not None and not isinstance(source, (str, Path)):
            return None
        name = str(source or (model.folder if has_own_encoder(model.folder) else model.spec.encoder))
        weights = read_weights(name)
        return ThroughEncoder.of(weights.config, weights.state, model.encoder.layers, self.opened)

    @cached_property
    def evidence(self) -> Evidence:
        """What the head knows of training proteins, with the sequences that the workspace has."""
        place = self.model.place or workspace_of(self.model.folder)
        sequences = {}
        if place is not None and place.has_dataset and place.dataset_digest == self.model.manifest.dataset_digest:
            sequences = dict(zip(place.dataset.ids, place.dataset.sequences, strict=True))
        return Evidence(self.model, self.most, sequences)

    def explain(self, proteins: Iterable[Protein]) -> Iterator[Explanation]:
        """Give the explanation of each protein, in their order."""
        block: list[Protein] = []
        for protein in proteins:
            block.append(protein)
            if len(block) == AT_ONCE:
                yield from self._explain_block(block)
                block = []
        yield from self._explain_block(block)

    def _explain_block(self, block: list[Protein]) -> Iterator[Explanation]:
        if not block:
            return
        x = self.model.features([protein.sequence for protein in block])
        vectors: list[Vectors | None] = [None] * len(block)
        if reads_vectors(self.model.head):
            vectors = list(self._residues(x.sequences))
        for row, (protein, residues) in enumerate(zip(block, vectors, strict=True)):
            yield self._explain_one(protein, x.take([row]), residues)

    def _residues(self, sequences: list[str]) -> Iterator[Vectors]:
        """Give the vectors of the residues seen of each sequence, float32."""
        for batch in batches(self.model.encoder, sequences):
            yield from self.model.encoder.encode(batch, ("mean",), "residue").residues or []

    def _explain_one(self, protein: Protein, x: Features, residues: Vectors | None) -> Explanation:
        neighbours = tuple(self.evidence.of(x, residues)) if self.opened is None else ()
        part = self.opened or opened_at_nearest(self.model.head, x)
        if part is None or residues is None:
            return Explanation(protein, "", "", None, "", np.zeros(0), 0.0, 0.0, neighbours)
        column, of, quantity, probability = self._asked(x, neighbours)
        added, method = self._added(protein, part, residues, column)
        values = np.full(len(protein.sequence), np.nan)
        values[positions_seen(self.model.spec, len(values), len(added.values))] = added.values
        return Explanation(protein, of, quantity, probability, method, values, added.base, added.output, neighbours)

    def _asked(self, x: Features, neighbours: tuple[Neighbour, ...]) -> tuple[int, str, str, float | None]:
        """Return the output that is explained, its name, what it is, and the probability of its class."""
        if self.opened is None:
            return 0, neighbours[0].id, "cosine", None
        if self.model.task.kind in WITHOUT_CLASSES:
            return 0, "number", "number", None
        if self.wanted is None:
            codes, probabilities = self.model.ranked(x, 1)
            column, probability = int(codes[0, 0]), float(probabilities[0, 0])
        else:
            column = self.model.classes.index(self.wanted)
            probability = float(self.model.probabilities(x)[0, column])
        return column, self.model.classes[column], "logit", probability

    def _added(
        self, protein: Protein, part: OpenedHead, residues: Vectors, column: int
    ) -> tuple[Contributions, Literal["residues", "gradients"]]:
        inputs = len(parse_long(self.model.spec.long).cut(len(protein.sequence)))
        tuned = has_own_encoder(self.model.folder)
        if self.method == "gradients" and inputs > 1:
            raise UsageError(
                f"{protein.id}: {len(protein.sequence):,} residues are more than one encoder input, which gradients "
                "are for; take --method residues"
            )
        if part.of_inputs and inputs > 1:
            raise UsageError(
                f"{protein.id}: the head weighs {inputs} encoder inputs by attention, which is no sum over residues; "
                "explain proteins of one input, or another model"
            )
        by_gradients = self.method == "gradients" or (self.method == "auto" and tuned and inputs == 1)
        if by_gradients and self.through is not None:
            return self.through.contributions(protein.sequence, column), "gradients"
        attention = getattr(self.model.encoder, "attention", None)
        scores = attention.cpu().numpy() if isinstance(attention, torch.Tensor) else None
        return contributions(part, residues, column, scores), "residues"
