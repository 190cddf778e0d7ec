"""Fine-tuning in a workspace, step by step, from its rows to a model folder and a report.

    rows ──▶ encoder ──▶ head on frozen vectors ──▶ training ──▶ models/<name>/ ──▶ the test part, read once

reports/finetune/<name>/
    log.jsonl, curves.svg     a line a step; see `esmcls.training.loop`, `esmcls.training.log_figure`
    run.checkpoint            all that `resume` needs; gone when the run is done
    report.json, timing.json  see `esmcls.finetuning.report`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from esmcls.encoders.devices import note_processor
from esmcls.encoders.windows import parse_long
from esmcls.finetuning.config import FinetuneConfig, FinetuneInputs
from esmcls.finetuning.encoder import StartingEncoder, check_adapters, read_encoder
from esmcls.finetuning.keep import keep_model
from esmcls.finetuning.kind import check_machine, objective_of, settled
from esmcls.finetuning.model import Tuned, check_layers_trained
from esmcls.finetuning.packing import Proteins
from esmcls.finetuning.report import Pace, write_report
from esmcls.finetuning.rows import Rows, choose_rows
from esmcls.finetuning.start import Begun, fit_start
from esmcls.finetuning.task import Finetuning
from esmcls.labels.kinds import classes_in_words
from esmcls.models.folder import load_model, refuse_foreign
from esmcls.models.manifest import Manifest
from esmcls.tasks.objective import Objective, Supervision, TestReport
from esmcls.training.log_figure import draw_curves, read_log
from esmcls.training.loop import Entry, History, Log, LogFile, run
from esmcls.training.processes import ALONE, Replicas
from esmcls.workspace.workspace import Workspace

NAME: Final = "finetuned"
CHECKPOINT: Final = "run.checkpoint"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Finetuned:
    """What came of it; as text, what to tell its user."""

    folder: Path
    manifest: Manifest
    history: History
    report: TestReport | None

    def lines(self) -> list[str]:
        """Return the result for people, one line each."""
        reached = ", ".join(f"{name} {value:,.4g}" for name, value in self.manifest.validation.items())
        steps = f"{self.history.steps_done:,} steps, best after {self.history.best_step:,}"
        classes = classes_in_words(self.manifest.kind, len(self.manifest.classes))
        size = f"{classes}, {self.manifest.n_train:,} sequences"
        lines = [f"{self.folder}: {size}, {steps}"]
        if not self.history.best_step and self.history.entries:
            lines.append(
                "nothing was better than its start, the frozen encoder: that is what was kept; try another --lr"
            )
        if self.history.skipped:
            steps = f"{self.history.skipped:,} of {self.history.steps_done:,} steps changed nothing"
            lines.append(f"{steps}: their gradients were too large for fp16 at the scale of the losses, which fell")
        lines.append(f"on validation: {reached or 'nothing'}")
        return lines + ([] if self.report is None else ["", "on the test part:", *self.report.lines()])


def finetune(
    workspace: Workspace,
    config: FinetuneConfig | None = None,
    inputs: FinetuneInputs | None = None,
    *,
    name: str = NAME,
    replicas: Replicas = ALONE,
    resume: bool = False,
    planned: Callable[[int], None] | None = None,
    log: Log | None = None,
    say: Say = lambda line: None,
    stop: Callable[[], bool] | None = None,
) -> Finetuned | None:
    """Fine-tune an encoder on a workspace's dataset and save it with its head as models/<name>/.

    Epoch and calibration are chosen on the validation part; the test part is read once, when the model is saved.

    Parameters
    ----------
    workspace : Workspace
        With a dataset of any kind of task.
    config, inputs : FinetuneConfig, FinetuneInputs, optional
    name : str
        Of the model.
    replicas : Replicas
        This process among those that train together.
    resume : bool
        Go on from the checkpoint, where there is one.
    planned, say : callable
        Told the number of steps before the first, and lines about what was met on the way.
    log : callable, optional
        Called with each step's entry: loss, accuracy (of one label), rate, tokens, sequences, memory (GB), score.
    stop : callable, optional
        Asked after each step whether to end with a checkpoint.

    Returns
    -------
    Finetuned or None
        None in all processes but the first.

    Raises
    ------
    WorkspaceError
        If there is nothing to train on.
    UsageError
        If the options do not fit together, the device or the kind of task.
    TerminatedError
        If `stop` said yes.
    """
    model_folder, folder = workspace.model_folder(name), workspace.reports / "finetune" / name
    refuse_foreign(model_folder)
    tell = say if replicas.first else _tell_nobody
    begun = begin(workspace, config or FinetuneConfig(), inputs or FinetuneInputs(), replicas, tell)
    folder.mkdir(parents=True, exist_ok=True)
    task = make_task(begun, replicas, tell)
    history, pace = train(task, begun, folder, resume=resume, planned=planned, log=log, stop=stop)
    network = whole_network(task, begun)
    if network is None:
        return None
    pace.end(replicas.device)
    anchors = begun.rows.train.take(task.anchors.tolist())
    manifest = keep_model(begun, network, history, anchors, model_folder)
    draw_curves({name: read_log(folder / "log.jsonl")}, folder / "curves.svg")
    model = load_model(model_folder, begun.encoder.device)
    report = write_report(begun.objective, model, begun.rows.test, workspace, pace, folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return Finetuned(model_folder, manifest, history, report)


def _tell_nobody(line: str) -> None:
    """Say nothing: the first process does."""


def begin(workspace: Workspace, config: FinetuneConfig, inputs: FinetuneInputs, replicas: Replicas, say: Say) -> Begun:
    """Choose the rows, read the encoder, and fit the head that the output layer begins as."""
    objective = objective_of(workspace)
    config, inputs = settled(objective, config, inputs)
    rows, encoder, supervision = _prepare(workspace, objective, config, inputs, replicas, say)
    note_processor(encoder.precision, replicas.device)
    head = fit_start(workspace.folder / "cache", encoder, rows, objective, supervision, config, replicas)
    if objective.chosen_by in head.scores:
        reached = f"{objective.chosen_by_name} {head.scores[objective.chosen_by]:.4f}"
        say(f"the output layer begins with {reached} on validation, the encoder frozen")
    return Begun(workspace, objective, config, inputs, rows, encoder, supervision, head)


def _prepare(
    workspace: Workspace,
    objective: Objective,
    config: FinetuneConfig,
    inputs: FinetuneInputs,
    replicas: Replicas,
    say: Say,
) -> tuple[Rows, StartingEncoder, Supervision]:
    """Choose the rows and read the encoder; refuse all that can be refused before anything takes time."""
    check_machine(config, inputs, replicas.device, replicas.sharded)
    rows = choose_rows(workspace, objective, inputs, config.seed)
    for line in rows.lines:
        say(line)
    encoder = read_encoder(inputs, replicas.device)
    check_layers_trained(config, encoder.layers)
    check_adapters(inputs, encoder)
    supervision = objective.supervise(rows.train, rows.held)
    supervision.loss(config, str(replicas.device))  # which refuses what its options cannot be
    return rows, encoder, supervision


def rehearse(
    workspace: Workspace,
    config: FinetuneConfig,
    inputs: FinetuneInputs,
    replicas: Replicas = ALONE,
    say: Say = lambda line: None,
) -> list[str]:
    """Return what a run would be, a line each, having refused what it cannot be; nothing is embedded or trained.

    Raises
    ------
    EsmclsError
        As `finetune` before it embeds.
    """
    objective = objective_of(workspace)
    config, inputs = settled(objective, config, inputs)
    rows, encoder, supervision = _prepare(workspace, objective, config, inputs, replicas, say)
    epoch = supervision.sampler(config).steps_an_epoch
    plan = config.plan(epoch)
    shape, trained = encoder.weights.config, f"{config.method} in {encoder.precision}"
    parts = f"{len(rows.train):,} train, {len(rows.held):,} validation, {len(rows.test):,} test"
    return [
        f"sequences: {parts}; classes: {len(supervision.classes):,}",
        f"encoder: {encoder.name}, {shape.layers} layers of width {shape.width:,}; {trained}",
        f"steps: {plan.steps:,} of {config.batch} sequences ({epoch:,} an epoch), of which {plan.warmup:,} rise to "
        f"{plan.lr:g}; {config.optimizer}, loss {config.loss}, class weights {config.class_weights}",
        "nothing was embedded or trained (--dry-run)",
    ]


def make_task(begun: Begun, replicas: Replicas, say: Say) -> Finetuning:
    """Return the training of a run, for the loop."""
    strategy, config, rows = parse_long(begun.inputs.long), begun.config, begun.rows
    of_residues, held = begun.objective.of_residues, None
    proteins = Proteins(rows.train.sequences, strategy, config.pooling, config.crop, of_residues)
    if len(rows.held):
        held = Proteins(rows.held.sequences, strategy, config.pooling, of_residues=of_residues)
    task = Finetuning(begun.network(), proteins, begun.supervision, held, replicas)
    if task.cost.capped:
        say(f"the cap lowered the weights of {task.cost.capped:,} of {len(begun.supervision.classes):,} classes")
    return task


def train(
    task: Finetuning,
    begun: Begun,
    folder: Path,
    *,
    resume: bool,
    planned: Callable[[int], None] | None,
    log: Log | None,
    stop: Callable[[], bool] | None,
) -> tuple[History, Pace]:
    """Run the loop; leave log and checkpoint in a folder, and return what happened and how fast."""
    plan = begun.config.plan(task.sampler.steps_an_epoch)
    if planned is not None and task.replicas.first:
        planned(plan.steps)
    pace = Pace()
    logs: list[Log] = [LogFile(folder / "log.jsonl"), pace]
    if log is not None:
        logs.append(log)

    def write(entry: Entry) -> None:
        for tell in logs:
            tell(entry)

    history = run(
        task,
        plan,
        checkpoint=folder / CHECKPOINT,
        minutes=begun.config.checkpoint_minutes,
        resume=resume,
        log=write,
        replicas=task.replicas,
        about=task.digest(begun.encoder.weights.digest),
        scaler=task.scaler,
        stop=stop,
    )
    return history, pace


def whole_network(task: Finetuning, begun: Begun) -> Tuned | None:
    """Return what was trained, put together from all processes; None in all but the first."""
    state = task.replicas.whole(task.model.state_dict())
    if not task.replicas.first:
        return None
    if not task.replicas.sharded:
        return task.model
    network = begun.network()
    network.load_state_dict(state)
    return network
