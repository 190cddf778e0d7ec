"""Kinds of files that esmcls reads, each with a whole example of it and with what it is read and then used for.

The examples are every file of the archive of release 0.1.0, and what it lacks is made here. A model that was loaded is
asked, too, a cache read, an encoder run: what a check lets pass must not end in the middle of the work.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parent.parent
ARCHIVE = ROOT / "tests" / "archives" / "release-0.1.0"
SLICES = ROOT / "tests" / "archives" / "slices"
SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ", "MSLLTEVETPIRNEWGCRCNDSSD", "MGSSHHHHHHSSGLVPRGSH"]
_STYLES = {".json": "json", ".safetensors": "safetensors", ".txt": "text", ".h5": "hdf5"}


@dataclass(frozen=True)
class Kind:
    """A kind of file: the folder or file that is copied, the file in it that is damaged, and what uses it.

    Parameters
    ----------
    source : Path
    file : str
        In the folder; empty where the source is the file.
    use : callable
        Is called with the copy.
    style : str
        How it is damaged; see `fuzz_damage.STYLES`.
    share : float
        Of the cases that a kind has: less for what takes long, and where there are many alike.
    threads : bool
        Whether its library starts threads: a fork does not take them along, so only children may use it.
    """

    source: Path
    file: str
    use: Callable[[Path], object]
    style: str = ""
    share: float = 1.0
    threads: bool = False


def kinds(made: Path) -> dict[str, Kind]:
    """Return each kind of file by its name; what the archive lacks is made in a folder."""
    return _of_models() | _of_workspaces() | _of_encoders(made) | _of_vectors(made) | _of_inputs(made)


# models


class _KnownEncoder:
    """An encoder that says it is the one of an archived model, and makes vectors of the letters alone."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.name, self.digest, self.precision = spec["encoder"], spec["digest"], spec["precision"]
        self.layers, self.width, self.long = tuple(spec["layers"]), spec["width"], spec["long"]

    def batches(self, lengths: Iterable[int]) -> Iterator[int]:
        yield len(list(lengths))

    def encode(self, sequences: Sequence[str], poolings: Sequence[str] = ("mean",), keep: str = "") -> object:
        from esmcls.encoders.encoder import Embedded

        seeds = [int.from_bytes(hashlib.sha256(sequence.encode()).digest()[:4], "little") for sequence in sequences]
        rows = np.stack([np.random.default_rng(seed).normal(size=self.width) for seed in seeds]).astype(np.float32)
        counts = np.ones(len(rows), np.int64)
        chunks = [row[None] for row in rows] if keep == "chunk" else None
        return Embedded(dict.fromkeys(poolings, rows), counts, counts, chunks)


def _of_models() -> dict[str, Kind]:
    found = {}
    for manifest in sorted(ARCHIVE.glob("*/models/*/manifest.json")):
        folder = manifest.parent
        about = json.loads(manifest.read_text(encoding="utf-8"))
        tuned = (folder / "adapters.safetensors").is_file()
        encoder = None if tuned else _KnownEncoder(about["spec"])
        use = partial(_ask, encoder)
        for file in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()):
            name = f"{folder.parent.parent.name}/{folder.name}/{file}"
            share = 0.1 if tuned else 0.3 if "member" in file or file.startswith(("held", "terms.")) else 0.5
            found[name] = Kind(folder, file, use, _STYLES.get(Path(file).suffix, ""), share)
    return found


def _ask(encoder: Any, folder: Path) -> object:
    import esmcls
    from esmcls.models.predict import predict_stream

    model = esmcls.load_model(folder, encoder=encoder)
    findings = model.findings
    if encoder is None:
        return model, findings
    proteins = [esmcls.Protein(str(number), sequence) for number, sequence in enumerate(SEQUENCES)]
    rows = esmcls.predict(model, proteins)
    return list(predict_stream(model, proteins, k=3)), rows, repr(model), model._repr_html_()


# workspaces


def _of_workspaces() -> dict[str, Kind]:
    families, terms = ARCHIVE / "families", ARCHIVE / "terms"
    found = {
        "workspace.json": Kind(families, "workspace.json", _about, "json"),
        "terms' workspace.json": Kind(terms, "workspace.json", _about, "json"),
        "dataset.parquet": Kind(families / "dataset.parquet", "", _load_dataset, "", 0.5, True),
        "ontology.json": Kind(terms / "ontology.json", "", _load_ontology, "json"),
        "report.json": Kind(families / "reports" / "compare" / "report.json", "", _load_report, "json"),
        "terms' report.json": Kind(terms / "reports" / "compare" / "report.json", "", _load_term_report, "json", 0.3),
        "finetune's report.json": Kind(families / "reports/finetune/tuned/report.json", "", _load_tuned, "json"),
    }
    for folder in (families, terms):
        for answers in sorted((folder / "reports" / "compare" / "answers").glob("*.safetensors"))[:2]:
            use = _load_answers if folder is families else _load_term_answers
            found[f"{folder.name}' answers {answers.stem}"] = Kind(answers, "", use, "safetensors", 0.5)
        for cache in sorted((folder / "cache").iterdir())[:2]:
            segment = min(path.name for path in cache.glob("*.h5"))
            name = f"{folder.name}/{cache.name[:4]}"
            found[f"{name} spec.json"] = Kind(cache, "spec.json", _read_cache, "json")
            found[f"{name} segment"] = Kind(cache, segment, _read_cache, "hdf5")
    return {name: kind for name, kind in found.items() if (kind.source / kind.file).exists()}


def _about(folder: Path) -> object:
    from esmcls.info import about

    return about(folder)


def _load_dataset(path: Path) -> object:
    from esmcls.datasets.dataset import Dataset

    dataset = Dataset.load(path)
    return dataset.digest(), dataset.split_digest()


def _load_ontology(path: Path) -> object:
    from esmcls.labels.ontology import Ontology

    ontology = Ontology.load(path)
    return ontology.digest(), ontology.propagate([ontology.terms[:3]]), ontology.edges(ontology.terms)


def _load_report(path: Path) -> object:
    from esmcls.errors import FolderError
    from esmcls.plain_values import read_as
    from esmcls.tasks.one_label.results import OneLabelReport

    return read_as(path, OneLabelReport, FolderError, "compare again")


def _load_term_report(path: Path) -> object:
    from esmcls.errors import FolderError
    from esmcls.plain_values import read_as
    from esmcls.tasks.go_terms.results import TermReport

    return read_as(path, TermReport, FolderError, "compare again")


def _load_tuned(path: Path) -> object:
    from esmcls.finetuning.seeds import read_metrics
    from esmcls.tasks.one_label.tuning import OneLabelObjective

    return read_metrics(path, object.__new__(OneLabelObjective))


def _load_answers(path: Path) -> object:
    from esmcls.tasks.one_label.answers import Answers

    return Answers.load(path, "")


def _load_term_answers(path: Path) -> object:
    from esmcls.tasks.go_terms.answers import TermAnswers

    return TermAnswers.load(path)


def _read_cache(folder: Path) -> object:
    from esmcls.cache.store import EmbeddingCache
    from esmcls.errors import CacheError

    with EmbeddingCache.open(folder) as cache:
        rows = cache.missing(SEQUENCES), len(cache), cache.segments
        vectors = []
        for segment in cache._segments:
            vectors += [segment.read_into(name, np.arange(len(segment))) for name in cache.spec.pooled]
            vectors += [list(segment.ragged(name, np.arange(len(segment)))) for name in cache.spec.ragged]
        try:
            cache.verify()
        except CacheError as error:
            return rows, vectors, error
        return rows, vectors


# encoders


def _of_encoders(made: Path) -> dict[str, Kind]:
    import torch

    from esmcls.encoders.model import ModelConfig
    from esmcls.encoders.weights import save_state, state_shapes

    torch.manual_seed(0)
    config = ModelConfig(2, 16, 2)
    state = {name: torch.randn(shape) for name, shape in state_shapes(config).items()}
    first = state["layers.0.self_attn.rot_emb.inv_freq"]
    state |= {name: first for name in state if name.endswith("rot_emb.inv_freq")}
    state = {name: value.clone() for name, value in state.items()}
    save_state(made / "encoder.safetensors", config, state, layers=(1, 2))
    folder = _hugging_face(made, state)
    _fair_esm(made, state)
    return {
        "weights": Kind(made / "encoder.safetensors", "", _embed, "safetensors"),
        "fair-esm's weights": Kind(made / "esm.pt", "", _embed, "archive"),
        "config.json": Kind(folder, "config.json", _embed, "json"),
        "index of weights": Kind(folder, "model.safetensors.index.json", _embed, "json"),
        "shard of weights": Kind(folder, "one.safetensors", _embed, "safetensors"),
    }


def _hugging_face(made: Path, state: dict[str, Any]) -> Path:
    """Write the weights as transformers does, in two files and an index of them."""
    from safetensors.torch import save_file

    folder = made / "hugging-face"
    folder.mkdir()
    numbers = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "token_dropout": True}
    config = {"model_type": "esm", "position_embedding_type": "rotary", "emb_layer_norm_before": False, **numbers}
    (folder / "config.json").write_text(json.dumps(config))
    places = {name: ("one" if "layers.0" in name else "two") + ".safetensors" for name in state}
    for file in set(places.values()):
        save_file({name: value for name, value in state.items() if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def _fair_esm(made: Path, state: dict[str, Any]) -> None:
    import argparse

    import torch

    arguments = argparse.Namespace(
        encoder_layers=2, encoder_embed_dim=16, encoder_attention_heads=2, token_dropout=True
    )
    named = {f"encoder.sentence_encoder.{name}": value for name, value in state.items()}
    torch.save({"cfg": {"model": arguments}, "model": named}, made / "esm.pt")


def _embed(path: Path) -> object:
    from esmcls.encoders.encoder import load_encoder

    return load_encoder(str(path), precision="fp32").encode(SEQUENCES)


# vectors of other tools


def _of_vectors(made: Path) -> dict[str, Kind]:
    import h5py
    import torch

    rows = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    with h5py.File(made / "in.h5", "w") as file:
        for number, row in enumerate(rows):
            file[str(number)] = row
            file[str(number)].attrs["original_id"] = f"protein {number}"
    with h5py.File(made / "new.h5", "w", libver="latest") as file:
        for number, row in enumerate(rows):
            file.create_dataset(str(number), data=np.tile(row, (9, 1)), chunks=(3, 4), compression="gzip")
    np.savez(made / "table.npz", ids=np.array(["a", "b", "c", "d"]), vectors=rows)
    np.savez_compressed(made / "named.npz", **{f"p{number}": np.tile(row, (3, 1)) for number, row in enumerate(rows)})
    folder = made / "pt"
    folder.mkdir()
    torch.save({"label": "a", "mean_representations": {6: torch.from_numpy(rows[0])}}, folder / "a.pt")
    return {
        "imported h5": Kind(made / "in.h5", "", _import, "hdf5", 0.15),
        "imported packed h5": Kind(made / "new.h5", "", _import, "hdf5", 0.15),
        "imported npz": Kind(made / "table.npz", "", _import, "archive", 2.0),
        "imported npz of names": Kind(made / "named.npz", "", _import, "archive", 2.0),
        "imported pt": Kind(folder, "a.pt", _import, "archive", 2.0),
    } | _of_other_vectors(made, rows)


_TABLE = """
import polars
polars.DataFrame({"id": ["a", "b"], "vector": [[1.0, 2.0], [3.0, 4.0]]}).write_parquet("in.pq")
"""


def _of_other_vectors(made: Path, rows: npt.NDArray[np.float32]) -> dict[str, Kind]:
    """Return kinds of files of Protify and FastPLMs, and of tables."""
    import torch
    from safetensors.numpy import save_file

    named = dict(zip(SEQUENCES, rows, strict=False))
    torch.save({name: torch.from_numpy(row) for name, row in named.items()}, made / "by_sequence.pth")
    subprocess.run([sys.executable, "-c", _TABLE], cwd=made, check=True)  # its threads would not outlive a fork
    save_file(named, made / "named.safetensors")
    with contextlib.closing(sqlite3.connect(made / "in.db")) as file, file:
        file.execute("CREATE TABLE embeddings (sequence text PRIMARY KEY, embedding blob)")
        blobs = ((name, struct.pack("<BBii", 1, 2, 1, len(row)) + row.tobytes()) for name, row in named.items())
        file.executemany("INSERT INTO embeddings VALUES (?, ?)", blobs)
    return {
        "imported pth": Kind(made / "by_sequence.pth", "", _import, "archive"),
        "imported Parquet": Kind(made / "in.pq", "", _import, "", 0.5, True),
        "imported safetensors": Kind(made / "named.safetensors", "", _import, "safetensors"),
        "imported SQLite": Kind(made / "in.db", "", _import),
    }


def _import(path: Path) -> object:
    from esmcls.cache.exchange.read_vectors import read_vectors

    return list(read_vectors(path))


# inputs


def _of_inputs(made: Path) -> dict[str, Kind]:
    table = (SLICES / "proteins.csv").read_bytes()
    (made / "quoted.csv").write_bytes(table.replace(b",", b'","').replace(b"\n", b'"\n"').join([b'"', b'"']))
    (made / "proteins.tsv").write_bytes(table.replace(b",", b"\t"))
    (made / "packed.csv").write_bytes(gzip.compress(table, mtime=0))
    rows = "".join(f"p{number}/1-9  MK.T{letter}-A\n" for number, letter in enumerate("AYIKQ"))
    (made / "seed.sto").write_text(f"# STOCKHOLM 1.0\n#=GF AC   PF00001.1\n{rows}//\n" * 2)
    (made / "labels.tsv").write_text("id\tlabel\tsplit\nA1\tkinase\ttrain\nB2\tphosphatase\ttest\n")
    (made / "clusters.tsv").write_text("A1\tA1\nA1\tB2\nC3\tC3\n")
    (made / "ia.tsv").write_text("GO:0003674\t0.0\nGO:0005488\t1.5\nGO:0008150\t0.0\n")
    shutil.copyfile(SLICES / "terms.tsv", made / "terms.tsv")
    _write_gaf(made / "annotations.gaf")
    return {
        "FASTA": Kind(SLICES / "queries.fasta", "", _records, "text", 2.0),
        "CSV": Kind(SLICES / "proteins.csv", "", _records, "text", 2.0),
        "quoted CSV": Kind(made / "quoted.csv", "", _records, "text", 2.0),
        "TSV": Kind(made / "proteins.tsv", "", _records, "text", 2.0),
        "packed CSV": Kind(made / "packed.csv", "", _records, "packed"),
        "Stockholm": Kind(made / "seed.sto", "", _records, "text", 2.0),
        "labels": Kind(made / "labels.tsv", "", _labels, "text", 2.0),
        "clusters": Kind(made / "clusters.tsv", "", _clusters, "text", 2.0),
        "terms": Kind(made / "terms.tsv", "", _terms, "text", 0.5),
        "GAF": Kind(made / "annotations.gaf", "", _gaf, "text", 2.0),
        "IA": Kind(made / "ia.tsv", "", _ia, "text", 2.0),
        "OBO": Kind(SLICES / "go.obo", "", _obo, "text", 0.5),
    }


def _write_gaf(path: Path) -> None:
    """Write terms of the slice as a database gives them out, one of them denied."""
    rows = [line.split("\t") for line in (SLICES / "terms.tsv").read_text(encoding="utf-8").splitlines()[1:9]]
    about = ("PMID:1", "IDA", "", "", "a name", "S1|S2", "protein", "taxon:9606", "20240101", "UniProt", "", "")
    lines = ["!gaf-version: 2.2", "!", "! remarks"]
    for number, (name, term, aspect) in enumerate(rows):
        qualifier = "NOT|enables" if number == 3 else "enables"
        cells = ["UniProtKB", name, "SYM", qualifier, term, *about]
        cells[8] = {"MFO": "F", "BPO": "P", "CCO": "C"}.get(aspect, aspect)
        lines.append("\t".join(cells))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _gaf(path: Path) -> object:
    from esmcls.reading.joined.term_tables import TermTable
    from esmcls.tasks.go_terms.known.known_terms import KnownTerms

    ontology = _archived_ontology()
    known = KnownTerms.read(path, ontology, ["all"])
    return [known.of(name) for name in known.has], known.lines(), TermTable.of([str(path)], ontology)


def _records(path: Path) -> object:
    from esmcls.reading.readers import read_records
    from esmcls.reading.records import Tally

    tally = Tally()
    return list(read_records(path, on_bad="skip", tally=tally)), tally


def _labels(path: Path) -> object:
    from esmcls.reading.joined.label_tables import LabelTable

    return LabelTable.read([str(path)])


def _clusters(path: Path) -> object:
    from esmcls.datasets.clusters import read_clusters

    return read_clusters(path, ["A1", "B2", "C3"])


def _archived_ontology() -> Any:
    from esmcls.labels.ontology import Ontology

    return Ontology.load(ARCHIVE / "terms" / "ontology.json")


def _terms(path: Path) -> object:
    from esmcls.reading.joined.term_tables import TermTable

    return TermTable.of([str(path)], _archived_ontology())


def _ia(path: Path) -> object:
    from esmcls.reading.joined.term_tables import read_ia

    return read_ia(path, ["GO:0003674", "GO:0005488", "GO:0008150"])


def _obo(path: Path) -> object:
    from esmcls.labels.ontology import read_obo

    ontology = read_obo(path)
    return ontology.digest(), ontology.propagate([ontology.terms[:3]])
