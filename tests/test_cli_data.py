"""`esmcls data`: what it prints, what it leaves, and that the rest of esmcls goes on from there."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from command import done, run
from families import rows, write_families, write_unknown

from esmcls.reading.readers import read_records

COLUMNS = "id from 'id', sequence from 'sequence', label from 'label', part from 'split'"


@pytest.fixture
def families(tmp_path: Path) -> Path:
    return write_families(tmp_path / "families.csv")


def contents(path: Path) -> list[tuple[str, str, str | None, str | None]]:
    return [(one.protein.id, one.protein.sequence, one.label, one.part) for one in read_records(path)]


# stats


def test_stats_are_tables_on_stdout(families: Path) -> None:
    ran = done("data", "stats", families, "--limit", "30")
    assert (
        ran.out
        == """\
what                     number
sequences                    30
distinct                     30
residues                    915
families                      3
in more than one family       0

length    residues
shortest        26
5 %             26
25 %            28
median          30
75 %            33
95 %            35
99 %            35
longest         35
mean            30

beyond 30 residues  number  percent
sequences               15    50.00
residues                45     4.92

part        sequences  families
train              18         3
validation          6         3
test                6         3

family size  families  percent  sequences  percent
<5                  0     0.00          0     0.00
5-19                3   100.00         30   100.00
20-99               0     0.00          0     0.00
≥100                0     0.00          0     0.00

family sizes                   value
largest                           10
median                            10
Gini coefficient               0.000
power-law exponent                 –
  of sizes from x_min              –
  Kolmogorov-Smirnov distance      –
"""
    )
    assert ran.err == f"esmcls: 30 records read\nesmcls: {families}: {COLUMNS}\n"


def test_stats_of_a_part_are_of_its_records_alone(families: Path) -> None:
    ran = done("data", "stats", families, "--part", "train")
    assert "sequences                    18\n" in ran.out
    assert "5-19                3   100.00         18   100.00\n" in ran.out


def test_stats_write_a_folder(families: Path, tmp_path: Path) -> None:
    ran = done("data", "stats", families, "-o", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rank-size.svg", "stats.html", "stats.json"]
    assert f"esmcls: written: {tmp_path}/out/stats.json, " in ran.err
    assert json.loads((tmp_path / "out" / "stats.json").read_text())["sequences"] == 30
    assert "<h1>Sequences of families.csv</h1>" in (tmp_path / "out" / "stats.html").read_text()


def test_labels_come_from_a_table_too_and_need_not_be(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">p\nMKT\n>q\nMKTA\n")
    (tmp_path / "labels.tsv").write_text("p\tx\nq\ty\n")
    assert "families" not in done("data", "stats", tmp_path / "a.fasta").out
    labelled = done("data", "stats", tmp_path / "a.fasta", "--labels", tmp_path / "labels.tsv").out
    assert "families                      2\n" in labelled


def test_records_left_out_make_the_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,sequence,label\np,MKT,x\nq,MK-T,x\n")
    given = (tmp_path / "a.csv", "--on-bad-record", "skip")
    for words in (
        ("stats",),
        ("stratify", "--total", "1", "-o", tmp_path / "b.csv"),
        ("split", "-o", tmp_path / "c.csv"),
    ):
        ran = run("data", words[0], *given, *words[1:])
        assert (ran.code, "1 record left out:" in ran.err) == (3, True)


# stratify


def test_a_plan_leaves_a_table_that_embed_takes_and_a_report(families: Path, tmp_path: Path) -> None:
    output = tmp_path / "chosen.csv.gz"
    ran = done("data", "stratify", families, "--plan", "2x5+1x8", "-o", output)
    assert ran.out == f"{output}: 16 sequences of 3 families; report in chosen.report.json\n"
    assert ran.err.splitlines() == [
        "esmcls: 30 records read",
        f"esmcls: {families}: {COLUMNS}",
        "esmcls: drawn from 18 sequences of 3 families",
        "esmcls: validation: 6 records went through unchanged",
        "esmcls: test: 6 records went through unchanged",
        "esmcls: 18 sequences of 3 families were asked for, 16 sequences of 3 families drawn",
        "esmcls: 1 family with fewer sequences than asked for:",
        "esmcls:   lysine-rich: 6 of 8",
    ]
    written = contents(output)
    assert Counter(part for _, _, _, part in written) == {"train": 16, "validation": 6, "test": 6}
    assert set(written) <= set(rows())
    assert {row for row in written if row[3] != "train"} == {row for row in rows() if row[3] != "train"}
    report = json.loads((tmp_path / "chosen.report.json").read_text())
    assert report["shortfalls"] == [{"family": "lysine-rich", "there": 6, "wanted": 8}]
    assert (report["asked"], report["seed"], report["drawn"]) == ("2x5+1x8", 0, {"families": 3, "sequences": 16})
    embedded = done("embed", output, "--encoder", "composition", "-w", tmp_path / "w")
    assert embedded.out == "28 sequences, 28 distinct: 28 embedded, 0 were cached\n"


def test_the_order_of_the_input_changes_no_byte_and_the_seed_does(families: Path, tmp_path: Path) -> None:
    head, *lines = families.read_text().splitlines()
    turned = tmp_path / "turned.csv"
    turned.write_text("\n".join([head, *lines[::-1]]) + "\n")
    for name, source, seed in (("a", families, 1), ("b", turned, 1), ("c", families, 2)):
        done("data", "stratify", source, "--total", "9", "--seed", str(seed), "-o", tmp_path / f"{name}.csv")
    first, second, other = ((tmp_path / f"{name}.csv").read_bytes() for name in "abc")
    assert first == second != other


def test_a_total_keeps_every_family_when_asked_to(tmp_path: Path) -> None:
    lines = [
        f"{family}{n},M{'ACDE'[n % 4] * (n + 1)}{family},{family}"
        for family, size in (("A", 95), ("C", 4), ("D", 1))
        for n in range(size)
    ]
    (tmp_path / "in.csv").write_text("\n".join(["id,sequence,label", *lines]) + "\n")
    found = []
    for keep in ((), ("--keep-all-classes",)):
        done("data", "stratify", tmp_path / "in.csv", "--total", "10", *keep, "-o", tmp_path / "out.csv")
        found.append(Counter(label for _, _, label, _ in contents(tmp_path / "out.csv")))
    assert found == [{"A": 10}, {"A": 6, "C": 3, "D": 1}]
    assert {part for *_, part in contents(tmp_path / "out.csv")} == {None}  # no split given, so embed draws one


def test_records_of_other_parts_can_be_kept_to_the_families_drawn(families: Path, tmp_path: Path) -> None:
    ran = done("data", "stratify", families, "--plan", "1x6", "--trained-only", "-o", tmp_path / "out.csv", "--quiet")
    assert ran.err == ""
    assert {label for _, _, label, _ in contents(tmp_path / "out.csv")} == {"alanine-rich"}


# split


def test_a_split_by_a_table_of_clusters_keeps_them_whole(families: Path, tmp_path: Path) -> None:
    table = tmp_path / "clusters.tsv"
    table.write_text("".join(f"c{number // 3}\t{name}\n" for number, (name, *_) in enumerate(rows())))
    ran = done("data", "split", families, "--clusters", table, "--fractions", "0.6,0.2,0.2", "-o", tmp_path / "out.csv")
    assert (
        ran.out
        == """\
part        records  percent  families  clusters
train            18     60.0         3         6
validation        6     20.0         2         2
test              6     20.0         2         2
"""
    )
    assert ran.err.splitlines()[1:] == [
        f"esmcls: {families}: {COLUMNS}",
        "esmcls: cluster split: 60 % train, 20 % validation, 20 % test (seed 0)",
        "esmcls: 30 records had a part: passed over",
    ]
    written = contents(tmp_path / "out.csv")
    assert [row[:3] for row in written] == [row[:3] for row in rows()]
    assert all(len({part for *_, part in written[start : start + 3]}) == 1 for start in range(0, 30, 3))


def test_unlabelled_sequences_are_split_by_cluster_too(tmp_path: Path) -> None:
    write_unknown(tmp_path / "in.fasta")
    (tmp_path / "clusters.tsv").write_text("c\tnew\nd\tother\n")
    ran = done(
        "data", "split", tmp_path / "in.fasta", "--clusters", tmp_path / "clusters.tsv", "-o", tmp_path / "out.csv"
    )
    assert ran.out.splitlines()[0] == "part        records  percent  clusters"
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "id,sequence,split"
    assert len(contents(tmp_path / "out.csv")) == 3


def test_mmseqs_clusters_where_it_is_installed(families: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mmseqs"
    program.write_text('#!/bin/sh\nfor n in $(seq 0 29); do printf "0\\t$n\\n"; done > "$3_cluster.tsv"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    ran = done("data", "split", families, "--by-cluster", "-o", tmp_path / "out.csv")
    assert ran.out.splitlines()[1].split() == ["train", "30", "100.0", "3", "1"]


def test_without_clusters_families_are_split_each(families: Path, tmp_path: Path) -> None:
    ran = done("data", "split", families, "-o", tmp_path / "out.csv", "--quiet")
    assert ran.err == ""
    assert [line.split()[1] for line in ran.out.splitlines()[1:]] == ["24", "3", "3"]


# errors


@pytest.mark.parametrize("words", [("stats",), ("stratify", "--total", "5"), ("split",)], ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (["37.5", "40.1", "n/a"], ":4: record 'p2': value 'n/a', where a number is expected; give a number"),
        (
            ["CCCHHHHHEECC", "HHHHCCCCEEEE", "CCCCCCCCCCCC"],
            "labels with a sign or a number for each residue, not classes of proteins",
        ),
    ],
)
def test_labels_that_embed_would_refuse_are_refused_before(
    tmp_path: Path, words: tuple[str, ...], labels: list[str], problem: str
) -> None:
    table = tmp_path / "in.csv"
    rows = "".join(f"p{number},MKTAYIAKQRQ{'AVL'[number]},{label}\n" for number, label in enumerate(labels))
    table.write_text("id,sequence,label\n" + rows)
    output = () if words[0] == "stats" else ("-o", tmp_path / "out.csv")
    ran = run("data", words[0], table, *words[1:], *output)
    assert (ran.code, ran.out) == (1, "")
    assert f"{table}:" in ran.err
    assert problem in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("stratify",), 2, "missing option '-o' / '--output' (see: esmcls data stratify --help)"),
        (
            ("stratify", "-o", "{tmp}/a.csv"),
            2,
            "how many sequences? give either --plan, such as 1000x200+4000x50, or --total",
        ),
        (
            ("stratify", "--plan", "1x1", "--total", "5", "-o", "{tmp}/a.csv"),
            2,
            "how many sequences? give either --plan, such as 1000x200+4000x50, or --total",
        ),
        (
            ("stratify", "--plan", "1x1", "--keep-all-classes", "-o", "{tmp}/a.csv"),
            2,
            "--keep-all-classes belongs to --total; a plan says of each family how many",
        ),
        (
            ("stratify", "--plan", "10y5", "-o", "{tmp}/a.csv"),
            2,
            "plan '10y5': '10y5' is no step of one; "
            "give FAMILIESxSEQUENCES, several with + between, such as 1000x200+4000x50",
        ),
        (
            ("stratify", "--total", "5", "-o", "{tmp}/a.tsv"),
            2,
            "{tmp}/a.tsv: sequences are written as CSV; end the name in .csv or .csv.gz",
        ),
        (
            ("stratify", "--total", "5", "-o", "{tmp}/none/a.csv"),
            1,
            "{tmp}/none/a.csv: its folder does not exist; make the folder, or write elsewhere",
        ),
        (
            ("split", "--fractions", "0.8;0.2", "-o", "{tmp}/a.csv"),
            2,
            "--fractions 0.8;0.2: not numbers with commas between, such as 0.8,0.1,0.1",
        ),
        (
            ("split", "--fractions", "0.8,0.3,0.1", "-o", "{tmp}/a.csv"),
            2,
            "split fractions 0.8, 0.3, 0.1: give train, validation and test that add up to 1, as 0.8, 0.1, 0.1",
        ),
        (
            ("split", "--by-cluster", "-o", "{tmp}/a.csv"),
            1,
            "clusters need the program mmseqs, which is not on the PATH; "
            "install MMseqs2, or give a table of the cluster of each id (--clusters FILE)",
        ),
    ],
)
def test_an_error_is_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.setenv("PATH", "")
    ran = run("data", words[0], write_families(tmp_path / "in.csv"), *(word.format(tmp=tmp_path) for word in words[1:]))
    assert (ran.code, ran.out, ran.err) == (code, "", f"esmcls: error: {message.format(tmp=tmp_path)}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]
