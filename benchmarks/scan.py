"""`esmcls scan` on whole proteins, beside MMseqs2 and hmmscan.

    python benchmarks/scan_truth.py TRUTH --pfam ../shared/data/pfam
    python benchmarks/scan.py TRUTH WORK --families 40 -o benchmarks/results/scan_pfam.json

A scanner is fitted on TRUTH/train.csv (a sixth of the domains calibrates it) and linkers_dev.fasta. Then:

    chains     test domains with linkers of test proteins between: precision and recall
    real       whole proteins with a test domain and no train domain: recall and ends of the domains that are known
    shuffled   both, shuffled: false domains a megaresidue

The others search the same proteins with the same training domains, those that calibrate included: `mmseqs` aligns them,
a hit extended to the whole domain that it aligns with; `hmmscan` has an HMM a family (FAMSA, HMMER), of which the
envelope counts. Of overlapping hits the best stay. Vectors are kept in WORK, so that what was stopped after --seconds
goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esmcls import EmbeddingSpec, load_encoder
from esmcls.cache.features import residues_by
from esmcls.scanning.chains import Place, chains, shuffled
from esmcls.scanning.fit import Material, ScanConfig, fit_scanner
from esmcls.scanning.scanner import Scanner


@dataclass(frozen=True)
class Hit:
    """What a method says: 0-based, end excluded; the higher the score the surer."""

    start: int
    end: int
    family: str
    score: float


@dataclass(frozen=True)
class Known:
    """A protein and the domains that are known of it: start, end, family."""

    name: str
    sequence: str
    domains: tuple[tuple[int, int, str], ...]


class Vectors:
    """Residue vectors that are kept in a folder; ends the program when its time is over."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.until = folder, time.monotonic() + seconds
        folder.mkdir(parents=True, exist_ok=True)
        self.encoder = load_encoder("bundled", long="window")
        self.residues, self.cpu = 0, 0.0

    def __call__(self, sequences: Sequence[str]) -> Iterator[np.ndarray]:
        """Give the vectors of each."""
        for sequence in sequences:
            path = self.folder / f"{hashlib.sha256(sequence.encode()).hexdigest()[:32]}.npy"
            if not path.exists():
                if time.monotonic() > self.until:
                    print(f"{self.residues:,} residues, {self.cpu:.0f} s of CPU; run again to go on")
                    sys.exit(75)
                begun = time.process_time()
                [vectors] = residues_by(self.encoder, [sequence], None)
                self.cpu += time.process_time() - begun
                self.residues += len(sequence)
                np.save(path.with_suffix(".part.npy"), vectors.astype(np.float16))
                os.replace(path.with_suffix(".part.npy"), path)
            yield np.load(path)


def read_fasta(path: Path) -> list[tuple[str, str]]:
    """Return ids and sequences."""
    records = (record.split("\n", 1) for record in path.read_text().split(">")[1:])
    return [(head.split()[0], lines.replace("\n", "")) for head, lines in records]


def read_domains(path: Path, families: set[str], most: int) -> list[tuple[str, str]]:
    """Return residues and family of `most` domains a family at most."""
    counts: dict[str, int] = {}
    domains = []
    with path.open() as lines:
        for row in csv.DictReader(lines):
            family = row["label"]
            counts[family] = counts.get(family, 0) + 1
            if family in families and counts[family] <= most:
                domains.append((row["sequence"], family))
    return domains


def real_proteins(truth: Path, families: set[str], most: int, longest: int) -> list[Known]:
    """Return whole proteins with a domain of these families."""
    places: dict[str, list[tuple[int, int, str]]] = {}
    for line in (truth / "test.tsv").read_text().splitlines():
        name, start, end, family = line.split("\t")
        if family in families:
            places.setdefault(name, []).append((int(start) - 1, int(end), family))
    rows = [(name, sequence) for name, sequence in read_fasta(truth / "test.fasta") if name in places]
    return [Known(name, sequence, tuple(places[name])) for name, sequence in rows if len(sequence) <= longest][:most]


def part_chains(truth: Path, part: str, families: list[str], each: int) -> list[Known]:
    """Return chains of domains of a part, `each` a family at most, with linkers of its proteins."""
    domains = read_domains(truth / f"{part}_domains.csv", set(families), each)
    coded = [(sequence, families.index(family)) for sequence, family in domains]
    made = chains(
        coded, [sequence for _, sequence in read_fasta(truth / f"linkers_{part}.fasta")], len(families), seed=7
    )
    return [
        Known(f"chain{row}", chain.sequence, tuple((p.start, p.end, families[p.code]) for p in chain.places))
        for row, chain in enumerate(made)
    ]


# methods


def by_scanner(scanner: Scanner, vectors: Vectors, proteins: Sequence[Known]) -> tuple[list[list[Hit]], float]:
    """Return the hits in each protein, scored by log odds, and the CPU seconds without the encoder's."""
    hits, cpu = [], 0.0
    for rows in vectors([protein.sequence for protein in proteins]):
        begun = time.process_time()
        domains = scanner.domains(rows, 0.02)
        cpu += time.process_time() - begun
        odds = scanner.judge.log_odds(np.array([domain.score for domain in domains])).tolist()
        hits.append([Hit(d.start - 1, d.end, d.family, score) for d, score in zip(domains, odds, strict=True)])
    return hits, cpu


def best_apart(hits: list[Hit]) -> list[Hit]:
    """Return hits of which none is upon another (but for a tenth), the best first."""
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda one: -one.score):
        common = (min(hit.end, other.end) - max(hit.start, other.start) for other in kept)
        if all(shared <= 0.1 * (hit.end - hit.start) for shared in common):
            kept.append(hit)
    return kept


def by_mmseqs(work: Path, train: list[tuple[str, str]], proteins: Sequence[Known]) -> tuple[list[list[Hit]], float]:
    """Return the hits of MMseqs2 at its most sensitive, and its CPU seconds."""
    write_fasta(work / "proteins.fasta", [(str(row), protein.sequence) for row, protein in enumerate(proteins)])
    write_fasta(work / "domains.fasta", [(str(row), sequence) for row, (sequence, _) in enumerate(train)])
    options = ["-s", "7.5", "-e", "10", "--max-seqs", "1000", "--threads", "1", "-v", "0"]
    options += ["--format-output", "query,target,qstart,qend,tstart,tend,tlen,evalue,bits"]
    places = [work / name for name in ("proteins.fasta", "domains.fasta", "hits.tsv", "tmp")]
    cpu = measured("mmseqs", "easy-search", *places, *options)
    hits: list[list[Hit]] = [[] for _ in proteins]
    for line in (work / "hits.tsv").read_text().splitlines():
        query, target, qstart, qend, tstart, tend, tlen, evalue, _ = line.split("\t")
        row = int(query)
        start = max(0, int(qstart) - int(tstart))
        end = min(len(proteins[row].sequence), int(qend) + int(tlen) - int(tend))
        score = -float(np.log10(max(float(evalue), 1e-300)))
        hits[row].append(Hit(start, end, train[int(target)][1], score))
    return [best_apart(rows) for rows in hits], cpu


def build_hmms(work: Path, train: list[tuple[str, str]]) -> Path:
    """Align each family by FAMSA and make an HMM of it by HMMER; return the pressed file."""
    import pyfamsa

    path = work / "families.hmm"
    texts = []
    for family in sorted({family for _, family in train}):
        members = [sequence for sequence, name in train if name == family]
        named = [pyfamsa.Sequence(str(row).encode(), member.encode()) for row, member in enumerate(members)]
        aligned = pyfamsa.Aligner(threads=1).align(named)
        write_fasta(work / "family.afa", [(one.id.decode(), one.sequence.decode()) for one in aligned])
        run("hmmbuild", "--amino", "--cpu", "0", "-n", family, work / "family.hmm", work / "family.afa")
        texts.append((work / "family.hmm").read_text())
    path.write_text("".join(texts))
    run("hmmpress", "-f", path)
    return path


def by_hmmscan(work: Path, hmms: Path, proteins: Sequence[Known]) -> tuple[list[list[Hit]], float]:
    """Return the hits of hmmscan, and its CPU seconds."""
    write_fasta(work / "proteins.fasta", [(str(row), protein.sequence) for row, protein in enumerate(proteins)])
    table = work / "hits.domtblout"
    options = ["--cpu", "0", "-E", "10", "--domE", "10", "--noali", "-o", "/dev/null", "--domtblout", table]
    cpu = measured("hmmscan", *options, hmms, work / "proteins.fasta")
    hits: list[list[Hit]] = [[] for _ in proteins]
    for line in table.read_text().splitlines():
        if not line.startswith("#"):
            cells = line.split(None, 22)
            score = -float(np.log10(max(float(cells[12]), 1e-300)))
            hits[int(cells[3])].append(Hit(int(cells[19]) - 1, int(cells[20]), cells[0], score))
    return [best_apart(rows) for rows in hits], cpu


def run(*words: object) -> None:
    """Run a program without its output."""
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)


def measured(*words: object) -> float:
    """Run a program and return its CPU seconds."""
    before = os.times()
    run(*words)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def write_fasta(path: Path, rows: list[tuple[str, str]]) -> None:
    """Write ids and sequences."""
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in rows))


# measures


def share(hit: Hit, domain: tuple[int, int, str]) -> float:
    """Return the reciprocal overlap, 0 of another family."""
    start, end, family = domain
    return Place(start, end, 0).overlap(hit.start, hit.end) if family == hit.family else 0.0


def at(threshold: float, proteins: Sequence[Known], hits: Sequence[list[Hit]], least: float) -> tuple[float, float]:
    """Return precision and recall of hits of a score from a threshold on, right from that overlap on."""
    right = said = found = there = 0
    for protein, rows in zip(proteins, hits, strict=True):
        kept = [hit for hit in rows if hit.score >= threshold]
        said += len(kept)
        there += len(protein.domains)
        right += sum(any(share(hit, domain) >= least for domain in protein.domains) for hit in kept)
        found += sum(any(share(hit, domain) >= least for hit in kept) for domain in protein.domains)
    return right / max(said, 1), found / max(there, 1)


def ends(threshold: float, proteins: Sequence[Known], hits: Sequence[list[Hit]]) -> dict[str, float]:
    """Return by how many residues the ends of found domains are off: the median and the mean."""
    errors = []
    for protein, rows in zip(proteins, hits, strict=True):
        for domain in protein.domains:
            near = [hit for hit in rows if hit.score >= threshold and share(hit, domain) > 0]
            if near:
                best = max(near, key=lambda hit: share(hit, domain))
                errors += [abs(best.start - domain[0]), abs(best.end - domain[1])]
    return {"median": float(np.median(errors)), "mean": float(np.mean(errors))} if errors else {}


def same_precision(wanted: float, proteins: Sequence[Known], hits: Sequence[list[Hit]]) -> float:
    """Return the lowest threshold from which precision is what is wanted, else that of the best precision."""
    thresholds = sorted({hit.score for rows in hits for hit in rows})
    reached = [(at(threshold, proteins, hits, 0.5)[0], threshold) for threshold in thresholds]
    enough = [threshold for precision, threshold in reached if precision >= wanted]
    return min(enough) if enough else max(reached)[1]


def measures(threshold: float, sets: dict[str, list[Known]], hits: dict[str, list[list[Hit]]]) -> dict[str, object]:
    """Return everything that is measured of a method at a threshold."""
    row: dict[str, object] = {"threshold": threshold}
    for percent in (50, 80):
        precision, recall = at(threshold, sets["chains"], hits["chains"], percent / 100)
        row |= {f"chains_precision_{percent}": precision, f"chains_recall_{percent}": recall}
        row[f"real_recall_{percent}"] = at(threshold, sets["real"], hits["real"], percent / 100)[1]
    row["real_ends"] = ends(threshold, sets["real"], hits["real"])
    false = sum(hit.score >= threshold for rows in hits["shuffled"] for hit in rows)
    residues = sum(len(protein.sequence) for protein in sets["shuffled"])
    return row | {"false_on_shuffled": false, "false_a_megaresidue": 1e6 * false / residues}


def sizes(proteins: Sequence[Known]) -> dict[str, int]:
    """Return how much a set is."""
    domains = sum(len(protein.domains) for protein in proteins)
    residues = sum(len(protein.sequence) for protein in proteins)
    return {"proteins": len(proteins), "domains": domains, "residues": residues}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--families", type=int, default=60)
    parser.add_argument("--domains", type=int, default=10, help="training domains a family")
    parser.add_argument("--proteins", type=int, default=100, help="real proteins")
    parser.add_argument("--longest", type=int, default=700, help="residues of one")
    parser.add_argument("--each", type=int, default=2, help="test domains a family in chains")
    parser.add_argument("--context", action="store_true", help="learn from whole proteins of context.fasta, too")
    parser.add_argument("--shuffles", type=int, default=1, help="times that all proteins are shuffled")
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument(
        "--development",
        action="store_true",
        help="chains of Pfam's dev part instead of test, and no real proteins: what choices are made on",
    )
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    work = arguments.work
    vectors = Vectors(work / "vectors", arguments.seconds)
    spec = EmbeddingSpec.of(vectors.encoder, "float16", ("mean",))

    with (arguments.truth / "train.csv").open() as lines:
        families = sorted({row["label"] for row in csv.DictReader(lines)})
    families = sorted(np.random.default_rng(0).permutation(families)[: arguments.families].tolist())
    train = read_domains(arguments.truth / "train.csv", set(families), arguments.domains)
    order = np.random.default_rng(1).permutation(len(train)).tolist()
    held = set(order[: len(order) // 6])
    parts = [[train[row] for row in range(len(train)) if (row in held) == wanted] for wanted in (False, True)]
    linkers = [sequence for _, sequence in read_fasta(arguments.truth / "linkers_dev.fasta")]
    whole = [sequence for _, sequence in read_fasta(arguments.truth / "context.fasta")] if arguments.context else []
    material = Material(parts[0], parts[1], linkers, whole)
    scanner = fit_scanner(material, spec, vectors, ScanConfig(members=arguments.domains))
    print(scanner.judge, scanner.found, flush=True)
    part = "dev" if arguments.development else "test"
    sets = {
        "chains": part_chains(arguments.truth, part, families, arguments.each),
        "real": real_proteins(arguments.truth, set(families), arguments.proteins, arguments.longest),
    }
    if arguments.development:
        sets["real"] = []
    whole = [protein.sequence for proteins in sets.values() for protein in proteins]
    mixed = [sequence for seed in range(arguments.shuffles) for sequence in shuffled(whole, 3 + seed)]
    sets["shuffled"] = [Known(f"s{row}", sequence, ()) for row, sequence in enumerate(mixed)]
    everything = [protein for proteins in sets.values() for protein in proteins]
    residues = sum(len(protein.sequence) for protein in everything)
    ours, cpu = by_scanner(scanner, vectors, everything)
    begun = time.process_time()
    list(residues_by(vectors.encoder, whole[:40], None))
    rate = (time.process_time() - begun) / sum(map(len, whole[:40]))
    mmseqs, mmseqs_cpu = by_mmseqs(work, train, everything)
    hmmscan, hmmscan_cpu = by_hmmscan(work, build_hmms(work, train), everything)
    results: dict[str, object] = {
        "command": " ".join(["benchmarks/scan.py", *sys.argv[3:]]),
        "families": len(families),
        "train": len(train),
        "sets": {name: sizes(proteins) for name, proteins in sets.items()},
        "microseconds_of_cpu_a_residue": {
            "encoder": 1e6 * rate,
            "scan_without_encoder": 1e6 * cpu / residues,
            "mmseqs": 1e6 * mmseqs_cpu / residues,
            "hmmscan": 1e6 * hmmscan_cpu / residues,
        },
    }
    wanted = 0.0
    for name, found, usual in (("scan", ours, 0.0), ("mmseqs", mmseqs, 3.0), ("hmmscan", hmmscan, 3.0)):
        hits, start = {}, 0
        for part, proteins in sets.items():
            hits[part] = found[start : start + len(proteins)]
            start += len(proteins)
        rows = {"usual": measures(usual, sets, hits)}
        wanted = wanted or float(rows["usual"]["chains_precision_50"])  # that of scan, the first
        if name == "scan":
            one_false = float(scanner.judge.log_odds(np.array(scanner.judge.score_of(1.0))))
            rows["with_false_1"] = measures(one_false, sets, hits)
        rows["at_the_precision_of_scan"] = measures(same_precision(wanted, sets["chains"], hits["chains"]), sets, hits)
        results[name] = rows
    text = json.dumps(results, indent=1) + "\n"
    print(text)
    if arguments.output:
        arguments.output.write_text(text)


if __name__ == "__main__":
    main()
