"""Make the archives of release 0.2.0, to be read for ever: python tests/archives/make_0_2_0.py [FOLDER]

Run once, by a Python 3.11 in which esmcls 0.2.0 is installed with its constraints.txt. It goes by the command line
alone. FOLDER, by default /data/esmcls, is where a user could have worked: its name stays in what is written. Beside
this file it leaves

    release-0.2.0/KIND/         a workspace of each kind of labels that 0.1.0 had not, and of families with what it had
                                not: alignment, hierarchy, stores of residues, families held out in folds, a scanner
    release-0.2.0/KIND.json     what `predict` and `scan` wrote then of some proteins, a row a line
    release-0.2.0/*.fasta       these proteins

The data are slices of 0.1.0's, and sequences by chance whose labels can be told by eye; the heads are small.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from esmcls_cli.main import main

HERE = Path(__file__).resolve().parent
RELEASE = HERE / "release-0.2.0"
BUNDLED = "--encoder bundled --layers 4 --precision fp32"
TOO_BIG = ("figures", "*.html", "*.svg", "*.png", "*.xlsx")
MACHINE = (b"/work", b"/root", b"/tmp", b"/home")
PARTS = ("train",) * 16 + ("validation",) * 5 + ("test",) * 3
HELIX, STRAND = "AL", "VI"
SMALL_PAIRS = (
    "--set hidden 16 --set channels 8 --set rank 8 --set blocks 2 --set crop 32 --set epochs 1 --set precision fp32"
)

KINDS: dict[str, list[str]] = {
    "numbers": [
        f"embed numbers.csv {BUNDLED} --task number",
        "fit --head ridge",
        "fit --head ridge --calibration 20% --name calibrated",
        "fit --head knn",
        "fit --head mlp --set hidden 8 --set epochs 4",
        "fit --head lightgbm --set members 2 --set most_rounds 4",
        "fit --head ensemble --of ridge,knn",
        "evaluate --model ridge",
    ],
    "residues": [
        f"embed residues.fasta {BUNDLED}",
        "fit --head linear --set epochs 3",
        "fit --head mlp --set hidden 8 --set epochs 3",
        "fit --head conv --set hidden 8 --set depth 2 --set epochs 3",
        "fit --head letter",
        "evaluate --model linear",
    ],
    "residue-numbers": [
        f"embed residue_numbers.csv {BUNDLED} --task residue-number --residue-dtype int8",
        "fit --head linear",
        "fit --head letter",
    ],
    "many-labels": [
        f"embed many_labels.csv {BUNDLED} --task many-labels",
        "fit --head linear --set whiten False",
        "fit --head knn",
        "evaluate --model linear",
    ],
    "structures": [
        f"embed structures.csv {BUNDLED} --task structure",
        f"fit --head pairs {SMALL_PAIRS}",
        "fit --head separation",
    ],
    "families": [
        f"embed domains.csv {BUNDLED} --hierarchy dots --residues --residue-dtype int8",
        "fit --head align --set components 16",
        "fit --head linear --set whiten False --hold-out-families 100% --calibration 20% --name careful",
        "finetune --adapters-only --rank 1 --max-steps 3 --batch 8 --layers 4 --precision fp32 --start zero"
        " --name tuned",
        "fit-scan --members 4",
        "evaluate --model careful",
    ],
}
"""Kind -> what is done in its workspace."""
QUERIES = {
    "numbers": "unknown.fasta",
    "residues": "unknown.fasta",
    "residue-numbers": "unknown.fasta",
    "many-labels": "unknown.fasta",
    "structures": "unknown.fasta",
    "families": "domains.fasta",
}
"""Kind -> the proteins that its models are asked about."""
OPTIONS = {"calibrated": "--coverage 0.5", "careful": "--coverage 0.5", "pairs": "--min-score 0.001"}
"""Model -> what else it is asked."""
MEMBERS = {"train": 5, "validation": 2, "test": 2}
"""Domains of a family."""


def make(folder: Path) -> None:
    """Make the data and the workspaces in a folder, ask their models, and keep all beside this file."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(RELEASE, ignore_errors=True)
    folder.mkdir(parents=True)
    RELEASE.mkdir()
    os.chdir(folder)
    write_data()
    for kind, commands in KINDS.items():
        there = f"--workspace {kind} --device cpu"
        for command in commands:
            run(f"{command} {there}")
        asked = QUERIES[kind]
        rows: dict[str, list[dict[str, object]]] = {}
        for name in sorted(path.name for path in Path(kind, "models").iterdir()):
            answers = run(f"predict {asked} --model {name} {OPTIONS.get(name, '')} --format jsonl --quiet {there}")
            rows[name] = [json.loads(line) for line in answers.splitlines()]
        if kind == "families":
            table = run(f"scan {asked} --quiet {there}")
            rows["scan"] = list(csv.DictReader(io.StringIO(table), delimiter="\t"))
        shutil.copytree(kind, RELEASE / kind, ignore=shutil.ignore_patterns(*TOO_BIG))
        shutil.copy(asked, RELEASE / asked)
        write_rows(RELEASE / f"{kind}.json", rows)
    check_paths()


def run(command: str) -> str:
    """Run a command and return what it writes."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(command.split())
    assert code == 0, f"esmcls {command}: exit code {code}"
    return out.getvalue()


# the data


def write_data() -> None:
    """Write a data set of each kind, and proteins to ask about."""
    random = np.random.default_rng(2)
    chains = ["".join(random.choice(list("ALVIGSDKEF"), random.integers(24, 41))) for _ in PARTS]
    new = ["".join(random.choice(list("ALVIGSDKEF"), random.integers(24, 41))) for _ in range(4)]
    names = [f"p{number}" for number in range(len(chains))]
    with_parts = list(zip(names, chains, PARTS, strict=True))
    lysines = [(name, chain, f"{chain.count('K') + 0.1 * len(chain):.1f}", part) for name, chain, part in with_parts]
    write_csv("numbers.csv", "id,sequence,target,split", lysines)
    numbers = [
        (
            name,
            chain,
            " ".join("nan" if place == 0 else f"{ord(letter) - 65}" for place, letter in enumerate(chain)),
            part,
        )
        for name, chain, part in with_parts
    ]
    write_csv("residue_numbers.csv", "id,sequence,target,split", numbers)
    labels = [(name, chain, labels_of(chain), part) for name, chain, part in with_parts]
    write_csv("many_labels.csv", "id,sequence,label,split", labels)
    traces = [(name, chain, trace_of(chain), part) for name, chain, part in with_parts]
    write_csv("structures.csv", "id,sequence,label,split", traces)
    states = [(f"{name} TARGET={states_of(chain)} {set_of(part)}", chain) for name, chain, part in with_parts]
    write_fasta("residues.fasta", states)
    write_fasta("unknown.fasta", [(f"new{number}", chain) for number, chain in enumerate(new)])
    write_domains()


def write_domains() -> None:
    """Write six families of `slices/proteins.csv` with codes of two levels, and proteins of two domains."""
    with (HERE / "slices" / "proteins.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    families = list(dict.fromkeys(row["label"] for row in rows))[:6]
    codes = {family: f"{1 + number // 2}.{1 + number % 2}" for number, family in enumerate(families)}
    members = [
        [row for row in rows if row["label"] == family and row["split"] == part][:most]
        for family in families
        for part, most in MEMBERS.items()
    ]
    kept = [row for domains in members for row in domains]
    domains = [(row["id"], row["sequence"], codes[row["label"]], row["split"]) for row in kept]
    write_csv("domains.csv", "id,sequence,label,split", domains)
    test = [row for row in kept if row["split"] == "test"]
    joined = [
        (f"{one['id']}-{two['id']}", one["sequence"] + two["sequence"])
        for one, two in zip(test[::4], test[2::4], strict=False)
    ]
    write_fasta("domains.fasta", [(row["id"], row["sequence"]) for row in test[::3]] + joined)


def labels_of(chain: str) -> str:
    """Return which letters are frequent."""
    frequent = [
        name
        for name, letters in (("acid", "DE"), ("helix", HELIX), ("strand", STRAND))
        if sum(map(chain.count, letters)) >= 0.25 * len(chain)
    ]
    return "; ".join(frequent or ["none"])


def states_of(chain: str) -> str:
    """Return H, E or C for each residue."""
    return "".join("H" if letter in HELIX else "E" if letter in STRAND else "C" for letter in chain)


def set_of(part: str) -> str:
    """Return the words of biotrainer's FASTA for a part."""
    return {"validation": "SET=train VALIDATION=True"}.get(part, f"SET={part}")


def trace_of(chain: str) -> str:
    """Return strands of nine residues that go to and fro, the third residue not resolved, as tables have traces."""
    strand, along = np.divmod(np.arange(len(chain)), 9)
    trace = np.stack([3.4 * np.where(strand % 2, 8 - along, along), 5.0 * strand, 0.5 * (along % 2)], axis=1)
    places = [f"{x:.2f},{y:.2f},{z:.2f}" for x, y, z in trace.tolist()]
    places[2] = "?"
    return " ".join(places)


def write_csv(name: str, header: str, rows: Iterable[Sequence[str]]) -> None:
    """Write a table."""
    with open(name, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([header.split(","), *rows])


def write_fasta(name: str, records: Iterable[tuple[str, str]]) -> None:
    """Write FASTA."""
    Path(name).write_text("".join(f">{header}\n{sequence}\n" for header, sequence in records), encoding="utf-8")


# what is kept


def write_rows(path: Path, answers: dict[str, list[dict[str, object]]]) -> None:
    """Write JSON, an answered row a line."""
    text = json.dumps(answers, ensure_ascii=False).replace("{", "\n{")
    assert json.loads(text) == answers
    path.write_text(text.lstrip() + "\n", encoding="utf-8")


def check_paths() -> None:
    """Refuse a file that names a place of this machine."""
    for path in RELEASE.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(place in content for place in MACHINE), path


if __name__ == "__main__":
    make(Path(sys.argv[1] if sys.argv[1:] else "/data/esmcls"))
