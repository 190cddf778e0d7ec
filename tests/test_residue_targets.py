"""Residue targets: what a table and its profiles give, and the one line that says what is wrong with a record."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esmcls.errors import DataError
from esmcls.pretraining.read_targets import read_residue_targets
from esmcls.pretraining.residue_targets import AMINO_ACIDS, STATES

HEADER = "id\tsequence\tss8\taccessibility"


def table(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    (tmp_path / "targets.tsv").write_text("".join(f"{row}\n" for row in (header, *rows)))
    return tmp_path / "targets.tsv"


def profiles(tmp_path: Path, **changes: Any) -> Path:
    shares = np.zeros((5, 20), np.float32)
    shares[:, 0] = [2, 0, 1, np.nan, 4]
    shares[:, 3] = [2, 0, 0, 0, 4]
    np.savez(tmp_path / "p.npz", **{"id": ["b", "a"], "length": [2, 3], "profile": shares} | changes)
    return tmp_path / "p.npz"


def test_states_and_accessibilities_stand_at_their_residues_and_unknown_ones_are_masked(tmp_path: Path) -> None:
    targets = read_residue_targets(table(tmp_path, "a\tmkt\tCH?\t50 nan 120", "b\tAW\t\t", "c\tG\tE\t0"))
    assert (targets.ids, targets.sequences) == (["a", "b", "c"], ["MKT", "AW", "G"])
    assert targets.states.tolist() == [STATES.index("C"), STATES.index("H"), -1, -1, -1, STATES.index("E")]
    assert np.array_equal(targets.accessibility, np.float32([0.5, math.nan, 1, math.nan, math.nan, 0]), equal_nan=True)
    assert targets.profile.shape == (6, 20)
    assert (targets.has_structure, targets.has_profile) == (True, False)


def test_columns_are_found_by_name_and_the_file_may_be_compressed(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "t.tsv.gz", "wt") as handle:
        handle.write("ss8\tid\tnote\taccessibility\tsequence\nHH\ta\tx\t1 2\tMK\n")
    assert read_residue_targets(tmp_path / "t.tsv.gz").sequences == ["MK"]


def test_profiles_are_joined_by_id_and_add_up_to_one(tmp_path: Path) -> None:
    path = table(tmp_path, "a\tMKT\tCHH\t", "c\tW\t\t", "b\tAW\t\t")
    targets = read_residue_targets(path, profiles(tmp_path))
    assert targets.profile[:, 0].tolist() == [1, 0, 0.5, 0, 0.5, 0]  # a: 1, nan, 4 + 4; c: none; b: 2 + 2, zeros
    assert targets.profile[:, AMINO_ACIDS.index("E")].tolist() == [0, 0, 0.5, 0, 0.5, 0]
    assert targets.has_profile


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a\tMKT\tCH\t", "2: record 'a': 2 states of secondary structure of 3 residues; give one for each residue"),
        ("a\tMKT\t\t1 2", "2: record 'a': 2 accessibilities of 3 residues; give one for each residue"),
        (
            "a\tMKT\tCH-\t",
            "2: record 'a': secondary structure '-' of residue 3; "
            "use DSSP's B C E G H I S T, C for none, and ? where it is not known",
        ),
        (
            "a\tMKT\t\t1 x 2",
            "2: record 'a': accessibility 'x' of residue 2; give percent of 0 or more, and nan where it is not known",
        ),
        ("a\tMKT\t\t1 -3 2", "2: record 'a': accessibility '-3' of residue 2; give percent of 0 or more"),
        ("a\tMKT\t\t1 2 inf", "2: record 'a': accessibility 'inf' of residue 3; give percent of 0 or more"),
        ("a\tM1T\t\t", "2: record 'a': sequence: "),
        ("a\t\t\t1", "2: record 'a': sequence: no residues"),
        ("a\tMKT\tCHH", "2: 3 cells, where the header has 4; separate the cells by tabs"),
        ("a\tM\t\t\na\tK\t\t", "3: this id stands in line 2 too; give each its own"),
    ],
)
def test_a_record_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, row: str, message: str) -> None:
    path = table(tmp_path, row)
    with pytest.raises(DataError) as raised:
        read_residue_targets(path)
    assert str(raised.value).startswith(f"{path}:{message}")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("id\tsequence\tss8", "1: no column accessibility; give a header with id, sequence, ss8, accessibility"),
        (">a", "1: no column id or sequence or ss8 or accessibility"),
        (HEADER, "1: a header and no rows"),
    ],
)
def test_a_table_without_its_columns_or_rows_is_refused(tmp_path: Path, header: str, message: str) -> None:
    path = table(tmp_path, header=header)
    with pytest.raises(DataError) as raised:
        read_residue_targets(path)
    assert str(raised.value).startswith(f"{path}:{message}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ["b", "x"]}, "record 'x': not in the table of targets"),
        ({"id": ["a", "a"]}, "an id stands twice"),
        ({"id": ["a", "b"]}, "record 'a': a profile of 2 residues, where the table has 3"),
        ({"length": [2, 2]}, "arrays that do not fit one another: id (2,), length (2,), profile (5, 20)"),
        ({"profile": np.zeros((5, 21))}, "arrays that do not fit one another"),
        ({"profile": np.full((5, 20), -1.0)}, "a share below 0 in a profile"),
        ({"profile": np.array(["x"] * 100).reshape(5, 20)}, "a profile of U1 instead of numbers"),
    ],
)
def test_profiles_that_do_not_fit_the_table_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = table(tmp_path, "a\tMKT\t\t", "b\tAW\t\t")
    with pytest.raises(DataError) as raised:
        read_residue_targets(path, profiles(tmp_path, **changes))
    assert str(raised.value).startswith(f"{tmp_path / 'p.npz'}: {message}")


@pytest.mark.parametrize("content", [b"", b"id,length\n", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_archive_of_profiles_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"no archive of profiles .*; give an \.npz of id"):
        read_residue_targets(table(tmp_path, "a\tMKT\t\t"), tmp_path / "p.npz")


def test_an_archive_without_one_of_its_arrays_or_that_is_absent_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "a\tMKT\t\t")
    np.savez(tmp_path / "p.npz", id=["a"])
    with pytest.raises(DataError, match="no archive of profiles"):
        read_residue_targets(path, tmp_path / "p.npz")
    np.save(tmp_path / "p.npy", [1.0, 2.0])
    with pytest.raises(DataError, match="no archive of profiles"):
        read_residue_targets(path, tmp_path / "p.npy")
    with pytest.raises(DataError, match=r"no archive of profiles \(No such file or directory\)"):
        read_residue_targets(path, tmp_path / "absent.npz")
