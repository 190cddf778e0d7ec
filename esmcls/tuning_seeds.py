"""Fine-tuning with several seeds, and what they reach together; each run may tell a tracker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from esmcls.files import write_json
from esmcls.metrics import Interval
from esmcls.replicas import ALONE, Replicas
from esmcls.tracking import open_tracker
from esmcls.training import Entry, Log
from esmcls.tuned import FinetuneConfig, settings_of
from esmcls.tuning import NAME, Finetuned, finetune
from esmcls.tuning_report import seeds_report
from esmcls.tuning_start import Terms
from esmcls.workspace import Workspace


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
) -> Iterator[Finetuned | Spread]:
    """Fine-tune with one seed or with several, from that of `config` upwards; see `finetune`.

    Parameters
    ----------
    workspace, config, terms, log
        As in `finetune`.
    name : str
        Of the model; with several seeds those of the models are <name>-<seed>.
    seeds : int
    track : str, optional
        See `esmcls.tracking.open_tracker`.
    **options
        Of `finetune`.

    Yields
    ------
    Finetuned
        One a seed; nothing in processes but the first.
    Spread
        Where there are several seeds and a test part: written to reports/finetune/<name>/seeds.json, too.
    """
    reports = []
    for seed in range(config.seed, config.seed + seeds):
        one = name if seeds == 1 else f"{name}-{seed}"
        own = replace(config, seed=seed)
        with tracked(track, workspace, one, own, options.get("replicas", ALONE), log) as told:
            found = finetune(workspace, own, terms, name=one, log=told, **options)
        if found is not None:
            yield found
            reports += [] if found.report is None else [found.report]
    if len(reports) > 1:
        folder = workspace.reports / "finetune" / name
        folder.mkdir(exist_ok=True)
        spread = Spread(seeds, seeds_report(reports), folder / "seeds.json")
        write_json(spread.file, {"seeds": seeds, "metrics": {key: asdict(v) for key, v in spread.metrics.items()}})
        yield spread


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
