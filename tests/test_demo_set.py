"""The demo set is what its README says."""

from __future__ import annotations

import gzip
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import pytest

from esmcls.reading.readers import read_records
from esmcls.reading.records import Record, Tally

PATH = Path(__file__).parents[1] / "data/demo.csv.gz"
PARTS = {"train": 1506, "validation": 350, "test": 353}


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return list(read_records(PATH))


def test_the_set_is_read_without_anything_to_tell() -> None:
    tally = Tally()
    assert len(list(read_records(PATH, tally=tally))) == 2209
    assert tally.lines() == ["2,209 records read"]


def test_the_packed_file_is_small_and_without_name_or_time() -> None:
    content = PATH.read_bytes()
    assert len(content) < 1_000_000
    assert content[:8] == b"\x1f\x8b\x08\0\0\0\0\0"
    assert gzip.decompress(content).startswith(b"id,sequence,label,split\n")


def test_parts_and_lengths_are_as_the_readme_says(records: list[Record]) -> None:
    assert Counter(record.part for record in records) == PARTS
    lengths = [len(record.protein.sequence) for record in records]
    assert (min(lengths), max(lengths), sum(lengths)) == (46, 400, 412_476)


def test_ids_and_sequences_stand_once(records: list[Record]) -> None:
    assert len({record.protein.id for record in records}) == len(records)
    assert len({record.protein.sequence for record in records}) == len(records)


def test_every_class_has_a_name_and_members_in_every_part(records: list[Record]) -> None:
    of_class = Counter((record.label, record.part) for record in records)
    labels = {record.label or "" for record in records}
    assert len(labels) == 96
    assert not [label for label in labels if len(label) < 7 or label.startswith(("GO:", "FUN"))]
    for label in labels:
        train, validation, test = (of_class[label, part] for part in PARTS)
        assert (train >= 8, 3 <= validation <= 4, 3 <= test <= 4) == (True, True, True), label
        assert 16 <= train + validation + test <= 27


def three_mers(sequence: str) -> set[str]:
    return {sequence[start : start + 3] for start in range(len(sequence) - 2)}


def test_members_of_different_parts_are_no_kin(records: list[Record]) -> None:
    classes: dict[str | None, list[tuple[str | None, set[str]]]] = defaultdict(list)
    for record in records:
        classes[record.label].append((record.part, three_mers(record.protein.sequence)))
    pairs = ((one, other) for members in classes.values() for one, other in combinations(members, 2))
    shares = [(a != b, len(x & y) / min(len(x), len(y))) for (a, x), (b, y) in pairs]
    assert max(share for apart, share in shares if apart) < 0.15
    assert max(share for apart, share in shares if not apart) < 0.8


def test_no_test_protein_is_in_a_test_part_that_models_are_measured_on(
    records: list[Record], shared: Path | None
) -> None:
    held_out = shared / "data/function5000/test.csv.gz" if shared is not None else None
    measured = {record.protein.sequence for record in read_records(held_out)} if held_out is not None else set()
    assert not [record.protein.id for record in records if record.protein.sequence in measured]
