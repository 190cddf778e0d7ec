"""Other tools' embedding files: out and in again, joined by id, whole or not at all."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from command import done, run

from esmcls.cache import export_vectors as exporting
from esmcls.cache import import_vectors as interop
from esmcls.cache.export_vectors import export_embeddings
from esmcls.cache.import_vectors import Imported, check_import, import_embeddings, imported_spec, read_vectors
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.encoders.encoder import load_encoder
from esmcls.errors import CacheError, DataError, UnknownNameError, UsageError
from esmcls.info import about_cache
from esmcls.reading.records import Protein, Record
from esmcls.workspace.workspace import Workspace

Floats = npt.NDArray[np.float32]

IDS = ["sp|P1/2", "sp|P1_2", "sp.P1.2", "twice", "twice", "β 1"]
SEQUENCES = ["MKTAY", "MKTAYIAKQR", "GG", "WWCWYF", "MKTAY", "MV"]
PROTEINS = SimpleNamespace(ids=IDS, sequences=SEQUENCES)
VECTORS = {id: np.random.default_rng(seed).normal(size=4).astype(np.float32) for seed, id in enumerate("abc")}


def record(id: str, sequence: str, line: int = 1) -> Record:
    return Record(Protein(id, sequence), None, None, "in.fasta", line)


RECORDS = [record("a", "MKTAY", 1), record("b", "MV", 3), record("c", "GG", 5)]


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    """Return a cache that holds the sequences, as float16."""
    encoder = load_encoder("composition")
    cache = EmbeddingCache.open(tmp_path / "cache", EmbeddingSpec.of(encoder))
    cache.append(SEQUENCES, encoder.encode(SEQUENCES))
    cache.flush()
    return cache


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file take more than one block."""
    monkeypatch.setattr(exporting, "PROTEINS_AT_ONCE", 4)
    monkeypatch.setattr(interop, "PROTEINS_AT_ONCE", 2)


# out


def test_an_npz_holds_ids_vectors_and_lengths_in_order(cache: EmbeddingCache, tmp_path: Path) -> None:
    assert export_embeddings(cache, PROTEINS, tmp_path / "a.npz", format="npz") == 6
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["ids", "lengths", "vectors"]
        assert file["ids"].tolist() == IDS
        assert file["lengths"].tolist() == [5, 10, 2, 6, 5, 2]
        assert file["vectors"].dtype == np.float16
        np.testing.assert_array_equal(file["vectors"], cache.read(SEQUENCES, "mean"))


def test_an_h5_has_a_dataset_for_each_protein_even_where_ids_are_equal_or_alike(
    cache: EmbeddingCache, tmp_path: Path
) -> None:
    export_embeddings(cache, PROTEINS, tmp_path / "a.h5", format="h5")
    expected = cache.read(SEQUENCES, "mean")
    with h5py.File(tmp_path / "a.h5") as file:
        assert sorted(file) == ["0", "1", "2", "3", "4", "5"]
        for number, id in enumerate(IDS):
            assert file[str(number)].attrs["original_id"] == id
            np.testing.assert_array_equal(file[str(number)][()], expected[number])
        assert file.attrs["esmcls_digest"] == cache.spec.digest


def test_a_parquet_table_has_id_length_and_a_list_of_floats(cache: EmbeddingCache, tmp_path: Path) -> None:
    export_embeddings(cache, PROTEINS, tmp_path / "a.parquet", format="parquet")
    table = pl.read_parquet(tmp_path / "a.parquet")
    assert dict(table.schema) == {"id": pl.String, "length": pl.Int64, "vector": pl.List(pl.Float32)}
    assert table["id"].to_list() == IDS
    np.testing.assert_array_equal(np.array(table["vector"].to_list()), cache.read(SEQUENCES, "mean"))


@pytest.mark.parametrize("format", ["npz", "h5", "parquet"])
def test_no_proteins_give_an_empty_file(format: str, cache: EmbeddingCache, tmp_path: Path) -> None:
    nothing = SimpleNamespace(ids=[], sequences=[])
    assert export_embeddings(cache, nothing, tmp_path / f"a.{format}", format=format) == 0
    assert (tmp_path / f"a.{format}").exists()
    if format != "parquet":
        assert list(read_vectors(tmp_path / f"a.{format}")) == []


@pytest.mark.parametrize("format", ["npz", "h5", "parquet"])
def test_a_failed_export_leaves_the_file_that_was_there(format: str, cache: EmbeddingCache, tmp_path: Path) -> None:
    path = tmp_path / f"out.{format}"
    path.write_text("before")
    unknown = SimpleNamespace(ids=[*IDS, "new"], sequences=[*SEQUENCES, "NEW"])
    with pytest.raises(CacheError, match="not embedded"):
        export_embeddings(cache, unknown, path, format=format)
    assert path.read_text() == "before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cache", path.name]


def test_an_unknown_format_gets_a_suggestion(cache: EmbeddingCache, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'parquet'"):
        export_embeddings(cache, PROTEINS, tmp_path / "a", format="parkett")


@pytest.mark.parametrize("format", ["npz", "h5"])
def test_what_goes_out_comes_in_again(format: str, cache: EmbeddingCache, tmp_path: Path) -> None:
    path = tmp_path / f"a.{format}"
    export_embeddings(cache, PROTEINS, path, format=format)
    found = list(read_vectors(path))
    assert [item.id for item in found] == IDS
    np.testing.assert_array_equal(np.stack([item.vector for item in found]), cache.read(SEQUENCES, "mean"))


# in


def write_npz(folder: Path, vectors: dict[str, Floats]) -> Path:
    np.savez(folder / "in.npz", **vectors)  # type: ignore[arg-type]
    return folder / "in.npz"


def write_own_npz(folder: Path, vectors: dict[str, Floats]) -> Path:
    np.savez(folder / "in.npz", ids=list(vectors), vectors=list(vectors.values()))
    return folder / "in.npz"


def write_h5(folder: Path, vectors: dict[str, Floats]) -> Path:
    """Write as bio_embeddings' `reduced_embeddings_file.h5`."""
    with h5py.File(folder / "in.h5", "w") as file:
        for number, (id, vector) in enumerate(vectors.items()):
            file.create_dataset(str(number), data=vector).attrs["original_id"] = id
    return folder / "in.h5"


def write_uniprot_h5(folder: Path, vectors: dict[str, Floats]) -> Path:
    """Write as UniProt's `per-protein.h5`: the accession is the dataset's name."""
    with h5py.File(folder / "in.h5", "w") as file:
        for id, vector in vectors.items():
            file.create_dataset(id, data=vector)
    return folder / "in.h5"


def write_fair_esm(folder: Path, vectors: dict[str, Floats], kind: str = "mean_representations") -> Path:
    """Write as `extract.py`: a file for each protein, named by the whole line of the FASTA."""
    for id, vector in vectors.items():
        path = folder / "out" / f"{id} some / protein.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"label": f"{id} some / protein", kind: {6: torch.from_numpy(vector)}}, path)
    return folder / "out"


WRITERS: dict[str, Callable[[Path, dict[str, Floats]], Path]] = {
    "npz by id": write_npz,
    "npz of ids and vectors": write_own_npz,
    "h5": write_h5,
    "h5 by accession": write_uniprot_h5,
    "fair-esm": write_fair_esm,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_of_another_tool_becomes_a_cache(writer: str, tmp_path: Path) -> None:
    path = WRITERS[writer](tmp_path, VECTORS)
    spec = imported_spec(path)
    assert (spec.encoder, spec.precision, spec.width, spec.poolings) == ("imported", "imported", 4, ("mean",))
    with EmbeddingCache.open(tmp_path / "cache", spec) as cache:
        report = import_embeddings(cache, read_vectors(path), RECORDS)
        assert (report.imported, report.without_sequence, report.without_vector) == (3, [], [])
        found = cache.read(["GG", "MKTAY", "MV"], "mean")
    np.testing.assert_array_equal(found, np.stack([VECTORS[id] for id in "cab"]))


@pytest.mark.parametrize("writer", WRITERS)
def test_the_digest_is_that_of_the_content(writer: str, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second", "other")]
    for folder in folders:
        folder.mkdir()
    changed = VECTORS | {"b": VECTORS["b"] + 1}
    paths = [
        WRITERS[writer](folder, vectors) for folder, vectors in zip(folders, (VECTORS, VECTORS, changed), strict=True)
    ]
    first, second, other = (imported_spec(path) for path in paths)
    assert first.digest != other.digest
    if writer != "fair-esm" and "npz" not in writer:  # npz and .pt hold times of writing or names
        assert first == second


def test_ids_without_a_partner_are_listed(tmp_path: Path) -> None:
    path = write_npz(tmp_path, VECTORS)
    with EmbeddingCache.open(tmp_path / "cache", imported_spec(path)) as cache:
        report = import_embeddings(cache, read_vectors(path), [*RECORDS[:2], record("d", "WW")])
    assert (report.imported, report.without_sequence, report.without_vector) == (2, ["c"], ["d"])


def test_an_id_twice_in_the_fasta_names_both_lines(tmp_path: Path) -> None:
    path = write_npz(tmp_path, VECTORS)
    with EmbeddingCache.open(tmp_path / "cache", imported_spec(path)) as cache:
        with pytest.raises(DataError) as caught:
            import_embeddings(cache, read_vectors(path), [*RECORDS, record("b", "WW", 7)])
        assert len(cache) == 0
    assert str(caught.value) == (
        "in.fasta:7: record 'b': the id stands here and at in.fasta:3; vectors are joined by id: keep one of the two"
    )


def test_an_id_twice_among_the_vectors_names_both_datasets(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for key in ("0", "1"):
            file.create_dataset(key, data=VECTORS["a"]).attrs["original_id"] = "a"
    path = tmp_path / "in.h5"
    twice = r"in\.h5:/1: record 'a': the id stands here and at .*in\.h5:/0; "
    with EmbeddingCache.open(tmp_path / "cache", imported_spec(path)) as cache, pytest.raises(DataError, match=twice):
        import_embeddings(cache, read_vectors(path), RECORDS)


def test_a_label_with_a_description_that_is_an_id_is_taken_whole(tmp_path: Path) -> None:
    found = [Imported("a b", VECTORS["a"], "x"), Imported("b c", VECTORS["b"], "y")]
    spec = EmbeddingSpec("imported", "0", (), "imported", "imported", "float32", ("mean",), 4)
    with EmbeddingCache.open(tmp_path / "cache", spec) as cache:
        report = import_embeddings(cache, found, [record("a b", "MA"), record("a", "MK"), record("b", "MV")])
        np.testing.assert_array_equal(cache.read(["MA", "MV"], "mean"), [VECTORS["a"], VECTORS["b"]])
    assert report.without_vector == ["a"]


def test_residue_vectors_are_pooled(tmp_path: Path) -> None:
    residues = np.arange(12, dtype=np.float16).reshape(3, 4)
    path = write_h5(tmp_path, {"a": residues})  # type: ignore[dict-item]
    [mean], [largest] = read_vectors(path), read_vectors(path, pooling="max")
    assert mean.vector.tolist() == [4, 5, 6, 7]
    assert mean.vector.dtype == np.float32
    assert largest.vector.tolist() == [8, 9, 10, 11]
    with pytest.raises(UsageError, match="vectors of residues give no cls; choose mean or max"):
        list(read_vectors(path, pooling="cls"))


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (7, r"7 rows for 5 residues, BOS and EOS among them; store .* \(array\[1:-1\]\)"),
        (1024, "1024 rows for 5 residues, padding or special tokens among them; store the vectors of the residues"),
    ],
)
@pytest.mark.parametrize("writer", [write_npz, write_h5])
def test_more_rows_than_residues_are_refused(
    writer: Callable[[Path, dict[str, Floats]], Path], rows: int, problem: str, tmp_path: Path
) -> None:
    path = writer(tmp_path, {"a": np.ones((rows, 4), np.float32)})
    with pytest.raises(DataError, match=f"record 'a': {problem}"):
        check_import(path, read_vectors(path), RECORDS)


def test_fewer_rows_than_residues_are_residues_not_seen(tmp_path: Path) -> None:
    vectors = {"a": np.ones((3, 4), np.float32), "b": np.ones((2, 4), np.float32), "c": np.ones((1, 4), np.float32)}
    path = write_npz(tmp_path, vectors)
    with EmbeddingCache.open(tmp_path / "cache", imported_spec(path)) as cache:
        report = import_embeddings(cache, read_vectors(path), RECORDS)
        assert report.lines() == ["1 with fewer vectors than residues, the rest not seen: a"]
        assert cache.unseen(["MKTAY", "MV", "MW"]) == [2, 0, 0]
        assert about_cache(cache)[-1] == "not seen: 2 residues of 1 sequence, as they were imported"
        with EmbeddingCache.open(tmp_path / "other", cache.spec) as other:
            assert other.merge([tmp_path / "cache"]) == 3
            assert other.unseen(["MKTAY", "MV"]) == [2, 0]
        (tmp_path / "cache" / "unseen.json").write_text('{"format": 1, "residues": {"a": "2"}}')
        with pytest.raises(CacheError, match=r"residues\.a: '2' instead of a whole number\); import the vectors again"):
            cache.unseen(["MKTAY"])


def test_vectors_are_joined_by_what_tools_make_of_an_id(tmp_path: Path) -> None:
    path = write_uniprot_h5(tmp_path, {"P1": VECTORS["a"], "AF-P2-F1-model_v4": VECTORS["b"]})
    records = [record("sp|P1|X_HUMAN", "MKTAY"), record("P2", "MV")]
    with EmbeddingCache.open(tmp_path / "cache", imported_spec(path)) as cache:
        report = import_embeddings(cache, read_vectors(path), records)
    assert (report.imported, report.without_sequence, report.without_vector) == (2, [], [])
    assert report.lines() == [
        "1 id joined by UniProt's accession",
        "1 id joined by the accession of AlphaFold's model",
    ]


def test_an_import_that_matches_nothing_leaves_the_cache_that_was_used_last(tmp_path: Path) -> None:
    fasta = tmp_path / "in.fasta"
    fasta.write_text(">x\nMKTAY\n")
    done("embed", fasta, "--encoder", "composition", "-w", tmp_path / "w")
    before = Workspace.open(tmp_path / "w").caches
    ran = run("import", write_npz(tmp_path, VECTORS), "--sequences", fasta, "-w", tmp_path / "w")
    assert ran.code == 1
    assert "in.npz: none of its ids (a, b, …) is that of a sequence (x, …); give the sequences" in ran.err
    assert Workspace.open(tmp_path / "w").caches == before


def test_fair_esms_kinds_and_layers_are_chosen(tmp_path: Path) -> None:
    tensors = {layer: torch.full((2,), float(layer)) for layer in (5, 6)}
    content = {
        "label": "a",
        "mean_representations": tensors,
        "bos_representations": {layer: -tensor for layer, tensor in tensors.items()},
        "representations": {layer: torch.stack([tensor, 3 * tensor]) for layer, tensor in tensors.items()},
    }
    torch.save(content, tmp_path / "a.pt")

    def vector(**options: object) -> list[float]:
        [found] = read_vectors(tmp_path, **options)  # type: ignore[arg-type]
        return found.vector.tolist()  # type: ignore[no-any-return]

    assert vector() == [5, 5, 6, 6]
    assert vector(layers=(6, 5)) == [6, 6, 5, 5]
    assert vector(pooling="cls", layers=(6,)) == [-6, -6]
    assert vector(pooling="max", layers=(5,)) == [15, 15]
    assert imported_spec(tmp_path, layers=(6,)).layers == (6,)
    del content["mean_representations"]
    torch.save(content, tmp_path / "a.pt")
    assert vector(layers=(5,)) == [10, 10]


def test_a_layer_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    folder = write_fair_esm(tmp_path, VECTORS)
    with pytest.raises(DataError, match=r"no mean vectors of layers \[33\] \(mean_representations of layers \[6\]\)"):
        list(read_vectors(folder, layers=(33,)))
    with pytest.raises(DataError, match="no cls vectors of layers any"):
        list(read_vectors(folder, pooling="cls"))


def test_a_pt_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.pt").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(DataError, match=r"a\.pt: cannot be read \("):
        list(read_vectors(tmp_path / "in"))
    assert not (tmp_path / "ran").exists()


def test_an_npz_of_pickled_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="cannot be read"):
        list(read_vectors(tmp_path / "in.npz"))


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kept", [0.0, 0.7])
def test_a_truncated_file_is_one_line(writer: str, kept: float, tmp_path: Path) -> None:
    path = WRITERS[writer](tmp_path, VECTORS)
    file = next(path.rglob("*.pt")) if path.is_dir() else path
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.raises(DataError, match="cannot be read") as caught:
        list(read_vectors(path))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((2, 3, 4), np.float32), r"an array of float32 \(2, 3, 4\) instead of a vector"),
        (np.zeros(4, np.int64), r"an array of int64 \(4,\) instead"),
        (np.zeros((0, 4), np.float32), r"an array of float32 \(0, 4\) instead"),
        (np.zeros(5, np.float32), "a vector of width 5 after ones of 4"),
        (np.full(4, np.nan, np.float32), "NaN or infinity in the vector"),
    ],
)
@pytest.mark.parametrize("writer", [write_npz, write_h5])
def test_what_is_no_vector_is_refused_with_its_id(
    writer: Callable[[Path, dict[str, object]], Path], array: object, expected: str, tmp_path: Path
) -> None:
    path = writer(tmp_path, {"a": VECTORS["a"], "z": array})
    with pytest.raises(DataError, match=f"record 'z': {expected}"):
        list(read_vectors(path))


def test_a_group_in_an_h5_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_group("a")
    with pytest.raises(DataError, match="a group instead of a protein's dataset"):
        list(read_vectors(tmp_path / "in.h5"))


def test_an_h5_keeps_the_order_of_its_running_numbers(tmp_path: Path) -> None:
    vectors = {f"id{number}": np.ones(2, dtype=np.float32) for number in range(12)}
    assert [item.id for item in read_vectors(write_h5(tmp_path, vectors))] == list(vectors)


@pytest.mark.parametrize("name", ["in.csv", "in"])
def test_an_unknown_kind_of_file_says_what_is_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"give an \.npz, an \.h5 or a folder of \.pt files"):
        read_vectors(tmp_path / name)


def test_nothing_to_import_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no vectors"):
        imported_spec(tmp_path)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    for name in ("in.npz", "in.h5"):
        with pytest.raises(DataError, match="cannot be read"):
            list(read_vectors(tmp_path / name))
