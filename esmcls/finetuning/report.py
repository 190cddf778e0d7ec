"""What a fine-tuned model reaches on the test part, and apart from it what it took."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import t as student

from esmcls.datasets.dataset import Dataset
from esmcls.finetuning.task import peak_memory
from esmcls.metrics.classification import Interval
from esmcls.models.model import Model, features_for
from esmcls.plain_values import write_json
from esmcls.tasks.objective import Objective, TestReport
from esmcls.training.loop import Entry
from esmcls.workspace.workspace import Workspace

FORMAT: Final = 1
LENGTHS: Final = (64, 128, 256, 512, 1022)
"""Residues of the sequences that latency is measured on."""
REPEATS: Final = 3


@dataclass
class Pace:
    """A log that counts what was trained on, and how long it took."""

    begun: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    sequences: float = 0.0
    tokens: float = 0.0
    peak_memory: int = 0

    def __call__(self, entry: Entry) -> None:
        """Count a step."""
        self.sequences += entry["sequences"]
        self.tokens += entry["tokens"]

    def end(self, device: torch.device) -> None:
        """Stop the clock."""
        self.seconds, self.peak_memory = time.perf_counter() - self.begun, peak_memory(device)

    def to_json(self) -> dict[str, float]:
        """Return seconds (validations included), what was trained on in one, and the most bytes held at once."""
        rate = {name: getattr(self, name) / (self.seconds or 1.0) for name in ("sequences", "tokens")}
        return {
            "seconds": self.seconds,
            "sequences_per_second": rate["sequences"],
            "tokens_per_second": rate["tokens"],
            "peak_memory": self.peak_memory,
        }


def write_report(
    objective: Objective, model: Model, test: Dataset, workspace: Workspace, pace: Pace, folder: Path
) -> TestReport | None:
    """Measure a model on the test part and write report.json and, apart from it, timing.json.

    Parameters
    ----------
    objective : Objective
    model : Model
    test : Dataset
        May be empty: then only the time is told, and None returned.
    workspace : Workspace
    pace : Pace
    folder : Path
    """
    timing: dict[str, Any] = {"format": FORMAT, "training": pace.to_json(), "latency": latency(model)}
    about = {"format": FORMAT, "model": model.folder.name, **model.manifest.setup["finetuned"]}
    report: TestReport | None = None
    if len(test):
        began = time.perf_counter()
        vectors = features_for(model, test, workspace)
        report = objective.test(model, test, vectors, model.manifest.seed)
        seconds = time.perf_counter() - began
        timing["prediction"] = {"seconds": seconds, "sequences_per_second": len(test) / seconds}
        about |= report.to_json()
    write_json(folder / "report.json", about | {"validation": model.manifest.validation})
    write_json(folder / "timing.json", timing)
    return report


def latency(model: Model, lengths: Sequence[int] = LENGTHS) -> list[dict[str, float]]:
    """Return the seconds that one sequence takes from residues to its answer, by its length: the least of three."""
    random = np.random.default_rng(0)
    rows = []
    for length in lengths:
        sequence = "".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), length))
        seconds = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            model.predict([sequence])
            seconds.append(time.perf_counter() - began)
        rows.append({"residues": length, "seconds": min(seconds)})
    return rows


def over_seeds(values: npt.ArrayLike, highest: float = 1.0) -> Interval:
    """Return the mean over seeds and its 95 % interval by Student's t, clipped to [0, highest]; of one seed, itself.

    Examples
    --------
    >>> accuracy = over_seeds([0.5, 0.6, 0.7])
    >>> round(accuracy.value, 3), round(accuracy.low, 3), round(accuracy.high, 3)
    (0.6, 0.352, 0.848)
    """
    each = np.asarray(values, dtype=np.float64)
    mean, n = float(each.mean()), len(each)
    half = float(student.ppf(0.975, n - 1) * each.std(ddof=1) / n**0.5) if n > 1 else 0.0
    return Interval(mean, max(0.0, mean - half), min(highest, mean + half))


def seeds_report(objective: Objective, reports: Sequence[Mapping[str, Interval]]) -> dict[str, Interval]:
    """Return each metric's mean and interval over what several seeds reached; only of metrics that all of them have."""
    names = [name for name in reports[0] if all(name in report for report in reports)]
    return {name: over_seeds([report[name].value for report in reports], objective.highest(name)) for name in names}
