"""Fine-tuning in a workspace: training, a model folder that holds the tuned encoder, its report.

    Start ──▶ Finetuning ──▶ models/<name>/ ──▶ the test part, read once ──▶ report

reports/finetune/<name>/
    log.jsonl, curves.svg     a line a step; see `esmcls.training.runlog`, `esmcls.training.log_figure`
    run.checkpoint            all that `resume` needs; gone when the run is done
    report.json, timing.json  see `esmcls.finetuning.report`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from esmcls.cache.spec import EmbeddingSpec
from esmcls.datasets.dataset import Dataset
from esmcls.encoders.adapters import FILE, Base, adapted_digest, adapters_of, save_adapters
from esmcls.encoders.download import CHECKPOINTS
from esmcls.encoders.encoder import BUNDLED
from esmcls.encoders.esm2 import ESM2Encoder
from esmcls.encoders.weights import OWN, save_state
from esmcls.errors import UsageError
from esmcls.finetuning.model import FinetuneConfig, Tuned, settings_of
from esmcls.finetuning.report import Pace, TuningReport, report_on
from esmcls.finetuning.start import Say, Start, Terms
from esmcls.heads.layers.linear import LinearHead
from esmcls.labels.labels import Labels
from esmcls.models.fit import known_scores, measure_doubts
from esmcls.models.folder import load_model, save_model
from esmcls.models.manifest import Manifest
from esmcls.models.model import Model
from esmcls.models.predict import features_for
from esmcls.tasks.one_label.validation_answers import Held
from esmcls.training.log_figure import draw_curves, read_log
from esmcls.training.loop import History, Log, run
from esmcls.training.processes import ALONE, Replicas
from esmcls.training.runlog import Entry, LogFile
from esmcls.workspace.workspace import Workspace

NAME: Final = "finetuned"


@dataclass(frozen=True)
class Finetuned:
    """What came of it; as text, what to tell its user."""

    folder: Path
    manifest: Manifest
    history: History
    report: TuningReport | None

    def lines(self) -> list[str]:
        """Return the result for people, one line each."""
        one, reached = self.manifest, ", ".join(f"{k} {v:,.4g}" for k, v in self.manifest.validation.items())
        steps = f"{self.history.steps_done:,} steps, best after {self.history.best_step:,}"
        told = [f"{self.folder}: {len(one.classes):,} classes, {one.n_train:,} sequences, {steps}"]
        if not self.history.best_step and self.history.entries:
            told.append(
                "nothing was better than its start, the frozen encoder: that is what was kept; try another --lr"
            )
        told.append(f"on validation: {reached or 'nothing'}")
        return told + ([] if self.report is None else ["", *self.report.lines()])


def finetune(
    workspace: Workspace,
    config: FinetuneConfig,
    terms: Terms,
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

    Epoch and temperature are chosen on the validation part; the test part is read once, when the model is saved.

    Parameters
    ----------
    workspace : Workspace
        With a dataset.
    config : FinetuneConfig
    terms : Terms
    name : str
        Of the model.
    replicas : Replicas
        This process among those that train together.
    resume : bool
        Go on from the checkpoint, where there is one.
    planned : callable, optional
        Told the number of steps before the first.
    log : callable, optional
        Called with each step's entry: loss, accuracy, learning rate, tokens, sequences, memory (GB), score.
    say : callable
        Told what was met on the way.
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
        If the options do not fit together or the device.
    TerminatedError
        If `stop` said yes.
    """
    model_folder, folder = workspace.model_folder(name), workspace.reports / "finetune" / name
    folder.mkdir(parents=True, exist_ok=True)
    start = Start.of(workspace, config, terms, replicas, say)
    head, labels, known = start.head()
    if replicas.first and head.scores:
        say(f"the output layer begins with macro F1 {head.scores['macro_f1']:.4f} on validation, the encoder frozen")
    task = start.task(head, labels, known)
    if task.capped:
        say(f"the cap lowered the weights of {task.capped:,} of {labels.n_classes:,} classes")
    plan = config.plan(task.sampler.steps_an_epoch)
    if planned is not None and replicas.first:
        planned(plan.steps)
    pace, kept = Pace(), LogFile(folder / "log.jsonl")

    def told(entry: Entry) -> None:
        for one in (kept, pace, log):
            if one is not None:
                one(entry)

    history = run(
        task,
        plan,
        checkpoint=folder / "run.checkpoint",
        resume=resume,
        log=told,
        replicas=replicas,
        about=task.digest(start.weights.digest),
        scaler=task.scaler,
        stop=stop,
    )
    trained = replicas.whole(task.model.state_dict())
    if not replicas.first:
        return None
    pace.end(replicas.device)
    tuned = task.model
    if replicas.sharded:
        tuned = start.tuned(head)
        tuned.load_state_dict(trained)
    anchors = start.train.take(task.anchors.tolist())
    manifest = _keep(start, tuned, head, labels, known, history, model_folder, anchors)
    draw_curves({name: read_log(kept.path)}, folder / "curves.svg")
    model = load_model(model_folder, start.device)
    report = report_on(model, start.apart.kept.part("test"), workspace, pace, folder, seed=config.seed)
    (folder / "run.checkpoint").unlink(missing_ok=True)
    return Finetuned(model_folder, manifest, history, report)


def _keep(
    start: Start,
    model: Tuned,
    head: LinearHead,
    labels: Labels,
    known: Labels,
    history: History,
    folder: Path,
    anchors: Dataset,
) -> Manifest:
    """Write the model folder, its head centred on what its own encoder makes of the anchors; return its manifest."""
    encoder, write = _encoder_of(start, model, str(folder))
    manifest = _manifest(start, head, labels, history, encoder)
    features = partial(features_for, Model(folder, manifest, head, start.device, encoder), workspace=start.workspace)
    out, held, mean = model.out, None, head.scaling.mean
    if model.moved:
        mean = torch.from_numpy(features(anchors).vectors(start.config.pooling).astype(np.float64).mean(0)).float()
    validation = (features(start.held), known) if len(start.held) else None
    tuned = head.continued(out.weight.detach(), out.bias.detach(), mean, validation, start.config.pooling)
    if history.best_step and tuned.scores and tuned.scores["macro_f1"] < head.scores.get("macro_f1", 0.0):
        history.best_step = 0  # as it is saved, merged and rounded, it is no better than its start
        return _keep(start, start.tuned(head), head, labels, known, history, folder, anchors)
    if validation is not None:
        held = Held.of(tuned, *validation)
        manifest = replace(manifest, validation={**tuned.scores, "n": len(known)})
    manifest = replace(manifest, config=asdict(tuned.chosen))
    doubts = measure_doubts(tuned, start.apart, start.terms.shares, features, known_scores(held))
    save_model(folder, tuned, manifest, confidence=doubts, held=held, encoder=write)
    return manifest


def _encoder_of(start: Start, model: Tuned, name: str) -> tuple[ESM2Encoder, Callable[[Path], None]]:
    """Open the tuned encoder; return it with what writes it, or its adapters, into a folder."""
    weights, layers = start.weights, start.layers
    state = model.encoder_state()
    if not start.terms.adapters_only:
        return start.encoder(name, state), lambda to: save_state(to / OWN, weights.config, state, layers=layers)
    if (weights.path / FILE).is_file():
        raise UsageError("adapters on adapters: merge the first ones into an encoder, or leave out --adapters-only")
    given, lora, adapters = start.terms.encoder, model.config.lora, adapters_of(model.encoder) | model.attention_state()
    base = Base(given if given in (BUNDLED, *CHECKPOINTS) else str(weights.path.resolve()), weights.digest)
    encoder = start.encoder(name, state, adapted_digest(base, adapters, lora))
    return encoder, lambda to: save_adapters(to / FILE, adapters, lora, base, layers=list(layers))


def _manifest(start: Start, head: LinearHead, labels: Labels, history: History, encoder: ESM2Encoder) -> Manifest:
    """Return the manifest, but for what validation says."""
    data = start.workspace.dataset
    about = settings_of(start.config) | {"precision": start.precision, "steps": history.steps_done}
    about |= {"best_step": history.best_step, "encoder_digest": start.weights.digest, "start_scores": head.scores}
    about |= told_of(start.terms)
    return Manifest(
        head="linear",
        config=asdict(head.chosen),
        classes=labels.classes,
        class_counts=tuple(labels.counts().tolist()),
        spec=EmbeddingSpec.of(encoder, poolings=(start.config.pooling,)),
        pooling=start.config.pooling,
        dataset_digest=data.digest(),
        split_digest=data.split_digest(),
        seed=start.config.seed,
        validation={},
        n_train=len(labels),
        setup=asdict(start.terms.shares) | {"refit": False, "finetuned": about},
    )


def told_of(terms: Terms) -> dict[str, Any]:
    """Return what a manifest tells of the terms, beside what it has of its own."""
    told = {name: getattr(terms, name) for name in ("encoder", "long", "families", "stratify", "adapters_only")}
    return told | {"layers": None if terms.layers is None else list(terms.layers)}
