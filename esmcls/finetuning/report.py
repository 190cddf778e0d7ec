"""What a fine-tuned model reaches on the test part, by family and by size, and apart from it what it took."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import t as student

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.files import write_json
from esmcls.finetuning.task import peak_memory
from esmcls.metrics.classification import Interval, precision_recall_f1
from esmcls.models.model import Model
from esmcls.models.predict import features_for
from esmcls.tasks.one_label.answers import Questions
from esmcls.tasks.one_label.comparison import by_length, confusions
from esmcls.tasks.one_label.confidence import Confidence
from esmcls.tasks.one_label.evaluation import Evaluation, evaluate
from esmcls.training.runlog import Entry
from esmcls.types import Indices
from esmcls.workspace.workspace import Workspace

FORMAT: Final = 1
LARGEST: Final = 1000
"""Families that are told apart from the rest."""
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


@dataclass(frozen=True)
class Rank:
    """Test proteins of the largest families, or of the others: accuracy, and means over their families."""

    name: str
    families: int
    n: int
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float


@dataclass(frozen=True)
class TuningReport:
    """What a model reaches on the test part."""

    evaluation: Evaluation
    ranks: list[Rank]

    def lines(self) -> list[str]:
        """Return tables for people, one line each."""
        told = ["on the test part:", *self.evaluation.lines()]
        if len(self.ranks) > 1:
            told += ["", f"{'families':20}  {'accuracy':>8}  {'macro F1':>8}  {'proteins':>8}"]
            told += [f"{r.name:20}  {100 * r.accuracy:8.2f}  {100 * r.macro_f1:8.2f}  {r.n:>8,}" for r in self.ranks]
        return told


def by_rank(codes: Indices, predicted: Indices, counts: Indices, largest: int = LARGEST) -> list[Rank]:
    """Return what is reached on the largest families and on the others; only those that occur.

    Parameters
    ----------
    codes, predicted : int64 arrays, (n,)
        True and predicted classes; -1, of no trained class, stands in neither row.
    counts : int64 array, (classes,)
        Training members, by which families are ranked; equal ones by their codes.
    largest : int

    Examples
    --------
    >>> codes, predicted = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])
    >>> [(one.name, one.n, one.accuracy) for one in by_rank(codes, predicted, np.array([9, 5, 2]), largest=1)]
    [('largest 1', 2, 0.5), ('the rest', 2, 0.5)]
    """
    scores = precision_recall_f1(codes, predicted, len(counts))
    order = np.argsort(-counts, kind="stable")
    groups = {f"largest {min(largest, len(counts)):,}": order[:largest], "the rest": order[largest:]}
    return [
        Rank(name, len(there), int(rows.sum()), float((codes == predicted)[rows].mean()), *_means(scores, there))
        for name, group in groups.items()
        if len(there := group[scores.support[group] > 0])
        for rows in [np.isin(codes, there)]
    ]


def _means(scores: Any, there: Indices) -> list[float]:
    return [float(values[there].mean()) for values in (scores.precision, scores.recall, scores.f1)]


def report_on(
    model: Model, test: Dataset, workspace: Workspace, pace: Pace, folder: Path, *, seed: int = 0
) -> TuningReport | None:
    """Measure a model on the test part and write report.json and, apart from it, timing.json.

    Parameters
    ----------
    model : Model
    test : Dataset
        May be empty: then only the time is told, and None returned.
    workspace : Workspace
    pace : Pace
    folder : Path
    seed : int
        Of the bootstrap.
    """
    took: dict[str, Any] = {"format": FORMAT, "training": pace.to_json(), "latency": latency(model)}
    about = {"format": FORMAT, "model": model.folder.name, **model.manifest.setup["finetuned"]}
    report: TuningReport | None = None
    if len(test):
        began = time.perf_counter()
        features = features_for(model, test, workspace)
        report = TuningReport(evaluate(model, test, features, seed=seed), _ranks(model, test, features))
        seconds = time.perf_counter() - began
        took["prediction"] = {"seconds": seconds, "sequences_per_second": len(test) / seconds}
        about |= {"ranks": [asdict(one) for one in report.ranks], **report.evaluation.to_json()}
        about |= _confused(model, test, features)
    write_json(folder / "report.json", about | {"validation": model.manifest.validation})
    write_json(folder / "timing.json", took)
    return report


def _ranks(model: Model, test: Dataset, features: Features) -> list[Rank]:
    place = {name: code for code, name in enumerate(model.classes)}
    codes = np.array([place.get(label, -1) for label in test.labels], dtype=np.int64)
    counts = np.asarray(model.manifest.class_counts, dtype=np.int64)
    return by_rank(codes, model.head.top_k(features, 1)[0][:, 0], counts)


def _confused(model: Model, test: Dataset, features: Features) -> dict[str, Any]:
    """Return the pairs of classes that are confused most, and accuracy by length."""
    classes = tuple(sorted({*model.classes, *test.labels}))
    nobody, counts = Dataset([], [], [], []), dict(zip(model.classes, model.manifest.class_counts, strict=True))
    questions = Questions(test, nobody, classes, 0.95)
    told = {"counts": counts, "fit_seconds": 0.0, "validation": None, "megabytes": 0.0}
    answers = questions.ask(model.head, features, features.take([]), Confidence(), told)
    return {"confusions": confusions(answers, classes), "lengths": by_length(answers)}


def latency(model: Model, lengths: Sequence[int] = LENGTHS) -> list[dict[str, float]]:
    """Return the seconds that one sequence takes from residues to label, by its length: the least of three."""
    random = np.random.default_rng(0)
    found = []
    for length in lengths:
        sequence = "".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), length))
        seconds = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            model.top_k([sequence], 1)
            seconds.append(time.perf_counter() - began)
        found.append({"residues": length, "seconds": min(seconds)})
    return found


def over_seeds(values: npt.ArrayLike) -> Interval:
    """Return the mean over seeds and its 95 % interval by Student's t, clipped to [0, 1]; of one seed, itself.

    Examples
    --------
    >>> found = over_seeds([0.5, 0.6, 0.7])
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.6, 0.352, 0.848)
    """
    found = np.asarray(values, dtype=np.float64)
    mean, n = float(found.mean()), len(found)
    half = float(student.ppf(0.975, n - 1) * found.std(ddof=1) / n**0.5) if n > 1 else 0.0
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))


def seeds_report(reports: Sequence[Mapping[str, Interval]]) -> dict[str, Interval]:
    """Return each metric's mean and interval over what several seeds reached."""
    return {name: over_seeds([one[name].value for one in reports]) for name in reports[0]}
