"""Domains in whole proteins: templates, the best set of windows, and the command from domains to tables."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import done, run
from hypothesis import given
from hypothesis import strategies as st
from letter_encoder import LetterEncoder

from esmcls import EmbeddingSpec, Protein
from esmcls.cache.features import residues_by
from esmcls.errors import ModelError, UsageError
from esmcls.scanning.chains import Annotated, Place, chains, found_in, shuffled
from esmcls.scanning.fit import Material, ScanConfig, fit_scanner, linkers_for, overlaps
from esmcls.scanning.folder import load_scanner, save_scanner, whole
from esmcls.scanning.formats import write
from esmcls.scanning.judge import Judge, calibration, fit_scores, tail
from esmcls.scanning.scanner import Domain, Scanned, Scanner
from esmcls.scanning.selection import best_set
from esmcls.scanning.templates import Chance, Templates
from esmcls.scanning.windows import Windows
from esmcls.types import Floats

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
FAMILIES = ("zinc", "ring", "death")
COLUMNS_BEFORE = [
    "target",
    "accession",
    "tlen",
    "query",
    "query_accession",
    "qlen",
    "e_value",
    "score",
    "bias",
    "number",
]
COLUMNS_BEFORE += ["of", "c_evalue", "i_evalue", "domain_score", "domain_bias"]
"""Of hmmscan's table of domains, before those of coordinates."""


def drawn(length: int, draw: np.random.Generator) -> str:
    """Return so many residues, of any kind."""
    return "".join(draw.choice(list(LETTERS), size=length).tolist())


ANCESTORS = {name: drawn(36, np.random.default_rng(number)) for number, name in enumerate(FAMILIES)}


def descendant(name: str, draw: np.random.Generator) -> str:
    """Return a domain of a family: one residue in five another than the ancestor's, up to six less at the end."""
    residues = [drawn(1, draw) if draw.random() < 0.2 else residue for residue in ANCESTORS[name]]
    return "".join(residues[: len(residues) - int(draw.integers(7))])


def domains_of(count: int, seed: int) -> list[tuple[str, str]]:
    """Return so many domains of each family, of 30 to 36 residues."""
    draw = np.random.default_rng(seed)
    return [(descendant(name, draw), name) for name in FAMILIES for _ in range(count)]


def linkers_of(count: int, seed: int) -> list[str]:
    """Return linkers of 10 to 30 residues."""
    draw = np.random.default_rng(seed)
    return [drawn(int(draw.integers(10, 31)), draw) for _ in range(count)]


def chains_of(seed: int, count: int = 5) -> list[Annotated]:
    """Return proteins with known domains that nothing was fitted on; codes in the order of sorted families."""
    code_of = {name: code for code, name in enumerate(sorted(FAMILIES))}
    domains = [(residues, code_of[name]) for residues, name in domains_of(count, seed)]
    return chains(domains, linkers_of(20, seed), len(FAMILIES), seed)


ENCODER = LetterEncoder(width=16)
SPEC = EmbeddingSpec("letters", ENCODER.digest, (0,), "full", "fp32", "float32", ("mean",), 16)


def vectors_of(sequences: list[str]) -> list[np.ndarray]:
    """Return residue vectors by the letter encoder."""
    return list(residues_by(ENCODER, sequences, None))


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    """A scanner of three families."""
    material = Material(domains_of(20, 1), domains_of(8, 2), linkers_of(40, 3))
    return fit_scanner(material, SPEC, vectors_of, seed=0)


# templates


def test_scores_of_shuffled_proteins_lie_around_nothing_whatever_their_length() -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(20, 900, size=4000)
    noise = draw.normal(size=(4000, 2)) + 0.7 * np.log(lengths)[:, None]
    chance = Chance.of(noise * [1.0, 5.0] + [3.0, 40.0], lengths)
    assert chance.slope == pytest.approx(0.7, abs=0.05)
    assert chance.spreads == pytest.approx([1.0, 5.0], rel=0.05)
    for length in (20, 900):
        expected = np.array([3.0, 40.0]) + np.array([1.0, 5.0]) * 0.7 * np.log(length)
        assert chance.standard(expected, length) == pytest.approx([0.0, 0.0], abs=0.15)
    assert chance.score_of(1, float(chance.standard(np.array([0.0, 99.0]), 50)[1]), 50) == pytest.approx(99.0)


def test_a_family_that_is_twice_in_a_protein_is_found_twice(scanner: Scanner) -> None:
    draw = np.random.default_rng(3)
    first, second = descendant("zinc", draw), descendant("zinc", draw)
    sequence = drawn(15, draw) + first + drawn(15, draw) + second + drawn(15, draw)
    domains = scanner.domains(vectors_of([sequence])[0])
    assert [domain.family for domain in domains] == ["zinc", "zinc"]
    assert [domain.start for domain in domains] == pytest.approx([16, 31 + len(first)], abs=3)


def test_domains_far_into_a_long_protein_are_found_where_they_are(scanner: Scanner) -> None:
    draw = np.random.default_rng(4)
    for before in (970, 1000, 2500):  # across the end of a piece, and far behind it
        sequence = drawn(before, draw) + descendant("ring", draw) + drawn(1200, draw)
        [domain] = scanner.domains(vectors_of([sequence])[0])
        assert (domain.family, domain.start) == ("ring", pytest.approx(before + 1, abs=3))


def test_a_protein_without_residues_has_no_domain(scanner: Scanner) -> None:
    assert scanner.domains(np.zeros((0, 16), dtype=np.float32)) == ()


def test_templates_are_so_many_of_a_family_and_validation_domains_fill_what_is_left() -> None:
    material = Material(domains_of(8, 1), domains_of(6, 2), linkers_of(20, 3))
    counts = {}
    for members in (5, 10, 20):
        templates = fit_scanner(material, SPEC, vectors_of, ScanConfig(members=members)).recogniser
        assert isinstance(templates, Templates)
        counts[members] = np.bincount(templates.families).tolist()
    assert counts == {5: [5] * 3, 10: [10] * 3, 20: [14] * 3}


# the best set of windows


def best_by_trying_all(windows: Windows, weights: Floats) -> float:
    """Return the largest sum of weights of any set of windows without an overlap."""
    best = 0.0
    for size in range(1, len(windows) + 1):
        for rows in itertools.combinations(range(len(windows)), size):
            chosen = sorted((int(windows.starts[row]), int(windows.ends[row])) for row in rows)
            if all(first[1] <= second[0] for first, second in itertools.pairwise(chosen)):
                best = max(best, float(weights[list(rows)].sum()))
    return best


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8), st.integers(-5, 9)), max_size=8))
def test_the_best_set_is_the_one_that_trying_all_sets_finds(triples: list[tuple[int, int, int]]) -> None:
    starts, sizes, weights = np.array(triples, dtype=np.int64).reshape(-1, 3).T
    windows = Windows(starts, starts + sizes, np.zeros(len(starts), dtype=np.int64))
    chosen = best_set(windows, weights.astype(np.float64))
    assert (windows.ends[chosen][:-1] <= windows.starts[chosen][1:]).all()
    assert float(weights[chosen].sum()) == best_by_trying_all(windows, weights.astype(np.float64))


def test_what_is_likelier_none_of_these_is_never_taken() -> None:
    windows = Windows(np.array([0, 10]), np.array([5, 15]), np.array([0, 0]))
    assert best_set(windows, np.array([-0.1, 0.0])) == []


# material


def test_chains_hold_each_domain_once_where_they_say() -> None:
    domains = [(residues, 0) for residues, _ in domains_of(4, 5)]
    made = chains(domains, linkers_of(5, 6), 1, seed=3)
    cut = [protein.sequence[place.start : place.end] for protein in made for place in protein.places]
    assert sorted(cut) == sorted(residues for residues, _ in domains)
    for protein in made:
        assert len(protein.codes) == len(protein.sequence)
        assert int((protein.codes == 0).sum()) == sum(place.end - place.start for place in protein.places)
    assert [one.sequence for one in chains(domains, linkers_of(5, 6), 1, seed=3)] == [one.sequence for one in made]


def test_domains_of_whole_proteins_are_found_and_the_rest_is_unknown() -> None:
    [protein] = found_in(["WWACDEFACDEFAWGHIKLGHIKLWW", "WWWWWWWWWWWWWW"], [("ACDEFACDEFA", 0), ("GHIKLGHIKL", 1)])
    assert protein.places == (Place(2, 13, 0), Place(14, 24, 1))
    assert protein.codes.tolist() == [-1] * 2 + [0] * 11 + [-1] + [1] * 10 + [-1] * 2


def test_shuffled_proteins_keep_their_composition() -> None:
    [mixed] = shuffled(["MKTAYIAKQRQISFVK"], seed=1)
    assert mixed != "MKTAYIAKQRQISFVK"
    assert sorted(mixed) == sorted("MKTAYIAKQRQISFVK")


# a scanner


def found_share(scanner: Scanner, proteins: list[Annotated], least: float) -> float:
    """Return the share of domains that are found with a reciprocal overlap of `least`."""
    hits = total = 0
    for protein in proteins:
        domains = scanner.domains(vectors_of([protein.sequence])[0])
        rows = [(one.start - 1, one.end, scanner.families.index(one.family)) for one in domains]
        for place in protein.places:
            total += 1
            hits += any(place.overlap(start, end) >= least for start, end, code in rows if code == place.code)
    return hits / total


def test_domains_that_nothing_was_fitted_on_are_found_with_their_ends(scanner: Scanner) -> None:
    proteins = chains_of(seed=11)
    assert found_share(scanner, proteins, 0.5) >= 0.9
    assert found_share(scanner, proteins, 0.8) >= 0.9


def test_windows_of_another_family_overlap_no_domain() -> None:
    windows = Windows(np.array([0, 5, 0]), np.array([10, 15, 10]), np.array([0, 0, 1]))
    assert overlaps(windows, [Place(0, 10, 0)]).tolist() == [1.0, 0.5, 0.0]


def test_linkers_alone_have_no_domain(scanner: Scanner) -> None:
    found = [scanner.domains(vectors_of([linker])[0]) for linker in linkers_of(30, 21)]
    assert sum(map(len, found)) == 0


def test_domains_of_a_protein_do_not_overlap_and_a_lower_probability_shows_no_fewer(scanner: Scanner) -> None:
    for protein in chains_of(seed=12):
        [vectors] = vectors_of([protein.sequence])
        sure, more = scanner.domains(vectors, 0.9), scanner.domains(vectors, 0.05)
        for one, other in itertools.pairwise(more):
            assert one.end < other.start
        assert all(domain.probability > 0.9 for domain in sure)
        assert len(more) >= len(sure)


def test_proteins_are_scanned_in_order_and_one_by_one_alike(scanner: Scanner) -> None:
    proteins = [Protein(f"p{number}", chain.sequence) for number, chain in enumerate(chains_of(seed=13, count=30))]
    together = list(scanner.scan(proteins, vectors_of))
    assert [scanned.protein for scanned in together] == proteins
    assert together[0].domains == next(scanner.scan(proteins[:1], vectors_of)).domains


def test_probabilities_tell_how_often_domains_are_right() -> None:
    draw = np.random.default_rng(4)
    scores = draw.normal(scale=3.0, size=5000)
    right = draw.random(5000) < 1 / (1 + np.exp(-(1.5 * scores - 0.5)))
    slope, offset = calibration(scores, right)
    assert slope == pytest.approx(1.5, rel=0.1)
    assert offset == pytest.approx(-0.5, abs=0.15)


def test_a_judge_learns_what_tells_domains_from_others() -> None:
    draw = np.random.default_rng(4)
    measures = draw.normal(size=(500, 2))
    scores = fit_scores(measures, measures[:, 1] > 0.5).scores(measures)
    assert np.corrcoef(scores, measures[:, 1])[0, 1] > 0.95


def test_domains_that_no_window_meets_are_told() -> None:
    with pytest.raises(UsageError, match="no domain of the validation part was recognised"):
        fit_scores(np.ones((3, 2)), np.zeros(3, dtype=bool))


def test_a_scanner_that_is_read_again_says_the_same(scanner: Scanner, tmp_path: Path) -> None:
    again = load_scanner(save_scanner(tmp_path / "scan", scanner))
    for protein in chains_of(seed=15):
        [vectors] = vectors_of([protein.sequence])
        assert again.domains(vectors) == scanner.domains(vectors)


def test_a_scanner_learns_from_whole_proteins() -> None:
    train, linkers = domains_of(10, 1), linkers_of(40, 3)
    proteins = [linker + residues for linker, (residues, _) in zip(linkers, train, strict=False)]
    scanner = fit_scanner(Material(train, domains_of(6, 2), linkers, proteins), SPEC, vectors_of)
    assert found_share(scanner, chains_of(seed=16), 0.5) >= 0.9


def test_shuffled_domains_stand_in_for_linkers() -> None:
    train = [("ACACACDD", 0), ("GHGHGHKK", 1)]
    for_train, for_validation = linkers_for(Material([], []), train, seed=0)
    assert len(for_train) == len(for_validation) == 1
    assert sorted(map(sorted, for_train + for_validation)) == [list("AAACC"), list("GGGHH")]


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        ([], [("MKT", "a")], "there are no training domains of any family"),
        ([("MKT", "a")], [("MKT", "b")], "there are no validation domains of any family"),
    ],
)
def test_a_scanner_needs_domains_of_both_parts(
    train: list[tuple[str, str]], validation: list[tuple[str, str]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        fit_scanner(Material(train, validation), SPEC, vectors_of)


def test_residues_of_long_proteins_are_all_seen_whatever_the_cache_left_out() -> None:
    assert whole(replace(SPEC, long="ends:100")).long == "window:1022:511"
    assert whole(replace(SPEC, long="chunk:500")).long == "chunk:500"


# chance


def test_fewer_domains_are_expected_by_chance_the_better_they_score() -> None:
    rate, location, scale = tail(np.random.default_rng(0).exponential(2.0, size=4000), 100_000)
    judge = Judge((0.0,), (1.0,), (1.0,), 0.0, rate=rate, location=location, scale=scale)
    assert scale == pytest.approx(2.0, rel=0.1)
    assert judge.by_chance(location + 2 * scale, 100_000) == pytest.approx(2000 * np.exp(-2), rel=0.01)


def test_the_score_of_so_many_false_domains_is_the_one_that_chance_gives_so_often() -> None:
    judge = Judge((0.0,), (1.0,), (1.0,), 0.0, rate=0.002, location=-2.0, scale=0.7)
    assert judge.by_chance(judge.score_of(1.0), 1_000_000) == pytest.approx(1.0)
    assert judge.score_of(5000.0) == -2.0


def test_fewer_domains_are_told_where_fewer_may_be_false(scanner: Scanner) -> None:
    [first, *_] = chains_of(seed=17)
    [vectors] = vectors_of([first.sequence])
    some, all_of_them = scanner.domains(vectors, 0.05, false=1.0), scanner.domains(vectors, 0.05)
    assert len(some) <= len(all_of_them)
    assert all(1e6 * domain.by_chance / len(vectors) <= 1.0 for domain in some)
    assert scanner.domains(vectors, 0.05, false=1e-12) == ()


def test_chance_that_gave_next_to_nothing_is_not_taken_for_none() -> None:
    assert tail(np.array([]), 1000)[0] > 0


# formats


@pytest.fixture
def scanned() -> list[Scanned]:
    """Two proteins, one of two domains of a family whose name has a blank, one of none."""
    domains = (
        Domain(3, 40, "zinc finger", 0.98765, 7.25, 1e-5),
        Domain(50, 88, "zinc finger", 0.75, 2.5, 0.02),
    )
    return [Scanned(Protein("sp|P1|A B", "M" * 90), domains), Scanned(Protein("none", "MKT"), ())]


def written(format_: str, scanner: Scanner, scanned: list[Scanned]) -> list[str]:
    """Return the lines of a format."""
    handle = io.StringIO()
    named = replace(scanner, families=("zinc finger",), sizes=(38,))
    count = write(format_, named, scanned, handle)
    assert str(count) == "2 proteins of 93 residues: 2 domains in 1 of them, 1 with none of these"
    return handle.getvalue().splitlines()


def test_the_table_has_a_line_a_domain(scanner: Scanner, scanned: list[Scanned]) -> None:
    rows = list(csv.DictReader(written("tsv", scanner, scanned), delimiter="\t"))
    assert [(row["id"], row["start"], row["end"], row["family"]) for row in rows] == [
        ("sp|P1|A B", "3", "40", "zinc finger"),
        ("sp|P1|A B", "50", "88", "zinc finger"),
    ]
    assert [float(row["probability"]) for row in rows] == [0.9877, 0.75]


def test_gff3_has_a_region_a_protein_and_a_feature_a_domain(scanner: Scanner, scanned: list[Scanned]) -> None:
    lines = written("gff3", scanner, scanned)
    assert lines[0] == "##gff-version 3"
    assert [line for line in lines if line.startswith("##sequence-region")] == [
        "##sequence-region sp|P1|A%20B 1 90",
        "##sequence-region none 1 3",
    ]
    features = [line.split("\t") for line in lines if not line.startswith("#")]
    assert features[0] == [
        "sp|P1|A%20B", "esmcls", "polypeptide_domain", "3", "40", "0.9877", ".", ".", "Name=zinc finger;by_chance=1e-05"
    ]  # fmt: skip


def read_domtblout(lines: list[str]) -> list[dict[str, object]]:
    """Read hmmscan's --domtblout by the columns of HMMER's user guide (3.4, p. 72), which blanks part."""
    names = [*COLUMNS_BEFORE, "hmm_from", "hmm_to", "ali_from", "ali_to", "env_from", "env_to", "acc", "description"]
    kinds: dict[str, type] = dict.fromkeys(names, float)
    kinds |= dict.fromkeys(("target", "accession", "query", "query_accession", "description"), str)
    kinds |= dict.fromkeys(("tlen", "qlen", "number", "of", *names[15:21]), int)
    rows = []
    for line in lines:
        if not line.startswith("#"):
            cells = line.split(None, 22)
            rows.append({name: kinds[name](cell) for name, cell in zip(names, cells, strict=True)})
    return rows


def test_parsers_of_hmmscans_domain_table_read_ours(scanner: Scanner, scanned: list[Scanned]) -> None:
    first, second = read_domtblout(written("domtblout", scanner, scanned))
    assert (first["target"], first["query"], first["tlen"], first["qlen"]) == ("zinc%20finger", "sp|P1|A%20B", 38, 90)
    assert [(row["number"], row["of"], row["env_from"], row["env_to"]) for row in (first, second)] == [
        (1, 2, 3, 40),
        (2, 2, 50, 88),
    ]
    assert first["e_value"] == second["e_value"] == first["i_evalue"] == 1e-5
    assert second["acc"] == 0.75


# the commands


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of the bundled encoder, with a scanner of three families."""
    folder = tmp_path_factory.mktemp("scan")
    parts = [("train", domains_of(12, 1)), ("validation", domains_of(6, 2))]
    rows = [(part, row) for part, domains in parts for row in domains]
    lines = [f"d{number},{residues},{name},{part}" for number, (part, (residues, name)) in enumerate(rows)]
    (folder / "domains.csv").write_text("id,sequence,label,split\n" + "\n".join(lines) + "\n")
    (folder / "linkers.fasta").write_text("".join(f">l{n}\n{linker}\n" for n, linker in enumerate(linkers_of(30, 3))))
    place = folder / "work"
    done("embed", folder / "domains.csv", "-w", place)
    ran = done("fit-scan", "-w", place, "--linkers", folder / "linkers.fasta", "--members", "15")
    assert ran.out.startswith(f"{place}/scanners/scan: 3 families; of validation domains in chains ")
    return place


@pytest.fixture
def protein(tmp_path: Path) -> Path:
    """A protein with a domain of each family."""
    draw = np.random.default_rng(8)
    parts = [descendant(name, draw) + drawn(20, draw) for name in FAMILIES]
    path = tmp_path / "protein.fasta"
    path.write_text(f">p1 three domains\n{''.join(parts)}\n>p2\n{drawn(30, draw)}\n")
    return path


def test_scan_finds_the_domains_of_a_protein(workspace: Path, protein: Path) -> None:
    ran = done("scan", protein, "-w", workspace)
    rows = list(csv.DictReader(ran.out.splitlines(), delimiter="\t"))
    assert [(row["id"], row["family"]) for row in rows] == [("p1", "zinc"), ("p1", "ring"), ("p1", "death")]
    assert "residues: 3 domains in 1 of them, 1 with none of these" in ran.err


@pytest.mark.parametrize("suffix", ["tsv", "gff3", "domtblout"])
def test_scan_writes_the_format_that_a_file_is_named_by(
    workspace: Path, protein: Path, tmp_path: Path, suffix: str
) -> None:
    done("scan", protein, "-w", workspace, "-o", tmp_path / f"found.{suffix}")
    same = done("scan", protein, "-w", workspace, "--format", suffix)
    assert (tmp_path / f"found.{suffix}").read_text() == same.out


def refused(*words: str | Path) -> str:
    """Return the one line that a command is refused with."""
    ran = run(*words, "--quiet")
    assert ran.code in (1, 2)
    [line] = ran.err.splitlines()
    return line


def test_what_cannot_be_scanned_is_told_in_one_line(workspace: Path, protein: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.fasta"
    bad.write_text(">p1\nMKT1\n")
    assert "bad.fasta:2:4: record 'p1'" in refused("scan", bad, "-w", workspace, "-o", tmp_path / "x.tsv")
    assert not (tmp_path / "x.tsv").exists()
    assert "gone.fasta" in refused("scan", tmp_path / "gone.fasta", "-w", workspace)
    unknown = refused("scan", protein, "-w", workspace, "--scanner", "scam")
    assert "unknown scanner 'scam'; did you mean 'scan'?" in unknown
    assert "holds no scanner; fit one on the workspace's domains: esmcls fit-scan" in refused(
        "scan", protein, "-w", tmp_path
    )
    assert "domains are written as .tsv, .gff3 or .domtblout" in refused(
        "scan", protein, "-w", workspace, "-o", tmp_path / "x.xlsx"
    )


def test_a_bad_record_may_be_left_out_and_is_told(workspace: Path, protein: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.fasta"
    both.write_text(">bad\nMK1\n" + protein.read_text())
    ran = run("scan", both, "-w", workspace, "--on-bad-record", "skip")
    assert ran.code == 3
    assert "bad" in ran.err
    assert len(ran.out.splitlines()) == 4


def test_one_of_several_scanners_has_to_be_named(workspace: Path, protein: Path, tmp_path: Path) -> None:
    place = tmp_path / "work"
    for name in ("one", "two"):
        shutil.copytree(workspace / "scanners" / "scan", place / "scanners" / name)
    assert "several scanners: one, two; name one with --scanner" in refused("scan", protein, "-w", place)
    assert done("scan", protein, "-w", place, "--scanner", "two").out == done("scan", protein, "-w", workspace).out
    assert done("scan", protein, "--scanner", place / "scanners" / "one").out.count("\n") == 4


def test_fit_scan_refuses_names_and_kinds_of_task_that_it_cannot_have(workspace: Path, tmp_path: Path) -> None:
    assert "the name of a folder, without a path" in refused("fit-scan", "-w", workspace, "--name", "a/b")
    (workspace / "scanners" / "other").mkdir()
    assert "exists and is no scanner" in refused("fit-scan", "-w", workspace, "--name", "other")
    (workspace / "scanners" / "other").rmdir()
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("id,sequence,label\n" + "".join(f"n{i},MKT{'A' * i},{i}.5\n" for i in range(1, 12)))
    done("embed", numbers, "-w", tmp_path / "numbers", "--encoder", "composition")
    assert "is not of one label a sequence" in refused("fit-scan", "-w", tmp_path / "numbers")


def test_an_encoder_without_residues_is_told(workspace: Path, tmp_path: Path) -> None:
    done("embed", workspace.parent / "domains.csv", "-w", tmp_path / "kmers", "--encoder", "composition")
    assert "has no vectors of residues" in refused("fit-scan", "-w", tmp_path / "kmers")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 9}, "newer than the 2 known here"),
        ({"sizes": [3]}, "not one length for each of 3 families"),
        ({"families": ["a", "a", "b"]}, "not one length for each of 3 families"),
        ({"families": ["a"], "sizes": [3]}, "a class code that is none of the 1"),
        ({"spec": {}}, "is damaged"),
        ({"judge": None}, "is damaged"),
        ({"files": {"../x": ""}}, "is not as it was written"),
    ],
)
def test_a_damaged_scanner_is_told(workspace: Path, tmp_path: Path, change: dict[str, object], problem: str) -> None:
    folder = tmp_path / "scanners" / "scan"
    shutil.copytree(workspace / "scanners" / "scan", folder)
    flat = json.loads((folder / "scanner.json").read_text())
    (folder / "scanner.json").write_text(json.dumps(flat | change))
    with pytest.raises(ModelError, match=problem):
        load_scanner(folder)


@pytest.mark.parametrize("name", ["residues.npy", "templates.safetensors"])
def test_a_scanner_of_which_a_file_was_changed_is_told(workspace: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "scan"
    shutil.copytree(workspace / "scanners" / "scan", folder)
    path = folder / "templates" / name
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ModelError, match="is not as it was written"):
        load_scanner(folder)


def test_a_scanner_has_so_many_templates_of_a_family_as_are_asked_for(workspace: Path) -> None:
    templates = load_scanner(workspace / "scanners" / "scan").recogniser
    assert isinstance(templates, Templates)
    assert np.bincount(templates.families).tolist() == [15] * 3


def test_no_sequence_is_in_a_scanner(workspace: Path) -> None:
    files = [path for path in (workspace / "scanners").rglob("*") if path.is_file()]
    domains = [residues.encode() for residues, _ in domains_of(12, 1) + domains_of(6, 2)]
    assert len(files) == 3
    assert not [path for path in files for residues in domains if residues in path.read_bytes()]
