"""Measures heads on sets of enzyme numbers and of places in the cell.

    python benchmarks/many_labels.py cut ec ../shared/data/ec set        # writes set/train.csv and set/test.csv
    esmcls embed set/train.csv --test set/test.csv -w ec
    esmcls compare -w ec --heads knn,linear,homology,align,ensemble --no-baselines
    python benchmarks/many_labels.py levels -w ec --models knn-1,linear-1,homology,align-1,ensemble-1

    python benchmarks/many_labels.py cut location ../shared/data/location set
    esmcls embed set/train.csv --validation set/validation.csv --test set/test.csv -w location
    esmcls compare -w location --heads knn,linear,homology,align,ensemble

Of enzyme numbers, several a protein, `levels` asks the models that `compare` left in the workspace about the test part:
at each level, from the first number to all four, whether the most probable number's beginning is that of a true one
(top-1), with 95 % intervals and the paired difference from homology; F1 over all four is that of the thresholds which
the validation part chose. The test part is read there alone. Writes `benchmarks/results/many_labels_ec.json`.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.evaluation.assess import evaluate
from esmcls.labels.label_lists import labels_in
from esmcls.metrics.classification import Interval, percentile_intervals, resamples
from esmcls.models.folder import load_model
from esmcls.models.model import Model, features_for
from esmcls.plain_values import write_json
from esmcls.workspace.workspace import Workspace

RESULT = Path(__file__).parent / "results" / "many_labels_ec.json"
LEVELS = (1, 2, 3, 4)
DRAWS = 1000
HOMOLOGY = "homology"
NO_PLACE = "Cytoplasm-Nucleus"
"""Two places in one; DeepLoc's ten do not have it, and it stands in the validation part alone."""


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    """Give the rows of a gzipped TSV with a header."""
    csv.field_size_limit(1 << 20)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as handle:
        yield from csv.DictReader(handle, delimiter="\t")


def write_set(path: Path, rows: list[tuple[str, str, str]]) -> None:
    """Write rows of id, label and sequence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([("id", "label", "sequence"), *rows])
    print(f"{path}: {len(rows):,} proteins")


def cut_ec(source: Path, out: Path) -> None:
    """Cut the sets of enzyme numbers."""
    for name, file in (("train", "split10.tsv.gz"), ("test", "new.tsv.gz")):
        write_set(out / f"{name}.csv", [(row["id"], row["ec"], row["sequence"]) for row in rows_of(source / file)])


def cut_location(source: Path, out: Path) -> None:
    """Cut the sets of places; `test_hard` is another test, and is left out."""
    rows = [row for file in sorted(source.glob("*.tsv.gz")) for row in rows_of(file) if row["location"] != NO_PLACE]
    for part in ("train", "validation", "test"):
        of_part = [(row["id"], row["location"], row["sequence"]) for row in rows if row["set"] == part]
        write_set(out / f"{part}.csv", of_part)


def beginnings(number: str, level: int) -> str:
    """Return an enzyme number's first levels."""
    return ".".join(number.split(".")[:level])


def right_at(model: Model, x: Features, test: Dataset) -> npt.NDArray[np.float64]:
    """Return whether the most probable number is right at each level, (levels, n)."""
    codes, _ = model.ranked(x, 1)
    best = [model.classes[code] for code in codes[:, 0].tolist()]
    true = [labels_in(label) for label in test.labels]
    return np.array(
        [
            [beginnings(one, level) in {beginnings(number, level) for number in numbers} for one, numbers in rows]
            for level in LEVELS
            for rows in [list(zip(best, true, strict=True))]
        ],
        dtype=np.float64,
    )


def plain(interval: Interval, scale: float = 100.0) -> list[float]:
    """Return value and ends, rounded."""
    return [round(scale * value, 2) for value in (interval.value, interval.low, interval.high)]


def levels(workspace: Path, names: list[str], seed: int) -> dict[str, Any]:
    """Ask models about the test part."""
    place = Workspace.open(workspace)
    test = place.dataset.part("test")
    right, rows = {}, {}
    for name in names:
        model = load_model(workspace / "models" / name)
        measured = evaluate(model, workspace=place).evaluation
        right[name] = right_at(model, features_for(model, test, place), test)
        rows[name] = {metric: plain(interval) for metric, interval in measured.metrics.items()}
        print(name, {level: round(100 * float(row.mean()), 1) for level, row in zip(LEVELS, right[name], strict=True)})
        print("\n".join(measured.lines()))
    draws = np.stack(list(resamples(len(test), DRAWS, seed))).astype(np.float64) / len(test)
    homology = next((right[name] for name in names if name.startswith(HOMOLOGY)), None)
    for name, marks in right.items():
        rows[name]["top_1"] = _by_level(marks, draws)
        if homology is not None and not name.startswith(HOMOLOGY):
            rows[name]["top_1_less_homology"] = _by_level(marks - homology, draws, low=-1.0)
    return rows


def _by_level(marks: npt.NDArray[np.float64], draws: npt.NDArray[np.float64], low: float = 0.0) -> dict[str, Any]:
    values = {str(level): float(row.mean()) for level, row in zip(LEVELS, marks, strict=True)}
    return {name: plain(one) for name, one in percentile_intervals(values, draws @ marks.T, low).items()}


def main() -> None:
    """Cut or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    cut = commands.add_parser("cut")
    cut.add_argument("set", choices=["ec", "location"])
    cut.add_argument("source", type=Path)
    cut.add_argument("out", type=Path)
    ask = commands.add_parser("levels")
    ask.add_argument("-w", "--workspace", type=Path, required=True)
    ask.add_argument("--models", required=True)
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--encoder", default="bundled")
    ask.add_argument("--commit", default="")
    ask.add_argument("--about", default="ec: split10 -> new", help="what the workspace's data set is")
    ask.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    if given.command == "cut":
        {"ec": cut_ec, "location": cut_location}[given.set](given.source, given.out)
        return
    rows = levels(given.workspace, given.models.split(","), given.seed)
    place = Workspace.open(given.workspace)
    about = {"set": given.about, "encoder": given.encoder, "commit": given.commit, "seed": given.seed}
    n = {part: len(place.dataset.part(part)) for part in ("train", "validation", "test")}
    command = f"benchmarks/many_labels.py levels --models {given.models}"
    write_json(given.output, {"format": 1, **about, "n": n, "command": command, "percent": rows})


if __name__ == "__main__":
    main()
