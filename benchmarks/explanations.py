"""Measure what explanations are worth: how much the logit falls where the most important tenth of residues is shuffled.

    OMP_NUM_THREADS=1 python benchmarks/explanations.py WORKSPACE --models linear --methods residues --proteins 160

For proteins of the workspace's validation part, the tenth of the residues that add most to the logit of the predicted
class is shuffled among itself, and so is a random tenth; the mean fall of the logit of each is printed, and put into
`benchmarks/results/explanations.json` in place of what stood there for the same model and method.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from esmcls.insight.explanation.explain import Explainer
from esmcls.models.predict import open_model
from esmcls.reading.records import Protein
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).parent / "results" / "explanations.json"


def main() -> None:
    """Measure each model by each method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--models", default="linear,mlp")
    parser.add_argument("--methods", default="residues,gradients")
    parser.add_argument("--proteins", type=int, default=40)
    parser.add_argument("--longest", type=int, default=400)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    data = Workspace.open(given.workspace).dataset
    rows = [row for row, part in enumerate(data.parts) if part == "validation"]
    rows = [row for row in rows if len(data.sequences[row]) <= given.longest]
    drawn = np.random.default_rng(0).permutation(rows)[: given.proteins]
    proteins = [Protein(data.ids[row], data.sequences[row]) for row in drawn.tolist()]
    for model in given.models.split(","):
        for method in given.methods.split(","):
            row = {"model": model, "method": method} | falls(given.workspace, model, method, proteins)
            print(json.dumps(row), flush=True)
            keep(given.output, row)


def keep(path: Path, row: dict[str, object]) -> None:
    """Put a row among those of other models and methods."""
    rows = json.loads(path.read_text()) if path.exists() else []
    others = [other for other in rows if (other["model"], other["method"]) != (row["model"], row["method"])]
    path.write_text("[\n" + ",\n".join(json.dumps(one) for one in [*others, row]) + "\n]\n")


def falls(workspace: Path, model: str, method: str, proteins: list[Protein]) -> dict[str, float]:
    """Return the mean fall of the logit by which tenth is shuffled, and its standard error."""
    opened = open_model(workspace, model)
    random = np.random.default_rng(1)
    fallen: dict[str, list[float]] = {"important": [], "random": [], "least": []}
    for protein, before in zip(proteins, Explainer(opened, method=method).explain(proteins), strict=True):
        length = len(protein.sequence)
        order = np.argsort(-np.nan_to_num(before.values, nan=-np.inf))
        tenth = max(2, length // 10)
        places = {"important": order[:tenth], "random": random.permutation(length)[:tenth], "least": order[-tenth:]}
        shuffled = [Protein(name, shuffle(protein.sequence, some, random)) for name, some in places.items()]
        logits = Explainer(opened, before.of, "residues").explain([protein, *shuffled])
        first, *others = (after.output for after in logits)
        for name, after in zip(places, others, strict=True):
            fallen[name].append(first - after)
    means = {name: round(float(np.mean(values)), 3) for name, values in fallen.items()}
    apart = np.array(fallen["important"]) - np.array(fallen["random"])
    error = round(float(apart.std(ddof=1) / np.sqrt(len(apart))), 3)
    return {"proteins": len(proteins), **means, "standard_error_of_the_difference": error}


def shuffle(sequence: str, places: np.ndarray, random: np.random.Generator) -> str:
    """Return a sequence with some of its residues shuffled among one another."""
    letters = np.array(list(sequence))
    letters[places] = letters[random.permutation(places)]
    return "".join(letters)


if __name__ == "__main__":
    main()
