"""The one training loop: learning-rate schedule, early stop, checkpoint, resume.

Pretraining, heads and fine-tuning differ in their `Task`; the loop is the same. A batch is a pure function of the
seed and the step, so the number of the next step is all that a sampler has to remember.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from esmcls.errors import FolderError, TerminatedError
from esmcls.files import atomic_path
from esmcls.replicas import ALONE, Replicas

FORMAT = 1
UNSCALED = GradScaler("cpu", enabled=False)
Entry = dict[str, float]
Log = Callable[[Entry], None]
Backward = Callable[[Tensor], None]
"""Adds the gradients of a loss to those that are there."""


class Trained(Protocol):
    """What the loop needs of any problem."""

    @property
    def model(self) -> nn.Module:
        """What is trained; a checkpoint holds its state."""
        ...

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """What steps over its parameters; between them, each parameter once."""
        ...

    def validate(self) -> float | None:
        """Return the validation score (higher is better), or None where there is nothing to validate on."""
        ...


class Task(Trained, Protocol):
    """A problem whose batches fit into memory whole."""

    def loss(self, step: int) -> tuple[Tensor, Entry]:
        """Return the scalar loss of the batch of `step` (0-based) and what to log of it."""
        ...


@runtime_checkable
class Accumulating(Trained, Protocol):
    """A problem whose batches are run in pieces; their gradients are those of the whole batch."""

    def accumulate(self, step: int, backward: Backward) -> Entry:
        """Call `backward` with the loss of each piece of the batch of `step`; return its loss and what else to log."""
        ...


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Parameters
    ----------
    steps : int
        Optimiser steps in all.
    lr : float
        Peak learning rate; a parameter group's `lr_scale` multiplies it.
    warmup : int
        Steps of linear rise to the peak.
    schedule : {"cosine", "linear", "constant", "plateau"}
        Fall from the peak to `floor` x `lr` over the remaining steps, or each time that validation is no longer better.
    clip : float
        Largest gradient norm; 0 for none.
    validate_every, patience : int
        Steps between validations (0: never); validations without a better score before it stops (0: never).
    checkpoint_every : int
        Steps between checkpoints (0: never).
    plateau, factor : int, float
        Of the plateau schedule: validations without a better score, since the best or since the last fall, before the
        rate is multiplied by `factor` (0: never).
    validate_first : bool
        Validate before the first step, too: the model is left as it began where it never gets better.
    falls : tuple of int
        Numbers of done steps after which it is multiplied anyway: `History.falls` of a run that was validated.
    """

    steps: int
    lr: float
    warmup: int = 0
    schedule: Literal["cosine", "linear", "constant", "plateau"] = "cosine"
    floor: float = 0.0
    clip: float = 0.0
    validate_every: int = 0
    patience: int = 0
    checkpoint_every: int = 0
    seed: int = 0
    plateau: int = 0
    factor: float = 0.5
    falls: tuple[int, ...] = ()
    validate_first: bool = False


_DEFAULTS = {one.name: one.default for one in fields(Plan) if one.default is not MISSING}


@dataclass
class History:
    """What happened: the last step done, the best validation, a log entry a step, and where the plateau rate fell."""

    steps_done: int = 0
    best_step: int = 0
    best_score: float = -math.inf
    entries: list[Entry] = field(default_factory=list)
    falls: list[int] = field(default_factory=list)


def learning_rate(plan: Plan, step: int, falls: Sequence[int] = ()) -> float:
    """Return the learning rate of a step (0-based), after `falls` besides those of the plan.

    Examples
    --------
    >>> plan = Plan(steps=10, lr=1.0, warmup=2, schedule="linear")
    >>> [round(learning_rate(plan, step), 3) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.125]
    """
    if step < plan.warmup:
        return plan.lr * (step + 1) / plan.warmup
    done = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    share = {
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "linear": 1 - done,
        "constant": 1.0,
        "plateau": plan.factor ** sum(fall <= step for fall in (*plan.falls, *falls)),
    }[plan.schedule]
    return plan.lr * (plan.floor + (1 - plan.floor) * share)


def run(
    task: Task | Accumulating,
    plan: Plan,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    log: Log | None = None,
    stop_after: int | None = None,
    replicas: Replicas = ALONE,
    about: str = "",
    scaler: GradScaler = UNSCALED,
    stop: Callable[[], bool] | None = None,
) -> History:
    """Train until the plan is done or patience ends; the model is left at its best validated state, else its last.

    Parameters
    ----------
    task : Task or Accumulating
    plan : Plan
    checkpoint : Path, optional
        File that is replaced, whole, every `plan.checkpoint_every` steps.
    resume : bool
        Go on from `checkpoint` where it exists; the result is the uninterrupted run's, to the bit on the CPU. The
        plan may differ in `steps` alone: the schedule is then the new plan's from there on.
    log : callable, optional
        Called with each step's entry.
    stop_after : int, optional
        Leave after this step with a checkpoint, as an interruption would.
    replicas : Replicas
        The processes that train one model together: gradients and log entries are their mean, the first one writes.
    about : str
        What decides the run besides its plan, such as a digest of the data: a checkpoint of another is refused.
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
    """
    with _own_randomness(plan.seed):
        progress = _Progress(task, plan, replicas, about, scaler)
        if resume and checkpoint is not None and checkpoint.exists():
            progress.load(checkpoint)
        elif plan.validate_every and plan.validate_first:
            progress.validate(0)
        while not progress.finished:
            entry = progress.advance()
            if log is not None and replicas.first:
                log(entry)
            asked = stop is not None and not progress.finished and replicas.any(stop())
            if checkpoint is not None and replicas.first and (asked or progress.checkpoint_due(stop_after)):
                progress.save(checkpoint)
            if asked:
                raise TerminatedError(progress.history.steps_done, plan.steps)
            if progress.history.steps_done == stop_after:
                return progress.history
        progress.restore_best()
    return progress.history


class _Progress:
    """A run under way: all that a checkpoint holds."""

    def __init__(
        self, task: Task | Accumulating, plan: Plan, replicas: Replicas, about: str, scaler: GradScaler
    ) -> None:
        self.task, self.plan, self.replicas, self.about, self.scaler = task, plan, replicas, about, scaler
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.stale = 0

    @property
    def finished(self) -> bool:
        patient = not self.plan.patience or self.stale < self.plan.patience
        return self.history.steps_done >= self.plan.steps or not patient

    def advance(self) -> Entry:
        step = self.history.steps_done
        lr = learning_rate(self.plan, step, self.history.falls)
        entry = {"step": step + 1, "lr": lr, **self._optimise(step, lr)}
        self.history.steps_done = step + 1
        if self.plan.validate_every and self._validation_due(step + 1):
            entry |= self.validate(step + 1)
        self.history.entries.append(entry)
        return entry

    def _validation_due(self, done: int) -> bool:
        return done % self.plan.validate_every == 0 or done == self.plan.steps

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
        self.scaler.update()
        return self.replicas.average_entry(entry)

    def _gradients(self, step: int) -> Entry:
        if isinstance(self.task, Accumulating):
            return self.task.accumulate(step, self._backward)
        loss, logged = self.task.loss(step)
        self._backward(loss)
        return {"loss": loss.item(), **logged}

    def _backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def validate(self, step: int) -> Entry:
        self.task.model.eval()
        with torch.no_grad():
            score = self.task.validate()
        if score is None:
            return {}
        if score > self.history.best_score:
            self.history.best_score, self.history.best_step, self.stale = score, step, 0
            self.best = deepcopy(self.task.model.state_dict())
        else:
            self.stale += 1
            self._fall_if_due(step)
        return {"score": score}

    def _fall_if_due(self, done: int) -> None:
        """Note that the plateau rate falls; all that it goes by is in the history."""
        waited = done - max([self.history.best_step, *self.history.falls[-1:]])
        if self.plan.schedule == "plateau" and 0 < self.plan.plateau * self.plan.validate_every <= waited:
            self.history.falls.append(done)

    def restore_best(self) -> None:
        if self.best is not None:
            self.task.model.load_state_dict(self.best)
        self.task.model.eval()

    def checkpoint_due(self, stop_after: int | None) -> bool:
        done = self.history.steps_done
        every = self.plan.checkpoint_every
        return done == stop_after or (every > 0 and (done % every == 0 or self.finished))

    def save(self, path: Path) -> None:
        state = {
            "format": FORMAT,
            "plan": asdict(self.plan),
            "about": self.about,
            "model": self.task.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.task.optimizers],
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "history": asdict(self.history),
            "best": self.best,
            "stale": self.stale,
        }
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        state = _read_checkpoint(path)
        # a run may be made longer or shorter, and a checkpoint older than a setting was made with its default
        free = {"steps": self.plan.steps}
        if state["history"]["steps_done"] >= max(state["plan"]["warmup"], self.plan.warmup):
            free["warmup"] = self.plan.warmup  # a share of the steps, for some
        if _DEFAULTS | state["plan"] | free != asdict(self.plan):
            raise FolderError(path, "a checkpoint of another plan", "give the same options as before, or remove it")
        if state.get("about", "") != self.about:
            fix = "give the same options and files as before, or remove it"
            raise FolderError(path, "a checkpoint of a run with other options or data", fix)
        self.task.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.task.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        self.history, self.best, self.stale = History(**state["history"]), state["best"], state["stale"]


def planned_steps(checkpoint: Path) -> int:
    """Return how many steps the interrupted run of a checkpoint was to have.

    Raises
    ------
    FolderError
        If the checkpoint is damaged.
    """
    return int(_read_checkpoint(checkpoint)["plan"]["steps"])


class LogFile:
    """A log that appends each step's entry and the seconds so far, one JSON object a line.

    A resumed run's first entry cuts off what the interrupted one had logged from there on, so no step stands twice.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.begun, self.fresh = path, time.perf_counter(), True

    def __call__(self, entry: Entry) -> None:
        if self.fresh:
            self._cut(int(entry["step"]))
            self.fresh = False
        timed = entry | {"seconds": round(time.perf_counter() - self.begun, 3)}
        with self.path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(timed) + "\n")

    def _cut(self, step: int) -> None:
        old = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(old[: step - 1]), encoding="utf-8")


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["format"] != FORMAT:
            raise FolderError(path, f"a checkpoint of format {state['format']}", "update esmcls")
    except FolderError:
        raise
    except Exception as error:  # torch raises whatever a damaged file makes it raise
        raise FolderError(path, f"not a checkpoint ({type(error).__name__})", "remove it and start anew") from None
    return state


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seed torch for the run and give the caller's generators back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
