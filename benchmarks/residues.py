"""Labels and numbers of residues, measured: each head on validation, the chosen one once on the test part.

    python benchmarks/residues.py ../shared/data disorder --workspace WORK --heads linear,mlp,conv --test

Sets: secondary_structure (Q3 on NEW364), disorder (Spearman on CheZOD 117), binding (F1 of binding residues on the 300
proteins of bindEmbed21). Of the heads, with the knobs written behind them (conv:class_weights=sqrt), one is chosen by
the score on the validation part alone; without --test the test part is not read. Results go to
benchmarks/results/residues-SET-ENCODER.json.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from esmcls.datasets.dataset import build
from esmcls.evaluation.assess import assess
from esmcls.labels.residue_labels import masked
from esmcls.metrics.residues import confusions_by_protein, f1_of_confusion, protein_of
from esmcls.models.fit import fit_dataset
from esmcls.models.model import Model
from esmcls.reading.records import Protein, Record
from esmcls.tasks.kinds import task_of
from esmcls.workspace.embed_in_workspace import EmbeddingRecipe, embed_in_workspace
from esmcls.workspace.intake import Intake
from esmcls.workspace.workspace import Workspace

csv.field_size_limit(1 << 30)
RESULTS = Path(__file__).parent / "results"
FILES = {
    "secondary_structure": ("residues/secondary_structure/train.tsv.gz", "residues/secondary_structure/test.tsv.gz"),
    "disorder": ("residues/disorder/chezod.tsv.gz",),
    "binding": ("residues/binding/binding.tsv.gz",),
}


def rows_of(data: Path, name: str) -> list[dict[str, str]]:
    """Return the rows of a set's files, in order."""
    rows = list[dict[str, str]]()
    for file in FILES[name]:
        with gzip.open(data / file, "rt") as handle:
            rows += csv.DictReader(handle, delimiter="\t")
    return rows


def records_of(data: Path, name: str, most: int = 0) -> list[Record]:
    """Return the proteins of a set with the labels of their residues: of binding, 1 where any of the three bits is set.

    `most` training proteins are drawn, and a fifth as many for validation; all if it is 0.
    """
    records = []
    for line, row in enumerate(rows_of(data, name), 2):
        if row["set"] not in ("train", "validation", "test"):
            continue
        if name == "secondary_structure":
            label = masked(row["ss3"], row["resolved"])
        elif name == "disorder":
            label = row["z_score"]
        else:
            label = "".join("0" if sign == "0" else "1" for sign in row["label_0to7_SNM"])
        records.append(Record(Protein(row["id"], row["sequence"]), label, row["set"], name, line))
    if not most:
        return records
    drawn = set[int]()
    for part, n in (("train", most), ("validation", most // 5)):
        places = [place for place, record in enumerate(records) if record.part == part]
        drawn |= set(np.random.default_rng(0).permutation(places)[:n].tolist())
    return [record for place, record in enumerate(records) if record.part == "test" or place in drawn]


def main() -> None:
    """Measure."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path)
    options.add_argument("set", choices=FILES)
    options.add_argument("--workspace", type=Path, required=True)
    options.add_argument("--encoder", default="bundled")
    options.add_argument("--layers", help="numbers with commas between; default the encoder's")
    options.add_argument("--heads", default="linear,mlp,conv")
    options.add_argument("--train", type=int, default=0, help="so many training proteins, drawn; default all")
    options.add_argument("--test", action="store_true", help="ask the test part of the head that validation chose")
    given = options.parse_args()
    workspace = Workspace.open(given.workspace, create=True)
    task = "residue-number" if given.set == "disorder" else "residue-label"
    built = build(records_of(given.data, given.set, given.train), task=task)
    intake = Intake(built.dataset, built.report, task=built.task)
    layers = None if given.layers is None else tuple(map(int, given.layers.split(",")))
    print("\n".join(embed_in_workspace(workspace, intake, EmbeddingRecipe(given.encoder, layers)).lines()), flush=True)
    cache, kind = workspace.latest_cache(), task_of(workspace)
    fits: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for head in given.heads.split(","):
        began = time.perf_counter()
        name, *settings = head.split(":")
        knobs = dict(setting.split("=") for setting in settings)
        fit = fit_dataset(kind, workspace.dataset, cache, name, knobs, log=_log)
        seconds = round(time.perf_counter() - began, 1)
        scores = {name: round(value, 4) for name, value in fit.manifest.validation.items()}
        told[head] = {"validation": scores, "seconds": seconds, "config": fit.manifest.config}
        fits[head] = fit
        print(head, scores, f"{seconds} s", flush=True)
    best = max(fits, key=lambda head: fits[head].manifest.validation[kind.score])
    result: dict[str, Any] = {
        "set": given.set,
        "encoder": cache.spec.short_name,
        "layers": list(cache.spec.layers),
        "train_proteins": built.dataset.parts.count("train"),
        "heads": told,
        "chosen_on_validation": best,
        "command": " ".join(["python", "benchmarks/residues.py", "../shared/data", *_own_words(sys.argv[2:])]),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout[:12],
    }
    if given.test:
        result["test"] = tested(fits[best], workspace, given.set)
    name = f"residues-{given.set}-{cache.spec.short_name}{f'-{given.train}' if given.train else ''}.json"
    (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "heads"}, indent=1))


def _own_words(words: list[str]) -> list[str]:
    """Return the words of the command without paths of this machine."""
    return ["WORK" if place and words[place - 1] == "--workspace" else word for place, word in enumerate(words)]


def _log(entry: dict[str, float]) -> None:
    if "score" in entry:
        print({name: round(value, 4) for name, value in entry.items()}, flush=True)


def tested(fit: Any, workspace: Workspace, name: str) -> dict[str, Any]:
    """Return what the chosen model reaches on the test part, with intervals over proteins."""
    folder = fit.save(workspace.folder / "models" / "chosen")
    model = Model(folder, fit.manifest, fit.head, fit.task)
    evaluation: Any = assess(model, workspace).evaluation
    facts: dict[str, Any] = evaluation.to_json()
    if name == "binding":  # bindEmbed21 tells the mean of the proteins' F1
        answers = evaluation.answers
        known = answers.known
        truth, said = answers.truth[known].astype(np.int64), answers.answers[known].argmax(1)
        protein = protein_of(answers.sizes.tolist())[known]
        tables = confusions_by_protein(truth, said, protein, len(answers.sizes), 2)
        facts["mean_f1_of_proteins"] = float(np.mean([f1_of_confusion(table)[1] for table in tables]))
    return facts


if __name__ == "__main__":
    main()
