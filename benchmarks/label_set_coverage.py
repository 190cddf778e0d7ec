"""Sets of terms or labels with a stated coverage: what they promise against what they hold, over draws of proteins.

    esmcls embed train_sequences.fasta --labels train_terms.tsv --obo go.obo --encoder kmer -w WORKSPACE
    python benchmarks/label_set_coverage.py WORKSPACE --coverage .8,.9 --draws 10

For each draw, train and validation proteins are dealt anew: a head is fitted on 60 % of them, 20 % calibrate the sets
and 20 % are asked. The test part is not read. Written to `benchmarks/results/label_set_coverage.json`, or `--output`.
"""

from __future__ import annotations

import argparse
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.models.manifest import versions
from esmcls.plain_values import write_json
from esmcls.tasks.kinds import task_of
from esmcls.tasks.label_sets.evaluation import with_unseen
from esmcls.tasks.label_sets.trust.set_scores import SetCounts
from esmcls.tasks.label_sets.trust.sets import CalibratedSets
from esmcls.workspace.workspace import Workspace

RESULT = Path(__file__).parent / "results" / "label_set_coverage.json"


def dealt(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """Return proteins to fit, to calibrate and to ask; equal sequences stay together."""
    known = dataset.take([row for row, part in enumerate(dataset.parts) if part != "test"])
    distinct = sorted(set(known.sequences))
    places = dict(zip(distinct, np.random.default_rng(seed).random(len(distinct)).tolist(), strict=True))
    cuts = (0.0, 0.6, 0.8, 1.0)
    first, second, third = (
        known.take([row for row, sequence in enumerate(known.sequences) if low <= places[sequence] < high])
        for low, high in itertools.pairwise(cuts)
    )
    return first, second, third


def draw(workspace: Workspace, head_name: str, coverages: list[float], seed: int) -> list[dict[str, Any]]:
    """Return what sets hold in one draw: a row for each coverage and group."""
    task = task_of(workspace)
    fitted, calibration, asked = dealt(workspace.dataset, seed)
    features = partial(Features.from_cache, workspace.latest_cache())
    labels = task.labels(fitted)
    head = task.head_class(head_name)()
    task.fit_head(head, features(fitted), labels, None, seed, None)
    classes = task.hierarchy(labels.classes)
    truth = [with_unseen(task.labels(part), classes.classes, classes.groups) for part in (calibration, asked)]
    sets = CalibratedSets.measure(classes.blocks(head, features(calibration)), truth[0])
    rows = []
    for coverage in coverages:
        counts = SetCounts(sets, truth[1], coverage)
        for _ in counts.counting(classes.blocks(head, features(asked))):
            pass
        rows += [{"group": name} | vars(scores) for name, scores in counts.scores().items()]
        rows += [{"group": "", "coverage": coverage, "why_not": counts.why_not}] if counts.why_not else []
    return rows


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--head", default="knn")
    parser.add_argument("--coverage", default=".8,.9")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--about", default="")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    workspace = Workspace.open(given.workspace)
    coverages = [float(text) for text in given.coverage.split(",")]
    draws = []
    for seed in range(given.draws):
        draws.append(draw(workspace, given.head, coverages, seed))
        print(seed, draws[-1], flush=True)
    told = [row for rows in draws for row in rows if "reached" in row]
    means = {}
    for group, coverage in dict.fromkeys((row["group"], row["coverage"]) for row in told):
        rows = [row for row in told if (row["group"], row["coverage"]) == (group, coverage)]
        reached = np.array([row["reached"] for row in rows])
        sizes = float(np.mean([row["mean_size"] for row in rows]))
        spread = {"least": float(reached.min()), "most": float(reached.max()), "draws": len(rows)}
        means[f"{group} {coverage:g}"] = {"reached": float(reached.mean()), "mean_size": sizes} | spread
        print(group, coverage, means[f"{group} {coverage:g}"])
    command = f"benchmarks/label_set_coverage.py --head {given.head} --coverage {given.coverage} --draws {given.draws}"
    about = {"about": given.about, "command": command, "versions": versions()}
    write_json(given.output, {"format": 1, **about, "means": means, "draws": draws})


if __name__ == "__main__":
    main()
