"""The data set: built of records, split, saved; and features, which fan out equal sequences."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset, build
from esmcls.encoders.encoder import load_encoder
from esmcls.errors import CacheError, DataError, FolderError, UnknownNameError, UsageError
from esmcls.reading.records import Protein, Record, Tally


def record(name: str, sequence: str, label: str | None = "a", part: str | None = None, line: int = 1) -> Record:
    return Record(Protein(name, sequence), label, part, "in.csv", line)


def family(label: str, size: int, part: str | None = None) -> list[Record]:
    return [record(f"{label}{number}", "M" + label.upper() * (number + 1), label, part) for number in range(size)]


def parts_by_id(dataset: Dataset) -> dict[str, str]:
    return dict(zip(dataset.ids, dataset.parts, strict=True))


def test_records_without_parts_are_split_by_class_in_input_order():
    dataset, report, _ = build([*family("a", 10), *family("c", 20)], seed=1)
    assert report.kind == "stratified"
    assert dataset.ids == [f"a{number}" for number in range(10)] + [f"c{number}" for number in range(20)]
    assert [len(dataset.part(name)) for name in ("train", "validation", "test")] == [24, 3, 3]
    assert report.lines() == ["stratified split: 80 % train, 10 % validation, 10 % test (seed 1)"]


def test_the_fractions_and_the_seed_are_those_asked_for():
    records = family("a", 40)
    dataset, report, _ = build(records, fractions=(0.5, 0.0, 0.5), seed=3)
    assert [len(dataset.part(name)) for name in ("train", "validation", "test")] == [20, 0, 20]
    assert (report.seed, report.fractions) == (3, (0.5, 0.0, 0.5))
    assert build(records, fractions=(0.5, 0.0, 0.5), seed=4).dataset.split_digest() != dataset.split_digest()


def test_a_given_split_is_kept():
    records = [*family("a", 4, "train"), *family("c", 2, "validation"), *family("d", 2, "test")]
    dataset, report, _ = build(records)
    assert dataset.parts == ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    assert report.untrained == 2
    assert report.lines() == ["warning: 2 classes without a training member; always wrong"]


def test_records_without_a_part_beside_a_given_test_are_train():
    dataset, report, _ = build([*family("a", 3), *family("c", 1, "validation"), *family("d", 2, "test")])
    assert (dataset.parts.count("train"), report.assigned) == (3, 3)


def test_a_missing_validation_part_is_drawn_from_train_and_a_missing_test_part_is_not():
    dataset, report, _ = build(family("a", 30, "train"), seed=2)
    assert [len(dataset.part(name)) for name in ("train", "validation", "test")] == [27, 3, 0]
    assert report.drawn_validation == 3
    assert report.lines() == ["no validation part given: 3 of train drawn for it (seed 2)"]


def test_sequences_of_test_leave_train_before_validation_is_drawn():
    records = [*family("a", 30), record("copy", "MAA", "a", "test"), record("own", "MWW", "a", "test")]
    dataset, report, _ = build(records)
    assert report.leaks == [("a1", "train", "test")]
    assert "a1" not in dataset.ids
    assert len(dataset) == 31
    held = {part: set(dataset.part(part).sequences) for part in ("train", "validation", "test")}
    assert not held["train"] & (held["test"] | held["validation"])


def test_equal_sequences_with_different_labels_are_kept_and_counted():
    records = [*family("a", 10), record("x", "MAA", "other"), record("y", "MAA", "a")]
    dataset, report, _ = build(records)
    assert report.ambiguous == 1
    assert len(dataset) == 12
    assert {parts_by_id(dataset)[name] for name in ("a1", "x", "y")} == {"train"}


def test_duplicate_ids_are_kept_and_counted():
    tally = Tally()
    dataset, _, _ = build([record("p", "MA"), record("p", "MC"), record("p", "MD"), record("q", "ME")], tally=tally)
    assert (dataset.ids, tally.duplicate_ids) == (["p", "p", "p", "q"], 2)


def test_clusters_go_to_one_part_whole(tmp_path):
    table = tmp_path / "clusters.tsv"
    table.write_text("".join(f"c{number // 5}\ta{number}\n" for number in range(50)))
    dataset, report, _ = build(family("a", 50, "train"), clusters=table, fractions=(0.6, 0.2, 0.2))
    parts = parts_by_id(dataset)
    assert report.kind == "cluster"
    assert all(len({parts[f"a{number}"] for number in range(first, first + 5)}) == 1 for first in range(0, 50, 5))
    assert [len(dataset.part(name)) for name in ("train", "validation", "test")] == [30, 10, 10]


def test_a_given_test_part_stays_and_validation_is_drawn_of_whole_clusters_of_train(tmp_path):
    table = tmp_path / "clusters.tsv"
    table.write_text("".join(f"c{number // 5}\ta{number}\n" for number in range(100)))
    tested = [record(f"t{number}", f"MW{'A' * number}", part="test") for number in range(9)]
    dataset, report, _ = build([*family("a", 100, None), *tested], clusters=table)
    parts = parts_by_id(dataset)
    assert (report.kind, report.drawn_validation) == ("given", 10)
    assert all(len({parts[f"a{number}"] for number in range(first, first + 5)}) == 1 for first in range(0, 100, 5))
    assert [name for name, part in parts.items() if part == "test"] == [one.protein.id for one in tested]


def test_an_id_of_two_sequences_cannot_be_joined_to_a_cluster(tmp_path):
    table = tmp_path / "clusters.tsv"
    table.write_text("c1\tp\n")
    with pytest.raises(DataError) as caught:
        build([record("p", "MA", line=2), record("p", "MA", line=3), record("p", "MC", line=7)], clusters=table)
    assert str(caught.value) == (
        "in.csv:7: record 'p': this id is that of another sequence too (in.csv:2); "
        "give each an id of its own, since clusters are joined by id"
    )


def test_given_parts_are_passed_over_where_another_split_is_asked_for():
    dataset, report, _ = build(family("a", 10, "train"), kind="stratified")
    assert (report.kind, len(dataset.part("test"))) == ("stratified", 1)


@pytest.mark.parametrize(
    ("records", "error", "message"),
    [
        ([], DataError, "input: no records; give at least one labelled sequence"),
        ([record("p", "MA", None, line=4)], DataError, "in.csv:4: record 'p': no label; give every record a label"),
        (family("a", 2, "test"), UsageError, "every record is test"),
        (
            [record("p", "MA", "a", "train"), record("q", "MA", "a", "test")],
            DataError,
            "every train sequence stands in test or validation too",
        ),
    ],
)
def test_records_that_make_no_data_set_are_refused(records, error, message):
    with pytest.raises(error) as caught:
        build(records)
    assert message in str(caught.value)


def test_a_split_by_cluster_without_a_table_is_refused():
    with pytest.raises(DataError, match="no table of clusters"):
        build(family("a", 3), kind="cluster")


def test_a_saved_data_set_is_read_back_the_same(tmp_path):
    dataset = Dataset(["b/1", "a.2", "b/1"], ["MA", "MC", "MA"], ["é", "x\ty", ""], ["train", "test", "train"])
    dataset.save(tmp_path / "dataset.parquet")
    assert Dataset.load(tmp_path / "dataset.parquet") == dataset
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.parquet"]


def test_an_empty_part_is_saved_and_read(tmp_path):
    Dataset([], [], [], []).save(tmp_path / "empty.parquet")
    assert Dataset.load(tmp_path / "empty.parquet") == Dataset([], [], [], [])


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "dataset.parquet"
    old, new = Dataset(["a"], ["MA"], ["x"], ["train"]), Dataset(["b"], ["MC"], ["y"], ["train"])
    old.save(path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("esmcls.files.os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        new.save(path)
    assert Dataset.load(path) == old
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_no_data_set_is_told(tmp_path):
    path = tmp_path / "dataset.parquet"
    path.write_bytes(b"not a table")
    with pytest.raises(FolderError, match=r"dataset\.parquet: cannot be read .*run: esmcls embed INPUT"):
        Dataset.load(path)


def test_digests_are_of_content_whatever_the_order_and_the_ids():
    one = Dataset(["1", "2"], ["MA", "MC"], ["x", "y"], ["train", "test"])
    other = Dataset(["p", "q"], ["MC", "MA"], ["y", "x"], ["test", "train"])
    relabelled = Dataset(["1", "2"], ["MA", "MC"], ["x", "x"], ["train", "test"])
    assert (one.digest(), one.split_digest()) == (other.digest(), other.split_digest())
    assert one.digest() != relabelled.digest()
    assert one.split_digest() == relabelled.split_digest()


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="columns of different lengths"):
        Dataset(["a"], [], [], [])


def test_an_unknown_part_is_refused():
    with pytest.raises(UnknownNameError, match="unknown part 'tests'; did you mean 'test'"):
        Dataset([], [], [], []).part("tests")


def test_a_split_is_identified_by_which_sequence_is_where():
    def split_digest(sequences, parts):
        return Dataset(sequences, sequences, ["x"] * len(sequences), parts).split_digest()

    digest = split_digest(["MA", "MC"], ["train", "test"])
    assert digest == split_digest(["MC", "MA"], ["test", "train"])
    assert digest != split_digest(["MA", "MC"], ["test", "train"])
    assert digest != split_digest(["MA", "MC", "MC"], ["train", "test", "test"])
    # sha256 of the sorted sha256 of "sequence\0part": of this format, kept for ever
    assert digest == "47c8944241e0ba210a29d345061056e5273e0a61895a9b9b93ea7a22e79855d3"


# features


class FakeCache:
    """A cache whose vector of a sequence is (length, number of its distinct letters), and that counts its reads."""

    folder = "work/cache/abc"
    spec = SimpleNamespace(width=2, pooled=("mean", "max"))

    def __init__(self, lacking: tuple[str, ...] = ()) -> None:
        self.lacking, self.reads = lacking, []

    def missing(self, sequences):
        return [row for row, sequence in enumerate(sequences) if sequence in self.lacking]

    def read(self, sequences, pooling):
        self.reads.append((tuple(sequences), pooling))
        return np.array([vector(sequence) for sequence in sequences], np.float16).reshape(-1, 2)

    def read_chunks(self, sequences):
        self.reads.append((tuple(sequences), "chunk"))
        return [np.full((len(sequence), 2), len(sequence), np.float16) for sequence in sequences]


def vector(sequence: str) -> list[int]:
    return [len(sequence), len(set(sequence))]


DATASET = Dataset(["1", "2", "3", "4"], ["MAC", "M", "MAC", "MM"], ["x"] * 4, ["train"] * 4)


def test_equal_sequences_are_read_once_and_fan_out_to_all_their_rows():
    cache = FakeCache()
    features = Features.from_cache(cache, DATASET)
    assert features.vectors().tolist() == [vector(sequence) for sequence in DATASET.sequences]
    assert cache.reads == [(("MAC", "M", "MM"), "mean")]


def test_a_real_cache_gives_each_row_the_vector_of_its_sequence(tmp_path):
    encoder, distinct = load_encoder("composition"), ["MM", "MAC", "M"]
    with EmbeddingCache.open(tmp_path / "cache", EmbeddingSpec.of(encoder)) as cache:
        cache.append(distinct, encoder.encode(distinct))
        features = Features.from_cache(cache, DATASET)
        assert features.spec == cache.spec
        assert features.width == encoder.width
        alone = [encoder.encode([sequence]).pooled["mean"][0] for sequence in DATASET.sequences]
        assert features.vectors().tolist() == np.array(alone).astype(np.float16).tolist()
        assert Features.from_cache(cache, DATASET.part("test")).vectors().shape == (0, encoder.width)
        with pytest.raises(CacheError, match="1 of 1 sequences are not embedded"):
            Features.from_cache(cache, Dataset(["5"], ["MW"], ["x"], ["train"]))


def test_vectors_are_in_the_stored_type_and_read_once_for_all_that_is_taken():
    cache = FakeCache()
    features = Features.from_cache(cache, DATASET)
    taken = features.take(np.array([False, True, True, False]))
    assert cache.reads == []
    assert taken.vectors().tolist() == [vector("M"), vector("MAC")]
    assert features.take(slice(3, None)).vectors().tolist() == [vector("MM")]
    assert features.vectors().dtype == np.float16
    assert len(cache.reads) == 1
    assert (taken.ids, taken.sequences, taken.lengths.tolist()) == (["2", "3"], ["M", "MAC"], [1, 3])


def test_rows_are_taken_in_the_order_asked_for_and_again_of_what_was_taken():
    features = Features.from_cache(FakeCache(), DATASET).take([3, 0, 3])
    assert features.vectors().tolist() == [vector("MM"), vector("MAC"), vector("MM")]
    assert features.take([1, -1]).ids == ["1", "4"]


def test_chunks_fan_out_too():
    features = Features.from_cache(FakeCache(), DATASET)
    assert [len(chunks) for chunks in features.take([2, 1, 0]).chunks()] == [3, 1, 3]


@pytest.mark.parametrize("rows", [[], slice(0, 0), np.zeros(4, bool)])
def test_no_row_has_vectors_of_the_width(rows):
    taken = Features.from_cache(FakeCache(), DATASET).take(rows)
    assert (len(taken), taken.vectors().shape, taken.width) == (0, (0, 2), 2)


def test_features_of_an_empty_part_work():
    features = Features.from_cache(FakeCache(), DATASET.part("test"))
    assert features.vectors().shape == (0, 2)
    assert len(features.take([])) == 0


def test_sequences_that_are_not_embedded_are_counted_and_told():
    with pytest.raises(CacheError) as caught:
        Features.from_cache(FakeCache(lacking=("MAC",)), DATASET)
    assert str(caught.value) == "work/cache/abc: 1 of 3 sequences are not embedded; run: esmcls embed"


def test_a_pooling_that_was_not_stored_is_told():
    with pytest.raises(UnknownNameError, match=r"unknown pooling 'cls'; .*max, mean"):
        Features.from_cache(FakeCache(), DATASET).vectors("cls")
    with pytest.raises(UnknownNameError, match=r"unknown pooling 'max'; .*mean"):
        Features.from_arrays(np.zeros((1, 2))).vectors("max")


def test_arrays_in_memory_are_given_back_without_a_copy():
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    features = Features.from_arrays(vectors, ["M", "MA", "MC"], ["a", "b", "c"])
    assert features.vectors() is vectors
    assert features.lengths.tolist() == [1, 2, 2]
    assert features.spec is None
    assert Features.from_arrays({"cls": vectors}).vectors("cls") is vectors


def test_chunks_that_were_not_kept_are_told():
    with pytest.raises(CacheError, match="run: esmcls embed --chunks"):
        Features.from_arrays(np.zeros((1, 2))).chunks()
    kept = [np.ones((2, 3))]
    assert Features.from_arrays(np.zeros((1, 3)), chunks=kept).chunks() == kept


@pytest.mark.parametrize(
    "arguments",
    [
        {"vectors": np.zeros((2, 3)), "ids": ["a"]},
        {"vectors": np.zeros((2, 3)), "sequences": ["M"]},
        {"vectors": {"mean": np.zeros((2, 3)), "max": np.zeros((1, 3))}},
        {"vectors": {"mean": np.zeros((2, 3)), "max": np.zeros((2, 4))}},
        {"vectors": np.zeros((2, 3)), "chunks": []},
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(arguments):
    with pytest.raises(ValueError, match="different"):
        Features.from_arrays(**arguments)
