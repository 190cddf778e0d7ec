"""Fine-tuning with several seeds, and what they reach together; each run may tell a tracker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from esmcls.encoders.devices import choose_precision
from esmcls.encoders.esm2 import read_weights
from esmcls.files import read_json, write_json
from esmcls.finetuning.model import FinetuneConfig, settings_of
from esmcls.finetuning.report import seeds_report
from esmcls.finetuning.run import NAME, Finetuned, finetune, told_of
from esmcls.finetuning.start import Terms
from esmcls.metrics.classification import Interval
from esmcls.models.folder import read_manifest
from esmcls.models.manifest import MANIFEST
from esmcls.training.loop import Log
from esmcls.training.processes import ALONE, Replicas
from esmcls.training.runlog import Entry
from esmcls.training.tracking import open_tracker
from esmcls.workspace.workspace import Workspace


@dataclass(frozen=True)
class Finished:
    """A seed whose run was done before."""

    folder: Path
    metrics: dict[str, Interval]

    def lines(self) -> list[str]:
        """Return what to tell of it."""
        return [f"{self.folder}: done before, with these options on this data; its report is taken as it is"]


@dataclass(frozen=True)
class Spread:
    """What several seeds reach on the test part: each metric's mean, and its interval by Student's t."""

    seeds: int
    metrics: dict[str, Interval]
    file: Path

    def lines(self) -> list[str]:
        """Return the table for people, one line each."""
        shown = [(name, 100 * one.value, 100 * one.low, 100 * one.high) for name, one in self.metrics.items()]
        told = [f"{self.seeds} seeds, mean and 95 % interval of the mean, in percent ({self.file}):"]
        return told + [f"{name:20}  {value:7.2f}  {low:.2f} – {high:.2f}" for name, value, low, high in shown]


def finetune_seeds(
    workspace: Workspace,
    config: FinetuneConfig,
    terms: Terms,
    name: str = NAME,
    seeds: int = 1,
    *,
    track: str | None = None,
    log: Log | None = None,
    **options: Any,
) -> Iterator[Finetuned | Finished | Spread]:
    """Fine-tune with one seed or with several, from that of `config` upwards; see `finetune`.

    Parameters
    ----------
    workspace, config, terms, log
        As in `finetune`.
    name : str
        Of the model; with several seeds those of the models are <name>-<seed>.
    seeds : int
    track : str, optional
        See `esmcls.training.tracking.open_tracker`.
    **options
        Of `finetune`. With `resume`, a seed whose run is done is not run again.

    Yields
    ------
    Finetuned or Finished
        One a seed; nothing in processes but the first.
    Spread
        Where there are several seeds and a test part: written to reports/finetune/<name>/seeds.json, too.
    """
    reports: list[dict[str, Interval]] = []
    for seed in range(config.seed, config.seed + seeds):
        one = name if seeds == 1 else f"{name}-{seed}"
        own = replace(config, seed=seed)
        replicas = options.get("replicas", ALONE)
        done = find_finished(workspace, own, terms, one, replicas) if options.get("resume") and seeds > 1 else None
        if done is not None:
            reports.append(done.metrics)
            if replicas.first:
                yield done
            continue
        with tracked(track, workspace, one, own, options.get("replicas", ALONE), log) as told:
            found = finetune(workspace, own, terms, name=one, log=told, **options)
        if found is not None:
            yield found
            reports += [] if found.report is None else [found.report.evaluation.metrics]
    if len(reports) > 1 and options.get("replicas", ALONE).first:
        folder = workspace.reports / "finetune" / name
        folder.mkdir(exist_ok=True)
        spread = Spread(seeds, seeds_report(reports), folder / "seeds.json")
        write_json(spread.file, {"seeds": seeds, "metrics": {key: asdict(v) for key, v in spread.metrics.items()}})
        yield spread


def find_finished(
    workspace: Workspace, config: FinetuneConfig, terms: Terms, name: str, replicas: Replicas = ALONE
) -> Finished | None:
    """Return what a run left, if it is done and was of these options, these weights, this dataset and this split."""
    folder, reports = workspace.model_folder(name), workspace.reports / "finetune" / name
    if not (folder / MANIFEST).is_file() or (reports / "run.checkpoint").exists():
        return None
    manifest, told = read_manifest(folder), reports / "report.json"
    about = manifest.setup | manifest.setup.get("finetuned", {})
    asked = asdict(terms.shares) | settings_of(config) | told_of(terms)
    asked |= {"precision": choose_precision(terms.precision, replicas.device)}
    asked |= {"encoder_digest": read_weights(terms.encoder).digest}
    same = all(about.get(knob) == value for knob, value in asked.items())
    here = (workspace.dataset.digest(), workspace.dataset.split_digest())
    if not same or (manifest.dataset_digest, manifest.split_digest) != here or not told.is_file():
        return None
    metrics = read_json(told).get("metrics", {})
    return Finished(folder, {metric: Interval(**value) for metric, value in metrics.items()})


@contextmanager
def tracked(
    track: str | None, workspace: Workspace, name: str, config: FinetuneConfig, replicas: Replicas, log: Log | None
) -> Iterator[Log | None]:
    """Give a log that tells a tracker, too, where one is asked for; only the first process has one."""
    if track is None or not replicas.first:
        yield log
        return
    tracker = open_tracker(track, workspace.reports / "finetune" / name, name, settings_of(config))

    def told(entry: Entry) -> None:
        tracker(entry)
        if log is not None:
            log(entry)

    try:
        yield told
    finally:
        tracker.close()
