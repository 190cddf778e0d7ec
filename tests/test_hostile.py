"""Files that are damaged, or made to do harm, are one clear line: no traceback, no hang, no crash."""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import os
import pty
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest

from esmcls.cache.import_vectors import read_vectors
from esmcls.errors import DataError, FolderError, ModelError, WeightsError
from esmcls.files import from_plain, parse_json, read_as
from esmcls.heads.neighbours.search import Search
from esmcls.heads.trees.boosting import Trees
from esmcls.heads.trees.tree_text import checked_text
from esmcls.labels.ontology import Ontology
from esmcls.reading.readers import read_records
from esmcls.reading.record_columns import Columns
from esmcls_cli.main import main
from esmcls_cli.options import Screen, visible

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
    # in a process of its own: what other tests have started, a fork would not take along; CI runs ten thousand
    command = [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), "--cases", "2000", "--out", str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True)
    *lines, summary = run.stdout.splitlines()
    assert run.returncode == 0, "\n".join(line for line in lines if not line.endswith(" -")) + run.stderr
    assert summary.endswith(" s: no faults")
    counts = json.loads((tmp_path / "out").read_text())
    assert sum(sum(entry["counts"].values()) for entry in counts.values()) > 1900


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
    blocks = damage._blocks(path.read_bytes())
    assert len(blocks) > 5
    for number in range(20):
        changed = damage._hdf5(path.read_bytes(), random.Random(number))
        assert set(damage._blocks(changed)) & set(blocks)
        assert changed != path.read_bytes()


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
