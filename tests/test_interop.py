"""Other tools' embedding files: out and in again, joined by id, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import sqlite3
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from command import done, run
from safetensors.torch import save_file

from esmcls.cache.exchange import export_vectors as exporting
from esmcls.cache.exchange import import_vectors as interop
from esmcls.cache.exchange.export_vectors import export_embeddings
from esmcls.cache.exchange.import_vectors import check_import, import_embeddings, imported_spec
from esmcls.cache.exchange.imported import Imported
from esmcls.cache.exchange.read_vectors import read_vectors
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


@pytest.mark.parametrize("format", exporting.FORMATS)
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


def write_parquet(folder: Path, vectors: dict[str, Floats]) -> Path:
    """Write with other names of columns than ours."""
    pl.DataFrame({"name": list(vectors), "embedding": [vector.tolist() for vector in vectors.values()]}).write_parquet(
        folder / "in.parquet"
    )
    return folder / "in.parquet"


def write_safetensors(folder: Path, vectors: dict[str, Floats]) -> Path:
    save_file({id: torch.from_numpy(vector) for id, vector in vectors.items()}, folder / "in.safetensors")
    return folder / "in.safetensors"


def write_pth(folder: Path, vectors: dict[str, Floats]) -> Path:
    """Write as Protify: a dictionary by sequence."""
    torch.save({SEQUENCE_OF[id]: torch.from_numpy(vector) for id, vector in vectors.items()}, folder / "in.pth")
    return folder / "in.pth"


def write_pepe(folder: Path, vectors: dict[str, Floats]) -> Path:
    """Write as PEPE: an array for all, the list of ids in the folder above."""
    (folder / "mean_pooled").mkdir()
    lines = [f"{row},{id}\n" for row, id in enumerate(vectors)]
    (folder / "in_idx.csv").write_text("".join(["index,sequence_id\n", *lines]))
    path = folder / "mean_pooled" / "in_esm2_mean_pooled_layer_6.npy"
    np.save(path, np.stack(list(vectors.values())))
    return path


def write_run(folder: Path, vectors: dict[str, Floats]) -> Path:
    """Write as FastPLMs' safetensors, version 2: two shards, an index, what leads to it."""
    (folder / "run").mkdir()
    shards = [_write_shard(folder / "run", number, [item]) for number, item in enumerate(vectors.items(), start=1)]
    index = {"version": 2, "format": "fastplms-embedding-safetensors", "metadata": {}, "record_count": len(vectors)}
    _write_pointed(folder / "run", index | {"descriptor_shards": shards})
    return folder / "run"


def _write_shard(folder: Path, number: int, items: Sequence[tuple[str, Floats]]) -> dict[str, object]:
    name, key = f"embeddings-run-00-{number:05d}.safetensors", f"embedding_{number:08d}"
    lines = []
    for id, vector in items:
        save_file({key: torch.from_numpy(vector)}, folder / name)
        tensor = {"file": name, "key": key, "dtype": "float32", "shape": [len(vector)], "sha256": "0" * 64}
        lines.append(json.dumps({"id": id, "sequence": SEQUENCE_OF[id], "tensor": tensor}) + "\n")
    records = f"embeddings-records-run-00-{number:05d}.jsonl"
    (folder / records).write_text("".join(lines))
    return {"file": records, "sha256": "0" * 64, "count": len(lines), "tensor_file": name}


def _write_pointed(folder: Path, index: Mapping[str, object]) -> None:
    name = "embeddings-index-run-00-00001.json"
    text = json.dumps(index)
    (folder / name).write_text(text)
    pointer = {"version": 2, "index": {"file": name, "sha256": hashlib.sha256(text.encode()).hexdigest()}}
    (folder / "run.json").write_text(json.dumps(pointer | {"format": "fastplms-embedding-run", "record_count": 3}))
    (folder / "index.json").write_text(json.dumps(pointer | {"format": "fastplms-embedding-index-pointer"}))


RUNS = """
CREATE TABLE runs (run_id TEXT PRIMARY KEY, metadata_json TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, published_order INTEGER);
CREATE TABLE tensors (run_id TEXT, position INTEGER, dtype TEXT, shape_json TEXT, data BLOB, sha256 TEXT,
    PRIMARY KEY (run_id, position));
CREATE TABLE records (run_id TEXT, position INTEGER, record_id TEXT, sequence TEXT, PRIMARY KEY (run_id, position));
"""


def write_fastplms_db(folder: Path, vectors: dict[str, Floats]) -> Path:
    """Write as FastPLMs' SQLite: an old run, the one that counts, and one that was begun."""
    with sqlite3.connect(folder / "in.db") as file:
        file.executescript(RUNS)
        for run, order in (("old", 1), ("new", 2), ("begun", None)):
            file.execute("INSERT INTO runs (run_id, metadata_json, published_order) VALUES (?, '{}', ?)", (run, order))
        for run, factor in (("old", 7), ("new", 1)):
            for position, (id, vector) in enumerate(vectors.items()):
                content = (run, position, "float32", f"[{len(vector)}]", (factor * vector).tobytes(), "0" * 64)
                file.execute("INSERT INTO tensors VALUES (?, ?, ?, ?, ?, ?)", content)
                file.execute("INSERT INTO records VALUES (?, ?, ?, ?)", (run, position, id, SEQUENCE_OF[id]))
    file.close()
    return folder / "in.db"


def write_protify_db(folder: Path, vectors: dict[str, Floats]) -> Path:
    """Write as Protify's SQLite, each embedding in another of the ways in which it has been written."""
    saved = folder / "tensor"
    blobs = []
    for number, (id, vector) in enumerate(vectors.items()):
        compact = struct.pack("<BBii", 1, 2, 1, len(vector)) + vector.tobytes()
        raw = b"RAWT" + struct.pack("<BBI", 0, 1, len(vector)) + vector.tobytes()
        torch.save(torch.from_numpy(vector), saved)
        blobs.append((SEQUENCE_OF[id], (compact, raw, saved.read_bytes())[number % 3]))
    saved.unlink()
    with sqlite3.connect(folder / "in.db") as file:
        file.execute("CREATE TABLE embeddings (sequence text PRIMARY KEY, embedding blob)")
        file.executemany("INSERT INTO embeddings VALUES (?, ?)", blobs)
    file.close()
    return folder / "in.db"


SEQUENCE_OF = {record.protein.id: record.protein.sequence for record in RECORDS} | {"z": "WWW"}
WRITERS: dict[str, Callable[[Path, dict[str, Floats]], Path]] = {
    "npz by id": write_npz,
    "npz of ids and vectors": write_own_npz,
    "h5": write_h5,
    "h5 by accession": write_uniprot_h5,
    "fair-esm": write_fair_esm,
    "Parquet": write_parquet,
    "safetensors": write_safetensors,
    "pth of Protify": write_pth,
    "npy of PEPE": write_pepe,
    "run of FastPLMs": write_run,
    "SQLite of FastPLMs": write_fastplms_db,
    "SQLite of Protify": write_protify_db,
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
    if not any(kind in writer for kind in ("fair-esm", "npz", "pth", "SQLite")):  # hold times of writing or names
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
    file = next(file for file in path.rglob("*") if file.suffix in (".pt", ".safetensors")) if path.is_dir() else path
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


@pytest.mark.parametrize("name", ["in.csv", "in.npz", "in.h5", "in"])
def test_an_unknown_kind_of_file_says_what_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("id,vector\na,1 2\n")
    with pytest.raises(DataError, match=r"no file of vectors of any format that is known; give npz, h5, Parquet,"):
        read_vectors(tmp_path / name)


def test_nothing_to_import_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no vectors"):
        imported_spec(tmp_path)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    for name in ("in.npz", "in.h5"):
        with pytest.raises(DataError, match="no such file or folder; check the path"):
            list(read_vectors(tmp_path / name))


# formats by what they hold


@pytest.mark.parametrize("writer", [name for name in WRITERS if name not in ("fair-esm", "npy of PEPE")])
def test_what_a_file_is_called_says_nothing(writer: str, tmp_path: Path) -> None:
    path = WRITERS[writer](tmp_path, VECTORS)
    renamed = path.rename(path.with_name("vectors.csv"))
    np.testing.assert_array_equal(
        np.stack([item.vector for item in read_vectors(renamed)]), np.stack(list(VECTORS.values()))
    )


def test_a_run_of_fastplms_is_found_by_every_name_that_it_has(tmp_path: Path) -> None:
    folder = write_run(tmp_path, VECTORS)
    for name in ("run.json", "index.json", "embeddings-index-run-00-00001.json"):
        assert [item.id for item in read_vectors(folder / name)] == list("abc")
    (folder / "run.json").rename(folder / "mine.run.json")
    assert [item.id for item in read_vectors(folder / "mine.safetensors")] == list("abc")
    with pytest.raises(DataError, match=r"tensors of FastPLMs by their numbers, without ids; give the folder, or"):
        list(read_vectors(folder / "embeddings-run-00-00001.safetensors"))


def test_the_first_version_of_fastplms_index_is_read(tmp_path: Path) -> None:
    save_file({"embedding_00000000": torch.from_numpy(VECTORS["a"])}, tmp_path / "embeddings.safetensors")
    tensor = {"file": "embeddings.safetensors", "key": "embedding_00000000"}
    index = {"version": 1, "format": "fastplms-embedding-safetensors"}
    index |= {"records": [{"id": "a", "sequence": "MKTAY", "tensor": tensor}]}
    run = {"version": 1, "format": "fastplms-embedding-run", "index": {"file": "index.json"}, "index_payload": index}
    (tmp_path / "run.json").write_text(json.dumps(run))
    [found] = read_vectors(tmp_path)
    assert (found.id, found.sequence) == ("a", "MKTAY")
    np.testing.assert_array_equal(found.vector, VECTORS["a"])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ({"embeddings-run-00-00001.safetensors": None}, r"00001\.safetensors: no such file or folder"),
        ({"embeddings-records-run-00-00002.jsonl": "{}"}, r"00002\.jsonl: cannot be read \(lacks 'id'"),
        ({"run.json": '{"format": "other"}'}, r"run\.json: cannot be read \(format 'other' instead of"),
        (
            {"run.json": '{"format": "fastplms-embedding-run", "index": {"file": "../secret"}}'},
            r"run\.json: a file '\.\./secret' outside its folder; give the folder that FastPLMs wrote",
        ),
        (
            {"run.json": '{"format": "fastplms-embedding-run", "index": {"file": "run.json"}}'},
            "files that lead to one another, and to no index",
        ),
    ],
)
def test_a_damaged_run_of_fastplms_is_one_line(damage: dict[str, str | None], problem: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path, VECTORS)
    for name, text in damage.items():
        (folder / name).unlink()
        if text is not None:
            (folder / name).write_text(text)
    with pytest.raises(DataError, match=problem):
        list(read_vectors(folder))


@pytest.mark.parametrize(
    ("blob", "problem"),
    [
        (struct.pack("<BBii", 1, 2, 1, 9) + bytes(16), r"a tensor \(9,\) of 36 bytes in 16"),
        (struct.pack("<BBii", 1, 9, 1, 4) + bytes(16), "a tensor of kind 9 with 1 axes"),
        (struct.pack("<BBi", 1, 2, 2**30) + bytes(16), "a tensor of kind 2 with 1073741824 axes"),
        (b"RAWT" + struct.pack("<BBI", 2, 1, 2**31) + bytes(8), r"a tensor \(2147483648,\) of 4,294,967,296 bytes"),
        (pickle.dumps({"a": 1}), "cannot be read"),
        ("text", "a str instead of the bytes of a tensor"),
    ],
)
def test_a_blob_that_is_no_tensor_is_one_line(blob: object, problem: str, tmp_path: Path) -> None:
    path = write_protify_db(tmp_path, VECTORS)
    with sqlite3.connect(path) as file:
        file.execute("UPDATE embeddings SET embedding = ? WHERE sequence = 'MV'", (blob,))
    file.close()
    with pytest.raises(DataError, match=problem):
        list(read_vectors(path))


def test_a_bfloat16_tensor_comes_as_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "in.db"
    values = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    blob = b"RAWT" + struct.pack("<BBI", 2, 1, 2) + values.view(torch.uint8).numpy().tobytes()
    half = struct.pack("<BBii", 1, 1, 1, 2) + np.array([1.5, -2.0], np.float16).tobytes()
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE embeddings (sequence text PRIMARY KEY, embedding blob)")
        file.executemany("INSERT INTO embeddings VALUES (?, ?)", [("MV", blob), ("MK", half)])
    file.close()
    assert [item.vector.tolist() for item in read_vectors(path)] == [[1.5, -2.0], [1.5, -2.0]]


def test_an_sqlite_file_of_another_kind_says_its_tables(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "in.db") as file:
        file.execute("CREATE TABLE proteins (id text)")
        file.execute("CREATE VIEW embeddings AS SELECT id AS sequence, id AS embedding FROM proteins")
    file.close()
    with pytest.raises(DataError, match=r"tables of no tool that is known \(proteins\); give a file of FastPLMs"):
        list(read_vectors(tmp_path / "in.db"))


def test_an_sqlite_file_that_is_being_written_is_refused(tmp_path: Path) -> None:
    path = write_protify_db(tmp_path, VECTORS)
    (tmp_path / "in.db-wal").write_bytes(b"changes")
    with pytest.raises(DataError, match=r"its last changes are in in\.db-wal only; end the program that writes it, or"):
        list(read_vectors(path))


@pytest.mark.parametrize(
    ("lists", "problem"),
    [
        ({}, r"no list of its ids beside it; put the one \*_idx\.csv"),
        ({"a_idx.csv": "", "b_idx.csv": ""}, r"2 lists of ids beside it \(a_idx\.csv, …\)"),
        ({"a_idx.csv": "id\na\n"}, r"a_idx\.csv: cannot be read \(its first line is 'id' instead of 'index,sequen"),
        ({"a_idx.csv": "index,sequence_id\n0,a\n2,b\n"}, r"line 3 is '2,b' instead of '1,ID'"),
        ({"a_idx.csv": "index,sequence_id\n0,a\n"}, r"an array of float32 \(3, 4\), but .*a_idx\.csv lists 1 protein"),
    ],
)
def test_an_npy_without_the_ids_of_its_rows_is_refused(lists: dict[str, str], problem: str, tmp_path: Path) -> None:
    path = write_pepe(tmp_path, VECTORS)
    (tmp_path / "in_idx.csv").unlink()
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=problem):
        list(read_vectors(path))


def test_an_id_of_pepe_may_hold_commas(tmp_path: Path) -> None:
    vectors = {"a, of E. coli": VECTORS["a"], "b": VECTORS["b"]}
    assert [item.id for item in read_vectors(write_pepe(tmp_path, vectors))] == list(vectors)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"id": ["a"]}, r"no column of vectors among id; call it vector or vectors"),
        ({"protein": ["a"], "vector": [[1.0]]}, r"no column of ids among protein, vector; call it id or ids"),
        ({"id": ["a"], "vector": [1.0]}, r"Float64 in the column vector; give a list of numbers in each row"),
        ({"id": ["a", None], "vector": [[1.0], [2.0]]}, r"in\.parquet: row 2: an empty cell; leave the row out"),
        ({"id": ["a"], "vector": [[1.0, None]]}, "NaN or infinity in the vector"),
        ({"id": ["a"], "vector": [[[1.0]]]}, r"an array of object \(1,\) instead of a vector"),
    ],
)
def test_a_parquet_table_of_another_kind_is_one_line(columns: dict[str, object], problem: str, tmp_path: Path) -> None:
    pl.DataFrame(columns).write_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataError, match=problem):
        list(read_vectors(tmp_path / "in.parquet"))


# joined by sequence


def test_vectors_that_tell_their_sequence_are_joined_by_it_and_not_by_id(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    rows = [list(map(float, vector)) for vector in VECTORS.values()]
    # the first id is that of another record, the second of none, the third's sequence is of no record
    pl.DataFrame({"id": ["b", "x", "c"], "sequence": ["mktay", "MV", "WWW"], "vector": rows}).write_parquet(path)
    with EmbeddingCache.open(tmp_path / "cache", imported_spec(path)) as cache:
        report = import_embeddings(cache, read_vectors(path), [*RECORDS, record("twin", "MKTAY", 7)])
        np.testing.assert_allclose(cache.read(["MKTAY", "MV"], "mean"), rows[:2])
    assert (report.imported, report.without_sequence, report.without_vector) == (2, ["c"], ["c"])
    assert report.lines() == ["2 vectors joined by their sequences"]


@pytest.mark.parametrize("same", [True, False])
def test_a_sequence_twice_is_refused_if_its_vectors_differ(same: bool, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    rows = [[1.0, 2.0], [1.0, 2.0 if same else 3.0]]
    pl.DataFrame({"id": ["a", "b"], "sequence": ["MKTAY", "MKTAY"], "vector": rows}).write_parquet(path)
    with EmbeddingCache.open(tmp_path / "cache", imported_spec(path)) as cache:
        if same:
            assert import_embeddings(cache, read_vectors(path), RECORDS).imported == 1
            return
        with pytest.raises(DataError, match=r"row 2: record 'b': another vector of the sequence than at .*: row 1; "):
            import_embeddings(cache, read_vectors(path), RECORDS)


@pytest.mark.parametrize("writer", ["pth of Protify", "run of FastPLMs", "Parquet"])
def test_a_model_on_imported_vectors_predicts_from_each_format(writer: str, tmp_path: Path) -> None:
    fasta = tmp_path / "in.csv"
    fasta.write_text("id,sequence,label\na,MKTAY,x\nb,MV,y\nc,GG,x\n")
    place = tmp_path / "w"
    done("import", WRITERS[writer](tmp_path, VECTORS), "--sequences", fasta, "-w", place)
    done("fit", "--head", "knn", "-w", place)
    (tmp_path / "new").mkdir()
    (tmp_path / "new.fasta").write_text(">z\nWWW\n")
    path = WRITERS[writer](tmp_path / "new", {"z": VECTORS["a"]})
    ran = done("predict", tmp_path / "new.fasta", "--vectors", path, "--top-k", "1", "-w", place, "--format", "tsv")
    assert ran.out.splitlines()[1].split("\t")[:3] == ["z", "1", "x"]
