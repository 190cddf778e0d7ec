"""The cache: what goes in comes out, from any number of segments, and what is wrong is said in one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_encoder import ToyEncoder, letters, stacked, vector

from esmcls.cache import index as rows_module
from esmcls.cache import segments as segments_module
from esmcls.cache import spec as spec_module
from esmcls.cache import store as cache_module
from esmcls.cache.index import KeyIndex
from esmcls.cache.segments import new_name
from esmcls.cache.spec import EmbeddingSpec, keys_of, sequence_key
from esmcls.cache.store import EmbeddingCache
from esmcls.encoders.encoder import Embedded
from esmcls.errors import CacheError, NonFiniteError, UsageError, WidthMismatchError
from esmcls.files import STALE_SECONDS

TOY = ToyEncoder()
SPEC = EmbeddingSpec.of(TOY)
ALL = ("mean", "cls", "max", "chunk")
ARCHIVES = Path(__file__).parents[1] / "data" / "archives"


def fill(folder: Path, *batches: list[str], spec: EmbeddingSpec = SPEC) -> None:
    """Write each batch as a segment."""
    with EmbeddingCache.open(folder, spec) as cache:
        for batch in batches:
            cache.append(batch, TOY.encode(batch, spec.pooled, "".join(spec.ragged)))
            cache.flush()


def names(folder: Path) -> list[str]:
    """List the segments."""
    return sorted(path.name for path in folder.glob("*.h5"))


def stored_counts(folder: Path, name: str, sequences: list[str]) -> list[int]:
    """Read a column of one number a sequence from the segments themselves."""
    counts: dict[bytes, int] = {}
    for path in folder.glob("*.h5"):
        with h5py.File(path, locking=False) as file:
            counts |= zip(map(bytes, file["key"][:]), file[name][:].tolist(), strict=True)
    return [counts[sequence_key(sequence)] for sequence in sequences]


# specs and keys


def test_a_sequence_that_is_appended_is_digested_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digested: list[str] = []
    digest = sequence_key
    monkeypatch.setattr(spec_module, "sequence_key", lambda sequence: (digested.append(sequence), digest(sequence))[1])
    with EmbeddingCache.open(tmp_path, SPEC) as cache:
        batch = ["MKT", "MV", "MKT"]
        cache.append(batch, TOY.encode(batch))
        assert digested == batch
        assert len(cache) == 2


def test_a_spec_survives_json_and_its_key_leaves_out_the_encoders_name() -> None:
    other = EmbeddingSpec.of(ToyEncoder(name="/somewhere/else"))
    assert EmbeddingSpec.from_json(json.loads(json.dumps(SPEC.to_json()))) == SPEC
    assert other == SPEC
    assert other.key() == SPEC.key()
    assert re.fullmatch("[0-9a-f]{64}", SPEC.key())


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "71"},
        {"layers": (1,)},
        {"long": "start"},
        {"precision": "bf16"},
        {"dtype": "float32"},
        {"poolings": ("mean", "cls")},
        {"width": 5},
    ],
)
def test_whatever_decides_a_vector_decides_the_key(change: dict[str, object]) -> None:
    other = EmbeddingSpec.from_json(SPEC.to_json() | change)
    assert other != SPEC
    assert other.key() != SPEC.key()
    assert next(iter(change)) in SPEC.difference(other)


def test_poolings_stand_in_one_order_whatever_was_asked_for() -> None:
    spec = EmbeddingSpec.of(TOY, "float32", ("residue", "max", "mean"))
    assert (spec.poolings, spec.pooled, spec.ragged) == (("mean", "max", "residue"), ("mean", "max"), ("residue",))


@pytest.mark.parametrize(
    ("poolings", "dtype", "message"),
    [
        (
            ("median",),
            "float16",
            "poolings median: choose some of mean, cls, max, attention, "
            "and at most one of chunk, residue, residue_int8",
        ),
        (
            (),
            "float16",
            "poolings none: choose some of mean, cls, max, attention, and at most one of chunk, residue, residue_int8",
        ),
        (
            ("chunk",),
            "float16",
            "poolings chunk: choose some of mean, cls, max, attention, and at most one of chunk, residue, residue_int8",
        ),
        (("mean",), "float64", "dtype 'float64' cannot be stored; choose one of float16, float32"),
    ],
)
def test_what_cannot_be_stored_is_refused(poolings: tuple[str, ...], dtype: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        EmbeddingSpec.of(TOY, dtype, poolings)


@pytest.mark.parametrize("value", [[], {}, {"format": "1"}, {"format": 1, "encoder": "toy"}])
def test_json_that_is_no_spec_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"it |lacks "):
        EmbeddingSpec.from_json(value)  # type: ignore[arg-type]


def test_a_spec_of_a_newer_format_is_refused() -> None:
    with pytest.raises(ValueError, match=r"format 2, newer than this esmcls, which reads up to 1$"):
        EmbeddingSpec.from_json(SPEC.to_json() | {"format": 2})


def test_keys_keep_zero_bytes_at_their_end() -> None:
    """36 of 10,000 digests end in a zero byte that a fixed-length string would lose."""
    ends_in_zero = [text for text in map(letters, range(2000)) if sequence_key(text)[-1] == 0]
    assert len(ends_in_zero) > 3
    assert [bytes(key) for key in keys_of(ends_in_zero)] == [sequence_key(text) for text in ends_in_zero]


def test_rows_are_found_by_key_where_many_share_their_first_8_bytes() -> None:
    keys = np.zeros((300, 32), dtype=np.uint8)
    keys[:, 31] = np.arange(300) % 150
    keys[200:, 0] = 1
    index = KeyIndex(keys)
    assert index.find(keys[[149, 3, 299, 150]]).tolist() == [149, 3, 299, 0]
    assert index.find(keys[:1] + np.uint8(77)).tolist() == [-1]
    assert index.first_rows().tolist() == [*range(150), *range(200, 300)]
    assert KeyIndex(keys[:0]).find(keys).tolist() == [-1] * 300


# round trips


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), max_size=8), max_size=6), st.lists(st.integers(0, 40), max_size=12))
def test_what_is_appended_in_any_portions_is_read_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, portions: list[list[int]], asked: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    fill(folder, *([letters(number) for number in portion] for portion in portions))
    there = {number for portion in portions for number in portion}
    wanted = [letters(number) for number in asked if number in there]
    with EmbeddingCache.open(folder, SPEC) as cache:
        assert len(cache) == len(there)
        assert np.array_equal(cache.read(wanted), stacked(wanted))
        absent = [place for place, number in enumerate(asked) if number not in there | set(asked[:place])]
        assert cache.missing([letters(number) for number in asked]) == absent


def test_every_pooling_chunks_inputs_and_lengths_come_back(tmp_path: Path) -> None:
    spec = EmbeddingSpec.of(TOY, "float32", ALL)
    sequences = ["ACDACDACD", "A", "CC", "ACDAC"]
    fill(tmp_path, sequences[:1], sequences[1:], spec=spec)
    with EmbeddingCache.open(tmp_path) as cache:
        back = [*sequences[::-1], "A"]
        for factor, pooling in enumerate(("mean", "cls", "max"), start=1):
            assert cache.read(back, pooling).dtype == np.float32
            assert np.array_equal(cache.read(back, pooling), factor * stacked(back))
        assert stored_counts(tmp_path, "length", back) == [5, 2, 1, 9, 1]
        assert stored_counts(tmp_path, "inputs", back) == [2, 1, 1, 2, 1]
        for sequence, chunks in zip(back, cache.read_chunks(back), strict=True):
            assert chunks.tolist() == [vector(sequence)] * (2 if len(sequence) > 4 else 1)


def test_residues_come_back(tmp_path: Path) -> None:
    fill(tmp_path, ["ACD", "AACCDDD"], ["C"], spec=EmbeddingSpec.of(TOY, poolings=("mean", "residue")))
    with EmbeddingCache.open(tmp_path) as cache:
        assert [len(part) for part in cache.read_residues(["C", "AACCDDD", "ACD"])] == [1, 4, 3]


def test_nothing_is_asked_and_nothing_comes(tmp_path: Path) -> None:
    with EmbeddingCache.open(tmp_path, EmbeddingSpec.of(TOY, poolings=("mean", "chunk"))) as cache:
        assert cache.read([]).shape == (0, 4)
        assert cache.read_chunks([]) == []
        assert cache.missing([]) == []
        assert (len(cache), cache.segments, cache.nbytes) == (0, 0, 0)
        cache.append([], TOY.encode([], keep="chunk"))
        assert cache.verify().rows == 0
    assert names(tmp_path) == []


def test_vectors_are_float16_by_default_and_rounded_to_nearest(tmp_path: Path) -> None:
    with EmbeddingCache.open(tmp_path, SPEC) as cache:
        vectors = np.array([[0.1, 1 / 3, 2049.4, 1e-5]], dtype=np.float32)
        cache.append(["A"], Embedded({"mean": vectors}, np.array([1]), np.array([1])))
        assert cache.read(["A"]).dtype == np.float16
        assert np.array_equal(cache.read(["A"]), vectors.astype(np.float16))


def test_a_sequence_is_stored_once_and_its_first_vector_stays(tmp_path: Path) -> None:
    with EmbeddingCache.open(tmp_path, SPEC) as cache:
        cache.append(["A", "C", "A"], TOY.encode(["A", "C", "A"]))
        cache.append(["C"], Embedded({"mean": np.zeros((1, 4), np.float32)}, np.array([1]), np.array([1])))
        assert len(cache) == 2
        assert np.array_equal(cache.read(["C", "A"]), stacked(["C", "A"]))


def test_scattered_rows_are_read_in_few_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gap is read and thrown away, unless it is large; blocks stay bounded; no fancy index."""
    sequences = [letters(number) for number in range(400)]
    fill(tmp_path, sequences)
    monkeypatch.setattr(segments_module, "GAP", 10 * 8)
    monkeypatch.setattr(segments_module, "BLOCK_BYTES", 100 * 8)
    monkeypatch.setattr(rows_module, "BLOCK_BYTES", 50 * 8)
    with EmbeddingCache.open(tmp_path) as cache:
        for rows in (range(400), range(0, 400, 7), range(0, 400, 50), [399, 3, 3, 0, 200], range(399, -1, -1)):
            wanted = [sequences[row] for row in rows]
            assert np.array_equal(cache.read(wanted), stacked(wanted))
    assert list(segments_module._runs(np.array([0, 1, 50, 51, 99, 160, 161]), 10, 100)) == [
        slice(0, 2),
        slice(2, 4),
        slice(4, 5),
        slice(5, 7),
    ]


@pytest.mark.parametrize(
    ("in_memory", "held"), [(False, [False, False]), (True, [True, True]), ("auto", [False, True])]
)
def test_vectors_are_held_in_memory_as_asked_or_from_the_second_time_on(
    tmp_path: Path, in_memory: bool, held: list[bool]
) -> None:
    fill(tmp_path, ["A", "C", "D"])
    with EmbeddingCache.open(tmp_path, in_memory=in_memory) as cache:
        for expected in held:
            assert np.array_equal(cache.read(["D", "A", "C"]), stacked(["D", "A", "C"]))
            assert ("mean" in cache._held) is expected
        cache.append(["E"], TOY.encode(["E"]))
        assert np.array_equal(cache.read(["E", "A"]), stacked(["E", "A"]))


# when segments are sealed


def test_a_segment_is_sealed_after_so_many_bytes_or_seconds_at_the_end_of_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddingCache.open(tmp_path, SPEC) as cache:
        cache.append(["A", "C"], TOY.encode(["A", "C"]))
        assert cache.segments == 0
        monkeypatch.setattr(cache_module, "SEAL_BYTES", 4 * 56)  # a row: 32 of key, 8, 8, and 4 float16
        cache.append(["D", "E"], TOY.encode(["D", "E"]))
        assert cache.segments == 1
        cache.append(["F"], TOY.encode(["F"]))
        assert cache.segments == 1
        monkeypatch.setattr(cache_module, "SEAL_SECONDS", 0.0)
        cache.append(["G"], TOY.encode(["G"]))
        assert cache.segments == 2
        cache.append(["H"], TOY.encode(["H"]))
    with EmbeddingCache.open(tmp_path) as cache:
        assert cache.missing(list("ACDEFGH")) == []


def test_segments_are_sorted_by_time_and_never_touched_again(tmp_path: Path) -> None:
    fill(tmp_path, ["A"])
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    time.sleep(0.001)
    fill(tmp_path, ["C"], ["D"])
    assert names(tmp_path)[0] == next(iter(before))
    assert all((tmp_path / name).read_bytes() == content for name, content in before.items())
    assert all(re.fullmatch(r"\d{8}T\d{12}-[0-9a-f]{12}\.h5", name) for name in names(tmp_path))
    assert len({new_name() for _ in range(1000)}) == 1000


def test_readers_see_segments_that_others_seal_only_after_refresh(tmp_path: Path) -> None:
    fill(tmp_path, ["A"])
    with EmbeddingCache.open(tmp_path) as reader:
        fill(tmp_path, ["C"])
        assert reader.missing(["A", "C"]) == [1]
        reader.refresh()
        assert reader.missing(["A", "C"]) == []


def test_of_a_key_that_two_writers_stored_the_first_segments_row_wins_also_when_compacted(tmp_path: Path) -> None:
    first, second = EmbeddingCache.open(tmp_path, SPEC), EmbeddingCache.open(tmp_path, SPEC)
    first.append(["C"], TOY.encode(["C"]))
    second.append(["C"], Embedded({"mean": np.full((1, 4), 9, np.float32)}, np.array([1]), np.array([1])))
    first.close()
    second.close()
    with EmbeddingCache.open(tmp_path) as cache:
        assert (len(cache), cache.segments) == (1, 2)
        assert np.array_equal(cache.read(["C"]), stacked(["C"]))
        assert cache.compact() == 2
        assert (len(cache), cache.segments) == (1, 1)
        assert np.array_equal(cache.read(["C"]), stacked(["C"]))


# compact and merge


def test_compact_leaves_one_segment_with_the_same_rows(tmp_path: Path) -> None:
    spec = EmbeddingSpec.of(TOY, poolings=ALL)
    sequences = [letters(number) for number in range(9)]
    fill(tmp_path, sequences[:4], sequences[4:5], sequences[5:], spec=spec)
    old = names(tmp_path)
    with EmbeddingCache.open(tmp_path) as cache:
        assert cache.compact() == 3
        assert cache.compact() == 1
    assert len(names(tmp_path)) == 1
    assert names(tmp_path)[0].partition("-")[0] == old[0].partition("-")[0], "it takes the place of the first"
    with EmbeddingCache.open(tmp_path) as cache:
        assert np.array_equal(cache.read(sequences, "max"), 3 * stacked(sequences))
        assert [len(part) for part in cache.read_chunks(sequences)] == stored_counts(tmp_path, "inputs", sequences)
        assert cache.verify().rows == 9


def test_replaced_segments_that_a_crash_left_are_ignored_and_removed_by_the_next_writer(tmp_path: Path) -> None:
    fill(tmp_path, ["A"], ["C"])
    old = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with EmbeddingCache.open(tmp_path) as cache:
        cache.compact()
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    with EmbeddingCache.open(tmp_path) as cache:
        assert (len(cache), cache.segments) == (2, 1)
    fill(tmp_path, ["D"])
    assert not old.keys() & set(names(tmp_path))
    assert len(names(tmp_path)) == 2


def test_beyond_so_many_segments_neighbours_are_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MOST_SEGMENTS", 8)
    sequences = [letters(number) for number in range(60)]
    fill(tmp_path, *([sequence] for sequence in sequences))
    assert len(names(tmp_path)) <= 8
    with EmbeddingCache.open(tmp_path) as cache:
        assert np.array_equal(cache.read(sequences), stacked(sequences))


def test_a_cache_that_is_compacted_while_it_is_read_goes_on(tmp_path: Path) -> None:
    fill(tmp_path, ["A"], ["C"])
    with EmbeddingCache.open(tmp_path) as reader:
        with EmbeddingCache.open(tmp_path) as other:
            other.compact()
        assert np.array_equal(reader.read(["C", "A"]), stacked(["C", "A"]))
        reader.refresh()
        assert reader.segments == 1
        assert np.array_equal(reader.read(["C", "A"]), stacked(["C", "A"]))


def test_merge_takes_over_what_is_missing(tmp_path: Path) -> None:
    fill(tmp_path / "a", ["A", "C"])
    fill(tmp_path / "b", ["C", "D"], ["E"])
    fill(tmp_path / "c", ["E", "F"])
    with EmbeddingCache.open(tmp_path / "a") as cache:
        assert cache.merge([tmp_path / "b", tmp_path / "c"]) == 3
        assert cache.merge([tmp_path / "b", tmp_path / "c"]) == 0
        assert cache.segments == 2
        assert np.array_equal(cache.read(list("FEDCA")), stacked(list("FEDCA")))


def test_merge_refuses_another_spec_and_a_folder_without_a_cache(tmp_path: Path) -> None:
    fill(tmp_path / "a", ["A"])
    fill(tmp_path / "b", ["A"], spec=EmbeddingSpec.of(TOY, "float32"))
    with EmbeddingCache.open(tmp_path / "a") as cache:
        with pytest.raises(CacheError, match=r"this cache is of another spec \(dtype float32 against float16\)"):
            cache.merge([tmp_path / "b"])
        with pytest.raises(CacheError, match=r"no cache of embeddings \(no spec.json\); give the folder"):
            cache.merge([tmp_path])
        assert len(cache) == 1


# temporaries


def test_temporaries_are_ignored_and_only_old_ones_removed(tmp_path: Path) -> None:
    fill(tmp_path, ["A"])
    fresh, stale = (tmp_path / f".{new_name()}.1.0a1b2c3d.tmp" for _ in range(2))
    fresh.write_bytes(b"half")
    stale.write_bytes(b"half")
    os.utime(stale, (time.time() - 2 * STALE_SECONDS,) * 2)
    fill(tmp_path, ["C"])
    assert fresh.exists(), "it may be a living writer's"
    assert not stale.exists()


# refusals


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            ToyEncoder(nan_at="C"),
            "the encoder gave a vector that is not finite; try --precision fp32, or check the weights",
        ),
        (ToyEncoder(huge_at="C"), "a number of its vector does not fit into float16; embed with --dtype float32"),
    ],
)
def test_a_vector_that_is_not_finite_is_refused_with_its_batch(
    tmp_path: Path, encoder: ToyEncoder, message: str
) -> None:
    with EmbeddingCache.open(tmp_path, SPEC) as cache:
        cache.append(["A"], TOY.encode(["A"]))
        with pytest.raises(NonFiniteError, match=f"^sequence C \\(1 residues\\): {re.escape(message)}$"):
            cache.append(["D", "C"], encoder.encode(["D", "C"]))
    with EmbeddingCache.open(tmp_path) as cache:
        assert cache.missing(["A", "D", "C"]) == [1, 2]


def test_what_overflows_float16_fits_float32(tmp_path: Path) -> None:
    with EmbeddingCache.open(tmp_path, EmbeddingSpec.of(TOY, "float32")) as cache:
        cache.append(["C"], ToyEncoder(huge_at="C").encode(["C"]))
        assert cache.read(["C"])[0, 1] == 1e6


def test_vectors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with EmbeddingCache.open(tmp_path, SPEC) as cache, pytest.raises(WidthMismatchError, match=r"width 4.*width 5"):
        cache.append(["A"], Embedded({"mean": np.zeros((1, 5), np.float32)}, np.array([1]), np.array([1])))
    with (
        EmbeddingCache.open(tmp_path, SPEC) as cache,
        pytest.raises(ValueError, match="2 sequences, but not as many vectors"),
    ):
        cache.append(["A", "C"], TOY.encode(["A"]))
    with (
        EmbeddingCache.open(tmp_path / "r", EmbeddingSpec.of(TOY, poolings=("mean", "residue"))) as cache,
        pytest.raises(UsageError, match="residue vectors, but the encoder was not asked"),
    ):
        cache.append(["A"], TOY.encode(["A"]))


def test_reading_what_is_not_there_says_what_to_run(tmp_path: Path) -> None:
    fill(tmp_path, ["A"])
    with EmbeddingCache.open(tmp_path) as cache:
        with pytest.raises(CacheError, match=r"2 of 3 sequences are not embedded; run embed on them$"):
            cache.read(["A", "C", "D"])
        with pytest.raises(CacheError, match=r"no cls vectors are stored, but mean; embed with --pool cls$"):
            cache.read(["A"], "cls")
        with pytest.raises(CacheError, match=r"no chunk vectors are stored; embed with --chunks$"):
            cache.read_chunks(["A"])
        with pytest.raises(CacheError, match=r"no residue vectors are stored; embed with --residues$"):
            cache.read_residues(["A"])


def test_a_folder_that_is_no_cache_or_of_another_spec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"no cache of embeddings \(no spec.json\); run embed first$"):
        EmbeddingCache.open(tmp_path)
    fill(tmp_path, ["A"])
    with pytest.raises(
        CacheError, match=r"another spec \(precision fp32 against bf16\); choose another folder for it$"
    ):
        EmbeddingCache.open(tmp_path, EmbeddingSpec.of(ToyEncoder(precision="bf16")))
    (tmp_path / "spec.json").write_text(json.dumps(SPEC.to_json() | {"format": 7}))
    with pytest.raises(CacheError, match=r"spec.json: .*format 7, newer than this esmcls.*; update esmcls$"):
        EmbeddingCache.open(tmp_path)
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(CacheError, match=r"spec.json: this spec cannot be read .*; delete it and run embed again"):
        EmbeddingCache.open(tmp_path)


# verify


def test_verify_counts_what_is_in_order_and_embeds_a_sample_again(tmp_path: Path) -> None:
    sequences = [letters(number) for number in range(20)]
    fill(tmp_path, sequences[:10], sequences[10:])
    with EmbeddingCache.open(tmp_path) as cache:
        report = cache.verify(ToyEncoder(), [*sequences, "WWW"], sample=5)
        assert (report.segments, report.rows, report.checked, report.worst) == (2, 20, 5, 0.0)
        assert report.nbytes == sum((tmp_path / name).stat().st_size for name in names(tmp_path))


@pytest.mark.parametrize("column", ["mean", "key", "length"])
def test_verify_finds_a_flipped_bit(tmp_path: Path, column: str) -> None:
    fill(tmp_path, ["ACD", "C"])
    path = tmp_path / names(tmp_path)[0]
    with h5py.File(path) as file:
        place = file[column].id.get_offset()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with EmbeddingCache.open(tmp_path) as cache, pytest.raises(CacheError) as caught:
        cache.verify()
    what = f"column {column} of this segment does not have its digest"
    assert str(caught.value) == f"{path}: {what}; delete this file and run embed again; what else is cached stays"


def test_verify_finds_vectors_that_the_encoder_does_not_give(tmp_path: Path) -> None:
    with EmbeddingCache.open(tmp_path, SPEC) as cache:
        cache.append(["ACD"], Embedded({"mean": np.full((1, 4), 3, np.float32)}, np.array([1]), np.array([1])))
        with pytest.raises(CacheError, match=r"the mean vector of ACD… is off by 0.58 .* delete this folder"):
            cache.verify(TOY, ["ACD"])
        with pytest.raises(CacheError, match=r"not of this cache's spec \(digest 70 against 71\); give that encoder"):
            cache.verify(ToyEncoder(digest="71"), ["ACD"])


# format


def test_the_archive_of_format_1_is_read_for_ever(tmp_path: Path) -> None:
    """Written once by data/archives/make_cache.py, which says what each vector is."""
    folder = shutil.copytree(ARCHIVES / "cache-format-1", tmp_path / "cache")
    sequences = ["A", "CAD", "DDDDDDDDD", "ACDACDACD", "MKTAYIAKQR", "W" * 70]
    with EmbeddingCache.open(folder) as cache:
        assert cache.spec.layers == (3, 6)
        assert (len(cache), cache.segments, len(names(folder))) == (6, 2, 4)
        assert np.array_equal(cache.read(sequences), stacked(sequences))
        assert np.array_equal(cache.read(sequences, "cls"), 2 * stacked(sequences))
        assert [len(part) for part in cache.read_chunks(sequences)] == [1, 1, 3, 3, 3, 18]
        assert stored_counts(folder, "length", sequences) == list(map(len, sequences))
        assert cache.verify().rows == 6
        cache.compact()
        assert np.array_equal(cache.read(sequences), stacked(sequences))


def test_a_segment_holds_what_the_format_says(tmp_path: Path) -> None:
    fill(tmp_path, ["ACD", "C"], spec=EmbeddingSpec.of(TOY, poolings=ALL))
    with h5py.File(tmp_path / names(tmp_path)[0]) as file:
        shapes = {name: (dataset.shape, dataset.dtype.str) for name, dataset in file.items()}
        assert shapes == {
            "key": ((2, 32), "|u1"),
            "length": ((2,), "<i8"),
            "inputs": ((2,), "<i8"),
            **dict.fromkeys(("mean", "cls", "max", "chunk"), ((2, 4), "<f2")),
            "chunk_offsets": ((3,), "<i8"),
        }
        assert file["key"][0].tobytes() == sequence_key("ACD")
        assert all(dataset.chunks is None and len(dataset.attrs["sha256"]) == 64 for dataset in file.values())
        assert file.attrs["format"] == 1
        assert json.loads(file.attrs["spec"]) == json.loads((tmp_path / "spec.json").read_text())
        assert json.loads(file.attrs["replaces"]) == []


def test_the_cache_needs_no_torch() -> None:
    code = "import sys, esmcls.cache.store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
