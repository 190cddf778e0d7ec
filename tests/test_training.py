"""The training loop: schedule, early stop, checkpoint and exact resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from esmcls.errors import FolderError, NothingLearnedError, TerminatedError
from esmcls.training.loop import LogFile, _Run, planned_steps, run
from esmcls.training.schedule import TrainingPlan, learning_rate


class Regression:
    """Fit y = 2x - 1 from noisy batches with dropout, so that every source of randomness is at work."""

    def __init__(self, scores: list[float] | None = None) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.model: nn.Module = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
        self.optimizers = [torch.optim.AdamW(self.model.parameters(), lr=1.0)]
        self.scores = scores
        self.weights_seen: list[Tensor] = []

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        x = torch.randn(16, 1, generator=torch.Generator().manual_seed(step))
        return (self.model(x) - (2 * x - 1)).square().mean(), {"step_seen": float(step)}

    def validate(self) -> float | None:
        self.weights_seen.append(parameters(self))
        return None if self.scores is None else self.scores[len(self.weights_seen) - 1]


def parameters(task: Regression) -> Tensor:
    return torch.cat([value.detach().flatten().clone() for value in task.model.parameters()])


PLAN = TrainingPlan(steps=12, lr=0.01, warmup=3, checkpoint_every=4, seed=5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0.5, 1.0, 1.0, 0.8, 0.6, 0.4]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", [0.5, 1.0, 1.0, 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_the_rate_rises_to_the_peak_and_falls_as_the_schedule_says(schedule: str, expected: list[float]) -> None:
    steps = 7 if schedule == "linear" else 6
    plan = TrainingPlan(steps=steps, lr=1.0, warmup=2, schedule=schedule)  # type: ignore[arg-type]
    assert [learning_rate(plan, step) for step in range(6)] == pytest.approx(expected)


def test_on_a_plateau_the_rate_falls_by_a_factor_after_each_of_its_falls() -> None:
    plan = TrainingPlan(steps=100, lr=1.0, warmup=2, schedule="plateau", factor=0.1, falls=(4,))
    rates = [learning_rate(plan, step, falls=[6]) for step in range(8)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    floored = TrainingPlan(steps=100, lr=2.0, schedule="plateau", factor=0.0, falls=(4,), floor=0.1)
    assert learning_rate(floored, 50) == pytest.approx(0.2)


def test_the_floor_is_a_share_of_the_peak() -> None:
    plan = TrainingPlan(steps=1000, lr=2.0, schedule="cosine", floor=0.1)
    assert learning_rate(plan, 999) == pytest.approx(0.2, abs=1e-4)


def test_a_parameter_group_may_scale_the_rate() -> None:
    task = Regression()
    task.optimizers[0].param_groups[0]["lr_scale"] = 0.5
    run(task, TrainingPlan(steps=1, lr=0.01))
    assert task.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.005)


def test_training_lowers_the_loss() -> None:
    history = run(Regression(), TrainingPlan(steps=300, lr=0.02))
    losses = [entry["loss"] for entry in history.entries]
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])


def test_the_same_seed_gives_the_same_bits_and_leaves_the_callers_generator_alone() -> None:
    first, second = Regression(), Regression()
    torch.manual_seed(1)
    run(first, PLAN)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert drawn == torch.rand(1)
    run(second, PLAN)
    assert torch.equal(parameters(first), parameters(second))


@pytest.mark.parametrize("stop", range(1, 12))
def test_stopped_after_any_step_and_resumed_equals_uninterrupted(tmp_path: Path, stop: int) -> None:
    whole, broken, resumed = Regression(), Regression(), Regression()
    run(whole, PLAN)
    run(broken, PLAN, checkpoint=tmp_path / "c", stop_after=stop)
    history = run(resumed, PLAN, checkpoint=tmp_path / "c", resume=True)
    assert torch.equal(parameters(whole), parameters(resumed))
    assert [entry["step_seen"] for entry in history.entries] == list(range(12))


def test_an_interrupt_between_checkpoints_resumes_from_the_last_one_to_the_same_bits(tmp_path: Path) -> None:
    whole, broken, resumed = Regression(), Regression(), Regression()
    run(whole, PLAN)

    def interrupt(entry: dict[str, float]) -> None:
        if entry["step"] == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(broken, PLAN, checkpoint=tmp_path / "c", log=interrupt)
    run(resumed, PLAN, checkpoint=tmp_path / "c", resume=True)
    assert torch.equal(parameters(whole), parameters(resumed))


def test_the_best_validated_state_is_kept_and_patience_ends_the_run() -> None:
    task = Regression(scores=[0.1, 0.9, 0.3, 0.4, 0.5])
    history = run(task, TrainingPlan(steps=100, lr=0.01, validate_every=2, patience=2))
    assert (history.best_step, history.best_score, history.steps_done) == (4, 0.9, 8)
    assert torch.equal(parameters(task), task.weights_seen[1])


def test_resume_keeps_the_best_state_and_the_patience_spent(tmp_path: Path) -> None:
    scores = [0.1, 0.9, 0.3, 0.4, 0.5, 0.6]
    plan = TrainingPlan(steps=20, lr=0.01, validate_every=2, patience=3)
    whole, broken, resumed = Regression(scores), Regression(scores), Regression(scores[3:])
    expected = run(whole, plan)
    run(broken, plan, checkpoint=tmp_path / "c", stop_after=6)
    history = run(resumed, plan, checkpoint=tmp_path / "c", resume=True)
    assert (history.best_step, history.steps_done) == (expected.best_step, expected.steps_done) == (4, 10)
    assert torch.equal(parameters(whole), parameters(resumed))


def test_the_gradient_norm_is_clipped() -> None:
    task = Regression()
    run(task, TrainingPlan(steps=1, lr=0.0, clip=1e-3))
    norm = torch.stack([value.grad.norm() for value in task.model.parameters() if value.grad is not None]).norm()
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    run(Regression(), PLAN, checkpoint=tmp_path / "c", stop_after=2)
    with pytest.raises(FolderError, match="c: a checkpoint of another plan; give the same options as before"):
        run(Regression(), TrainingPlan(steps=13, lr=0.01), checkpoint=tmp_path / "c", resume=True)


def test_a_run_past_its_warmup_can_be_made_longer_though_warmup_is_a_share_of_its_steps(tmp_path: Path) -> None:
    longer = replace(PLAN, steps=20, warmup=5)
    run(Regression(), PLAN, checkpoint=tmp_path / "early", stop_after=4)
    with pytest.raises(FolderError, match="another plan"):
        run(Regression(), longer, checkpoint=tmp_path / "early", resume=True)
    run(Regression(), PLAN, checkpoint=tmp_path / "c", stop_after=5)
    history = run(Regression(), longer, checkpoint=tmp_path / "c", resume=True)
    assert history.entries[-1]["lr"] == pytest.approx(learning_rate(longer, 19))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"no checkpoint")
    with pytest.raises(FolderError, match="not a checkpoint"):
        run(Regression(), PLAN, checkpoint=tmp_path / "c", resume=True)


def test_the_log_has_a_line_a_step_and_a_resumed_run_repeats_none(tmp_path: Path) -> None:
    def interrupt(entry: dict[str, float]) -> None:
        log(entry)
        if entry["step"] == 7:
            raise KeyboardInterrupt

    log = LogFile(tmp_path / "log.jsonl")
    with pytest.raises(KeyboardInterrupt):
        run(Regression(), PLAN, checkpoint=tmp_path / "c", log=interrupt)
    run(Regression(), PLAN, checkpoint=tmp_path / "c", resume=True, log=LogFile(tmp_path / "log.jsonl"))
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(1, 13))
    assert all(entry["seconds"] >= 0 for entry in entries)


def test_a_new_run_begins_its_log_anew(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "of": "another run"}\n')
    LogFile(tmp_path / "log.jsonl")({"step": 1, "loss": 2.0})
    assert "another" not in (tmp_path / "log.jsonl").read_text()


def test_a_checkpoint_knows_how_many_steps_were_planned(tmp_path: Path) -> None:
    run(Regression(), PLAN, checkpoint=tmp_path / "c", stop_after=2)
    assert planned_steps(tmp_path / "c") == PLAN.steps


# the plateau schedule

PLATEAU = TrainingPlan(steps=20, lr=0.01, schedule="plateau", plateau=2, factor=0.5, validate_every=2)
SCORES = [0.1, 0.5, 0.4, 0.3, 0.2, 0.5, 0.6, 0.1, 0.1, 0.1]
"""At steps 2, 4, …: the best of steps 4 and 14 are missed twice at 8, 12 and 18."""


def test_the_plateau_rate_falls_where_validation_was_not_better_for_as_long_as_the_plan_says() -> None:
    history = run(Regression(SCORES), PLATEAU)
    assert history.falls == [8, 12, 18]
    halvings = [0] * 8 + [1] * 4 + [2] * 6 + [3] * 2
    assert [entry["lr"] for entry in history.entries] == pytest.approx([0.01 * 0.5**count for count in halvings])


@pytest.mark.parametrize("change", [{"plateau": 0}, {"schedule": "cosine"}, {"validate_every": 0}])
def test_without_a_plateau_to_wait_for_the_rate_never_falls_on_one(change: dict[str, Any]) -> None:
    assert run(Regression(SCORES), replace(PLATEAU, **change)).falls == []


@pytest.mark.parametrize("stop", range(1, 20))
def test_a_plateau_run_stopped_after_any_step_and_resumed_equals_uninterrupted(tmp_path: Path, stop: int) -> None:
    whole, broken, resumed = Regression(SCORES), Regression(SCORES), Regression(SCORES[stop // 2 :])
    expected = run(whole, PLATEAU)
    run(broken, PLATEAU, checkpoint=tmp_path / "c", stop_after=stop)
    history = run(resumed, PLATEAU, checkpoint=tmp_path / "c", resume=True)
    assert torch.equal(parameters(whole), parameters(resumed))
    assert history == expected


def test_a_run_without_validation_can_repeat_where_the_rate_fell_in_one_with_it() -> None:
    validated, repeated = Regression(SCORES), Regression()
    history = run(validated, PLATEAU)
    plan = replace(PLATEAU, validate_every=0, falls=tuple(history.falls))
    again = run(repeated, plan, stop_after=history.best_step)
    assert [entry["lr"] for entry in again.entries] == [entry["lr"] for entry in history.entries][: history.best_step]
    assert torch.equal(parameters(validated), parameters(repeated))


def test_a_checkpoint_from_before_the_plateau_schedule_is_resumed(tmp_path: Path) -> None:
    whole, resumed = Regression(), Regression()
    run(whole, PLAN)
    run(Regression(), PLAN, checkpoint=tmp_path / "c", stop_after=5)
    state = torch.load(tmp_path / "c", weights_only=True)
    for name in ("plateau", "factor", "falls"):
        del state["plan"][name]
    del state["history"]["falls"]
    torch.save(state, tmp_path / "c")
    run(resumed, PLAN, checkpoint=tmp_path / "c", resume=True)
    assert torch.equal(parameters(whole), parameters(resumed))


# validation before the first step, an end that is asked for, losses that are scaled


def test_a_run_that_only_gets_worse_is_left_as_it_began_where_that_was_validated() -> None:
    task = Regression(scores=[0.9, 0.5, 0.4])
    history = run(task, TrainingPlan(steps=4, lr=0.01, validate_every=2, validate_first=True))
    assert (history.best_step, history.best_score) == (0, 0.9)
    assert torch.equal(parameters(task), task.weights_seen[0])


def test_asked_to_end_it_leaves_a_checkpoint_that_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole, broken, resumed = Regression(), Regression(), Regression()
    run(whole, PLAN)
    answers = iter([False, False, True])
    with pytest.raises(TerminatedError, match="asked to end after step 3 of 12, which is kept; go on with --resume"):
        run(broken, PLAN, checkpoint=tmp_path / "c", stop=lambda: next(answers))
    run(resumed, PLAN, checkpoint=tmp_path / "c", resume=True)
    assert torch.equal(parameters(whole), parameters(resumed))


def test_asked_to_end_after_the_last_step_it_has_ended() -> None:
    assert run(Regression(), TrainingPlan(steps=1, lr=0.01), stop=lambda: True).steps_done == 1


class Overflowing(Regression):
    """Has an infinite loss at one step."""

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        loss, entry = super().loss(step)
        return (loss * torch.inf if step == 2 else loss), entry


def test_scaled_losses_take_the_steps_of_plain_ones() -> None:
    plain, scaled, plan = Regression(), Regression(), TrainingPlan(steps=6, lr=0.01, clip=0.5)
    run(plain, plan)
    run(scaled, plan, scaler=GradScaler("cpu", init_scale=2.0**10))
    assert torch.allclose(parameters(plain), parameters(scaled), atol=1e-6)


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_a_step_that_overflows_is_skipped_and_the_lower_scale_is_resumed(tmp_path: Path, stop: int) -> None:
    plan = TrainingPlan(steps=6, lr=0.01, clip=0.5, checkpoint_every=1)
    whole, broken, resumed = Overflowing(), Overflowing(), Overflowing()
    scalers = [GradScaler("cpu", init_scale=2.0**10) for _ in range(3)]
    run(whole, plan, scaler=scalers[0])
    run(broken, plan, scaler=scalers[1], checkpoint=tmp_path / "c", stop_after=stop)
    run(resumed, plan, scaler=scalers[2], checkpoint=tmp_path / "c", resume=True)
    assert scalers[0].get_scale() == scalers[2].get_scale() == 2.0**9
    assert torch.equal(parameters(whole), parameters(resumed))
    assert parameters(whole).isfinite().all()


def test_skipped_steps_are_logged_and_a_run_of_nothing_but_them_ends_with_what_to_do() -> None:
    class Infinite(Overflowing):
        def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
            loss, entry = Regression.loss(self, step)
            return loss * torch.inf, entry

    history = run(Overflowing(), TrainingPlan(steps=4, lr=0.01), scaler=GradScaler("cpu", init_scale=2.0**10))
    assert history.skipped == 1
    logged = [(entry["skipped"], entry["scale"]) for entry in history.entries]
    assert logged == [(0.0, 1024.0), (0.0, 1024.0), (1.0, 1024.0), (0.0, 512.0)]
    with pytest.raises(NothingLearnedError, match=r"all 3 last steps .* losses times 2\.6e\+02"):
        run(Infinite(), TrainingPlan(steps=3, lr=0.01), scaler=GradScaler("cpu", init_scale=2.0**10))
    seen: list[float] = []
    with pytest.raises(NothingLearnedError, match="all 40 last steps"):
        run(Infinite(), TrainingPlan(steps=99, lr=0.01), scaler=GradScaler("cpu"), log=lambda e: seen.append(e["step"]))
    assert len(seen) == 39  # the one that it ends in says it itself


def test_checkpoints_go_by_minutes_and_resume_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes half a minute here."""
    plan, path = replace(PLAN, checkpoint_every=0), tmp_path / "c"
    now = 0.0
    monkeypatch.setattr("esmcls.training.loop.time.monotonic", lambda: now)
    written: list[int] = []

    def log(entry: dict[str, float]) -> None:
        nonlocal now
        now += 30
        if entry["step"] == 8:
            raise KeyboardInterrupt

    save = _Run.save
    monkeypatch.setattr(_Run, "save", lambda own, to: (written.append(own.history.steps_done), save(own, to)))
    whole, broken, resumed = Regression(), Regression(), Regression()
    run(whole, plan)
    with pytest.raises(KeyboardInterrupt):
        run(broken, plan, checkpoint=path, minutes=1.5, log=log)
    assert written == [3, 6]
    run(resumed, replace(plan, checkpoint_every=5), checkpoint=path, resume=True)
    assert torch.equal(parameters(whole), parameters(resumed))


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ([1], r"not a checkpoint \(it: a list of 1 instead of an object\)"),
        ({"format": 1}, r"not a checkpoint \(lacks 'plan'\)"),
        ({"format": 1, "plan": {"steps": "9"}}, r"not a checkpoint \("),
    ],
)
def test_a_checkpoint_that_holds_something_else_is_one_line(state: object, problem: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "c")
    with pytest.raises(FolderError, match=problem):
        planned_steps(tmp_path / "c")
