"""Class names become codes and back, one of many and many of many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmcls.labels.labels import Labels, LabelSets

NAMES = ["PF2.1", "PF1.9", "PF2.1", "PF10.3"]


def test_classes_are_sorted_and_each_stands_once() -> None:
    labels = Labels.from_names(NAMES)
    assert labels.classes == ("PF1.9", "PF10.3", "PF2.1")
    assert labels.codes.tolist() == [2, 0, 2, 1]
    assert labels.codes.dtype == np.int64
    assert (len(labels), labels.n_classes) == (4, 3)


def test_given_classes_keep_their_order_and_other_names_are_minus_one() -> None:
    labels = Labels.from_names(NAMES, classes=["PF2.1", "PF1.9"])
    assert labels.classes == ("PF2.1", "PF1.9")
    assert labels.codes.tolist() == [0, 1, 0, -1]
    assert labels.names() == ["PF2.1", "PF1.9", "PF2.1", None]


def test_counts_leave_out_unknown_classes_and_show_empty_ones() -> None:
    assert Labels.from_names(NAMES, classes=["PF2.1", "PF7", "PF1.9"]).counts().tolist() == [2, 0, 1]
    assert Labels.from_names([], classes=["a", "b"]).counts().tolist() == [0, 0]


def test_no_records_give_no_classes() -> None:
    labels = Labels.from_names([])
    assert (labels.classes, len(labels), labels.n_classes, labels.counts().shape) == ((), 0, 0, (0,))


@pytest.mark.parametrize("rows", [[2, 0], slice(2, None, -2), np.array([2, 0]), [True, False, True, False]])
def test_taken_rows_keep_all_classes(rows: list[int]) -> None:
    taken = Labels.from_names(NAMES).take(np.array(rows) if isinstance(rows, list) else rows)
    assert taken.classes == ("PF1.9", "PF10.3", "PF2.1")
    assert taken.names() == ["PF2.1", "PF2.1"]


@pytest.mark.parametrize(
    ("classes", "codes", "message"),
    [
        (("a", "a"), [0], "a class stands twice among the classes"),
        (("a", "b"), [0, 2], "codes from 0 to 2 for 2 classes"),
        (("a", "b"), [-2, 0], "codes from -2 to 0 for 2 classes"),
        (("a", "b"), [[0]], "codes have 2 dimensions instead of 1"),
    ],
)
def test_labels_that_contradict_themselves_are_refused(
    classes: tuple[str, ...], codes: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Labels(classes, np.array(codes))


@settings(deadline=None)
@given(st.lists(st.text(max_size=3)))
def test_names_come_back_as_they_went_in(names: list[str]) -> None:
    labels = Labels.from_names(names)
    assert labels.names() == names
    assert labels.counts().sum() == len(names)
    assert labels.counts().tolist() == [names.count(name) for name in labels.classes]


SETS = [["b", "a"], [], ["b"], ["d", "c", "a", "b"]]


def test_sets_of_names_are_rows_of_ascending_codes() -> None:
    labels = LabelSets.from_names(SETS)
    assert labels.classes == ("a", "b", "c", "d")
    assert (labels.offsets.tolist(), labels.codes.tolist()) == ([0, 2, 2, 3, 7], [0, 1, 1, 0, 1, 2, 3])
    assert (labels.sizes().tolist(), labels.counts().tolist()) == ([2, 0, 1, 4], [2, 3, 1, 1])
    assert (len(labels), labels.n_classes, labels.row(3).tolist()) == (4, 4, [0, 1, 2, 3])
    assert labels.names() == [("a", "b"), (), ("b",), ("a", "b", "c", "d")]


def test_sets_coded_by_given_classes_leave_other_names_out_and_keep_groups() -> None:
    labels = LabelSets.from_names(SETS, ("d", "b", "x"), "CFP")
    assert labels.names() == [("b",), (), ("b",), ("d", "b")]
    assert (labels.counts().tolist(), labels.groups) == ([1, 3, 0], ("C", "F", "P"))
    assert labels.take([3]).groups == ("C", "F", "P")


@pytest.mark.parametrize("rows", [[3, 0, 3], slice(None, None, -1), [False, True, False, True], [], [1], slice(1, 3)])
def test_taken_and_dense_sets_are_those_of_the_rows(rows: list[int] | slice) -> None:
    chosen = np.array(rows, dtype=None if rows else np.int64) if isinstance(rows, list) else rows
    labels, whole = LabelSets.from_names(SETS), np.array([[name in row for name in "abcd"] for row in SETS])
    numbers = np.arange(len(SETS))[chosen].tolist()
    assert labels.take(chosen).names() == [labels.names()[number] for number in numbers]
    assert labels.dense(chosen).tolist() == whole[chosen].tolist()


@pytest.mark.parametrize(
    ("classes", "offsets", "codes", "groups", "message"),
    [
        (("a", "a"), [0], [], (), "a class stands twice among the classes"),
        (("a", "b"), [0, 1], [0], ("F",), "1 groups for 2 classes"),
        (("a", "b"), [0, 3], [0, 1], (), "offsets that do not cut 2 codes into rows"),
        (("a", "b"), [], [], (), "offsets that do not cut 0 codes into rows"),
        (("a", "b"), [0, 2, 1, 2], [0, 1], (), "offsets that do not cut 2 codes into rows"),
        (("a", "b"), [0, 1], [2], (), "codes from 2 to 2 for 2 classes"),
        (("a", "b"), [0, 2], [1, 0], (), "codes of a record are not ascending, each once"),
        (("a", "b"), [0, 2], [1, 1], (), "codes of a record are not ascending, each once"),
    ],
)
def test_sets_that_contradict_themselves_are_refused(
    classes: tuple[str, ...], offsets: list[int], codes: list[int], groups: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LabelSets(classes, np.array(offsets), np.array(codes), groups)


@settings(deadline=None)
@given(st.lists(st.sets(st.text(max_size=2), max_size=4)))
def test_sets_of_names_come_back_as_they_went_in(names: list[set[str]]) -> None:
    labels = LabelSets.from_names(names)
    assert [set(row) for row in labels.names()] == names
    assert labels.sizes().tolist() == list(map(len, names))
