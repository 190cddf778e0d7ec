"""Training a small encoder of ESM-2's layout by distillation from a larger one.

The student's last layers, side by side, are mapped linearly onto the teacher's standardised hidden states. Two errors
are added: that of each residue, and that of each crop's mean, in units of how much such means differ between crops.
The second is what a classifier sees; in the first alone it is drowned by what tells one residue from its neighbour.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from esmcls.alphabet import BOS, EOS, tokenize
from esmcls.errors import UsageError
from esmcls.model import ESM2, ModelConfig
from esmcls.training import Entry, History, Log, Plan, run
from esmcls.weights import load_state, save_state


@dataclass(frozen=True)
class PretrainConfig:
    """Shape of the student, what it learns from, and for how long.

    Parameters
    ----------
    layers, width, heads : int
        Shape of the student.
    teacher_layers : tuple of int
        Hidden states of the teacher that it regresses (0 the embedding).
    student_layers : int
        Its last so many layers carry the states, and are the default ones of the trained encoder.
    steps, tokens : int
        Optimiser steps; tokens a step, BOS and EOS included.
    lr : float
        Peak learning rate of the matrices' Muon and the rest's AdamW.
    pooled_weight : float
        Weight of the error of a crop's mean beside that of its residues.
    shortest, longest : int
        Crop lengths in residues; drawn log-uniformly, one a step.
    """

    layers: int = 5
    width: int = 256
    heads: int = 8
    teacher_layers: tuple[int, ...] = (3, 4, 5)
    student_layers: int = 2
    steps: int = 5000
    tokens: int = 4096
    lr: float = 2e-3
    weight_decay: float = 0.01
    warmup: int = 100
    pooled_weight: float = 0.5
    shortest: int = 64
    longest: int = 384
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.student_layers <= self.layers:
            raise UsageError(f"{self.student_layers} student layers asked of a student of {self.layers} layers")
        if not 1 <= self.shortest <= self.longest <= self.tokens - 2:
            raise UsageError("crop lengths need 1 <= shortest <= longest <= tokens - 2")

    @property
    def own_layers(self) -> tuple[int, ...]:
        """Layers of the student that carry what it learned."""
        return tuple(range(self.layers - self.student_layers + 1, self.layers + 1))


class Corpus:
    """Sequences as one flat array of tokens, and the crops of a step as a pure function of its number."""

    def __init__(self, sequences: Sequence[str], config: PretrainConfig) -> None:
        if not sequences:
            raise UsageError("no sequences to train on; give a FASTA, CSV or TSV file with at least one")
        self.config = config
        self.ends = np.cumsum([len(sequence) for sequence in sequences])
        self.tokens = np.concatenate([tokenize(sequence) for sequence in sequences])

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the packed crops of a step: int64 tokens (total,) and offsets (crops + 1,)."""
        config, random = self.config, np.random.default_rng([self.config.seed, step])
        limit = round(math.exp(random.uniform(math.log(config.shortest), math.log(config.longest))))
        rows = random.integers(len(self.ends), size=config.tokens // (limit + 2))
        crops = sorted((self._crop(int(row), limit, random) for row in rows), key=len)
        offsets = np.concatenate([[0], np.cumsum([len(crop) for crop in crops])])
        return torch.from_numpy(np.concatenate(crops).astype(np.int64)), torch.from_numpy(offsets)

    def _crop(self, row: int, limit: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
        end, begin = int(self.ends[row]), int(self.ends[row - 1]) if row else 0
        start = begin + int(random.integers(max(1, end - begin - limit + 1)))
        inner = self.tokens[start : min(end, start + limit)]
        return np.concatenate([[BOS], inner, [EOS]]).astype(np.uint8)


class Distillation:
    """The training task: student and projection learn a frozen teacher's standardised states."""

    def __init__(self, config: PretrainConfig, corpus: Corpus, teacher: ESM2) -> None:
        self.config, self.corpus, self.teacher = config, corpus, teacher.eval().requires_grad_(False)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            student = ESM2(ModelConfig(config.layers, config.width, config.heads))
            seen = config.width * len(config.own_layers)
            target = teacher.config.width * len(config.teacher_layers)
            self.model = nn.ModuleDict({"student": student, "projection": nn.Linear(seen, target)})
        self.optimizers = make_optimizers(self.model, config)
        self.mean, self.scale, self.pooled_scale = self._statistics()

    def loss(self, step: int) -> tuple[Tensor, Entry]:
        """Return the weighted error on the crops of `step`, and its two parts."""
        tokens, offsets = self.corpus.batch(step)
        target = (self._states(self.teacher, tokens, offsets, self.config.teacher_layers) - self.mean) / self.scale
        seen = self._states(self.model["student"], tokens, offsets, self.config.own_layers)
        difference = self.model["projection"](seen) - target  # (total, target width)
        residue = difference.square().mean()
        pooled = (crop_means(difference, offsets) / self.pooled_scale).square().mean()
        parts = {"residue": residue.item(), "pooled": pooled.item()}
        return residue + self.config.pooled_weight * pooled, parts

    def validate(self) -> float | None:
        """Return nothing: the length of the run is fixed beforehand."""
        return None

    def _states(self, model: nn.Module, tokens: Tensor, offsets: Tensor, layers: Sequence[int]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            states = model(tokens, offsets, layers)
        return torch.cat([states[layer].float() for layer in layers], dim=-1)  # (total, layers x width)

    def _statistics(self, batches: int = 40) -> tuple[Tensor, Tensor, Tensor]:
        """Measure the teacher's states on crops that no step uses: mean and deviation a residue, deviation a mean."""
        residues, means = [], []
        for number in range(batches):
            tokens, offsets = self.corpus.batch(2**31 + number)
            states = self._states(self.teacher, tokens, offsets, self.config.teacher_layers)
            residues.append(torch.stack([states.mean(0), states.square().mean(0)]))
            means.append(crop_means(states, offsets))
        mean, square = torch.stack(residues).mean(0)
        scale = (square - mean.square()).clamp_min(1e-8).sqrt()
        return mean, scale, torch.cat(means).std(0).clamp_min(1e-4) / scale


def crop_means(states: Tensor, offsets: Tensor) -> Tensor:
    """Return the mean state of each crop's residues, BOS and EOS left out, (crops, width)."""
    inner = torch.ones(len(states), 1)
    inner[offsets[:-1]] = 0
    inner[offsets[1:] - 1] = 0
    sums = torch.segment_reduce(states * inner, "sum", lengths=offsets.diff(), axis=0)
    return sums / (offsets.diff() - 2)[:, None]


def make_optimizers(model: nn.Module, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Give the layers' matrices to Muon and everything else to AdamW, at one learning rate.

    Source: Jordan et al. 2024 (Muon), Liu et al. 2025, arXiv:2502.16982 (its update at AdamW's scale).
    """
    named = list(model.named_parameters())
    matrices = [value for name, value in named if value.ndim == 2 and ".layers." in name]
    chosen = {id(value) for value in matrices}
    others = [value for _, value in named if id(value) not in chosen]
    rate, decay = config.lr, config.weight_decay
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, weight_decay=decay, betas=(0.9, 0.98)),
    ]


def measured_steps(config: PretrainConfig, task: Distillation, minutes: float, trial: int = 8) -> int:
    """Return how many steps fit into `minutes`, timed on a copy of the task that is thrown away."""
    probe = copy.deepcopy(task)
    run(probe, Plan(steps=2, lr=config.lr))
    start = time.perf_counter()
    run(probe, Plan(steps=trial, lr=config.lr))
    return max(1, int(60 * minutes * trial / (time.perf_counter() - start)))


def pretrain(
    sequences: Sequence[str],
    teacher: str | Path,
    output: str | Path,
    config: PretrainConfig = PretrainConfig(),
    *,
    minutes: float | None = None,
    resume: bool = False,
    log: Log | None = None,
) -> History:
    """Train an encoder on unlabelled sequences and write it, in fp16, as a file that `--encoder` takes.

    Parameters
    ----------
    sequences : sequence of str
        Upper-case residues.
    teacher : str or Path
        Weights of the teacher, of any origin that `load_state` reads.
    output : str or Path
        The `.safetensors` to write; the checkpoint lies beside it until the run is done.
    config : PretrainConfig
    minutes : float, optional
        Measure the speed, then fix the number of steps to fill this time; `config.steps` otherwise.
    resume : bool
        Go on from the checkpoint, if there is one.
    log : callable, optional
        Called with each step's entry: loss, its parts, learning rate.

    Returns
    -------
    History

    Raises
    ------
    WeightsError
        If the teacher cannot be read.
    UsageError
        If there is nothing to train on.
    """
    output = Path(output)
    teacher_config, state = load_state(teacher)
    if max(config.teacher_layers) > teacher_config.layers or min(config.teacher_layers) < 0:
        raise UsageError(f"teacher layers {config.teacher_layers} asked of a teacher of {teacher_config.layers} layers")
    model = ESM2(teacher_config)
    model.load_state_dict(state)
    task = Distillation(config, Corpus(sequences, config), model)
    steps = config.steps if minutes is None else measured_steps(config, task, minutes)
    plan = Plan(steps, config.lr, config.warmup, clip=1.0, checkpoint_every=config.checkpoint_every, seed=config.seed)
    checkpoint = output.with_suffix(".checkpoint")
    history = run(task, plan, checkpoint=checkpoint, resume=resume, log=log)
    student = task.model["student"]
    assert isinstance(student, ESM2)
    save_state(output, student.config, student.state_dict(), torch.float16, layers=config.own_layers)
    checkpoint.unlink(missing_ok=True)
    return history
