"""The one training loop: learning-rate schedule, early stop, checkpoint, resume.

Pretraining, heads and fine-tuning differ in their `Task`; the loop is the same. A batch is a pure function of the
seed and the step, so the number of the next step is all that a sampler has to remember.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from esmcls.errors import FolderError, NothingLearnedError, TerminatedError
from esmcls.files import atomic_path, errors_of_the_system
from esmcls.foreign.torch_files import read_torch
from esmcls.plain_values import from_plain
from esmcls.training.processes import ALONE, Replicas
from esmcls.training.schedule import TrainingPlan, learning_rate

FORMAT = 1
SKIPPED_IN_A_ROW = 40
"""Steps in fp16 without finite gradients, one after another, that end a run: each has halved the scale of the losses,
so it is no longer the scale that makes them infinite."""
UNSCALED = GradScaler("cpu", enabled=False)
Entry = dict[str, float]
"""The numbers that are logged of a step, by name."""
Log = Callable[[Entry], None]
Backward = Callable[[Tensor], None]
"""Adds the gradients of a loss to those that are there."""


class Trained(Protocol):
    """A problem as the loop sees it: a model, its optimisers and a score."""

    @property
    def model(self) -> nn.Module:
        """The model that is trained; a checkpoint holds its state."""
        ...

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """The optimisers of its parameters; between them, each parameter once."""
        ...

    def validate(self) -> float | None:
        """Return the validation score (higher is better), or None where there is nothing to validate on."""
        ...


class Task(Trained, Protocol):
    """A problem whose batches fit into memory whole."""

    def loss(self, step: int) -> tuple[Tensor, Entry]:
        """Return the scalar loss of the batch of `step` (0-based) and its entry for the log."""
        ...


@runtime_checkable
class Accumulating(Trained, Protocol):
    """A problem whose batches are run in pieces; their gradients are those of the whole batch."""

    def accumulate(self, step: int, backward: Backward) -> Entry:
        """Call `backward` with the loss of each piece of the batch of `step`; return its loss and what else to log."""
        ...


_DEFAULTS = {setting.name: setting.default for setting in fields(TrainingPlan) if setting.default is not MISSING}


@dataclass
class History:
    """The course of a run: steps done, the best validation, a log entry a step, and where the plateau rate fell."""

    steps_done: int = 0
    best_step: int = 0
    best_score: float = -math.inf
    entries: list[Entry] = field(default_factory=list)
    falls: list[int] = field(default_factory=list)

    @property
    def skipped(self) -> int:
        """Number of the steps in fp16 that changed nothing, since their gradients were not finite."""
        return sum(entry.get("skipped", 0.0) > 0 for entry in self.entries)


def run(
    task: Task | Accumulating,
    plan: TrainingPlan,
    *,
    checkpoint: Path | None = None,
    minutes: float = 0.0,
    resume: bool = False,
    log: Log | None = None,
    stop_after: int | None = None,
    until: int | None = None,
    replicas: Replicas = ALONE,
    about: str = "",
    scaler: GradScaler = UNSCALED,
    stop: Callable[[], bool] | None = None,
) -> History:
    """Train until the plan is done or patience ends; the model is left at its best validated state, else its last.

    Parameters
    ----------
    task : Task or Accumulating
    plan : TrainingPlan
    checkpoint : Path, optional
        File that is replaced, whole, every `plan.checkpoint_every` steps and every so many minutes.
    minutes : float
        Between checkpoints; 0: they go by steps alone.
    resume : bool
        Go on from `checkpoint` where it exists; the result is the uninterrupted run's, to the bit on the CPU. The
        plan may differ in `steps` and `checkpoint_every` alone: the schedule is then the new plan's from there on.
    log : callable, optional
        Called with each step's entry.
    stop_after : int, optional
        Leave after this step with a checkpoint, as an interruption would.
    until : int, optional
        Be done after this step of the plan, which otherwise stays what it is: as patience would end it.
    replicas : Replicas
        The processes that train one model together: gradients and log entries are their mean, the first one writes.
    about : str
        All that decides the run besides its plan, such as a digest of the data: a checkpoint of another is refused.
    scaler : GradScaler
        Scales losses, for gradients in fp16.
    stop : callable, optional
        Asked after each step; where it says yes in any process, all leave with a checkpoint.

    Returns
    -------
    History

    Raises
    ------
    FolderError
        If the checkpoint is damaged or of another plan.
    TerminatedError
        If `stop` said yes.
    NothingLearnedError
        If the gradients of all steps, or of many in a row, were not finite in fp16.
    """
    with _own_randomness(plan.seed):
        steps = plan.steps if until is None else min(until, plan.steps)
        training = _Run(task, plan, replicas, about, scaler, steps, minutes)
        if resume and checkpoint is not None and checkpoint.exists():
            training.load(checkpoint)
        elif plan.validate_every and plan.validate_first:
            training.validate(0)
        while not training.finished:
            training.step(checkpoint, log, stop_after, stop)
            if training.history.steps_done == stop_after:
                return training.history
        training.refuse_nothing()
        training.restore_best()
    return training.history


class _Run:
    """A run under way: all that a checkpoint holds."""

    def __init__(
        self,
        task: Task | Accumulating,
        plan: TrainingPlan,
        replicas: Replicas,
        about: str,
        scaler: GradScaler,
        until: int,
        minutes: float = 0.0,
    ) -> None:
        self.task = task
        self.plan = plan
        self.until = until
        self.replicas = replicas
        self.about = about
        self.scaler = scaler
        self.minutes = minutes
        self.saved_at = time.monotonic()
        self.history = History()
        self.best: Mapping[str, Tensor] | None = None  # on the CPU: it is seldom written, and read once
        self.mean: Mapping[str, Tensor] | None = deepcopy(task.model.state_dict()) if plan.average else None
        self.stale = 0

    @property
    def finished(self) -> bool:
        patient = not self.plan.patience or self.stale < self.plan.patience
        return self.history.steps_done >= self.until or not patient

    def step(
        self, checkpoint: Path | None, log: Log | None, stop_after: int | None, stop: Callable[[], bool] | None
    ) -> None:
        """Take the next step, log it and write a checkpoint where one is due; see `run`."""
        entry = self._advance()
        if log is not None and self.replicas.first:
            log(entry)
        asked_to_stop = stop is not None and not self.finished and self.replicas.any(stop())
        if checkpoint is not None and (asked_to_stop or self.checkpoint_due(stop_after)):
            self.save(checkpoint)
        if asked_to_stop:
            raise TerminatedError(self.history.steps_done, self.plan.steps)

    def _advance(self) -> Entry:
        step = self.history.steps_done
        lr = learning_rate(self.plan, step, self.history.falls)
        entry = {"step": step + 1, "lr": lr, **self._optimise(step, lr)}
        self._follow()
        self.history.steps_done = step + 1
        if self.plan.validate_every and self._validation_due(step + 1):
            entry |= self.validate(step + 1)
        self.history.entries.append(entry)
        if len(self.history.entries) >= SKIPPED_IN_A_ROW:
            self.refuse_nothing(SKIPPED_IN_A_ROW)
        return entry

    def refuse_nothing(self, last: int = 0) -> None:
        """Raise NothingLearnedError if all steps, or the last so many, were skipped."""
        entries = self.history.entries[-last:]
        if entries and all(entry.get("skipped") for entry in entries):
            raise NothingLearnedError(len(entries), entries[-1]["scale"])

    def _validation_due(self, steps_done: int) -> bool:
        return steps_done % self.plan.validate_every == 0 or steps_done == self.plan.steps

    def _optimise(self, step: int, lr: float) -> Entry:
        self.task.model.train()
        for optimizer in self.task.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = lr * group.get("lr_scale", 1.0)
        entry = self._gradients(step)
        self.replicas.average_gradients(self.task.model)
        if self.plan.clip:
            for optimizer in self.task.optimizers:
                self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self.task.model.parameters(), self.plan.clip)
        for optimizer in self.task.optimizers:
            self.scaler.step(optimizer)
        return self.replicas.average_entry(entry) | self._update_scale()

    def _update_scale(self) -> Entry:
        """Let the scale of the losses follow the step; return, of fp16, the scale and whether the step was skipped.

        A step is skipped where its gradients are not finite: the scale was too high, and is halved.
        """
        if not self.scaler.is_enabled():
            return {}
        scale = self.scaler.get_scale()
        self.scaler.update()
        return {"scale": scale, "skipped": float(self.scaler.get_scale() < scale)}

    def _gradients(self, step: int) -> Entry:
        if isinstance(self.task, Accumulating):
            return self.task.accumulate(step, self._backward)
        loss, logged = self.task.loss(step)
        self._backward(loss)
        return {"loss": loss.item(), **logged}

    def _backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def _follow(self) -> None:
        """Move the running mean towards the weights."""
        if self.mean is None:
            return
        for name, value in self.task.model.state_dict().items():
            if value.is_floating_point():
                self.mean[name].mul_(self.plan.average).add_(value, alpha=1 - self.plan.average)
            else:
                self.mean[name].copy_(value)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Give the model the running mean for a while, where there is one."""
        if self.mean is None:
            yield
            return
        last = self.replicas.kept(self.task.model.state_dict())
        self.task.model.load_state_dict(self.mean)
        try:
            yield
        finally:
            self.task.model.load_state_dict(last)

    def validate(self, step: int) -> Entry:
        self.task.model.eval()
        with torch.no_grad(), self._averaged():
            score = self.task.validate()
            if score is None:
                return {}
            if score > self.history.best_score:
                self.history.best_score = score
                self.history.best_step = step
                self.stale = 0
                self.best = self.replicas.kept(self.task.model.state_dict())
                return {"score": score}
        self.stale += 1
        self._fall_if_due(step)
        return {"score": score}

    def _fall_if_due(self, steps_done: int) -> None:
        """Note that the plateau rate falls; all that it goes by is in the history."""
        waited = steps_done - max([self.history.best_step, *self.history.falls[-1:]])
        if self.plan.schedule == "plateau" and 0 < self.plan.plateau * self.plan.validate_every <= waited:
            self.history.falls.append(steps_done)

    def restore_best(self) -> None:
        state = self.mean if self.best is None else self.best
        if state is not None:
            self.task.model.load_state_dict(state)
        self.task.model.eval()

    def checkpoint_due(self, stop_after: int | None) -> bool:
        steps_done = self.history.steps_done
        every = self.plan.checkpoint_every
        if steps_done == stop_after or (every > 0 and steps_done % every == 0):
            return True
        return (every > 0 or self.minutes > 0) and (self.finished or self._time_is_over())

    def _time_is_over(self) -> bool:
        """Tell whether the last checkpoint is as old as they get; where processes share a model, all agree."""
        over = 0 < 60 * self.minutes <= time.monotonic() - self.saved_at
        return self.replicas.any(over) if self.replicas.sharded and self.minutes else over

    def save(self, path: Path) -> None:
        """Write all that it takes to go on, from the first process; where they share a model, all give their parts."""
        if not (self.replicas.first or self.replicas.sharded):
            return
        whole = self.replicas.whole
        state = {
            "format": FORMAT,
            "plan": asdict(self.plan),
            "about": self.about,
            "model": whole(self.task.model.state_dict()),
            "optimizers": [whole(optimizer.state_dict()) for optimizer in self.task.optimizers],
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "history": asdict(self.history),
            "best": whole(self.best),
            "mean": whole(self.mean),
            "stale": self.stale,
        }
        if self.replicas.first:
            with atomic_path(path) as temporary:
                torch.save(state, temporary)
        self.saved_at = time.monotonic()

    def load(self, path: Path) -> None:
        state = _read_checkpoint(path)
        # a run may be made longer or shorter, and a checkpoint older than a setting was made with its default
        free = {"steps": self.plan.steps, "checkpoint_every": self.plan.checkpoint_every}
        if state["history"]["steps_done"] >= max(state["plan"]["warmup"], self.plan.warmup):
            free["warmup"] = self.plan.warmup  # a share of the steps, for some
        if _DEFAULTS | state["plan"] | free != asdict(self.plan):
            raise FolderError(path, "a checkpoint of another plan", "give the same options as before, or remove it")
        if state.get("about", "") != self.about:
            fix = "give the same options and files as before, or remove it"
            raise FolderError(path, "a checkpoint of a run with other options or data", fix)
        current = self.task.model.state_dict()
        best = state["best"]
        mean = state.get("mean")
        self.best = None if best is None else self.replicas.part(best, current)
        self.mean = None if mean is None else self.replicas.beside(self.replicas.part(mean, current), current)
        self.task.model.load_state_dict(self.replicas.part(state["model"], current))
        for optimizer, saved in zip(self.task.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(self.replicas.part_of_optimizer(saved, optimizer))
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        self.history = History(**state["history"])
        self.stale = state["stale"]


def planned_steps(checkpoint: Path) -> int:
    """Return how many steps the interrupted run of a checkpoint was to have.

    Raises
    ------
    FolderError
        If the checkpoint is damaged.
    """
    return int(_read_checkpoint(checkpoint)["plan"]["steps"])


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        state = from_plain(dict[str, Any], read_torch(path))
        saved = from_plain(_Saved, state)
    except (OSError, ValueError) as error:
        raise FolderError(path, f"not a checkpoint ({error})", "remove it and start anew") from None
    if saved.format != FORMAT:
        raise FolderError(path, f"a checkpoint of format {saved.format}", "update esmcls")
    return state


@dataclass(frozen=True)
class _SavedPlan:
    """What is read of a plan before it is compared as a whole."""

    steps: int
    warmup: int


@dataclass(frozen=True)
class _SavedHistory:
    """What is read of a history before it is made again."""

    steps_done: int


@dataclass(frozen=True)
class _Saved:
    """What a checkpoint must hold; tensors and their holders are the model's and the optimizers' to check."""

    format: int
    plan: _SavedPlan
    history: _SavedHistory
    model: object
    optimizers: list[Any]
    scaler: object
    random: object
    best: object
    stale: int


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seed torch for the run and give the caller's generators back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class LogFile:
    """A log that appends each step's entry and the seconds so far, one JSON object a line.

    A resumed run's first entry cuts off what the interrupted one had logged from there on, so no step stands twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begun = time.perf_counter()
        self.fresh = True

    def __call__(self, entry: Entry) -> None:
        if self.fresh:
            self._cut(int(entry["step"]))
            self.fresh = False
        timed = entry | {"seconds": round(time.perf_counter() - self.begun, 3)}
        with errors_of_the_system(self.path, self.path), self.path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(timed) + "\n")

    def _cut(self, step: int) -> None:
        old = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(old[: step - 1]), encoding="utf-8")
