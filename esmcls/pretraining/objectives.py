"""The objectives of training an encoder: a teacher's states, masked residues, relatives close together, targets.

Each objective is a module, so that its parameters and its memory are in the checkpoint beside the encoder, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from esmcls.encoders.model import ESM2
from esmcls.pretraining.corpus import Batch
from esmcls.pretraining.residue_targets import AMINO_ACIDS, STATES
from esmcls.training.device_operations import segment_sums


@dataclass(frozen=True)
class View:
    """A batch with the student's states of it, as the objectives take it.

    Parameters
    ----------
    student : ESM2
    states : float32 tensor, (total, seen)
        Its own layers side by side.
    batch : Batch
        The crops as they are, whatever the student was shown.
    chosen : bool tensor, (total,)
        Residues that masked language modelling asks for.
    gather : callable
        Joins the rows of all replicas, each of which has as many.
    """

    student: ESM2
    states: Tensor
    batch: Batch
    chosen: Tensor
    gather: Callable[[Tensor], Tensor]


class Distillation(nn.Module):
    """Regress a frozen teacher's standardised hidden states, residue by residue and crop by crop.

    The error of a crop's mean, in units of how much such means differ between crops, is the error that a classifier
    sees; among the residues' errors alone it is drowned by the differences of neighbouring residues.

    Parameters
    ----------
    seen : int
        Width of the student's states.
    target : callable
        The teacher's hidden states of a batch, (total, target width); without gradients.
    pooled_weight : float
        Weight of the error of the crops' means beside that of the residues.
    crops : iterable of Batch
        To measure the teacher's mean and deviation on.
    """

    mean: Tensor
    scale: Tensor
    pooled_scale: Tensor

    def __init__(
        self,
        seen: int,
        target: Callable[[Batch], Tensor],
        pooled_weight: float,
        crops: Iterable[Batch],
    ) -> None:
        super().__init__()
        self.target = target  # the teacher is no submodule: no checkpoint repeats it
        self.pooled_weight = pooled_weight
        for name, value in zip(("mean", "scale", "pooled_scale"), self._statistics(crops), strict=True):
            self.register_buffer(name, value)
        self.projection = nn.Linear(seen, len(self.mean))

    def forward(self, view: View) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the two mean squared errors, added and each; 1 is that of predicting the mean."""
        with torch.no_grad():
            target = (self.target(view.batch) - self.mean) / self.scale
        difference = self.projection(view.states) - target  # (total, target width)
        residue = difference.square().mean()
        pooled = (crop_means(difference, view.batch.offsets) / self.pooled_scale).square().mean()
        return residue + self.pooled_weight * pooled, {"residue": residue, "pooled": pooled}

    def _statistics(self, crops: Iterable[Batch]) -> tuple[Tensor, Tensor, Tensor]:
        """Measure mean and deviation of a residue's states, and the deviation of a crop's mean in units of that."""
        residues = []
        means = []
        with torch.no_grad():
            for batch in crops:
                states = self.target(batch)
                residues.append(torch.stack([states.mean(0), states.square().mean(0)]))
                means.append(crop_means(states, batch.offsets))
        mean, square = torch.stack(residues).mean(0)
        scale = (square - mean.square()).clamp_min(1e-8).sqrt()
        return mean, scale, torch.cat(means).std(0).clamp_min(1e-4) / scale


class MaskedLanguage(nn.Module):
    """ESM-2's language-model head; its output matrix is the encoder's own embedding."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.layer_norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(tokens))

    def forward(self, view: View) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean cross-entropy of the chosen residues, in nats."""
        last = view.states[view.chosen, -view.student.config.width :]  # (chosen, width)
        hidden = self.layer_norm(F.gelu(self.dense(last)))
        embedding = view.student.embed_tokens.weight * view.student.config.width**-0.5  # as in T5, arXiv:1910.10683
        logits = F.linear(hidden, embedding, self.bias)  # (chosen, tokens)
        total = F.cross_entropy(logits, view.batch.tokens[view.chosen], reduction="sum")
        mean = total / max(1, len(hidden))
        return mean, {"masked": mean}


class FamilyContrast(nn.Module):
    """Members of a family close together, all others apart, by the cosine of projected mean states.

    Every crop with a relative in the batch is drawn to it and away from the batch's other crops and from a queue of
    earlier ones; relatives that wait in the queue count neither way.

    Source: Khosla et al. 2020, arXiv:2004.11362, eq. 2; Wang et al. 2020, arXiv:1912.06798 (the queue).

    Parameters
    ----------
    seen : int
        Width of the mean states.
    width : int
        Width of their projection.
    queue : int
        Earlier crops that are kept.
    temperature : float
    """

    kept: Tensor
    kept_families: Tensor

    def __init__(self, seen: int, width: int = 128, queue: int = 4096, temperature: float = 0.1) -> None:
        super().__init__()
        self.projection = nn.Linear(seen, width)
        self.temperature = temperature
        self.register_buffer("kept", torch.zeros(queue, width))
        self.register_buffer("kept_families", torch.full((queue,), -1))

    def forward(self, view: View) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean cross-entropy of a crop's relatives among all others, in nats, and queue the crops."""
        families = view.batch.families
        means = crop_means(view.states, view.batch.offsets)
        vectors = F.normalize(self.projection(means), dim=-1)
        count = len(vectors)
        others = torch.cat([families, self.kept_families])
        logits = vectors @ torch.cat([vectors, self.kept]).T / self.temperature  # (crops, crops + queue)
        same = families[:, None] == others
        itself = torch.eye(count, dtype=torch.bool, device=means.device)
        relatives = same[:, :count] & ~itself
        ignored = torch.cat([itself, (same | (others < 0))[:, count:]], dim=1)
        logs = logits.masked_fill(ignored, float("-inf")).log_softmax(dim=-1)[:, :count]
        related = relatives.any(1)
        each = logs.masked_fill(~relatives, 0.0).sum(1)[related] / relatives.sum(1)[related]
        self._remember(view.gather(vectors.detach()), view.gather(families))
        mean = -each.sum() / max(1, len(each))
        return mean, {"contrast": mean}

    def _remember(self, vectors: Tensor, families: Tensor) -> None:
        """Put crops at the head of the queue; the oldest fall out of it."""
        self.kept.copy_(torch.cat([vectors, self.kept])[: len(self.kept)])
        self.kept_families.copy_(torch.cat([families, self.kept_families])[: len(self.kept)])


class AlignedResidues(nn.Module):
    """Residues in one column of two relatives' alignment close together, all others apart, by projections' cosine.

    Each residue of a pair is asked for among all of the batch's residues on the other side, and the other way round:
    those of its own relative, and those of other families. A linear projection, so that cosines of the states' own
    principal components, by which residues are aligned, gain by it.

    Source: van den Oord et al. 2018, arXiv:1807.03748, eq. 4; both ways as in Radford et al. 2021, arXiv:2103.00020.

    Parameters
    ----------
    seen : int
        Width of the states.
    width : int
        Width of their projection.
    most : int
        Pairs of a batch that are taken at most, evenly spread.
    temperature : float
    """

    def __init__(self, seen: int, width: int = 128, most: int = 2048, temperature: float = 0.1) -> None:
        super().__init__()
        self.projection = nn.Linear(seen, width, bias=False)
        self.most = most
        self.temperature = temperature

    def forward(self, view: View) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean cross-entropy of a residue's partner among all partners, in nats."""
        pairs = view.batch.pairs
        assert pairs is not None
        pairs = pairs[:: max(1, -(-len(pairs) // self.most))]
        vectors = F.normalize(self.projection(view.states[pairs]), dim=-1)  # (pairs, 2, width)
        logits = vectors[:, 0] @ vectors[:, 1].T / self.temperature  # (pairs, pairs)
        both = [each.log_softmax(dim=1).diagonal().sum() for each in (logits, logits.T)]
        mean = -(both[0] + both[1]) / max(1, 2 * len(pairs))
        return mean, {"aligned": mean}


class ResidueStructure(nn.Module):
    """Tell each residue's secondary structure and accessibility, linearly, where they are known.

    Parameters
    ----------
    seen : int
        Width of the student's states.
    accessibility : float tensor, (residues,)
        Of the whole corpus, to measure mean and deviation on; nan where it is not known.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, seen: int, accessibility: Tensor) -> None:
        super().__init__()
        known = accessibility[accessibility.isfinite()].double()
        self.register_buffer("mean", (known.sum() / max(1, len(known))).float())
        self.register_buffer(
            "scale", (known.var(correction=0).sqrt() if len(known) else known.sum()).clamp_min(1e-4).float()
        )
        self.states = nn.Linear(seen, len(STATES))
        self.accessibility = nn.Linear(seen, 1)

    def forward(self, view: View) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean cross-entropy in nats and the mean squared error (1: that of the mean), added and each."""
        targets, accessibility = view.batch.states, view.batch.accessibility
        assert targets is not None
        assert accessibility is not None
        known = targets >= 0
        entropy = F.cross_entropy(self.states(view.states[known]), targets[known], reduction="sum")
        states = entropy / max(1, int(known.sum()))
        measured = accessibility.isfinite()
        wanted = (accessibility[measured] - self.mean) / self.scale
        errors = (self.accessibility(view.states[measured])[:, 0] - wanted).square()
        error = errors.sum() / max(1, len(errors))
        return states + error, {"states": states, "accessibility": error}


class Profile(nn.Module):
    """Tell each residue's sequence profile, linearly, where it is known."""

    def __init__(self, seen: int) -> None:
        super().__init__()
        self.shares = nn.Linear(seen, len(AMINO_ACIDS))

    def forward(self, view: View) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean cross-entropy between the profile and what is told, in nats."""
        profile = view.batch.profile
        assert profile is not None
        known = profile.any(1)
        logs = self.shares(view.states[known]).log_softmax(dim=-1)  # (known, 20)
        mean = -(profile[known] * logs).sum() / max(1, len(logs))
        return mean, {"profile": mean}


def crop_means(states: Tensor, offsets: Tensor) -> Tensor:
    """Return the mean state of each crop's residues, BOS and EOS left out, (crops, width)."""
    inner = torch.ones(len(states), 1, device=states.device)
    inner[offsets[:-1]] = 0
    inner[offsets[1:] - 1] = 0
    sums = segment_sums(states * inner, offsets.diff())
    return sums / (offsets.diff() - 2)[:, None]
