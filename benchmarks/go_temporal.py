"""Proteins annotated in 2017 (CAFA 3), by models fitted on what was known in January 2014.

    esmcls embed train_sequences.fasta --test … --labels … --obo … -w WORKSPACE
    esmcls fit --head knn -w WORKSPACE --no-refit            and so on: the models that are named
    python benchmarks/go_temporal.py WORKSPACE --table cafa3.tsv.gz --leave-out train_sequences.fasta.gz \\
        --leave-out test_sequences.fasta.gz --models knn,homology,ensemble

The table has columns id, sequence, mf, bp and cc. Sequences that stand in a file that is to be left out are no new
proteins and are not measured; nor are terms that the workspace's ontology, of 2014, does not know. Nothing is chosen
here: models are taken as they were fitted. Written to `benchmarks/results/go_temporal.json`, or `--output`, with
measures, intervals and paired differences from homology, the command line and the commit.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from go import differences, measured, say, shown

from esmcls.datasets.dataset import Dataset
from esmcls.evaluation.assess import labelled
from esmcls.labels.ontology import Ontology
from esmcls.models.folder import load_model
from esmcls.models.manifest import versions
from esmcls.models.model import features_for
from esmcls.plain_values import write_json
from esmcls.reading.readers import label_table, read_records
from esmcls.reading.records import Tally
from esmcls.tasks.examining import Exam
from esmcls.text_files import open_lines
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).parent / "results"
ASPECTS = {"mf": "F", "bp": "P", "cc": "C"}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--leave-out", type=Path, action="append", default=[], help="FASTA; can be repeated")
    parser.add_argument("--models", default="knn,homology,ensemble")
    parser.add_argument("--reference", default="homology", help="that the others are set against")
    parser.add_argument("--most", type=int, help="so many proteins alone, to try it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=RESULTS / "go_temporal.json")
    options = parser.parse_args()
    workspace = Workspace.open(options.workspace)
    assert workspace.ontology is not None
    proteins, told = new_proteins(options, workspace.ontology)
    say(f"{len(proteins):,} proteins; {told}")
    counts, rows = {}, {}
    train, nobody = workspace.dataset.part("train"), proteins.take([])
    for name in options.models.split(","):
        model = load_model(workspace.find_model(name))
        features = partial(features_for, model, workspace=workspace)
        exam = Exam(proteins, features(proteins), train, nobody, features, options.seed)
        counts[name] = model.task.assess(model, exam).evaluation.counts
        rows[name] = measured(counts[name], options.draws, options.seed)
        say(f"{name:12} {shown(rows[name])}")
    versus: dict[str, Any] = {}
    if options.reference in counts:
        others = {name: one for name, one in counts.items() if name != options.reference}
        versus = differences(counts[options.reference], others, options.draws, options.seed)
    ran = subprocess.run(["git", "rev-parse", "HEAD"], cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    about = {
        "command": shlex.join(["python", "benchmarks/go_temporal.py", *map(without_folder, sys.argv[1:])]),
        "commit": ran.stdout.strip() or None,
        "versions": versions(),
        "proteins": len(proteins),
        "told": told,
    }
    write_json(options.output, about | {"rows": rows, "reference": options.reference, "versus": versus})
    say(f"written: {options.output}")


def without_folder(word: str) -> str:
    """Return a word of the command line without the folders of this machine."""
    return Path(word).name if "/" in word else word


def new_proteins(options: argparse.Namespace, ontology: Ontology) -> tuple[Dataset, list[str]]:
    """Return the proteins to measure on with their terms, and what was left out."""
    old = {sequence for path in options.leave_out for sequence in sequences_of(path)}
    csv.field_size_limit(1 << 30)
    with open_lines(str(options.table)) as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    new = [row for row in rows if row["sequence"] not in old]
    left_out = len(rows) - len(new)
    new = new[: options.most]
    with tempfile.TemporaryDirectory() as folder:
        fasta, table = Path(folder, "new.fasta"), Path(folder, "terms.tsv")
        fasta.write_text("".join(f">{row['id']}\n{row['sequence']}\n" for row in new))
        terms = [
            (row["id"], term, letter) for row in new for name, letter in ASPECTS.items() for term in listed(row[name])
        ]
        table.write_text("".join(f"{name}\t{term}\t{letter}\n" for name, term, letter in aspects_of(terms, ontology)))
        tally = Tally()
        labels = label_table(table, ontology)
        proteins = labelled(read_records(fasta, labels=labels, on_bad="skip", tally=tally), fasta)
    unknown = sum(tally.unknown_terms.values())
    told = [f"{left_out:,} left out, whose sequence stands in the training set or its test part"]
    told.append(f"{unknown:,} of {len(terms):,} rows left out, of terms that the ontology does not know")
    return proteins, [*told, f"{len(tally.bad):,} proteins without a term that is known"]


def aspects_of(terms: list[tuple[str, str, str]], ontology: Ontology) -> list[tuple[str, str, str]]:
    """Return rows with the aspect that the ontology has a term in."""
    place = ontology.place
    return [(name, term, ontology.aspects[place[term]] if term in place else aspect) for name, term, aspect in terms]


def listed(cell: str) -> list[str]:
    """Return the terms of a cell."""
    return cell.replace(",", " ").replace(";", " ").split()


def sequences_of(path: Path) -> set[str]:
    """Return the sequences of a FASTA."""
    return {record.protein.sequence for record in read_records(path)}


if __name__ == "__main__":
    main()
