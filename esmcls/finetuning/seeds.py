"""Fine-tuning with several seeds, and what they reach together; each run may tell a tracker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from esmcls.encoders.esm2 import read_weights
from esmcls.errors import FolderError
from esmcls.files import MANIFEST
from esmcls.finetuning.config import FinetuneConfig, FinetuneInputs, inputs_of, settings_of
from esmcls.finetuning.encoder import training_precision
from esmcls.finetuning.kind import check_machine, objective_of, settled
from esmcls.finetuning.report import seeds_report
from esmcls.finetuning.run import CHECKPOINT, NAME, Finetuned, finetune
from esmcls.metrics.classification import Interval
from esmcls.models.folder import read_manifest
from esmcls.plain_values import read_as, write_json
from esmcls.tasks.objective import Objective
from esmcls.training.loop import Entry, Log
from esmcls.training.processes import ALONE, Replicas
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
    percent: bool = True

    def lines(self) -> list[str]:
        """Return the table for people, one line each."""
        unit, factor, digits = (", in percent", 100, 2) if self.percent else ("", 1, 3)
        table = [f"{self.seeds} seeds, mean and 95 % interval of the mean{unit} ({self.file}):"]
        for name, metric in self.metrics.items():
            value, low, high = (f"{factor * part:.{digits}f}" for part in (metric.value, metric.low, metric.high))
            table.append(f"{name:20}  {value:>7}  {low} – {high}")
        return table


def finetune_seeds(
    workspace: Workspace,
    config: FinetuneConfig,
    inputs: FinetuneInputs,
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
    workspace, config, inputs, log
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
    objective, replicas = objective_of(workspace), options.get("replicas", ALONE)
    config, inputs = settled(objective, config, inputs)
    check_machine(config, inputs, replicas.device, replicas.sharded, track)
    reports: list[dict[str, Interval]] = []
    for seed in range(config.seed, config.seed + seeds):
        model_name = name if seeds == 1 else f"{name}-{seed}"
        seeded = replace(config, seed=seed)
        if options.get("resume") and seeds > 1:
            finished = find_finished(workspace, seeded, inputs, model_name, replicas)
            if finished is not None:
                reports.append(finished.metrics)
                if replicas.first:
                    yield finished
                continue
        with tracked(track, workspace, model_name, seeded, replicas, log) as tell:
            tuned = finetune(workspace, seeded, inputs, name=model_name, log=tell, **options)
        if tuned is not None:
            yield tuned
            reports += [] if tuned.report is None else [objective.metrics_of(tuned.report.to_json())]
    if len(reports) > 1 and replicas.first:
        folder = workspace.reports / "finetune" / name
        folder.mkdir(exist_ok=True)
        spread = Spread(seeds, seeds_report(objective, reports), folder / "seeds.json", objective.percent)
        metrics = {metric: asdict(interval) for metric, interval in spread.metrics.items()}
        write_json(spread.file, {"seeds": seeds, "metrics": metrics})
        yield spread


def find_finished(
    workspace: Workspace, config: FinetuneConfig, inputs: FinetuneInputs, name: str, replicas: Replicas = ALONE
) -> Finished | None:
    """Return what a run left, if it is done and was of these settled options, weights, dataset and split."""
    folder, reports = workspace.model_folder(name), workspace.reports / "finetune" / name
    if not (folder / MANIFEST).is_file() or (reports / CHECKPOINT).exists():
        return None
    objective, manifest, report = objective_of(workspace), read_manifest(folder), reports / "report.json"
    shares, settings = asdict(inputs.shares), settings_of(config) | inputs_of(inputs)
    for name in ("checkpoint_minutes", "checkpoint_every"):  # which change nothing
        del settings[name]
    settings |= {"precision": training_precision(inputs.precision, replicas.device)}
    settings |= {"encoder_digest": read_weights(inputs.encoder).digest}
    same = _holds(manifest.setup, shares) and _holds(manifest.setup.get("finetuned", {}), settings)
    here = (workspace.dataset.digest(), workspace.dataset.split_digest())
    if not same or (manifest.dataset_digest, manifest.split_digest) != here or not report.is_file():
        return None
    return Finished(folder, read_metrics(report, objective))


def read_metrics(path: Path, objective: Objective) -> dict[str, Interval]:
    """Return the metrics that the report of a run holds.

    Raises
    ------
    FolderError
        If it is damaged.
    """
    fix = "run it again without --resume"
    report = read_as(path, dict[str, Any], FolderError, fix)
    try:
        return objective.metrics_of(report)
    except ValueError as reason:
        raise FolderError(path, f"is damaged ({reason})", fix) from None


def _holds(about: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(about.get(name) == value for name, value in wanted.items())


@contextmanager
def tracked(
    track: str | None, workspace: Workspace, name: str, config: FinetuneConfig, replicas: Replicas, log: Log | None
) -> Iterator[Log | None]:
    """Give a log that tells a tracker, too, where one is asked for; only the first process has one."""
    if track is None or not replicas.first:
        yield log
        return
    tracker = open_tracker(track, workspace.reports / "finetune" / name, name, settings_of(config))

    def tell(entry: Entry) -> None:
        tracker(entry)
        if log is not None:
            log(entry)

    try:
        yield tell
    finally:
        tracker.close()
