"""Whole proteins in which domains of `../shared/data/pfam` lie: the truth that `esmcls scan` is measured by.

    python benchmarks/scan_truth.py OUT --pfam ../shared/data/pfam --metastudent /usr/share/metastudent-data

Reads the BLAST databases (format 4) of Debian's package metastudent-data, UniProt 2014_01, and finds the domains of the
train, dev and test parts as exact substrings. Writes to OUT:

    train.csv               domains of the chosen families: id,sequence,label (no `split` column)
    context.fasta           proteins with a domain of train or dev, of clusters without any test protein
    test.fasta, test.tsv    proteins with a test domain of a chosen family and no train domain; id, start, end, family
    test_domains.csv        all test domains of the chosen families, for chains
    linkers_dev.fasta, linkers_test.fasta  stretches of whole proteins without a hit to any domain
    digests.json            SHA-256 of each test protein's sequence: the list that is kept

A cluster is one of `mmseqs linclust` at 30 % identity and coverage .6 of all these proteins; whatever shares a cluster
with a test protein is neither context nor source of the linkers of development.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import struct
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

LETTERS = "-ABCDEFGHIKLMNPQRSTVWXYZU*OJ"
"""NCBIstdaa: the letter of each code."""
WORD = 12
"""Residues by which a domain is looked for: five bits each fit into a machine word."""


def blast_sequences(stem: Path) -> Iterator[tuple[str, str]]:
    """Give the accession and sequence of each protein of a BLAST database of format 4 (.pin, .psq, .phr)."""
    index = stem.with_name(stem.name + ".pin").read_bytes()
    version, kind = struct.unpack_from(">ii", index)
    if (version, kind) != (4, 1):
        raise ValueError(f"{stem}.pin: not a protein database of format 4, but {version}, {kind}")
    at = 8
    for _ in ("title", "date"):
        [size] = struct.unpack_from(">i", index, at)
        at += 4 + size
    [count] = struct.unpack_from(">i", index, at)
    at += 4 + 8 + 4  # the count, all residues (little-endian), the longest sequence
    headers = np.frombuffer(index, ">u4", count + 1, at)
    starts = np.frombuffer(index, ">u4", count + 1, at + 4 * (count + 1))
    residues = stem.with_name(stem.name + ".psq").read_bytes()
    described = stem.with_name(stem.name + ".phr").read_bytes()
    table = bytes(ord(LETTERS[code]) if code < len(LETTERS) else ord("X") for code in range(256))
    for row in range(count):
        header = described[headers[row] : headers[row + 1]]
        title = header[header.index(b"\x1a") + 2 :]
        sequence = residues[starts[row] : starts[row + 1] - 1].translate(table).decode("ascii")
        yield title.split(b"|", 1)[0].decode("ascii", "replace"), sequence


def all_proteins(folder: Path) -> dict[str, str]:
    """Return each distinct sequence of the three databases with the first accession it has."""
    proteins: dict[str, str] = {}
    for aspect in ("BPO", "MFO", "CCO"):
        for accession, sequence in blast_sequences(next(folder.glob("dataset_*")) / aspect / "goasp.fasta"):
            proteins.setdefault(sequence, accession)
    return proteins


def pfam_part(folder: Path, part: str) -> list[tuple[str, str, str]]:
    """Return name, sequence and family of each domain of a part."""
    rows = []
    for path in sorted((folder / "random_split" / part).glob("*.csv.gz")):
        with gzip.open(path, "rt") as lines:
            rows += [(row["sequence_name"], row["sequence"], row["family_accession"]) for row in csv.DictReader(lines)]
    return rows


def words(codes: np.ndarray) -> np.ndarray:
    """Return the number that stands for the word at each position, uint64 (n - WORD + 1,)."""
    two = codes[:-1] << np.uint64(5) | codes[1:]
    four = two[:-2] << np.uint64(10) | two[2:]
    eight = four[:-4] << np.uint64(20) | four[4:]
    return eight[:-4] << np.uint64(20) | four[8:]


def find_domains(proteins: list[str], domains: list[str]) -> list[tuple[int, int, int]]:
    """Return protein, start (0-based) and domain wherever a domain is an exact substring of a protein."""
    by_word: dict[int, list[int]] = defaultdict(list)
    for row, sequence in enumerate(domains):
        if len(sequence) >= WORD:
            by_word[int(words(_codes(sequence[:WORD]))[0])].append(row)
    keys = np.array(sorted(by_word), dtype=np.uint64)
    marked = np.zeros(1 << 24, dtype=bool)
    marked[_slots(keys)] = True
    places = []
    for first in range(0, len(proteins), 2000):
        block = proteins[first : first + 2000]
        starts = np.cumsum([0] + [len(sequence) + 1 for sequence in block])
        numbers = words(_codes("*".join(block) + "*" * WORD))
        hits = np.flatnonzero(marked[_slots(numbers)])
        hits = hits[np.isin(numbers[hits], keys)]
        rows = np.searchsorted(starts, hits, side="right") - 1
        for hit, row in zip(hits.tolist(), rows.tolist(), strict=True):
            start = hit - int(starts[row])
            for domain in by_word[int(numbers[hit])]:
                if block[row].startswith(domains[domain], start):
                    places.append((first + row, start, domain))
    return places


def _codes(text: str) -> np.ndarray:
    return (np.frombuffer(text.encode("ascii"), dtype=np.uint8) & 31).astype(np.uint64)


def _slots(numbers: np.ndarray) -> np.ndarray:
    return (numbers * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)


def run(*words_: object) -> None:
    """Run MMseqs2 without its output."""
    subprocess.run([str(word) for word in words_], check=True, stdout=subprocess.DEVNULL)


def write_fasta(path: Path, rows: list[tuple[str, str]]) -> None:
    """Write ids and sequences."""
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in rows))


def clusters(folder: Path, rows: list[tuple[str, str]]) -> dict[str, str]:
    """Return the representative of each id's 30 % cluster."""
    write_fasta(folder / "cluster.fasta", rows)
    options = ["--min-seq-id", "0.3", "-c", "0.6", "--cov-mode", "0", "--threads", "1", "-v", "0"]
    run("mmseqs", "easy-linclust", folder / "cluster.fasta", folder / "cluster", folder / "tmp", *options)
    lines = (folder / "cluster_cluster.tsv").read_text().splitlines()
    return {line.split("\t")[1]: line.split("\t")[0] for line in lines}


def free_stretches(
    folder: Path, proteins: list[tuple[str, str]], domains: list[str], least: int
) -> list[tuple[str, str]]:
    """Return stretches of proteins, of `least` residues at least, that no domain aligns with at an E-value below 10."""
    write_fasta(folder / "whole.fasta", proteins)
    write_fasta(folder / "domains.fasta", [(f"d{row}", sequence) for row, sequence in enumerate(domains)])
    options = ["--threads", "1", "-v", "0", "-e", "10", "-s", "5.7", "--max-seqs", "300"]
    options += ["--format-output", "query,qstart,qend"]
    run(
        "mmseqs",
        "easy-search",
        folder / "whole.fasta",
        folder / "domains.fasta",
        folder / "hits.tsv",
        folder / "tmp",
        *options,
    )
    covered = {name: np.zeros(len(sequence) + 2, dtype=bool) for name, sequence in proteins}
    for line in (folder / "hits.tsv").read_text().splitlines():
        name, start, end = line.split("\t")
        covered[name][max(0, int(start) - 10) : int(end) + 11] = True  # an alignment ends before its domain
    stretches = []
    for name, sequence in proteins:
        flags = np.concatenate([[True], covered[name][1:-1], [True]])
        edges = np.flatnonzero(np.diff(flags.astype(int)))
        for start, end in edges.reshape(-1, 2).tolist():
            if end - start >= least:
                stretches.append((f"{name}_{start + 1}_{end}", sequence[start:end]))
    return stretches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pfam", type=Path, required=True)
    parser.add_argument("--metastudent", type=Path, default=Path("/usr/share/metastudent-data"))
    parser.add_argument("--least", type=int, default=60, help="training sequences of a chosen family, at least")
    parser.add_argument("--most", type=int, default=12, help="training sequences taken of a family")
    parser.add_argument("--proteins", type=int, default=200, help="test proteins taken")
    parser.add_argument("--longest", type=int, default=1000, help="residues of a protein, at most")
    parser.add_argument("--sources", type=int, default=300, help="proteins that linkers are taken from")
    arguments = parser.parse_args()
    out = arguments.out
    (out / "tmp").mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(1)

    parts = {part: pfam_part(arguments.pfam, part) for part in ("train", "dev", "test")}
    sizes = Counter(family for _, _, family in parts["train"])
    chosen = {family for family, size in sizes.items() if size >= arguments.least}
    proteins = all_proteins(arguments.metastudent)
    sequences = [sequence for sequence in proteins if len(sequence) <= arguments.longest]
    domains = [(part, sequence, family) for part, rows in parts.items() for _, sequence, family in rows]
    places = find_domains(sequences, [sequence for _, sequence, _ in domains])
    print(f"{len(proteins):,} proteins, {len(places):,} places of domains", flush=True)

    of_protein: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for protein, start, domain in places:
        of_protein[protein].append((start, domain))
    test = [
        protein
        for protein, found in of_protein.items()
        if all(domains[domain][0] == "test" for _, domain in found)
        and any(domains[domain][2] in chosen for _, domain in found)
    ]
    others = [
        protein for protein, found in of_protein.items() if all(domains[domain][0] != "test" for _, domain in found)
    ]
    representative = clusters(out, [(str(row), sequences[row]) for row in [*test, *others]])
    taken = sorted(draw.permutation(test)[: arguments.proteins].tolist())
    barred = {representative[str(row)] for row in test}
    context = [row for row in others if representative[str(row)] not in barred]
    print(
        f"{len(test):,} test proteins, {len(taken):,} taken; {len(others):,} others, {len(context):,} context",
        flush=True,
    )

    name = {row: f"{proteins[sequences[row]]}" for row in of_protein}
    write_fasta(out / "test.fasta", [(name[row], sequences[row]) for row in taken])
    with (out / "test.tsv").open("w") as lines:
        for row in taken:
            for start, domain in sorted(set(of_protein[row])):
                _, sequence, family = domains[domain]
                if family in chosen:
                    lines.write(f"{name[row]}\t{start + 1}\t{start + len(sequence)}\t{family}\n")
    digests = {name[row]: hashlib.sha256(sequences[row].encode()).hexdigest() for row in taken}
    (out / "digests.json").write_text(json.dumps(digests, indent=1) + "\n")
    write_fasta(out / "context.fasta", [(name[row], sequences[row]) for row in context])
    members: Counter[str] = Counter()
    with (out / "train.csv").open("w") as lines:
        lines.write("id,sequence,label\n")
        for row in draw.permutation(len(parts["train"])).tolist():
            title, sequence, family = parts["train"][row]
            if family in chosen and members[family] < arguments.most:
                members[family] += 1
                lines.write(f"{title},{sequence},{family}\n")
    for part in ("dev", "test"):
        with (out / f"{part}_domains.csv").open("w") as lines:
            lines.write("id,sequence,label\n")
            lines.writelines(f"{n},{s},{f}\n" for n, s, f in parts[part] if f in chosen)
    every = [sequence for _, sequence, _ in domains]
    for part, rows in (("dev", context), ("test", test)):
        some = draw.permutation(rows)[: arguments.sources].tolist()
        stretches = free_stretches(out, [(name[row], sequences[row]) for row in some], every, 20)
        write_fasta(out / f"linkers_{part}.fasta", stretches)
        print(f"{part}: {len(stretches):,} linkers of {sum(len(s) for _, s in stretches):,} residues", flush=True)
    print(f"{len(chosen)} families, {sum(members.values()):,} train domains")


if __name__ == "__main__":
    main()
