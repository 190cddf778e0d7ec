"""Fine-tuning as a training task: batches in pieces of bounded tokens, whose gradients are those of the whole batch.

    rows of a step ──▶ this process's share ──▶ Packed pieces ──▶ Tuned ──▶ weighted sums of losses / total weight

The loss of a step is the weighted mean over all its rows, or over all residues of these: each piece's weighted sum over
the step's total weight. Every process draws the whole step and takes its share, so that the total is known to all, and
their number changes no step. What a row's loss is, and what validation measures, is the kind of task's: see
`esmcls.tasks.objective.Supervision`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional as F

from esmcls.encoders.adapters import hold_frozen
from esmcls.encoders.devices import is_out_of_memory
from esmcls.encoders.model import SelfAttention
from esmcls.encoders.weights import state_digest
from esmcls.errors import SequenceTooLargeError, UsageError
from esmcls.finetuning.model import Tuned
from esmcls.finetuning.packing import Floats, Packed, Proteins
from esmcls.heads.blocks import LogitBlocks
from esmcls.tasks.objective import Supervision
from esmcls.training.loop import Backward, Entry
from esmcls.training.optimizers import make_optimizer, parameter_groups
from esmcls.training.processes import ALONE, Replicas
from esmcls.types import Indices

TOKENS: Final = {"cpu": 1 << 12, "cuda": 1 << 15, "mps": 1 << 12}
"""Of a piece, where nothing is said."""
FIRST_SCALE: Final = 2.0**10
"""Of the losses in fp16: at torch's 2^16 the gradients of whitened vectors overflow and the first steps are skipped."""
CENTRED: Final = 1024
"""Training proteins whose mean vector is subtracted from all: its error is a thirtieth of their spread."""
_CROPS, _DROPOUT, _MASKS = 1, 2, 3  # what a step's random numbers are drawn for


class Finetuning:
    """The task that fine-tuning gives to the training loop.

    Parameters
    ----------
    model : Tuned
    proteins : Proteins
        To train on.
    supervision : Supervision
        Of `proteins` and `held`.
    held : Proteins, optional
        To validate on.
    replicas : Replicas
    """

    def __init__(
        self,
        model: Tuned,
        proteins: Proteins,
        supervision: Supervision,
        held: Proteins | None = None,
        replicas: Replicas = ALONE,
    ) -> None:
        config, device = model.config, replicas.device
        self.config, self.replicas = config, replicas
        self.proteins, self.supervision, self.held = proteins, supervision, held
        if not model.budget:
            model.budget.fill_(TOKENS[device.type])
        lower = model.lower_on(device)
        if lower is not None:
            hold_frozen(model.encoder, lower)
        for part in model.encoder.modules():
            if isinstance(part, SelfAttention):
                part.apart = replicas.sharded  # else each device would keep all their weights after all
        replicas.place(model, model.encoder.layers, lower)
        self.model = model
        self.cost = supervision.loss(config, str(device))
        self.sampler = supervision.sampler(config)
        steps = min(self.sampler.steps_an_epoch, -(-CENTRED // config.batch))
        self.anchors = np.concatenate([self.sampler.rows(step) for step in range(steps)])[:CENTRED]
        scale = config.head_lr / config.peak
        groups = parameter_groups(model.encoder, model.outer, weight_decay=config.weight_decay, out_scale=scale)
        self.optimizers = [make_optimizer(config.optimizer, groups, config.peak, device)]
        self.scaler = GradScaler(device.type, init_scale=FIRST_SCALE, enabled=model.precision == "fp16")
        self.piece: Packed | None = None  # that is being run

    def accumulate(self, step: int, backward: Backward) -> Entry:
        """Run this process's share of a step in pieces; out of memory halves the pieces and begins the step again.

        Raises
        ------
        SequenceTooLargeError
            If one protein does not fit into memory alone.
        """
        rows = self.sampler.rows(step)
        places = np.random.default_rng([self.config.seed, step, _CROPS]).random(len(rows)) if self.config.crop else None
        mine = slice(self.replicas.rank, None, self.replicas.count)
        scale = self.replicas.count / self.cost.total(self.proteins.answered(rows, places))
        while True:
            try:
                entry = self._run(step, rows[mine], None if places is None else places[mine], scale, backward)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.replicas.sharded:  # the others wait in the middle of a pass
                    raise UsageError(
                        f"out of memory with pieces of {int(self.model.budget):,} tokens; "
                        "where processes share a model, give less: --tokens"
                    ) from None
            self._halve()
        means = {name: entry.pop(name) / len(rows) for name in self.cost.logs}
        return entry | means | {"memory": peak_memory(self.replicas.device) / 1e9}

    def _run(self, step: int, rows: Indices, places: Floats | None, scale: float, backward: Backward) -> Entry:
        count, device = self.replicas.count, self.replicas.device
        loss = torch.zeros((), device=device)
        logged = {name: torch.zeros((), device=device) for name in self.cost.logs}
        tokens = 0
        vectors = torch.zeros(len(self.model.mean) + 1, device=device)  # their sums, and how many they are
        for number, (packed, share) in enumerate(self._pieces(rows, places)):
            self.piece = packed
            self._seed(step, number)
            logits = self.model(packed.masked(self.config.mask, self._random(step, number, _MASKS)).to(device))
            # the mean is over what is answered: its weighted sum
            part = self.cost.mean(logits, packed.answered) * (share * len(packed.answered) * scale)
            backward(part)
            loss = loss + part.detach()
            for name, value in self.cost.logged(logits, packed.answered).items():
                logged[name] = logged[name] + share * value
            tokens += share * len(packed.tokens)
            vectors += share * F.pad(self.model.pooled.sum(0), (0, 1), value=len(packed.answered))
        if count > 1:  # a process without rows has gradients, too
            for value in self.model.parameters():
                if value.requires_grad and value.grad is None:
                    value.grad = torch.zeros_like(value)
        vectors = self.replicas.gather(vectors[None]).sum(0)
        self.model.follow(vectors[:-1], float(vectors[-1]))
        # the loop logs the mean over the processes: these are its sums
        sums = {"tokens": float(tokens), "sequences": float(len(rows))}
        sums |= {name: float(value) for name, value in logged.items()}
        return {"loss": loss.item(), **{name: count * value for name, value in sums.items()}}

    def _pieces(self, rows: Indices, places: Floats | None) -> Iterator[tuple[Packed, int]]:
        """Give this process's pieces, each counting once; where they share a model, as many as the others run."""
        budget = int(self.model.budget)
        pieces: Iterable[Packed] = self.proteins.packed(rows, budget, places)
        idle = 0
        if self.replicas.sharded:  # every pass is run by all of them together
            pieces = list(pieces)
            idle = self.replicas.most(len(pieces)) - len(pieces)
        for packed in pieces:
            yield packed, 1
        for packed in self.proteins.packed(np.zeros(1, np.int64), budget) if idle else ():
            yield from [(packed, 0)] * idle

    def _seed(self, step: int, number: int) -> None:
        """Make what is dropped a function of step, process and piece."""
        torch.manual_seed(int(self._random(step, number, _DROPOUT).integers(1 << 62)))

    def _random(self, step: int, number: int, purpose: int) -> np.random.Generator:
        """Return the random numbers of a piece; they depend on nothing that came before."""
        return np.random.default_rng([self.config.seed, step, purpose, self.replicas.rank, number])

    def _halve(self) -> None:
        """Make the pieces smaller than the one that did not fit, and forget the gradients."""
        assert self.piece is not None
        if len(self.piece.rows) == 1:
            row = int(self.piece.rows[0])
            raise SequenceTooLargeError(row, len(self.proteins.sequences[row])) from None
        self.model.zero_grad(set_to_none=True)
        if self.replicas.device.type == "cuda":
            torch.cuda.empty_cache()
        self.model.budget.fill_(min(int(self.model.budget), len(self.piece.tokens)) // 2)

    def validate(self) -> float | None:
        """Return the score on the held rows; of equals, the one with less loss is a trifle higher."""
        if self.held is None:
            return None
        self.recentre()
        order = self.held.by_size(np.arange(len(self.held)))
        return self.supervision.score(self.held.answered(order), self._in_order(self.held, order))

    def recentre(self) -> None:
        """Subtract from now on what the vectors of some training proteins, whole and unmasked, have in common."""
        if not self.model.moved:
            return
        sums, count = torch.zeros_like(self.model.mean), 0
        for answered, _ in self.blocks(self.proteins, self.anchors):
            sums += self.model.pooled.sum(0)
            count += len(answered)
        self.model.mean.copy_(sums / count)

    def blocks(self, proteins: Proteins, rows: Indices | None = None) -> Iterator[tuple[Indices, Tensor]]:
        """Give what is answered, see `Packed`, and its logits (answers, classes), of all proteins or of some rows."""
        chosen = np.arange(len(proteins)) if rows is None else rows
        for packed in proteins.packed(chosen, int(self.model.budget)):
            with torch.no_grad():
                yield packed.answered, self.model(packed.to(self.replicas.device))

    def _in_order(self, proteins: Proteins, rows: Indices) -> LogitBlocks:
        """Give slices of what is answered of `rows`, ordered by size as they are packed, and its logits."""
        start = 0
        for some, logits in self.blocks(proteins, rows):
            yield slice(start, start + len(some)), logits
            start += len(some)

    def digest(self, encoder: str) -> str:
        """Return a digest of all that decides the run but its plan: knobs, rows, and where it starts."""
        steps = {"epochs", "max_steps", "checkpoint_every", "checkpoint_minutes"}
        names = [field.name for field in fields(self.config) if field.name not in steps]
        knobs = {name: getattr(self.config, name) for name in names}
        digest = hashlib.sha256(f"{knobs} {self.model.precision} {self.proteins.strategy} {encoder}".encode())
        for sequence, mark in zip(self.proteins.sequences, self.supervision.marks, strict=True):
            digest.update(f"{sequence} {mark}\n".encode())
        return f"{digest.hexdigest()} {state_digest(self.replicas.whole(self.model.state_dict()))}"


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that were held at once: on a GPU by tensors, else by this process; else 0."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used
