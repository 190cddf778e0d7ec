"""Training a small encoder of ESM-2's layout on one's own sequences.

    sequences ──▶ Corpus ──▶ Batch ──▶ student ──▶ distillation + masked language + contrast + residue targets ──▶ file

The objectives, each with a weight, share the student's one pass over a batch.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from esmcls.encoders.alphabet import TOKENS
from esmcls.encoders.devices import choose_precision, is_emulated, note_processor
from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.encoders.weights import load_state, save_state, state_digest
from esmcls.errors import UsageError
from esmcls.pretraining.corpus import Batch, Corpus
from esmcls.pretraining.objectives import (
    AlignedResidues,
    Distillation,
    FamilyContrast,
    MaskedLanguage,
    Profile,
    ResidueStructure,
    View,
)
from esmcls.pretraining.residue_targets import ResidueTargets
from esmcls.training.loop import Entry, History, Log, planned_steps, run
from esmcls.training.processes import ALONE, Replicas
from esmcls.training.schedule import TrainingPlan

_LATER_KNOBS = ("aligned_weight", "structure_weight", "profile_weight", "targets_share")
"""Settings that checkpoints of 0.1.0 know nothing of: at their defaults they leave its digest as it was."""
CHECKPOINT_MINUTES = 10.0
"""Minutes of training that a crash costs at most."""
_BEYOND_STEPS = 2**31
"""First number of the batches that no step uses: the teacher's mean and deviation are measured on them."""


@dataclass(frozen=True)
class PretrainConfig:
    """Shape of the student, its objectives, and the length of the run.

    Parameters
    ----------
    layers, width, heads : int
        Shape of the student.
    teacher_layers : tuple of int
        Hidden states of the teacher that it regresses (0 the embedding).
    student_layers : int
        Its last so many layers, side by side, carry what it learns.
    default_layers : tuple of int, optional
        Layers that the trained encoder takes where none are named; those that carry what it learned, if not given.
    distill_weight, mlm_weight, contrast_weight : float
        Weights of the teacher's states, of masked residues and of families; 0 leaves an objective out.
    aligned_weight : float
        Weight of the contrast of residues that alignments of families put beside each other.
    structure_weight, profile_weight : float
        Weights of the residue targets: secondary structure and accessibility, and the sequence profile.
    targets_share : float
        Share of the crops that is drawn from the sequences with residue targets.
    pooled_weight : float
        Weight of the error of a crop's mean state beside that of its residues.
    queue : int
        Earlier crops that the contrast of families remembers.
    temperature : float
        Of that contrast.
    steps, tokens : int
        Optimiser steps; tokens a step and device, BOS and EOS included.
    lr, weight_decay : float
        Peak learning rate and decay of the matrices' Muon and the rest's AdamW.
    warmup : int
        Steps of linear rise to the peak; then it falls as a cosine.
    shortest, longest : int
        Crop lengths in residues; drawn log-uniformly, one a step.
    checkpoint_minutes : float
        Minutes between checkpoints; 0: they go by steps alone.
    checkpoint_every : int
        Steps between checkpoints besides; 0: they go by minutes alone.
    """

    layers: int = 4
    width: int = 256
    heads: int = 8
    teacher_layers: tuple[int, ...] = (3, 4, 5)
    student_layers: int = 2
    default_layers: tuple[int, ...] | None = None
    distill_weight: float = 1.0
    mlm_weight: float = 0.0
    contrast_weight: float = 0.0
    aligned_weight: float = 0.0
    structure_weight: float = 0.0
    profile_weight: float = 0.0
    targets_share: float = 0.5
    pooled_weight: float = 0.5
    queue: int = 4096
    temperature: float = 0.1
    steps: int = 5000
    tokens: int = 4096
    lr: float = 2e-3
    weight_decay: float = 0.01
    warmup: int = 100
    shortest: int = 64
    longest: int = 384
    checkpoint_minutes: float = CHECKPOINT_MINUTES
    checkpoint_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.student_layers <= self.layers:
            raise UsageError(f"{self.student_layers} student layers asked of a student of {self.layers} layers")
        if self.heads < 1 or self.width < 1 or self.width % (2 * self.heads):
            found = f"width {self.width} with {self.heads} attention heads"
            raise UsageError(f"{found}: give a width that is a multiple of twice their number")
        if not 1 <= self.shortest <= self.longest <= self.tokens - 2:
            raise UsageError("crop lengths need 1 <= shortest <= longest <= tokens - 2")
        if not set(self.default_layers or ()) <= set(range(self.layers + 1)):
            raise UsageError(f"default layers {self.default_layers} asked of a student of {self.layers} layers")
        weights = self.weights.values()
        if not all(weight >= 0 for weight in weights) or not any(weights):
            raise UsageError("weights of the objectives must be 0 or more, and one of them more than 0")
        if not 0 < self.targets_share < 1:
            raise UsageError(f"{self.targets_share} of the crops from residue targets; give a share between 0 and 1")

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each objective."""
        return {
            "distill": self.distill_weight,
            "mlm": self.mlm_weight,
            "contrast": self.contrast_weight,
            "aligned": self.aligned_weight,
            "structure": self.structure_weight,
            "profile": self.profile_weight,
        }

    @property
    def wants_families(self) -> bool:
        """Whether an objective needs the family of each sequence."""
        return bool(self.contrast_weight or self.aligned_weight)

    @property
    def wants_targets(self) -> bool:
        """Whether an objective needs residue targets."""
        return bool(self.structure_weight or self.profile_weight)

    @property
    def own_layers(self) -> tuple[int, ...]:
        """Layers of the student that carry what it learned."""
        return tuple(range(self.layers - self.student_layers + 1, self.layers + 1))


def check_objectives(config: PretrainConfig, teacher: bool, families: bool, targets: bool) -> None:
    """Make sure that each objective has what it learns from, before anything is read.

    Raises
    ------
    UsageError
        If one lacks it.
    """
    if config.distill_weight and not teacher:
        raise UsageError("distillation needs a teacher; name one, or give it weight 0")
    if config.contrast_weight and not families:
        raise UsageError("the contrast of families needs clusters; give them, or give it weight 0")
    if config.aligned_weight and not families:
        raise UsageError("the contrast of aligned residues needs clusters; give them, or give it weight 0")
    if config.wants_targets and not targets:
        raise UsageError("structure and profiles are learned from residue targets; give them, or weight 0")


class Pretraining:
    """The training task: a student and its objectives."""

    def __init__(
        self,
        config: PretrainConfig,
        corpus: Corpus,
        teacher: ESM2 | None = None,
        initial: ESM2 | None = None,
        replicas: Replicas = ALONE,
    ) -> None:
        check_objectives(config, teacher is not None, corpus.partners is not None, corpus.targets is not None)
        self.config = config
        self.corpus = corpus
        self.replicas = replicas
        self.weights = {name: weight for name, weight in config.weights.items() if weight}
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            student = ESM2(ModelConfig(config.layers, config.width, config.heads))
            if initial is not None:
                start_from(student, initial)
            self.model = nn.ModuleDict({"student": student, **self._objectives(teacher)}).to(replicas.device)
        self.optimizers = make_optimizers(self.model, config)

    def _objectives(self, teacher: ESM2 | None) -> dict[str, nn.Module]:
        config = self.config
        device = self.replicas.device
        seen = config.width * config.student_layers
        objectives: dict[str, nn.Module] = {}
        if config.distill_weight:
            assert teacher is not None
            crops = (self.corpus.batch(_BEYOND_STEPS + number).to(device) for number in range(20))
            frozen = teacher.to(device).eval().requires_grad_(False)
            target = partial(hidden_states, frozen, layers=config.teacher_layers)
            objectives["distill"] = Distillation(seen, target, config.pooled_weight, crops)
        if config.mlm_weight:
            objectives["mlm"] = MaskedLanguage(config.width, len(TOKENS))
        if config.contrast_weight:
            objectives["contrast"] = FamilyContrast(seen, queue=config.queue, temperature=config.temperature)
        if config.aligned_weight:
            objectives["aligned"] = AlignedResidues(seen, temperature=config.temperature)
        return objectives | self._residue_objectives(seen)

    def _residue_objectives(self, seen: int) -> dict[str, nn.Module]:
        config = self.config
        targets = self.corpus.targets
        if targets is None:
            return {}
        objectives: dict[str, nn.Module] = {}
        if config.structure_weight:
            if not targets.has_structure:
                raise UsageError("the residue targets hold no structure; give ss8 or accessibility, or weight 0")
            objectives["structure"] = ResidueStructure(seen, torch.from_numpy(targets.accessibility))
        if config.profile_weight:
            if not targets.has_profile:
                raise UsageError("the residue targets hold no profile; give profiles, or weight 0")
            objectives["profile"] = Profile(seen)
        return objectives

    def loss(self, step: int) -> tuple[Tensor, Entry]:
        """Return the weighted sum of the objectives on the crops of `step`, and its parts."""
        replicas = self.replicas
        student = self.model["student"]
        assert isinstance(student, ESM2)
        whole = shown = self.corpus.batch(step, replicas.rank)
        chosen = torch.zeros(len(whole.tokens), dtype=torch.bool)
        if "mlm" in self.weights:
            shown, chosen = self.corpus.masked(whole, step, replicas.rank)
        device = replicas.device
        states = hidden_states(student, shown.to(device), self.config.own_layers)
        view = View(student, states, whole.to(device), chosen.to(device), replicas.gather)
        total = view.states.new_zeros(())
        logged = {"tokens": float(len(whole.tokens) * replicas.count)}
        for name, weight in self.weights.items():
            loss, parts = self.model[name](view)
            total = total + weight * loss
            logged |= {part: error.item() for part, error in parts.items()}
        return total, logged

    def digest(self) -> str:
        """Return a digest of all that decides the run but its plan: knobs, corpus, families, and where it starts.

        The teacher is in it through the mean and deviation of its states, which the model keeps.
        """
        knobs = asdict(self.config) | dict.fromkeys(("steps", "checkpoint_every", "default_layers"))
        del knobs["checkpoint_minutes"]
        for name, default in asdict(PretrainConfig()).items():
            if name in _LATER_KNOBS and knobs[name] == default:
                del knobs[name]
        digest = hashlib.sha256(f"{knobs} {self.replicas.count}".encode())
        arrays = [self.corpus.ends, self.corpus.tokens, self.corpus.families]
        if (targets := self.corpus.targets) is not None:
            arrays += [targets.states, targets.accessibility, targets.profile]
        for values in arrays:
            digest.update(values.tobytes())
        return f"{digest.hexdigest()} {state_digest(self.model.state_dict())}"

    def validate(self) -> float | None:
        """Return nothing: the length of the run is fixed beforehand."""
        return None


def hidden_states(model: ESM2, batch: Batch, layers: Sequence[int]) -> Tensor:
    """Return some layers' states side by side, in bf16 where the hardware has it, (total, layers x width) fp32."""
    device = batch.tokens.device
    with torch.autocast(device.type, torch.bfloat16, enabled=not is_emulated("bf16", device)):
        states = model(batch.tokens, batch.offsets, layers)
    return torch.cat([states[layer].float() for layer in layers], dim=-1)


def start_from(student: ESM2, initial: ESM2) -> None:
    """Copy the embedding and as many first layers as both have; further layers stay as they are.

    Raises
    ------
    UsageError
        If the widths or the numbers of heads differ.
    """
    new, old = student.config, initial.config
    if (new.width, new.heads) != (old.width, old.heads):
        shapes = f"width {old.width} and {old.heads} heads, the student {new.width} and {new.heads}"
        raise UsageError(f"the encoder to start from has {shapes}; give --width and --heads its own")
    state = student.state_dict()
    student.load_state_dict(state | {name: value for name, value in initial.state_dict().items() if name in state})


def make_optimizers(model: nn.Module, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Give the layers' matrices to Muon and everything else to AdamW, at one learning rate.

    Source: Jordan et al. 2024 (Muon), Liu et al. 2025, arXiv:2502.16982 (its update at AdamW's scale).
    """
    named = list(model.named_parameters())
    matrices = [value for name, value in named if value.ndim == 2 and ".layers." in name]
    chosen = {id(value) for value in matrices}
    others = [value for _, value in named if id(value) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=config.lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.98)),
    ]


def measured_steps(task: Pretraining, minutes: float, trial: int = 8) -> int:
    """Return how many steps fit into `minutes`, timed on a copy of the task that is thrown away."""
    replicas = task.replicas
    probe = copy.copy(task)
    probe.model = copy.deepcopy(task.model)
    probe.optimizers = make_optimizers(probe.model, task.config)
    run(probe, TrainingPlan(steps=2, lr=task.config.lr), replicas=replicas)
    start = time.perf_counter()
    run(probe, TrainingPlan(steps=trial, lr=task.config.lr), replicas=replicas)
    seconds = replicas.average_entry({"seconds": time.perf_counter() - start})["seconds"]
    return max(1, int(60 * minutes * trial / seconds))


def pretrain(
    sequences: Sequence[str],
    output: str | Path,
    config: PretrainConfig = PretrainConfig(),
    *,
    teacher: str | Path | None = None,
    families: Sequence[Hashable] | None = None,
    targets: ResidueTargets | None = None,
    initial: str | Path | None = None,
    minutes: float | None = None,
    resume: bool = False,
    replicas: Replicas = ALONE,
    planned: Callable[[int], None] | None = None,
    log: Log | None = None,
) -> History:
    """Train an encoder on unlabelled sequences and write it, in fp16, as a file that `--encoder` takes.

    Parameters
    ----------
    sequences : sequence of str
        Upper-case residues.
    output : str or Path
        The `.safetensors` to write; the checkpoint lies beside it until the run is done.
    config : PretrainConfig
    teacher : str or Path, optional
        Weights of the teacher, of any origin that `load_state` reads.
    families : sequence of hashable, optional
        The family of each sequence, such as its cluster.
    targets : ResidueTargets, optional
        Further sequences with what is known of their residues, from `read_targets.read_residue_targets`.
    initial : str or Path, optional
        An encoder of the same width and heads whose first layers the student starts from.
    minutes : float, optional
        Measure the speed, then fix the number of steps to fill this time; `config.steps` otherwise.
    resume : bool
        Go on from the checkpoint, if there is one; `minutes` then leave the number of steps as it was fixed.
    replicas : Replicas
        This process among those that train together.
    planned : callable, optional
        Told the number of steps before the first.
    log : callable, optional
        Called with each step's entry: loss, its parts, learning rate, tokens.

    Returns
    -------
    History

    Raises
    ------
    WeightsError
        If the teacher or the encoder to start from cannot be read.
    UsageError
        If there is nothing to train on, or an objective lacks what it needs.
    """
    output = Path(output)
    check_objectives(config, teacher is not None, families is not None, targets is not None)
    teacher_model = None
    if teacher is not None and config.distill_weight:
        teacher_model = read_teacher(teacher, config.teacher_layers)
    initial_model = None if initial is None else read_model(initial)
    corpus = _corpus(sequences, config, families, targets)
    note_processor(choose_precision("auto", replicas.device, training=True), replicas.device)
    task = Pretraining(config, corpus, teacher_model, initial_model, replicas)
    checkpoint = output.with_suffix(".checkpoint")
    plan = _plan(task, checkpoint, minutes, resume, planned)
    about = task.digest()
    history = run(
        task,
        plan,
        checkpoint=checkpoint,
        minutes=config.checkpoint_minutes,
        resume=resume,
        log=log,
        replicas=replicas,
        about=about,
    )
    if replicas.first:
        _write_student(task, output, checkpoint)
    return history


def _corpus(
    sequences: Sequence[str],
    config: PretrainConfig,
    families: Sequence[Hashable] | None,
    targets: ResidueTargets | None,
) -> Corpus:
    """Return the corpus with what the objectives take of it."""
    return Corpus(
        sequences,
        families if config.wants_families else None,
        targets=targets if config.wants_targets else None,
        targets_share=config.targets_share,
        aligned=bool(config.aligned_weight),
        tokens=config.tokens,
        shortest=config.shortest,
        longest=config.longest,
        seed=config.seed,
    )


def _plan(
    task: Pretraining,
    checkpoint: Path,
    minutes: float | None,
    resume: bool,
    planned: Callable[[int], None] | None,
) -> TrainingPlan:
    """Return the plan of a run, of so many minutes where they are given, and tell its steps."""
    config = task.config
    if minutes is None:
        steps = config.steps
    elif resume and checkpoint.exists():
        steps = planned_steps(checkpoint)
    else:
        steps = measured_steps(task, minutes)
    if planned is not None and task.replicas.first:
        planned(steps)
    every = config.checkpoint_every
    return TrainingPlan(steps, config.lr, config.warmup, clip=1.0, checkpoint_every=every, seed=config.seed)


def _write_student(task: Pretraining, output: Path, checkpoint: Path) -> None:
    """Write the trained encoder; its checkpoint has served then."""
    student = task.model["student"]
    assert isinstance(student, ESM2)
    layers = task.config.default_layers or task.config.own_layers
    save_state(output, student.config, student.state_dict(), torch.float16, layers=layers)
    checkpoint.unlink(missing_ok=True)


def read_model(path: str | Path) -> ESM2:
    """Read a model of any origin that `load_state` reads."""
    return ESM2.of(*load_state(path))


def read_teacher(path: str | Path, layers: Sequence[int]) -> ESM2:
    """Read a teacher and make sure that it has the layers that are asked of it."""
    teacher = read_model(path)
    if not layers or max(layers) > teacher.config.layers or min(layers) < 0:
        raise UsageError(f"teacher layers {tuple(layers)} asked of a teacher of {teacher.config.layers} layers")
    return teacher
