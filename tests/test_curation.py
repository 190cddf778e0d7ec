"""What is drawn from a larger set: exact counts by plan or in proportion, the same whatever the order of the input."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmcls.datasets.clusters import cluster_sequences
from esmcls.datasets.sampling import Drawn, Shortfall, clusters_of, draw_key, split_anew, stratify
from esmcls.datasets.sampling_plan import SamplingPlan, Total, largest_remainder
from esmcls.errors import DataError, EsmclsError, UsageError
from esmcls.reading.readers import read_records
from esmcls.reading.record_columns import Columns
from esmcls.reading.records import Protein, Record
from esmcls.reading.rows import clean_cell

Row = tuple[str, str, str | None, str | None]  # id, sequence, label, part
SIZES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 60), min_size=1)


def columns(rows: list[Row]) -> Columns:
    return Columns.of(
        Record(Protein(name, sequence), label, part, "in.csv", line)
        for line, (name, sequence, label, part) in enumerate(rows, start=2)
    )


def families(sizes: dict[str, int], part: str | None = None) -> list[Row]:
    """Return families of such sizes; each sequence is its own."""
    return [
        (f"{name}{n}", f"M{name.upper() * 3}{'AC' * n}K", name, part)
        for name, size in sizes.items()
        for n in range(size)
    ]


def taken(source: Columns, drawn: Drawn) -> list[Row]:
    labels = source.labels or []
    return [(source.ids[row], source.sequences[row], labels[row], drawn.parts[row]) for row in drawn.rows]


def counts(rows: list[Row]) -> Counter[str | None]:
    return Counter(label for _, _, label, _ in rows)


# How many


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("1000x200+4000x50", ((1000, 200), (4000, 50))),
        ("5x1", ((5, 1),)),
        (" 2x3 + 4×5 ", ((2, 3), (4, 5))),
    ],
)
def test_a_plan_is_read_and_written(text: str, steps: tuple[tuple[int, int], ...]) -> None:
    plan = SamplingPlan.parse(text)
    assert plan.steps == steps
    assert SamplingPlan.parse(str(plan)) == plan


@pytest.mark.parametrize(
    "word", ["", "1000", "1000x", "x50", "0x5", "5x0", "-1x5", "1.5x2", "1000*200", "1x2x3", "ax5"]
)
def test_a_plan_that_is_none_is_one_line_that_shows_the_form(word: str) -> None:
    form = "give FAMILIESxSEQUENCES, several with + between, such as 1000x200+4000x50"
    for text in (word, f"3x4+{word}"):
        with pytest.raises(UsageError) as caught:
            SamplingPlan.parse(text)
        assert str(caught.value) == f"plan {text!r}: {word!r} is no step of one; {form}"


def test_a_plan_takes_families_by_size_and_equal_ones_by_name() -> None:
    wanted = SamplingPlan.parse("2x5+1x3").wanted({"b": 7, "a": 7, "small": 1, "c": 9, "d": 2})
    assert list(wanted.each.items()) == [("c", 5), ("a", 5), ("b", 3)]
    assert (wanted.sequences, wanted.families) == (13, 3)


def test_a_plan_for_more_families_than_there_are_still_says_what_was_asked_for() -> None:
    assert SamplingPlan.parse("1000x200+4000x50").wanted({"a": 1}) == ({"a": 200}, 400_000, 5000)


@pytest.mark.parametrize(
    ("sizes", "total", "expected"),
    [
        # quotas 4.7, 1.6, 1.6, 1.1, 1: whole parts 4 1 1 1 1, then a (.7) and, of two with .6, b by name
        ({"a": 47, "b": 16, "c": 16, "d": 11, "e": 10}, 10, {"a": 5, "b": 2, "c": 1, "d": 1, "e": 1}),
        # quotas 5/3, 10/3: remainders 2/3, 1/3
        ({"a": 1, "b": 2}, 5, {"a": 2, "b": 3}),
        # quotas 0.5, 1.5: the larger of two equal remainders' families
        ({"a": 1, "b": 3}, 2, {"a": 0, "b": 2}),
        ({"a": 50, "b": 30, "c": 20}, 10, {"a": 5, "b": 3, "c": 2}),
        ({"a": 3, "b": 3}, 0, {"a": 0, "b": 0}),
        ({}, 0, {}),
    ],
)
def test_a_total_is_shared_out_by_largest_remainder(
    sizes: dict[str, int], total: int, expected: dict[str, int]
) -> None:
    assert largest_remainder(sizes, total) == expected


def test_a_floor_lifts_small_families_and_the_others_share_what_is_left() -> None:
    # of 30: b and c get their 3, d its only 1; 23 are left for a and e, quotas 23 x 120/140, 23 x 20/140 = 19.71, 3.29
    sizes = {"a": 120, "b": 8, "c": 8, "d": 1, "e": 20}
    assert Total(30, at_least=3).wanted(sizes).each == {"a": 20, "e": 3, "b": 3, "c": 3, "d": 1}


def test_lifting_one_family_can_push_another_below_the_floor() -> None:
    # quotas of 12: a 8.6, b 3.04, c .33; with c at 3, b's share of the other 9 is 2.35, so b is lifted, too
    sizes = {"a": 79, "b": 28, "c": 3}
    assert Total(12, at_least=3).wanted(sizes).each == {"a": 6, "b": 3, "c": 3}


@given(SIZES, st.integers(0, 400), st.integers(0, 4))
def test_a_total_is_met_exactly_within_what_each_family_has_and_its_floor(sizes, total, floor):
    least, most = sum(min(floor, size) for size in sizes.values()), sum(sizes.values())
    if total < least:
        with pytest.raises(UsageError):
            Total(total, floor).wanted(sizes)
        return
    each = Total(total, floor).wanted(sizes).each
    assert sum(each.values()) == min(total, most)
    assert all(min(floor, size) <= each.get(family, 0) <= size for family, size in sizes.items())
    if floor == 0:
        assert all(abs(each.get(family, 0) - min(total, most) * size / most) < 1 for family, size in sizes.items())


def test_a_total_below_the_floor_says_what_the_floor_takes() -> None:
    with pytest.raises(UsageError) as caught:
        Total(1000, at_least=3).wanted(dict.fromkeys(map(str, range(999)), 5) | {"one": 1})
    assert str(caught.value) == (
        "a total of 1,000 is too small: 3 of each of 1,000 families, or all that it has, take 2,998; "
        "ask for that many or more"
    )


# Which


def test_a_plan_gives_exact_counts() -> None:
    source = columns(families({"a": 40, "b": 30, "c": 20, "d": 10, "e": 5}))
    drawn = stratify(source, SamplingPlan.parse("2x25+2x8"))
    assert counts(taken(source, drawn)) == {"a": 25, "b": 25, "c": 8, "d": 8}
    assert (drawn.drawn, drawn.there, drawn.shortfalls) == ((66, 4), (105, 5), [])
    assert drawn.warnings() == []


def test_shortfalls_are_listed_and_told() -> None:
    source = columns(families({"a": 40, "b": 24, "c": 7, "d": 9}))
    drawn = stratify(source, SamplingPlan.parse("2x25+4x8"))
    assert drawn.shortfalls == [Shortfall("b", 25, 24), Shortfall("c", 8, 7)]
    assert drawn.warnings() == [
        "82 sequences of 6 families were asked for, 64 sequences of 4 families drawn",
        "2 families with fewer sequences than asked for:",
        "  b: 24 of 25",
        "  c: 7 of 8",
    ]
    assert drawn.to_json()["shortfalls"][0] == {"family": "b", "wanted": 25, "there": 24}


def test_of_many_shortfalls_twenty_are_told_and_all_are_in_the_report() -> None:
    drawn = stratify(columns(families({f"f{n:02}": 1 for n in range(23)})), SamplingPlan.parse("23x2"))
    told = drawn.warnings()
    assert told[1] == "23 families with fewer sequences than asked for:"
    assert (len(told), told[-1]) == (23, "  and 3 more")
    assert len(drawn.to_json()["shortfalls"]) == 23


def test_a_total_beyond_what_there_is_takes_all_and_says_so() -> None:
    drawn = stratify(columns(families({"a": 4, "b": 2})), Total(70_000))
    assert drawn.drawn == (6, 2)
    assert drawn.warnings() == ["70,000 sequences of 2 families were asked for, 6 sequences of 2 families drawn"]


@settings(max_examples=30)
@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_the_order_of_the_input_leaves_no_trace(shuffler, seed):
    rows = families({"a": 12, "b": 9, "c": 5}, "train") + families({"d": 2}, "test")
    rows += [("z", rows[0][1], "a", "train"), ("0", rows[1][1], "a", "train"), ("b0", rows[0][1], "b", "train")]
    shuffled = shuffler.sample(rows, len(rows))
    for allotment in (SamplingPlan.parse("1x7+1x4"), Total(11, 3)):
        sources = columns(rows), columns(shuffled)
        first, second = (stratify(source, allotment, seed=seed) for source in sources)
        assert taken(sources[0], first) == taken(sources[1], second)
        assert first.to_json() == second.to_json()


def test_what_is_drawn_is_decided_by_the_hash_of_seed_and_sequence() -> None:
    # sha256 of "draw\0<seed>\0<sequence>", smallest first: kept for ever
    source = columns(families({"a": 30}))
    smallest = sorted(source.sequences, key=lambda sequence: hashlib.sha256(f"draw\0007\0{sequence}".encode()).digest())
    drawn = {sequence for _, sequence, _, _ in taken(source, stratify(source, SamplingPlan.parse("1x10"), seed=7))}
    assert drawn == set(smallest[:10])
    assert draw_key(7, "MK").hex()[:16] == "bbc0c2718ad7dce7"


def test_another_seed_draws_others_and_a_larger_draw_holds_the_smaller() -> None:
    source = columns(families({"a": 60}))
    few, more = (set(stratify(source, SamplingPlan.parse(plan), seed=1).rows) for plan in ("1x20", "1x30"))
    assert few < more
    assert few != set(stratify(source, SamplingPlan.parse("1x20"), seed=2).rows)


def test_no_place_in_the_input_is_drawn_more_often_than_another() -> None:
    source = columns(families({"a": 40}))
    drawn = Counter(row for seed in range(400) for row in stratify(source, SamplingPlan.parse("1x10"), seed=seed).rows)
    assert len(drawn) == 40
    assert all(abs(count - 100) < 40 for count in drawn.values())  # binomial: standard deviation 8.7


# Equal sequences and given splits


def test_equal_sequences_of_a_family_count_once_under_the_id_that_sorts_first() -> None:
    rows: list[Row] = [
        ("b", "MKA", "x", None),
        ("a", "MKA", "x", None),
        ("c", "MKA", "y", None),
        ("d", "MKC", "y", None),
    ]
    source = columns(rows)
    drawn = stratify(source, SamplingPlan.parse("2x2"))
    assert taken(source, drawn) == [("a", "MKA", "x", None), ("c", "MKA", "y", None), ("d", "MKC", "y", None)]
    assert (drawn.repeated, drawn.shortfalls) == (1, [Shortfall("x", 2, 1)])
    assert "1 record with sequence and family of another: counted once" in drawn.lines()


def test_a_given_split_is_respected_and_other_parts_go_through_unchanged() -> None:
    rows = families({"a": 10, "b": 6}, "train") + [("free", "MWWW", "a", None)]
    others: list[Row] = [("v", "MVV", "a", "validation"), ("t1", "MTT", "b", "test"), ("t2", "MTT", "b", "test")]
    source = columns(others + rows)
    drawn = stratify(source, SamplingPlan.parse("2x5"))
    found = taken(source, drawn)
    assert counts([row for row in found if row[3] == "train"]) == {"a": 5, "b": 5}
    assert [row for row in found if row[3] != "train"] == others
    assert drawn.others == {"validation": 1, "test": 2}
    assert drawn.there == (17, 2)  # a record without a part beside others with one is train


def test_what_stands_in_test_is_not_drawn_from_train_so_that_counts_hold_when_it_is_embedded() -> None:
    rows = families({"a": 6}, "train")
    leak: list[Row] = [("t", rows[2][1], "a", "test"), ("u", rows[4][1], "a", "validation")]
    drawn = stratify(columns(rows + leak), SamplingPlan.parse("1x6"))
    assert (drawn.leaked, drawn.drawn, drawn.shortfalls) == (2, (4, 1), [Shortfall("a", 6, 4)])
    assert set(drawn.rows) == {0, 1, 3, 5, 6, 7}
    assert "2 records of train not drawn from: another part has an equal sequence" in drawn.lines()


def test_records_of_families_not_drawn_stay_and_are_told_or_are_left_out_on_request() -> None:
    rows = families({"a": 4, "b": 2}, "train")
    others: list[Row] = [("t", "MTT", "b", "test"), ("v", "MVV", "a", "validation")]
    source = columns(rows + others)
    kept, left = (stratify(source, SamplingPlan.parse("1x4"), trained_only=only) for only in (False, True))
    assert [row for row in kept.rows if row > 5] == [7, 6]
    assert [row for row in left.rows if row > 5] == [7]
    assert (left.others, left.untrained, kept.untrained) == ({"validation": 1}, 0, 1)
    told = "validation and test hold 1 record of families that were not drawn from; --trained-only leaves them out"
    assert kept.warnings() == [told]


def test_without_a_split_none_is_written() -> None:
    source = columns(families({"a": 4}))
    assert {part for _, _, _, part in taken(source, stratify(source, Total(3)))} == {None}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "MK", None, None)], "input: no labels; give every record one (--labels TABLE)"),
        (
            [("a", "MK", "x", "train"), ("b", "MK", "x", "test")],
            "input: every train sequence stands in test or validation too; give other training records",
        ),
        (
            [("a", "MK", "x", "test")],
            "every record is test (by its file's name, or as marked); give training records too",
        ),
    ],
)
def test_a_set_that_nothing_can_be_drawn_from_is_told(rows: list[Row], message: str) -> None:
    with pytest.raises(EsmclsError) as caught:
        stratify(columns(rows), Total(1))
    assert str(caught.value) == message


# Columns


def test_records_have_all_a_label_or_none() -> None:
    for first, second, found in (
        ("x", None, "no label; give every record a label (--labels TABLE)"),
        (None, "x", "label 'x', but the first record has none; give all of them a label, or none"),
    ):
        with pytest.raises(DataError) as caught:
            columns([("a", "MK", first, None), ("b", "MA", second, None)])
        assert str(caught.value) == f"in.csv:3: record 'b': {found}"
    with pytest.raises(DataError, match="input: no records; give at least one sequence"):
        columns([])


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=6).map(clean_cell),
            st.text("ACDE", min_size=1, max_size=5),
            st.text("xyz,\" '", min_size=1, max_size=4).filter(str.strip).map(str.strip),
            st.sampled_from([None, "train", "validation", "test"]),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["a.csv", "a.csv.gz"]),
)
def test_what_is_written_is_read_again(tmp_path_factory, rows, name):
    path = tmp_path_factory.mktemp("written") / name
    source = columns(rows)
    source.write(path, source.parts)
    again = [(r.protein.id, r.protein.sequence, r.label, r.part) for r in read_records(path)]
    assert again == rows


def test_unlabelled_records_are_written_without_the_column(tmp_path: Path) -> None:
    source = columns([("a", "MK", None, None), ("b", "MA", None, None)])
    source.write(tmp_path / "a.csv", ["test", "train"], [1, 0])
    assert (tmp_path / "a.csv").read_text() == "id,sequence,split\nb,MA,train\na,MK,test\n"


def test_the_same_records_are_the_same_bytes_when_packed_under_another_name(tmp_path: Path) -> None:
    source = columns(families({"a": 5}))
    for name in ("one.csv.gz", "two.csv.gz"):
        source.write(tmp_path / name, source.parts)
    assert (tmp_path / "one.csv.gz").read_bytes() == (tmp_path / "two.csv.gz").read_bytes()
    assert gzip.decompress((tmp_path / "one.csv.gz").read_bytes()).startswith(b"id,sequence,label,split\na0,")


def test_a_table_that_cannot_be_written_whole_leaves_the_old_one(tmp_path: Path) -> None:
    source = columns(families({"a": 5}))
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(IndexError):
        source.write(tmp_path / "a.csv", source.parts, [0, 1, 99])
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.csv", "old")]
    with pytest.raises(UsageError, match=r"a\.tsv: sequences are written as CSV; end the name in \.csv or \.csv\.gz"):
        source.write(tmp_path / "a.tsv", source.parts)


# Parts anew


def test_whole_clusters_go_into_one_part() -> None:
    source = columns(families({"a": 40, "b": 40}, "test"))
    clusters = [f"c{row // 4}" for row in range(80)]
    parts, report = split_anew(source, clusters, fractions=(0.5, 0.25, 0.25), seed=3)
    assert all(len(set(parts[start : start + 4])) == 1 for start in range(0, 80, 4))
    assert Counter(parts) == {"train": 40, "validation": 20, "test": 20}
    assert report.kind == "cluster"


def test_without_clusters_parts_are_drawn_family_by_family_and_what_is_odd_is_told() -> None:
    rows = [*families({"a": 10, "b": 20}), ("two", "MAAAACK", "b", None)]
    parts, report = split_anew(columns(rows), fractions=(0.8, 0.1, 0.1))
    assert Counter(parts[:10]) == {"train": 8, "validation": 1, "test": 1}
    assert (report.kind, report.ambiguous, report.untrained) == ("stratified", 1, 0)
    with pytest.raises(DataError, match="no labels"):
        split_anew(columns([("a", "MK", None, None)]))


def test_clusters_are_joined_by_id_so_an_id_of_two_sequences_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "clusters.tsv"
    table.write_text("c1\ta\nc1\tb\n")
    assert (
        clusters_of(columns([("b", "MA", "x", None), ("a", "MK", "x", None), ("b", "MA", "y", None)]), table)
        == ["c1"] * 3
    )
    with pytest.raises(DataError) as caught:
        clusters_of(columns([("a", "MA", "x", None), ("a", "MK", "x", None)]), table)
    fix = "give each an id of its own, since clusters are joined by id"
    assert str(caught.value) == f"{table}: record 'a': two sequences of the input have this id; {fix}"


def fake_mmseqs(folder: Path, script: str) -> None:
    (folder / "mmseqs").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "mmseqs").chmod(0o755)


def test_mmseqs_gets_each_sequence_once_in_an_order_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    # all of them one cluster, but the last
    fake_mmseqs(tmp_path, f'echo "$@" > {log}; cat "$2" >> {log}; printf "0\\t0\\n0\\t1\\n2\\t2\\n" > "$3_cluster.tsv"')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = cluster_sequences(["MW", "MA", "MK", "MA"], identity=0.25, method="easy-linclust")
    assert found == ["2", "0", "0", "0"]
    words, *fasta = log.read_text().splitlines()
    assert words.split()[0] == "easy-linclust"
    assert words.endswith("--min-seq-id 0.25 -c 0.8 -v 1")
    assert fasta == [">0", "MA", ">1", "MK", ">2", "MW"]


def test_a_failing_mmseqs_is_one_line_with_what_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_mmseqs(tmp_path, 'echo "Error: no space\nleft" >&2; exit 4')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(EsmclsError) as caught:
        cluster_sequences(["MK"])
    said = "mmseqs easy-cluster failed (Error: no space left); run it by itself and give its table (--clusters FILE)"
    assert str(caught.value) == said


def test_without_mmseqs_a_table_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EsmclsError) as caught:
        cluster_sequences(["MK"])
    fix = "install MMseqs2, or give a table of the cluster of each id (--clusters FILE)"
    assert str(caught.value) == f"clusters need the program mmseqs, which is not on the PATH; {fix}"


@pytest.mark.skipif(shutil.which("mmseqs") is None, reason="MMseqs2 is not installed")
def test_mmseqs_finds_the_families_that_mutations_made() -> None:
    chance = random.Random(0)
    letters = "ACDEFGHIKLMNPQRSTVWY"
    sequences = []
    for _ in range(3):
        base = [chance.choice(letters) for _ in range(90)]
        for _ in range(3):
            sequences.append("".join(chance.choice(letters) if chance.random() < 0.1 else letter for letter in base))
    clusters = cluster_sequences(["M", *sequences, sequences[0]], method="easy-linclust")
    assert clusters[-1] == clusters[1]
    assert len(set(clusters)) == 4
    assert [len(set(clusters[start : start + 3])) for start in (1, 4, 7)] == [1, 1, 1]
