"""Take out of an encoder's training data whatever resembles a protein of a test part, and count it set by set.

    python benchmarks/training_overlaps.py ../shared/data --output FOLDER

Searches every test protein of `../shared/data` with MMseqs2 against `uniprot/clusters30` and the training chains of
`structure`. A training sequence goes out where a hit has E < 1e-3, 30 % identity or more, and covers half of the
shorter sequence or more. Writes FOLDER/corpus.tsv (cluster, id, sequence), FOLDER/chains.txt (ids of the chains that
stay) and FOLDER/counts.json; the counts that count lie in benchmarks/results/training_overlaps.json. `--only FILE`
searches those proteins instead of the test parts, such as the development part that a choice is made on.

`numbers/gb1` has thousands of variants of one protein: every hundredth is searched. `residues/topology` has five folds
and no test part: all of it counts as test.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import lzma
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from esmcls.plain_values import write_json
from esmcls.reading.readers import read_records

EVALUE, IDENTITY, COVERAGE = 1e-3, 0.3, 0.5
COLUMNS = "query,target,fident,qstart,qend,qlen,tstart,tend,tlen"

Chains = dict[str, str]
"""Sequence of each id."""


def main() -> None:
    """Search, filter, count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sensitivity", type=float, default=5.7)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    corpus = list(read_corpus(given.data / "uniprot" / "clusters30.tsv.xz"))
    chains: Chains = {}
    for path in sorted((given.data / "structure").glob("train_*.npz")):
        chains |= read_chains(path)
    training = {f"uniprot|{row}": sequence for row, (_, _, sequence) in enumerate(corpus)}
    training |= {f"structure|{name}": sequence for name, sequence in chains.items()}
    parts = test_parts(given.data) if given.only is None else {given.only.stem: sequences_of(given.only)}
    tests = {name: sorted(set(sequences)) for name, sequences in parts.items()}
    hits = search(tests, training, given.threads, given.sensitivity)
    outs = set().union(*hits.values())
    with open(given.output / "corpus.tsv", "w", encoding="ascii") as handle:
        handle.write("cluster\tid\tsequence\n")
        kept = [columns for row, columns in enumerate(corpus) if f"uniprot|{row}" not in outs]
        handle.writelines("\t".join(columns) + "\n" for columns in kept)
    stay = [name for name in chains if f"structure|{name}" not in outs]
    (given.output / "chains.txt").write_text("".join(f"{name}\n" for name in stay), encoding="ascii")
    report = counts(tests, hits, corpus, kept, len(chains), len(stay)) | {"sensitivity": given.sensitivity}
    write_json(given.output / "counts.json", report)
    print((given.output / "counts.json").read_text(encoding="utf-8"))


def counts(
    tests: dict[str, list[str]],
    hits: dict[str, set[str]],
    corpus: list[list[str]],
    kept: list[list[str]],
    chains: int,
    stay: int,
) -> dict[str, object]:
    """Return what is in the report."""
    sets = {
        name: {
            "test_proteins": len(sequences),
            "uniprot_hit": sum(hit.startswith("uniprot|") for hit in hits[name]),
            "structure_hit": sum(hit.startswith("structure|") for hit in hits[name]),
        }
        for name, sequences in tests.items()
    }
    uniprot = {
        "sequences": len(corpus),
        "kept": len(kept),
        "clusters": len({columns[0] for columns in corpus}),
        "clusters_kept": len({columns[0] for columns in kept}),
        "residues": sum(len(columns[2]) for columns in corpus),
        "residues_kept": sum(len(columns[2]) for columns in kept),
    }
    rule = {"evalue": EVALUE, "identity": IDENTITY, "coverage_of_the_shorter": COVERAGE}
    return {"rule": rule, "uniprot": uniprot, "structure": {"chains": chains, "kept": stay}, "sets": sets}


def read_corpus(path: Path) -> Iterator[list[str]]:
    """Yield cluster, id and sequence of each row."""
    with lzma.open(path, "rt", encoding="ascii") as handle:
        next(handle)
        for line in handle:
            yield line.rstrip("\n").split("\t")


def read_chains(path: Path) -> Chains:
    """Return the sequence of each chain of an archive of `structure`."""
    archive = np.load(path)
    letters = archive["sequence"].tobytes().decode("ascii")
    ends = np.cumsum(archive["length"].astype(int))
    return {
        name.decode("ascii"): letters[end - length : end]
        for name, length, end in zip(archive["id"], archive["length"].astype(int), ends, strict=True)
    }


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table with a header."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="," if ".csv" in path.name else "\t"))


def test_parts(data: Path) -> dict[str, Iterable[str]]:
    """Return the test sequences of every set."""
    residues = data / "residues"
    numbers = data / "numbers"
    binding = rows_of(residues / "binding" / "binding.tsv.gz")
    disorder = rows_of(residues / "disorder" / "chezod.tsv.gz")
    location = rows_of(data / "location" / "validation_and_test.tsv.gz")
    tables = {
        "pfam": [row for path in sorted((data / "pfam/random_split/test").glob("*.gz")) for row in rows_of(path)],
        "function5000": rows_of(data / "function5000" / "test.csv.gz"),
        "ec": rows_of(data / "ec" / "new.tsv.gz"),
        "go_temporal": rows_of(data / "go_temporal" / "cafa3.tsv.gz"),
        "location": [row for row in location if row["set"] != "validation"],
        "numbers/gb1": rows_of(numbers / "gb1" / "gb1.tsv.gz")[::100],
        "numbers/melting": [row for row in rows_of(numbers / "melting" / "clustered.tsv.gz") if row["set"] == "test"],
        "numbers/solubility": rows_of(numbers / "solubility" / "test.tsv.gz"),
        "residues/secondary_structure": rows_of(residues / "secondary_structure" / "test.tsv.gz"),
        "residues/binding": [row for row in binding if row["set"] == "test"],
        "residues/disorder": [row for row in disorder if row["set"] != "train"],
        "residues/topology": rows_of(residues / "topology" / "tmbed.tsv.gz"),
    }
    parts: dict[str, Iterable[str]] = {
        name: [row["sequence"] for row in rows if row["sequence"]] for name, rows in tables.items()
    }
    for name, path in (("cath", data / "cath" / "test.fasta.gz"), ("go", data / "go" / "test_sequences.fasta.gz")):
        parts[name] = sequences_of(path)
    return parts | {"structure": read_chains(data / "structure" / "test.npz").values()}


def sequences_of(path: Path) -> list[str]:
    """Return the sequences of a file that `esmcls` reads."""
    return [record.protein.sequence for record in read_records([str(path)])]


def search(tests: dict[str, list[str]], training: Chains, threads: int, sensitivity: float) -> dict[str, set[str]]:
    """Return the training sequences that each set's test proteins hit."""
    sets_of: dict[str, set[str]] = defaultdict(set)
    for name, sequences in tests.items():
        for sequence in sequences:
            sets_of[sequence].add(name)
    queries = sorted(sets_of)
    hits: dict[str, set[str]] = {name: set() for name in tests}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_fasta(work / "queries.fasta", ((str(number), sequence) for number, sequence in enumerate(queries)))
        write_fasta(work / "targets.fasta", training.items())
        words = ["mmseqs", "easy-search", "queries.fasta", "targets.fasta", "hits.tsv", "tmp", "-s", f"{sensitivity:g}"]
        words += ["-e", f"{EVALUE:g}", "--min-seq-id", f"{IDENTITY:g}", "--alignment-mode", "3", "--max-seqs", "4000"]
        subprocess.run([*words, "--format-output", COLUMNS, "--threads", str(threads), "-v", "2"], cwd=work, check=True)
        with open(work / "hits.tsv", encoding="ascii") as handle:
            for line in handle:
                query, target, *numbers = line.split("\t")
                if covers(*map(int, numbers[1:])):
                    for name in sets_of[queries[int(query)]]:
                        hits[name].add(target)
    return hits


def covers(qstart: int, qend: int, qlen: int, tstart: int, tend: int, tlen: int) -> bool:
    """Return whether half of the shorter sequence is aligned."""
    aligned = qend - qstart + 1 if qlen <= tlen else tend - tstart + 1
    return aligned >= COVERAGE * min(qlen, tlen)


def write_fasta(path: Path, entries: Iterable[tuple[str, str]]) -> None:
    """Write names and sequences."""
    with open(path, "w", encoding="ascii") as handle:
        handle.writelines(f">{name}\n{sequence}\n" for name, sequence in entries)


if __name__ == "__main__":
    main()
