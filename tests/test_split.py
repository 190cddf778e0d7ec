"""Splits: what is promised of every draw, and the rules for equal sequences."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmcls.datasets.clusters import read_clusters
from esmcls.datasets.split import (
    FRACTIONS,
    Leak,
    SplitReport,
    apply_given,
    by_cluster,
    check_fractions,
    drop_leaks,
    part_counts,
    stratified,
)
from esmcls.errors import DataError, UsageError

ROWS = st.lists(st.tuples(st.text("ACDE", min_size=1, max_size=3), st.sampled_from("pqrs")), min_size=1, max_size=60)
SHARES = st.sampled_from([FRACTIONS, (0.5, 0.25, 0.25), (0.9, 0.1, 0.0), (0.7, 0.0, 0.3), (0.2, 0.4, 0.4), (1, 0, 0)])


def classes(sizes: list[int]) -> tuple[list[str], list[str]]:
    labels = [f"class{number}" for number, size in enumerate(sizes) for _ in range(size)]
    return [f"M{row}" for row in range(len(labels))], labels


def parts_of_each(keys: list[str], parts: list[str]) -> dict[str, set[str]]:
    found = defaultdict(set)
    for key, part in zip(keys, parts, strict=True):
        found[key].add(part)
    return found


@given(ROWS, SHARES, st.integers(0, 3))
def test_a_stratified_split_keeps_equal_sequences_together_and_a_member_of_each_class_in_train(rows, shares, seed):
    sequences, labels = map(list, zip(*rows, strict=True))
    parts = stratified(sequences, labels, shares, seed)
    assert all(len(found) == 1 for found in parts_of_each(sequences, parts).values())
    assert all("train" in found for found in parts_of_each(labels, parts).values())
    assert not drop_leaks(sequences, parts)
    for share, part in zip(shares, ("train", "validation", "test"), strict=True):
        assert share or part not in parts


@given(ROWS, st.randoms(use_true_random=False))
def test_a_stratified_split_does_not_depend_on_the_order_of_rows(rows, shuffler):
    shuffled = shuffler.sample(rows, len(rows))
    drawn = [dict(zip(case, stratified(*map(list, zip(*case, strict=True))), strict=True)) for case in (rows, shuffled)]
    assert drawn[0] == drawn[1]


def test_each_class_gets_its_quota_to_within_one():
    sequences, labels = classes([10, 25, 60, 101])
    drawn = Counter(zip(labels, stratified(sequences, labels, (0.8, 0.1, 0.1), seed=5), strict=True))
    for number, size in enumerate([10, 25, 60, 101]):
        for part, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
            assert abs(drawn[f"class{number}", part] - size * share) < 2


def test_many_small_classes_together_come_near_the_fractions():
    sequences, labels = classes([3] * 400)
    counts = part_counts(stratified(sequences, labels))
    assert counts == {
        "train": pytest.approx(960, abs=2),
        "validation": pytest.approx(120, abs=2),
        "test": counts["test"],
    }


def test_classes_of_one_member_stay_in_train_and_nothing_makes_up_for_them():
    sequences, labels = classes([1] * 300 + [10] * 10)
    parts = stratified(sequences, labels)
    assert set(parts[:300]) == {"train"}
    assert part_counts(parts[300:]) == {"train": 80, "validation": 10, "test": 10}


def test_a_sequence_with_two_labels_stays_in_train():
    sequences, labels = classes([20])
    parts = stratified([*sequences, "MM", "MM"], [*labels, "class0", "other"], (0.1, 0.0, 0.9))
    assert parts[-2:] == ["train", "train"]
    assert parts[:20].count("test") == 18


def test_another_seed_gives_another_split():
    sequences, labels = classes([30, 30])
    assert stratified(sequences, labels, seed=1) == stratified(sequences, labels, seed=1)
    assert stratified(sequences, labels, seed=1) != stratified(sequences, labels, seed=2)


@pytest.mark.parametrize("fractions", [(0.8, 0.1), (0.8, 0.1, 0.2), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1)])
def test_fractions_that_are_no_shares_of_one_are_refused(fractions):
    with pytest.raises(UsageError, match=r"split fractions .*: give train, validation and test that add up to 1"):
        check_fractions(fractions)
    with pytest.raises(UsageError):
        stratified(["MA"], ["a"], fractions)
    with pytest.raises(UsageError):
        by_cluster(["MA"], ["a"], fractions)


@given(
    st.lists(st.tuples(st.text("ACDE", min_size=1, max_size=3), st.sampled_from("tuvwxyz")), min_size=1, max_size=40),
    SHARES,
)
def test_a_cluster_or_a_sequence_is_never_in_two_parts(rows, shares):
    sequences, clusters = map(list, zip(*rows, strict=True))
    parts = by_cluster(sequences, clusters, shares)
    assert all(len(found) == 1 for found in parts_of_each(clusters, parts).values())
    assert all(len(found) == 1 for found in parts_of_each(sequences, parts).values())


def test_a_cluster_split_comes_near_the_fractions_whatever_the_order_and_the_clusters_names():
    rng = random.Random(0)
    rows = [(f"M{row}", f"c{rng.randrange(200)}") for row in range(1000)]
    sequences, clusters = map(list, zip(*rows, strict=True))
    parts = by_cluster(sequences, clusters, seed=3)
    counts = part_counts(parts)
    assert counts["train"] == pytest.approx(800, abs=15)
    assert counts["test"] == pytest.approx(100, abs=15)
    assert by_cluster(sequences[::-1], [f"other{name}" for name in clusters[::-1]], seed=3) == parts[::-1]
    assert by_cluster(sequences, clusters, seed=4) != parts


@pytest.mark.parametrize(
    "text",
    [
        "cluster\tid\nc1\ta\nc1\tb\nc2\tc\n",
        "id\tcluster\r\na\tc1\r\nb\tc1\r\nc\tc2\r\n",
        "\ufeffprotein\tCluster\na\tc1\nb\tc1\nc\tc2\n\n",
        "c1\ta\nc1\tb\nc2\tc\n",
        "a\tc1\nb\tc1\nc\tc2\n",
    ],
)
def test_a_cluster_table_is_read_in_either_order_with_or_without_header(tmp_path, text):
    path = tmp_path / "clusters.tsv"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_clusters(path, ["a", "b", "c"]) == {"a": "c1", "b": "c1", "c": "c2"}


def test_a_table_of_mmseqs_has_the_representative_first(tmp_path):
    path = tmp_path / "clusters.tsv"
    path.write_text("a\ta\na\tb\nc\tc\n")
    assert read_clusters(path, ["a", "b", "c"]) == {"a": "a", "b": "a", "c": "c"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("c1\ta\nc1\tb\n", "no cluster for 2 of 4 ids (c, d); add lines for them"),
        ("", "no cluster for 4 of 4 ids (a, b, c, …); add lines for them"),
        ("c1\ta\tx\n", ":1: 3 columns; give two tab-separated columns, cluster and id"),
        ("c1\ta\n\nc1\n", ":3: 1 column; give two tab-separated columns, cluster and id"),
        ("c1\ta\nc2\ta\n", ":2: record 'a': in cluster 'c2', but in 'c1' before; give each id one cluster"),
    ],
)
def test_a_cluster_table_that_cannot_be_used_is_told(tmp_path, text, message):
    path = tmp_path / "clusters.tsv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_clusters(path, ["a", "b", "c", "d"])
    assert str(caught.value).removeprefix(str(path)).lstrip(": ") == message.lstrip(": ")


def test_a_cluster_table_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match=r"none\.tsv: cannot be opened \(No such file or directory\)"):
        read_clusters(tmp_path / "none.tsv", ["a"])


def test_test_wins_over_validation_over_train():
    sequences = ["MA", "MA", "MA", "MC", "MC", "MD", "MD", "ME", "ME"]
    parts = ["train", "validation", "test", "train", "validation", "train", "train", "test", "test"]
    assert drop_leaks(sequences, parts) == [
        Leak(0, "train", "test"),
        Leak(1, "validation", "test"),
        Leak(3, "train", "validation"),
    ]


def test_rows_without_a_part_beside_given_ones_are_train():
    assert apply_given([None, "test", "validation", "train"]) == ["train", "test", "validation", "train"]


def test_a_given_split_without_train_is_refused():
    with pytest.raises(UsageError, match=r"every record is test and validation .* give training records too"):
        apply_given(["test", "validation"])


def test_the_report_tells_each_fact_once():
    leaks = [(f"p{number}", "train", "test") for number in range(22)]
    told = SplitReport("given", 7, leaks=leaks, assigned=2, drawn_validation=9, ambiguous=1, untrained=3).lines()
    assert told[:4] == [
        "2 records without a part beside others with one: taken as train",
        "no validation part given: 9 of train drawn for it (seed 7)",
        "22 records left out because another part holds an equal sequence:",
        "  p0: left train, stays in test",
    ]
    assert told[-3:] == [
        "  and 2 more",
        "warning: 1 sequence with more than one label; all kept",
        "warning: 3 classes without a training member; always wrong",
    ]
    drawn = SplitReport("stratified", 1, (0.75, 0.125, 0.125)).lines()
    assert drawn == ["stratified split: 75 % train, 12.5 % validation, 12.5 % test (seed 1)"]
