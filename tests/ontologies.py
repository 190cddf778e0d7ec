"""A tiny Gene Ontology and proteins so plain that their terms can be told by eye: each residue they are rich in is one.

F: binding > ion binding > zinc ion binding      C: membrane, nucleus      P: growth > cell growth
"""

from __future__ import annotations

from pathlib import Path

from esmcls.datasets.dataset import Dataset
from esmcls.labels.ontology import ROOTS, Ontology

BINDING, ION, ZINC = "GO:0005488", "GO:0043167", "GO:0008270"
MEMBRANE, NUCLEUS = "GO:0016020", "GO:0005634"
GROWTH, CELL_GROWTH = "GO:0040007", "GO:0016049"
PARENTS = {
    ROOTS["F"]: ("molecular_function", "F", None),
    BINDING: ("binding", "F", ROOTS["F"]),
    ION: ("ion binding", "F", BINDING),
    ZINC: ("zinc ion binding", "F", ION),
    ROOTS["C"]: ("cellular_component", "C", None),
    MEMBRANE: ("membrane", "C", ROOTS["C"]),
    NUCLEUS: ("nucleus", "C", ROOTS["C"]),
    ROOTS["P"]: ("biological_process", "P", None),
    GROWTH: ("growth", "P", ROOTS["P"]),
    CELL_GROWTH: ("cell growth", "P", GROWTH),
}
"""Term -> name, aspect and parent."""
DIRECT = {"A": (ZINC, MEMBRANE), "G": (ION, NUCLEUS, GROWTH), "K": (BINDING, CELL_GROWTH)}
"""Residue -> the terms that a protein rich in it has."""
LABELS = {letter: " ".join(sorted(terms)) for letter, terms in DIRECT.items()}
"""The same as the label of a record."""
PARTS = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2


def tiny_ontology() -> Ontology:
    """Return it, with an alternative id of zinc ion binding."""
    terms = sorted(PARENTS)
    about = [PARENTS[term] for term in terms]
    parents = tuple(() if above is None else (terms.index(above),) for _, _, above in about)
    names, aspects = tuple(name for name, _, _ in about), "".join(aspect for _, aspect, _ in about)
    return Ontology(tuple(terms), names, aspects, parents, {"GO:1": ZINC})


def rows() -> list[tuple[str, str, str, str]]:
    """Return id, sequence, label (its direct terms) and part of 30 proteins."""
    return [
        (f"{letter}{number}", f"M{letter * (20 + number)}{'DEST'[number % 4]}LIVE", LABELS[letter], part)
        for letter in DIRECT
        for number, part in enumerate(PARTS)
    ]


def term_dataset() -> Dataset:
    """Return them as a dataset."""
    return Dataset(*(list(column) for column in zip(*rows(), strict=True)))


def write_obo(path: Path) -> Path:
    """Write the ontology as OBO."""
    namespaces = {"F": "molecular_function", "C": "cellular_component", "P": "biological_process"}
    stanzas = ["format-version: 1.2\nontology: go"]
    for term, (name, aspect, above) in PARENTS.items():
        lines = ["[Term]", f"id: {term}", f"name: {name}", f"namespace: {namespaces[aspect]}"]
        lines += ["alt_id: GO:1"] if term == ZINC else []
        stanzas.append("\n".join(lines + ([] if above is None else [f"is_a: {above} ! {PARENTS[above][0]}"])))
    path.write_text("\n\n".join(stanzas) + "\n", encoding="utf-8")
    return path


def write_cafa(folder: Path) -> tuple[Path, Path, Path]:
    """Write train and test sequences as FASTA and all terms as CAFA's table, as in a fresh download."""
    fasta = {"train": folder / "train_sequences.fasta", "test": folder / "test_sequences.fasta"}
    for part, path in fasta.items():
        some = [one for one in rows() if (one[3] == "test") == (part == "test")]
        path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence, _, _ in some), encoding="utf-8")
    table = folder / "terms.tsv"
    lines = [f"{name}\t{term}\t{PARENTS[term][1]}" for name, _, label, _ in rows() for term in label.split()]
    table.write_text("EntryID\tterm\taspect\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return fasta["train"], fasta["test"], table
