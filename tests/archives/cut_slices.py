"""Cut the small data sets of the archives: python tests/archives/cut_slices.py DEMO_CSV_GZ GO_FOLDER

DEMO_CSV_GZ is the bundled demo set, GO_FOLDER the Gene Ontology set `../shared/data/go`. Run once, for release 0.1.0;
what it wrote lies in `slices/` and is not to change, since the archives were made of it.
"""

from __future__ import annotations

import csv
import gzip
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

SLICES = Path(__file__).with_name("slices")
FAMILIES, LONGEST_OF_FAMILY = 10, 110
MEMBERS = {"train": 8, "validation": 2, "test": 2}
UNSEEN = 6
EVERY_FAMILY, EVERY_TERM = 8, 9
"""Of the proteins of families, and of terms, every such one is asked about, and all unseen ones."""
PROTEINS = {"train": 50, "validation": 14, "test": 6, "unseen": 4}
LONGEST_OF_TERMS, LEAST_OF_TERM, MOST_TERMS = 100, 8, 24
PARENT = re.compile(r"^(?:is_a:|relationship: part_of) (GO:\d{7})", re.MULTILINE)
KEPT_LINES = ("[Term]", "id:", "name:", "namespace:", "is_a:", "relationship: part_of")
Lines = list[list[str]]


def cut_families(demo: Path) -> None:
    """Write proteins.csv and unseen.fasta: families of short proteins, and some proteins of others."""
    members: dict[str, dict[str, Lines]] = defaultdict(lambda: defaultdict(list))
    with gzip.open(demo, "rt", encoding="utf-8", newline="") as handle:
        header, *rows = csv.reader(handle)
    for row in rows:
        if len(row[1]) <= LONGEST_OF_FAMILY:
            members[row[2]][row[3]].append(row)
    whole = [label for label, parts in members.items() if all(len(parts[part]) >= n for part, n in MEMBERS.items())]
    chosen = sorted(whole)[:FAMILIES]
    assert len(chosen) == FAMILIES, f"only {len(chosen)} families"
    kept = [row for label in chosen for part, n in MEMBERS.items() for row in members[label][part][:n]]
    with open(SLICES / "proteins.csv", "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([header, *kept])
    others = [row for row in rows if row[2] not in chosen and len(row[1]) <= LONGEST_OF_FAMILY]
    unseen = {row[0]: row[1] for row in others[:: len(others) // UNSEEN][:UNSEEN]}
    _write_fasta(SLICES / "unseen.fasta", unseen)
    _write_fasta(SLICES / "queries.fasta", {row[0]: row[1] for row in kept[::EVERY_FAMILY]} | unseen)


def cut_terms(folder: Path) -> None:
    """Write the parts of the Gene Ontology slice, the table of their terms, and the ontology above these."""
    terms: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in ("train", "test"):
        with gzip.open(folder / f"{name}_terms.tsv.gz", "rt", encoding="utf-8") as handle:
            for line in list(handle)[1:]:
                protein, term, aspect = line.split()
                terms[protein].append((term, aspect))
    sequences = {
        name: sequence
        for part in ("train", "test")
        for name, sequence in _read_fasta(folder / f"{part}_sequences.fasta.gz")
        if len(sequence) <= LONGEST_OF_TERMS and name in terms
    }
    counts = Counter(term for name in sequences for term, _ in terms[name])
    frequent = {term for term, n in counts.most_common(MOST_TERMS) if n >= LEAST_OF_TERM}
    useful = [name for name in sequences if sum(term in frequent for term, _ in terms[name]) >= 2]
    step = len(useful) // sum(PROTEINS.values())
    names = iter(useful[::step])
    kept: list[str] = []
    for part, n in PROTEINS.items():
        some = [next(names) for _ in range(n)]
        _write_fasta(SLICES / f"terms_{part}.fasta", {name: sequences[name] for name in some})
        kept += some if part != "unseen" else []
    asked = [*kept[::EVERY_TERM], *some]
    _write_fasta(SLICES / "terms_queries.fasta", {name: sequences[name] for name in asked})
    pairs = [(name, term, aspect) for name in kept for term, aspect in terms[name] if term in frequent]
    table = "".join("\t".join(pair) + "\n" for pair in pairs)
    (SLICES / "terms.tsv").write_text("EntryID\tterm\taspect\n" + table, encoding="utf-8")
    _cut_ontology(folder / "go-201401.obo.gz", {term for _, term, _ in pairs})


def _cut_ontology(obo: Path, terms: set[str]) -> None:
    """Write the stanzas of terms and of all that contain them, with the relations that lead there."""
    head, *stanzas = gzip.decompress(obo.read_bytes()).decode("utf-8").split("\n\n")
    known = {match[1]: stanza for stanza in stanzas if (match := re.search(r"^id: (GO:\d{7})$", stanza, re.MULTILINE))}
    wanted, fresh = set(terms), set(terms)
    while fresh:
        fresh = {parent for term in fresh for parent in PARENT.findall(known[term])} - wanted
        wanted |= fresh
    cut = [
        "\n".join(line for line in known[term].split("\n") if line.startswith(KEPT_LINES)) for term in sorted(wanted)
    ]
    (SLICES / "go.obo").write_text("\n\n".join([head, *cut]) + "\n", encoding="utf-8")


def _read_fasta(path: Path) -> Iterator[tuple[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        for entry in handle.read().split(">")[1:]:
            name, *lines = entry.split("\n")
            yield name.split()[0], "".join(lines)


def _write_fasta(path: Path, sequences: Mapping[str, str]) -> None:
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in sequences.items()), encoding="utf-8")


if __name__ == "__main__":
    SLICES.mkdir(exist_ok=True)
    cut_families(Path(sys.argv[1]))
    cut_terms(Path(sys.argv[2]))
