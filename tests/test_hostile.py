"""Files that are damaged, or made to do harm, are one clear line: no traceback, no hang, no crash."""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import os
import pty
import random
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import esmcls
from esmcls.cache.exchange.read_vectors import read_vectors
from esmcls.cache.index import INDEX, read_index
from esmcls.cache.segments import Column, Segment, form_of, write_segment
from esmcls.cache.spec import EmbeddingSpec
from esmcls.datasets.dataset import Dataset
from esmcls.encoders.weights import load_state
from esmcls.errors import DataError, EsmclsError, FolderError, ModelError, WeightsError, WorkspaceError
from esmcls.files import sha256_file
from esmcls.finetuning.seeds import read_metrics
from esmcls.foreign.hdf5 import _encoded, check_hdf5
from esmcls.foreign.npz import open_npz
from esmcls.foreign.torch_files import read_torch
from esmcls.heads.neighbours.search import Search
from esmcls.heads.saved_tensors import read_state
from esmcls.heads.trees.boosting import Trees
from esmcls.heads.trees.tree_text import checked_text
from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import Ontology
from esmcls.metrics.classification import Interval
from esmcls.plain_values import from_plain, parse_json, read_as
from esmcls.reading.joined.label_tables import LabelTable
from esmcls.reading.readers import read_records
from esmcls.reading.record_columns import Columns
from esmcls.tasks.one_label.tuning import OneLabelObjective
from esmcls.tasks.one_label.validation_answers import FoldAnswers
from esmcls.workspace.workspace import Workspace
from esmcls_cli.main import main
from esmcls_cli.options.speech import Screen, visible

ROOT = Path(__file__).parent.parent
RELEASE = ROOT / "tests" / "archives" / "release-0.1.0"
TREES = (RELEASE / "families" / "models" / "ranker" / "lightgbm.txt").read_text(encoding="utf-8")
FEATURES = 20


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    """The fuzzer, as a module."""
    folder = str(ROOT / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module("fuzz")
    sys.path.remove(folder)
    for name in ("fuzz", "fuzz_damage", "fuzz_kinds"):
        del sys.modules[name]


def test_damage_of_any_kind_to_any_file_that_is_read_is_one_line(tmp_path: Path) -> None:
    # in a process of its own: what other tests have started, a fork would not take along; CI runs ten thousand, and
    # these are the first of them
    command = [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), "--cases", "500", "--out", str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True)
    *lines, summary = run.stdout.splitlines()
    assert run.returncode == 0, "\n".join(line for line in lines if not line.endswith(" -")) + run.stderr
    assert summary.endswith(" s: no faults")
    counts = json.loads((tmp_path / "out").read_text())
    assert sum(sum(entry["counts"].values()) for entry in counts.values()) > 450


def _use(path: Path) -> object:
    """Do what the text says: each a fault but the first two."""
    text = path.read_text()
    if "answer" in text:
        return text
    if "refuse" in text:
        raise DataError(path, "a word", "write another")
    if "hang" in text:
        while True:
            pass
    if "die" in text:
        os.kill(os.getpid(), signal.SIGSEGV)
    raise KeyError(text)


def test_the_fuzzer_sees_every_kind_of_fault_and_goes_on_behind_it(fuzz: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("answer")
    kind = fuzz.Kind(tmp_path / "words", "", _use, "words")
    words = ["answer", "die", "refuse", "hang", "raise", "answer"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuzz, "damaged", lambda data, style, chance: words[chance].encode())
        patch.setattr(fuzz.random, "Random", lambda seed: int(seed.split()[-1]))
        came = [result for _, result in fuzz.outcomes("words", kind, range(len(words)), seconds=1)]
    assert came[:4] == ["answered", "SIGSEGV", "refused", "hang"]
    assert came[4].startswith("KeyError in test_hostile.py")
    assert came[5] == "answered"
    assert fuzz.bad(Counter(came)).keys() == {came[1], came[3], came[4]}


def test_a_missing_check_behind_one_line_is_a_fault(fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def use(path: Path) -> None:
        try:
            parse_json(path)  # type: ignore[arg-type]
        except TypeError as error:
            raise DataError(path, "no JSON", "write some") from error

    monkeypatch.setattr(fuzz, "PACKAGE", os.sep)
    assert fuzz.outcome(fuzz.Kind(Path("a"), "", use), Path("a")).startswith("refused, by TypeError")


STYLES = {
    "json": b'{"a": [1, 2, {"b": null}], "c": "text"}',
    "text": b"id\tlabel\nA1\tkinase\nB2\tligase\n",
    "packed": gzip.compress(b"id\tlabel\nA1\tkinase\nB2\tligase\n"),
}


@pytest.mark.parametrize("style", STYLES)
def test_the_same_case_is_damaged_alike_whenever_it_is_run(fuzz: ModuleType, style: str) -> None:
    first, second = (
        [fuzz.damaged(STYLES[style], style, random.Random(str(number))) for number in range(50)] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) > 20


def test_damaged_metadata_of_hdf5_has_checksums_that_fit(fuzz: ModuleType, tmp_path: Path) -> None:
    path = next((RELEASE / "families" / "cache").glob("*/*.h5"))
    damage = sys.modules["fuzz_damage"]
    whole = path.read_bytes()
    blocks = damage._blocks(whole)
    assert len(blocks) > 5
    changed = [damage._hdf5(whole, random.Random(number)) for number in range(20)]
    assert len({*changed, whole}) > 15
    assert all(len({*damage._blocks(data)} & {*blocks}) >= len(blocks) - 1 for data in changed)


# what we wrote


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 10_000, "nested too deep"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1e999}', "1e999 is no number"),
        ('{"a": ' + "9" * 5000 + "}", "4300"),
        ("", "Expecting value"),
    ],
)
def test_json_that_we_never_write_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_json(text)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": [1, True]}, r"a\[1\]: True instead of a whole number"),
        ({"a": 10**30}, "a: a number beyond 64 bits instead of a list"),
        ({"a": [10**30]}, r"a\[0\]: a number beyond 64 bits"),
        ([], "it: a list of 0 instead of an object"),
    ],
)
def test_a_value_of_another_kind_is_told_with_its_place(value: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        from_plain(dict[str, list[int]], value)


def test_a_file_that_holds_something_else_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "ids.json").write_text('["a", 1]')
    with pytest.raises(ModelError, match=r"ids\.json: is damaged \(it\[1\]|ids\.json: is damaged \(\[1\]: 1 instead"):
        read_as(tmp_path / "ids.json", list[str], ModelError, "fit again")


ONTOLOGY = {
    "format": 1,
    "terms": ["GO:1", "GO:2"],
    "names": ["all", "one"],
    "aspects": "FF",
    "parents": [[], [0]],
    "others": {"GO:3": "GO:2"},
}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"parents": [[1], [0]]}, "contains itself"),
        ({"parents": [[], [2]]}, "parent that is not there"),
        ({"parents": [[], [-1]]}, "parent that is not there"),
        ({"parents": [[]]}, "not one name, aspect and list of parents"),
        ({"aspects": "FX"}, "an aspect that is none of C, F, P"),
        ({"aspects": "FC"}, "parent of another aspect"),
        ({"terms": ["GO:1", "GO:1"]}, "2 different terms"),
        ({"others": {"GO:3": "GO:9"}}, "'GO:9', which is no term"),
        ({"names": None}, "names: None instead of a list"),
    ],
)
def test_an_ontology_whose_parts_do_not_fit_is_refused(change: dict[str, object], problem: str, tmp_path: Path) -> None:
    (tmp_path / "terms.json").write_text(json.dumps(ONTOLOGY))
    assert len(Ontology.load(tmp_path / "terms.json")) == 2
    (tmp_path / "terms.json").write_text(json.dumps(ONTOLOGY | change))
    with pytest.raises(FolderError, match=problem):
        Ontology.load(tmp_path / "terms.json")


# trees


def test_checked_trees_say_to_the_bit_what_the_text_says() -> None:
    features = np.random.default_rng(0).normal(size=(200, FEATURES)).astype(np.float32)
    np.testing.assert_array_equal(Trees.read(TREES, FEATURES).scores(features), Trees(TREES).scores(features))


@pytest.mark.parametrize(
    ("line", "damaged", "problem"),
    [
        ("left_child=1 -1", "left_child=0 -1", "tree 0: a split above itself"),
        ("left_child=1 -1", "left_child=-1 -1", "tree 0: a child that is not there, or has two parents"),
        ("left_child=1 -1", "left_child=99 -1", "tree 0: a child that is not there"),
        ("left_child=1 -1", "left_child=1 -1 -1", "left_child has 3 values instead of 2"),
        ("num_leaves=3", "num_leaves=300000000", "tree 0: 300000000 leaves"),
        ("num_leaves=3", "num_leaves=4", "split_feature has 2 values instead of 3"),
        ("num_leaves=3", "num_leaves=-3", "num_leaves is '-3', no count"),
        ("num_cat=0", "num_cat=1", "splits on categories"),
        ("split_feature=3 5", "split_feature=3 20", "a split on a feature beyond the 20"),
        ("decision_type=2 10", "decision_type=3 10", "a kind of split"),
        ("shrinkage=0.05", "num_leaves=3", "'num_leaves' stands twice"),
        ("threshold=0.14", "threshold=nan", "threshold holds what is no number"),
        ("threshold=0.14", "threshold=9e999", "threshold holds what is no number|beyond all bounds"),
        ("num_class=1", "num_class=2", "2 classes and 1 trees a round instead of 1"),
        ("max_feature_idx=19", "max_feature_idx=18", "trees on 19 features instead of 20"),
        ("Tree=1", "Tree=7", "'Tree=7' where tree 1 begins"),
        ("end of trees", "end", "'end' where tree 8 begins"),
        ("tree\n", "", "no text of a LightGBM model"),
    ],
)
def test_trees_that_cannot_be_walked_never_reach_the_library(line: str, damaged: str, problem: str) -> None:
    assert line in TREES
    with pytest.raises(ValueError, match=problem):
        checked_text(TREES.replace(line, damaged, 1), FEATURES, 1)


# indices, vectors


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (0, b"IxPQ", "no flat index"),
        (4, (1 << 30).to_bytes(4, "little"), "numbers that holds"),
        (8, (1 << 40).to_bytes(8, "little"), "numbers that holds"),
        (37, (1 << 40).to_bytes(8, "little"), "numbers that holds"),
        (45, np.array([np.nan], np.float32).tobytes(), "NaN or infinity"),
    ],
)
def test_an_index_is_read_only_where_its_head_fits_its_bytes(
    place: int, value: bytes, problem: str, tmp_path: Path
) -> None:
    import torch

    search = Search.empty(4, "cosine")
    search.add(torch.eye(4))
    search.save(tmp_path / "index.faiss")
    again = Search.load(tmp_path / "index.faiss", "cosine")
    np.testing.assert_array_equal(again.rows(), np.eye(4))
    data = bytearray((tmp_path / "index.faiss").read_bytes())
    data[place : place + len(value)] = value
    (tmp_path / "index.faiss").write_bytes(data)
    with pytest.raises(ModelError, match=problem):
        Search.load(tmp_path / "index.faiss", "cosine")


def test_vectors_that_lie_in_another_file_are_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["a"] = np.ones(4, np.float32)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["a"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/a")
    with pytest.raises(DataError, match=r"link\.h5:/a: a link instead of a protein's dataset"):
        list(read_vectors(tmp_path / "link.h5"))
    (tmp_path / "raw").write_bytes(b"\0" * 16)
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("a", (4,), "f4", external=[(str(tmp_path / "raw"), 0, 16)])
    with pytest.raises(DataError, match="vectors that lie in another file"):
        list(read_vectors(tmp_path / "raw.h5"))


def test_weights_that_claim_more_layers_than_they_have_are_refused_at_once(fuzz: ModuleType, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from esmcls.encoders.weights import load_state

    sys.modules["fuzz_kinds"]._of_encoders(tmp_path)
    path = tmp_path / "encoder.safetensors"
    for layers, problem in (
        (10**30, "beyond 64 bits"),
        (10**9, "a model of 1000000000 layers"),
        (1000, "2 layers inst"),
    ):
        config = {"layers": layers, "width": 16, "heads": 2, "token_dropout": True}
        header = {"format": "esmcls-encoder-1", "layers": [], "config": config}
        save_file(load_file(path), tmp_path / "claims.safetensors", {"esmcls": json.dumps(header)})
        with pytest.raises(WeightsError, match=problem):
            load_state(tmp_path / "claims.safetensors")


# what a person opens


def test_signs_that_a_terminal_would_obey_are_shown_as_text() -> None:
    assert visible("a\x1b]0;owned\x07\r\x9b31m\u202e é\tü\n") == "a\\x1b]0;owned\\x07\\r\\x9b31m\\u202e é\tü\n"


def test_on_a_screen_colours_pass_and_nothing_else_does() -> None:
    reading, writing = pty.openpty()
    with os.fdopen(writing, "w") as stream:
        Screen(stream).write("\x1b[1mid\x1b[0m \x1b[2J\x07")
        stream.flush()
        assert os.read(reading, 100).decode() == "\x1b[1mid\x1b[0m \\x1b[2J\\x07"
    os.close(reading)


def test_an_error_about_an_id_with_an_escape_sequence_is_shown_as_text(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.fasta").write_text(">x\x1b[2J y\nMK1T\n")
    assert main(["embed", str(tmp_path / "a.fasta"), "-w", str(tmp_path / "w")]) == 1
    told = capfd.readouterr().err
    assert "\x1b" not in told
    assert len(told.splitlines()) == 1


def test_a_spreadsheet_takes_no_cell_for_a_formula_and_the_records_come_back(tmp_path: Path) -> None:
    ids, labels = ["=cmd()", "@SUM", "-2+3", "P1"], ["+x", "-1.5", "=1+1", "a"]
    columns = Columns(ids, ["MKT", "MKV", "MKL", "MKI"], labels, [None] * 4)
    columns.write(tmp_path / "a.csv", [None] * 4)
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as handle:
        cells = [cell for row in csv.reader(handle) for cell in row]
    assert not [cell for cell in cells if cell[:1] in "=+-@" and cell and cell != "-1.5"]
    records = list(read_records([tmp_path / "a.csv"]))
    assert [record.protein.id for record in records] == ids
    assert [record.label for record in records] == labels


# what is no file, and what claims more than it holds


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


READERS: dict[str, Callable[[Path], object]] = {
    "weights.safetensors": load_state,
    "weights.pt": load_state,
    "vectors.npz": lambda path: list(read_vectors(path)),
    "vectors.h5": lambda path: list(read_vectors(path)),
    "vectors.parquet": lambda path: list(read_vectors(path)),
    "run.json": lambda path: list(read_vectors(path.parent)),
    "folder/protein.pt": lambda path: list(read_vectors(path.parent)),
    "dataset.parquet": Dataset.load,
    "ontology.json": Ontology.load,
    "answers.safetensors": lambda path: FoldAnswers.load(path),
    "head.safetensors": read_state,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(("make", "kind"), [(_pipe, "a pipe"), (_socket, "a socket"), (_device, "a device")])
def test_what_is_no_file_is_refused_before_it_is_read(
    name: str, make: Callable[[Path], None], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    monkeypatch.chdir(path.parent)  # names of sockets are short
    make(Path(path.name))
    with pytest.raises((DataError, FolderError, ModelError, WeightsError), match=f"{kind}, not a file"):
        READERS[name](path)


@pytest.mark.parametrize("make", [_pipe, _device])
def test_a_model_folder_with_a_pipe_or_device_in_it_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    folder = shutil.copytree(RELEASE / "families" / "models" / "linear", tmp_path / "linear")
    make(folder / "confidence.json")
    with pytest.raises(ModelError, match=r"confidence\.json: a (pipe|device), not a file; remove it"):
        esmcls.load_model(folder)


def _npz(path: Path, head: str, data: bytes = b"\0" * 16, packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as file:
        file.writestr("a.npy", b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head.encode() + data)
    return path


@pytest.mark.parametrize(
    ("dtype", "shape", "problem"),
    [
        ("<f4", "(1000000000000000,)", r"its head claims 4,000,000,000,000,000 bytes of float32 .* but 16 are there"),
        ("<f4", "(3,)", "claims 12 bytes of float32 .* but 16 are there"),
        ("<f4", "(-4,)", "a damaged head"),
        ("|O", "(4,)", "an array of objects"),
        ("<f4", "(" + "9" * 5000 + ",)", "a damaged head"),
        ("<U4", "(1,)", "an array of <U4"),
    ],
)
def test_an_array_that_claims_another_size_than_it_has_is_refused(
    dtype: str, shape: str, problem: str, tmp_path: Path
) -> None:
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    with pytest.raises(DataError, match=problem):
        list(read_vectors(_npz(tmp_path / "a.npz", head)))


def test_texts_that_are_no_unicode_are_refused(tmp_path: Path) -> None:
    head = "{'descr': '<U4', 'fortran_order': False, 'shape': (1,), }"
    path = _npz(tmp_path / "a.npz", head, b"\xff" * 16)
    with pytest.raises(ValueError, match="signs that there are not"), open_npz(path) as file:
        file.read("a")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8"])
def test_arrays_of_numpy_come_as_they_are(order: Literal["C", "F"], dtype: str, tmp_path: Path) -> None:
    array = np.asarray(np.arange(12).reshape(3, 4), dtype=dtype, order=order)
    np.savez_compressed(tmp_path / "a.npz", a=array, ids=np.array(["é", "b"]), none=np.zeros((0, 3), np.float32))
    with open_npz(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(file.read("a"), array)
        assert file.read("ids").tolist() == ["é", "b"]
        assert file.read("none").shape == (0, 3)


def test_an_array_packed_a_thousandfold_is_refused_unless_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({5 << 20},), }}"
    path = _npz(tmp_path / "a.npz", head, bytes(20 << 20), zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"a\.npy is more than 200 times as large as its packed form: check it, and"):
        list(read_vectors(path))
    monkeypatch.setenv("ESMCLS_NO_LIMITS", "1")
    assert [len(entry.vector) for entry in read_vectors(path)] == [5 << 20]


def test_tensors_that_show_few_numbers_as_many_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pt").mkdir()
    tensor = torch.ones(1).expand(1 << 40)
    torch.save({"label": "a", "mean_representations": {6: tensor}}, tmp_path / "pt" / "a.pt")
    with pytest.raises(DataError, match="a tensor claims 1,099,511,627,776 numbers, but holds fewer"):
        list(read_vectors(tmp_path / "pt"))


def test_a_file_of_torch_that_is_packed_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as file, zipfile.ZipFile(tmp_path / "b.pt", "w") as packed:
        for info in file.infolist():
            packed.writestr(info.filename, file.read(info), zipfile.ZIP_DEFLATED)
    assert isinstance(read_torch(tmp_path / "a.pt"), dict)
    with pytest.raises(ValueError, match="it is packed, which PyTorch's files are not"):
        read_torch(tmp_path / "b.pt")


# reports of seeds


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"metrics": {"accuracy": {"value": 1.0}}}', r"is damaged \(accuracy: lacks 'low'\)"),
        ('{"metrics": [1]}', "a list of 1 instead of an object"),
        ("[]", "a list of 0 instead of an object"),
    ],
)
def test_a_damaged_report_of_a_seed_is_one_line(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(FolderError, match=problem):
        read_metrics(tmp_path / "report.json", object.__new__(OneLabelObjective))
    whole = {"value": 0.5, "low": 0.4, "high": 0.6}
    (tmp_path / "report.json").write_text(json.dumps({"metrics": {"accuracy": whole}}))
    read = read_metrics(tmp_path / "report.json", object.__new__(OneLabelObjective))
    assert read == {"accuracy": Interval(**whole)}


# what the fuzzer found


def _changed(folder: Path, name: str, change: Callable[[Any], object]) -> Path:
    """Change what a JSON file of a model folder holds, and let the digest in its manifest fit."""
    path = folder / name
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    if name != "manifest.json":
        _changed(folder, "manifest.json", lambda about: about["files"].update({name: sha256_file(path)}))
    return folder


@pytest.mark.parametrize(
    ("model", "name", "change", "problem"),
    [
        ("terms/mlp", "manifest.json", lambda of: of["classes"].__setitem__(0, "GO:9"), "classes that are no terms"),
        (
            "families/linear",
            "manifest.json",
            lambda of: of["spec"].update(width=255),
            "numbers, where encoder|width 256",
        ),
        ("families/mlp", "manifest.json", lambda of: of["config"].update(hidden=10**6), "no network of these settings"),
        ("terms/mlp", "manifest.json", lambda of: of["config"].update(epochs=10**400), "setting epochs: 1000"),
        ("families/ensemble", "members.json", lambda of: of.pop(), "2 members instead of 3"),
        (
            "families/ensemble",
            "members.json",
            lambda of: of[0]["spec"].update(poolings="x"),
            "poolings: 'x' instead of",
        ),
        ("terms/ensemble", "members.json", lambda of: of["members"].clear(), "mixes that are not of these members"),
        (
            "terms/ensemble",
            "members.json",
            lambda of: of["mixes"][0][0]["shifts"].clear(),
            "mixes that are not of these",
        ),
    ],
)
def test_a_model_whose_parts_do_not_fit_one_another_is_refused(
    model: str, name: str, change: Callable[[Any], object], problem: str, fuzz: ModuleType, tmp_path: Path
) -> None:
    kind, folder = model.split("/")
    copy = shutil.copytree(RELEASE / kind / "models" / folder, tmp_path / folder)
    encoder = sys.modules["fuzz_kinds"]._KnownEncoder(json.loads((copy / "manifest.json").read_text())["spec"])
    assert esmcls.predict(esmcls.load_model(copy, encoder=encoder), ["MKTAYIAKQRQISFVK"])
    _changed(copy, name, change)
    with pytest.raises(EsmclsError, match=problem):
        esmcls.predict(esmcls.load_model(copy, encoder=encoder), ["MKTAYIAKQRQISFVK"])


def test_a_tensor_of_another_form_is_told_before_any_memory_is_taken(tmp_path: Path) -> None:
    copy = shutil.copytree(RELEASE / "families" / "models" / "mlp", tmp_path / "mlp")
    state = read_state(copy / "mlp.safetensors")
    for name, tensor in {
        "out.weight": torch.zeros(10),
        "hidden.0.0.bias": torch.zeros(3),
        "other": torch.ones(1),
    }.items():
        save_file(state | {name: tensor}, copy / "mlp.safetensors")
        _changed(
            copy,
            "manifest.json",
            lambda of: of["files"].update({"mlp.safetensors": sha256_file(copy / "mlp.safetensors")}),
        )
        with pytest.raises(ModelError, match=rf"no network of these settings \(.*{name}"):
            esmcls.load_model(copy)


def test_differences_of_offsets_that_overflow_are_seen() -> None:
    offsets = np.array([0, 2**63 - 1, -(2**63), 2], dtype=np.int64)
    with pytest.raises(ValueError, match="offsets that do not cut 2 codes"):
        LabelSets(("a", "b"), offsets, np.array([0, 1], dtype=np.int64))


def test_a_workspace_with_a_data_set_and_no_split_is_refused(tmp_path: Path) -> None:
    state = json.loads((RELEASE / "families" / "workspace.json").read_text())
    (tmp_path / "workspace.json").write_text(json.dumps(state | {"split": None}))
    with pytest.raises(WorkspaceError, match="a data set without its split"):
        Workspace.open(tmp_path)


@pytest.mark.parametrize("text", ["id\tid\tlabel\nA\tB\tc\n", "id\tlabel\tlabel\nA\tB\tc\n"])
def test_a_table_of_labels_that_names_a_column_twice_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text(text)
    with pytest.raises(DataError, match=r"labels\.tsv:1: two columns named (id|label); rename one of them"):
        LabelTable.read([str(tmp_path / "labels.tsv")])


def test_a_row_of_labels_that_reads_like_a_header_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text("id\tlabel\nA\tkinase\nname\tfamily\n")
    assert LabelTable.read([str(tmp_path / "labels.tsv")]).labels["name"][0] == "family"


# records that never end


def test_a_row_whose_quote_is_never_closed_ends_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmcls.reading.rows.LONGEST_ROW", 1000)
    (tmp_path / "a.csv").write_text('id,sequence\na,MKT\nb,"MK' + "T\n" * 1000)
    with pytest.raises(
        DataError, match=r"a\.csv:3: a row of more than 1,000 characters; close or double its quotes, or"
    ):
        list(read_records(tmp_path / "a.csv"))
    monkeypatch.setenv("ESMCLS_NO_LIMITS", "1")
    with pytest.raises(DataError, match="a row that cannot be read"):
        list(read_records(tmp_path / "a.csv"))


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_row_of_very_many_cells_is_refused(delimiter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text(f"id{delimiter}sequence\na{delimiter}MKT\n" + delimiter * (1 << 16) + "\n")
    with pytest.raises(DataError, match=r"a\.csv:3: a row of more than 65,536 cells; check its delimiters, or set ESM"):
        list(read_records(tmp_path / "a.csv"))
    monkeypatch.setenv("ESMCLS_NO_LIMITS", "1")
    assert len(list(read_records(tmp_path / "a.csv", on_bad="skip"))) == 1


def test_an_alignment_that_does_not_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmcls.reading.stockholm.LARGEST_ALIGNMENT", 10_000)
    rows = "p MKT\n" * 20
    path = tmp_path / "a.sto"
    path.write_text(f"# STOCKHOLM 1.0\n{rows[:60]}//\n# STOCKHOLM 1.0\n{rows}//\n")
    with pytest.raises(
        DataError, match=r"a\.sto:\d+: an alignment of more than 10,000 characters; give its sequences as"
    ):
        list(read_records(path))
    monkeypatch.setenv("ESMCLS_NO_LIMITS", "1")
    assert len(list(read_records(path))) == 30


# segments


def test_a_segment_with_forged_checksums_never_reaches_the_library(fuzz: ModuleType, tmp_path: Path) -> None:
    kind = fuzz.kinds(tmp_path)["families/6111 segment"]
    with fuzz.tempfile.TemporaryDirectory() as place:
        copy = fuzz.copied(kind, Path(place))
        fuzz.damage(kind, copy, "families/6111 segment 2027")  # of which HDF5 2.0 crashes
        with pytest.raises(ValueError, match=r"(which|that) esmcls does not write"):
            check_hdf5(copy / kind.file)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: data[:40], "truncated"),
        (lambda data: data[:8] + b"\x09" + data[9:], "its superblock"),
        (lambda data: data[:36] + b"\xff" * 8 + data[44:], "an address beyond its end"),
        (lambda data: data.replace(b"GCOL", b"GCOX"), "a heap of texts that is none"),
        (lambda data: data.replace(b"OCHK", b"OCHX"), "a chunk of a header that is none"),
        (lambda data: data.replace(b"\x04mean", b"\x04mea/"), "a link that esmcls does not write"),
        (lambda data: data.replace(b"\x04mean", b"\x03mean"), "a link that esmcls does not write"),
        (lambda data: data.replace(_encoded("<f2"), _encoded("<f2")[:-1] + b"\1"), "numbers of a kind"),
        (lambda data: data.replace(_encoded("<f2"), _encoded("<f4")), "mean claims [0-9,]+ numbers, but holds"),
    ],
)
def test_metadata_of_a_segment_that_leads_astray_is_refused(
    change: Callable[[bytes], bytes], problem: str, tmp_path: Path
) -> None:
    whole = min((RELEASE / "families" / "cache").glob("*/*.h5")).read_bytes()
    (tmp_path / "a.h5").write_bytes(whole)
    check_hdf5(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_bytes(change(whole))
    with pytest.raises(ValueError, match=problem):
        check_hdf5(tmp_path / "a.h5")


@pytest.mark.parametrize("poolings", [("mean",), ("mean", "cls", "max", "chunk"), ("mean", "cls", "max", "residue")])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_every_segment_that_is_written_passes(rows: int, dtype: str, poolings: tuple[str, ...], tmp_path: Path) -> None:
    spec = EmbeddingSpec("e", "70", (1,), "ends:4", "fp32", dtype, poolings, 8)
    forms = {name: form_of(spec, name) for name in ("key", "length", "inputs", *spec.pooled, *spec.ragged)}
    columns = {name: Column.of(np.zeros((rows, *shape), kind)) for name, (shape, kind) in forms.items()}
    columns |= {f"{name}_offsets": Column.of(np.arange(rows + 1, dtype=np.int64)) for name in spec.ragged}
    write_segment(tmp_path / "a.h5", spec, columns, ["before.h5"] * rows)
    segment = Segment(tmp_path / "a.h5")
    segment.check()
    assert len(segment) == rows
    segment.close()


def test_an_index_of_segments_that_is_a_pipe_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / INDEX)
    assert read_index(tmp_path, EmbeddingSpec("e", "70", (1,), "ends:4", "fp32", "float16", ("mean",), 8)) == {}
