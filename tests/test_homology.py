"""The homology head: both engines answer alike, votes by hand, an engine that fails or differs is one line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from relatives import RESIDUES, ancestors, relatives
from scripted_engine import Scripted

from esmcls.cache.embed import embed_into
from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.encoders.encoder import load_encoder
from esmcls.errors import EngineError, EngineMismatchError, MissingExtraError, UsageError
from esmcls.heads.alignment import finder, homology
from esmcls.heads.alignment import search as homology_search
from esmcls.heads.alignment.homology import HomologyConfig, HomologyHead
from esmcls.heads.alignment.search import Hits, Limits, MMseqs, open_engine, search
from esmcls.heads.neighbours.votes import Tally
from esmcls.labels.labels import Labels
from esmcls.models.fit import fit_dataset
from esmcls.models.folder import load_model, save_model
from esmcls.models.predict import predict_stream
from esmcls.reading.records import Protein
from esmcls.tasks.one_label.task import OneLabel

PROGRAM = shutil.which("mmseqs")
FAMILIES = 4


def bare(sequences: Iterable[str], ids: list[str] | None = None) -> Features:
    """Return features of sequences alone."""
    texts = list(sequences)
    return Features.from_arrays(np.zeros((len(texts), 0), dtype=np.float32), texts, ids)


# engines


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that temporary folders are made in."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@dataclass
class Asked:
    """One search of queries that hold a case each, and its answer."""

    targets: list[str]
    queries: list[str]
    hits: Hits


PEPTIDE = "".join(np.random.default_rng(5).choice(list("ACGT"), 60))
"""Its letters are also those of bases."""


@cache
def ask(name: str) -> Asked:
    engine = MMseqs(str(PROGRAM)) if name == "mmseqs" else open_engine("phmmer")
    family = relatives([row % FAMILIES for row in range(20)], seed=1)
    targets = [*family, family[0], PEPTIDE, ancestors(6)[5][:30] + "UZOBX" + ancestors(6)[5][35:]]
    queries = [*relatives(range(FAMILIES), seed=2), family[0], PEPTIDE, ancestors(6)[5], "MKV", family[0]]
    return Asked(targets, queries, search(engine, queries, targets, Limits(evalue=1e-3), best=8))


@pytest.fixture(params=["phmmer", "mmseqs"])
def asked(request: pytest.FixtureRequest) -> Asked:
    if request.param == "mmseqs" and PROGRAM is None:
        pytest.skip("no program mmseqs on the PATH")
    if request.param == "phmmer":
        pytest.importorskip("pyhmmer", reason="pyhmmer is not installed")
    return ask(request.param)


def test_the_best_hits_of_a_sequence_are_its_family(asked: Asked) -> None:
    for family in range(FAMILIES):
        found = asked.hits.rows[family]
        members = set(range(family, 20, FAMILIES))
        assert set(found[:5].tolist()) - {20} <= members
        assert found[0] in members


def test_hits_come_with_rising_e_values_and_falling_bits_and_then_nothing(asked: Asked) -> None:
    hits = asked.hits
    there = hits.rows >= 0
    assert (hits.evalues[:, 1:] >= hits.evalues[:, :-1]).all()
    assert (hits.evalues[there] <= 1e-3).all()
    assert np.isinf(hits.evalues[~there]).all()
    assert (hits.bits[~there] == 0).all()
    assert (hits.bits[there] > 20).all()


def test_of_equal_targets_the_first_row_is_the_better_hit(asked: Asked) -> None:
    assert asked.hits.rows[4, :2].tolist() == [0, 20]
    assert asked.hits.bits[4, 0] == asked.hits.bits[4, 1]


def test_a_peptide_of_the_letters_of_bases_is_a_protein(asked: Asked) -> None:
    assert asked.hits.rows[5, 0] == 21
    assert asked.hits.bits[5, 0] > 60


def test_rare_residues_are_taken(asked: Asked) -> None:
    assert asked.hits.rows[6, 0] == 22


def test_a_sequence_without_a_relative_has_no_hit_and_equal_queries_have_equal_hits(asked: Asked) -> None:
    assert asked.hits.rows[7].tolist() == [-1] * 8
    np.testing.assert_array_equal(asked.hits.rows[4], asked.hits.rows[8])


@pytest.mark.skipif(PROGRAM is None, reason="no program mmseqs on the PATH")
def test_the_hits_are_those_of_mmseqs_easy_search(tmp_path: Path) -> None:
    """The oracle is the command that users run by hand, with its defaults, its answers in its own order."""
    asked = ask("mmseqs")
    for name, sequences in (("q", asked.queries), ("t", asked.targets)):
        (tmp_path / name).write_text("".join(f">{row}\n{one}\n" for row, one in enumerate(sequences)))
    line = [str(PROGRAM), "easy-search", "q", "t", "out", "tmp", "-s", "7.5", "--threads", "1"]
    line += ["--format-output", "query,target,evalue,bits"]
    subprocess.run(line, cwd=tmp_path, check=True, capture_output=True)
    rows = [line.split() for line in (tmp_path / "out").read_text().splitlines()]
    assert len(rows) > 25
    for query in range(len(asked.queries)):
        told = {(int(row[1]), float(row[2]), float(row[3])) for row in rows if int(row[0]) == query}
        columns = (asked.hits.rows[query], asked.hits.evalues[query], asked.hits.bits[query])
        assert {hit for hit in zip(*(one.tolist() for one in columns), strict=True) if hit[0] >= 0} == told


@pytest.mark.skipif(PROGRAM is None, reason="no program mmseqs on the PATH")
def test_targets_that_mmseqs_cannot_index_are_never_hit(temporary: Path) -> None:
    hits = search(MMseqs(str(PROGRAM)), [ancestors(1)[0]], ["MKV", "MLE"], Limits(), best=2)
    assert hits.rows.tolist() == [[-1, -1]]
    assert list(temporary.iterdir()) == []


def test_hits_are_ranked_by_e_value_then_bits_then_row() -> None:
    hits = Hits.none(1, 3)
    hits.put(0, [(0, 9, 1e-5, 40.0), (0, 4, 1e-9, 50.0), (0, 3, 1e-9, 50.0), (0, 7, 1e-9, 51.0)])
    assert hits.rows.tolist() == [[7, 3, 4]]
    assert hits.bits.tolist() == [[51, 50, 50]]


def program(folder: Path, search: str = ":", convert: str = ":", version: str = "echo 9-test") -> str:
    """Write a program that is asked as MMseqs2 is; it notes what it was asked beside itself."""
    path = folder / "mmseqs"
    cases = f"version) {version} ;;\nsearch) {search} ;;\nconvertalis) {convert} ;;"
    path.write_text(f'#!/bin/sh\necho "$@" >> "{folder}/asked"\nhere="{folder}"\ncase $1 in\n{cases}\nesac\n')
    path.chmod(0o755)
    return str(path)


def test_what_the_program_writes_is_read_as_it_comes_and_all_that_counts_is_asked(
    tmp_path: Path, temporary: Path
) -> None:
    engine = MMseqs(program(tmp_path, convert=r"printf '1\t0\t1E-9\t50\n0\t2\t2E-4\t30\n0\t1\t1.5E-30\t99\n' > $5"))
    hits = search(engine, ["MA", "MC"], ["MD", "ME", "MF"], Limits(4.5, 0.5, 70), best=2, threads=3)
    assert engine.version == "9-test"
    assert hits.rows.tolist() == [[1, 2], [0, -1]]
    assert hits.evalues.tolist() == [[1.5e-30, 2e-4], [1e-9, np.inf]]
    assert hits.bits.tolist() == [[99, 30], [50, 0]]
    lines = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["version", "createdb", "createdb", "search", "convertalis"]
    assert "--dbtype 1 --shuffle 0" in lines[1]
    assert "-s 4.5 -e 0.5 --max-seqs 70" in lines[3]
    assert all(line.endswith("--threads 3 -v 1") for line in lines[3:])
    assert list(temporary.iterdir()) == []


def test_a_program_that_fails_is_one_line_with_its_last_words_and_leaves_no_folder(
    tmp_path: Path, temporary: Path
) -> None:
    engine = MMseqs(program(tmp_path, search="echo first >&2; echo 'Error: no space' >&2; echo >&2; exit 7"))
    with pytest.raises(EngineError) as error:
        search(engine, ["MA"], ["MD"], Limits(), best=1)
    assert str(error.value) == (
        "engine mmseqs: `mmseqs search` failed with exit code 7 (Error: no space); "
        "check memory, disk and TMPDIR, or --set engine phmmer"
    )
    assert list(temporary.iterdir()) == []


def test_a_program_that_fails_without_a_word_is_told_too(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"`mmseqs version` failed with exit code 3 \(it said nothing\)"):
        MMseqs(program(tmp_path, version="exit 3"))


@pytest.mark.parametrize("moment", ["just when it is started", "while it runs"])
@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_a_signal_ends_what_the_program_started_and_leaves_no_folder(
    name: str, moment: str, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program starts one of its own and sends us the signal; a pipe tells when both have ended."""
    asked = signal.Signals[f"SIG{name}"]
    before = signal.signal(asked, signal.default_int_handler)
    ends, alive = os.pipe()
    press = f"kill -{name} $PPID; " if moment == "while it runs" else ""
    engine = MMseqs(program(tmp_path, search=f"sleep 30 & {press}wait"))
    popen = subprocess.Popen

    def keeping(line: list[str], **options: Any) -> subprocess.Popen[str]:
        started = popen(line, pass_fds=(alive,), **options)
        if "search" in line and not press:
            signal.raise_signal(asked)
        return started

    monkeypatch.setattr(subprocess, "Popen", keeping)
    with pytest.raises(KeyboardInterrupt):
        search(engine, ["MA"], ["MD"], Limits(), best=1)
    os.close(alive)
    assert os.read(ends, 1) == b""  # comes when nobody holds the other end any more
    os.close(ends)
    assert list(temporary.iterdir()) == []
    assert signal.signal(asked, before) is signal.default_int_handler


def test_a_program_can_be_run_beside_the_main_thread(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(MMseqs, program(tmp_path)).result().version == "9-test"


def test_an_error_while_hits_are_read_leaves_no_folder(tmp_path: Path, temporary: Path) -> None:
    engine = MMseqs(program(tmp_path, convert=r"printf '0\t0\t1E-9\t50\nbroken\n' > $5"))
    with pytest.raises(ValueError, match="not enough values"):
        search(engine, ["MA"], ["MD"], Limits(), best=1)
    assert list(temporary.iterdir()) == []


def test_nothing_is_run_where_there_is_nothing_to_search(tmp_path: Path) -> None:
    engine = MMseqs(program(tmp_path))
    assert search(engine, [], ["MD"], Limits(), best=2).rows.shape == (0, 2)
    assert search(engine, ["MA"], [], Limits(), best=2).rows.tolist() == [[-1, -1]]
    assert (tmp_path / "asked").read_text() == "version\n"


def test_auto_takes_mmseqs_where_it_is_on_the_path_and_else_phmmer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyhmmer", reason="pyhmmer is not installed")
    assert open_engine().name == "phmmer"
    monkeypatch.setattr(homology_search, "PROGRAM", program(tmp_path))
    assert (open_engine().name, open_engine().version) == ("mmseqs", "9-test")
    assert open_engine("phmmer").name == "phmmer"


def test_an_engine_that_is_not_installed_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = r"head homology needs the package pyhmmer; run: pip install 'esmcls\[homology\]'"
    if "pyhmmer" in sys.modules or homology_search.installed("phmmer") is not None:
        with pytest.raises(EngineError, match="mmseqs: no such program on the PATH; install MMseqs2, or --set engine"):
            open_engine("mmseqs")
    monkeypatch.setitem(sys.modules, "pyhmmer", None)
    for name in ("auto", "phmmer", "mmseqs"):
        with pytest.raises(MissingExtraError, match=needs):
            open_engine(name)  # type: ignore[arg-type]
    with pytest.raises(MissingExtraError, match=needs):
        HomologyHead().fit(bare(["MA"]), Labels.from_names(["a"]))
    monkeypatch.setattr(homology_search, "PROGRAM", program(tmp_path))
    with pytest.raises(MissingExtraError, match=needs):
        open_engine("phmmer")


def test_a_sequence_that_phmmer_cannot_take_is_one_line() -> None:
    pytest.importorskip("pyhmmer", reason="pyhmmer is not installed")
    with pytest.raises(EngineError, match=r"^engine phmmer: failed \(.*\); leave the sequence out"):
        search(open_engine("phmmer"), ["M1A"], ["MKTAYI"], Limits(), best=1)


# votes


def test_bits_of_a_class_are_added_and_classes_without_a_hit_share_the_weight_of_no_bits() -> None:
    tally = Tally.of(np.array([[2, 0, 2, -1]]), np.array([[30.0, 25.0, 10.0, 0.0]]))
    votes = tally.weigh(np.array([0.1, 0.2, 0.3, 0.4]), temperature=10)
    weights = np.array([np.exp(2.5), 0.2, np.exp(4.0), 0.4])  # of 25 bits, none, 30 + 10 bits, none
    np.testing.assert_allclose(votes.dense()[0], weights / weights.sum(), rtol=1e-6)
    codes, mass = votes.top(4)
    assert codes.tolist() == [[2, 0, 3, 1]]
    np.testing.assert_array_equal(mass[0], votes.dense()[0][codes[0]])


def test_without_a_hit_the_probabilities_are_the_priors_and_all_places_are_filled() -> None:
    votes = Tally.of(np.full((1, 2), -1), np.zeros((1, 2))).weigh(np.array([0.25, 0.5, 0.0, 0.25]), 5)
    assert votes.dense().tolist() == [[0.25, 0.5, 0.0, 0.25]]
    codes, mass = votes.top(3)
    assert codes.tolist() == [[1, 0, 3]]
    assert mass.tolist() == [[0.5, 0.25, 0.25]]


def test_of_classes_with_equal_bits_that_of_the_better_hit_is_first() -> None:
    assert Tally.of(np.array([[3, 1, 0]]), np.array([[20.0, 20.0, 30.0]])).codes.tolist() == [[0, 3, 1]]


def test_the_class_of_the_most_bits_is_first_at_every_temperature_whatever_the_priors() -> None:
    tally = Tally.of(np.array([[1, 2]]), np.array([[0.5, 0.1]]))
    for temperature in (1e-3, 1.0, 1e6):
        assert tally.weigh(np.array([0.998, 0.001, 0.001]), temperature).top(3)[0].tolist() == [[1, 2, 0]]


@pytest.mark.parametrize("bits", [0.0, 1e-3, 1e5])
def test_rows_sum_to_one_however_strong_the_hits(bits: float) -> None:
    every = np.arange(5)[None]
    for codes in (every, np.array([[4, 4, 4, -1, -1]])):
        votes = Tally.of(codes, np.where(codes >= 0, bits, 0.0)).weigh(np.full(5, 0.2), 2)
        assert votes.dense().sum() == pytest.approx(1, abs=1e-6)


def test_the_log_loss_is_that_of_the_true_class_and_classes_unknown_in_training_do_not_count() -> None:
    tally = Tally.of(np.array([[0], [0], [0], [-1], [-1]]), np.array([[7.0], [7.0], [7.0], [0.0], [0.0]]))
    losses = tally.weigh(np.array([0.25, 0.75, 0.0]), 7.0).losses(np.array([0, 1, -1, 1, 2]))
    total = np.e + 0.75
    np.testing.assert_allclose(losses, [-np.log(np.e / total), -np.log(0.75 / total), 0, -np.log(0.75), -np.log(1e-12)])


# the head


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Put a scripted engine where engines are found."""
    engine = Scripted({})
    monkeypatch.setattr(finder, "open_engine", lambda name: engine)
    monkeypatch.setattr(finder, "installed", lambda name: engine)
    return engine


TRAIN = bare(["TA", "TB", "TC", "TD"], ["first", "second", "third", "fourth"])
LABELS = Labels.from_names("abbc")


def test_the_vote_that_names_most_held_rows_right_is_chosen_on_one_search(scripted: Scripted) -> None:
    scripted.script = {f"Q{n}": {"TA": 50.0, "TB": 40.0, "TC": 39.0} for n in range(4)}
    held, told = bare(f"Q{n}" for n in range(4)), []
    head = HomologyHead().fit(TRAIN, LABELS, (held, Labels.from_names("bbbb", LABELS.classes)), log=told.append)
    assert (head.chosen.vote, head.chosen.k) == ("bits", 3)
    assert head.scores["accuracy"] == 1
    assert [(entry["k"], entry["accuracy"]) for entry in told] == [(1, 0), (3, 1), (5, 1), (10, 1), (20, 1)]
    assert len(scripted.searches) == 1
    turned = HomologyHead().fit(TRAIN, LABELS, (held, Labels.from_names("aaaa", LABELS.classes)))
    assert (turned.chosen.vote, turned.chosen.k, turned.scores["accuracy"]) == ("top", 1, 1)


def test_the_temperature_with_the_least_log_loss_is_chosen(scripted: Scripted) -> None:
    """Of four hits of 20 bits one is wrong: the best probability is 3/4 = w / (w + 1/2), w = exp(20 / 49.3)."""
    scripted.script = {f"Q{n}": {"TA": 20.0} for n in range(4)}
    labels = Labels.from_names("aabb")
    held = bare(f"Q{n}" for n in range(4)), Labels.from_names("aaab", labels.classes)
    told: list[dict[str, float]] = []
    head = HomologyHead(HomologyConfig(vote="top")).fit(TRAIN, labels, held, log=told.append)
    assert head.chosen.temperature == 50
    right = np.exp(20 / 50) / (np.exp(20 / 50) + 0.5)
    assert told == [
        {
            "k": 1,
            "temperature": 50,
            "log_loss": pytest.approx(-0.75 * np.log(right) - 0.25 * np.log(1 - right)),
            **head.scores,
        }
    ]


def test_knobs_that_are_given_are_not_chosen(scripted: Scripted) -> None:
    held = bare(["Q"]), Labels.from_names("b", LABELS.classes)
    scripted.script = {"Q": {"TA": 50.0, "TB": 40.0, "TC": 39.0}}
    top = HomologyHead(HomologyConfig(vote="top", temperature=7)).fit(TRAIN, LABELS, held)
    assert (top.chosen.vote, top.chosen.k, top.chosen.temperature) == ("top", 1, 7)
    assert top.top_k(held[0], 1)[0].tolist() == [[0]]
    five = HomologyHead(HomologyConfig(k=5)).fit(TRAIN, LABELS, held)
    assert (five.chosen.vote, five.chosen.k) == ("bits", 5)
    assert five.top_k(held[0], 1)[0].tolist() == [[1]]


def test_the_limits_and_the_number_of_threads_reach_the_engine(scripted: Scripted) -> None:
    import torch

    config = HomologyConfig(sensitivity=3, evalue=0.1, max_hits=9)
    HomologyHead(config).fit(TRAIN, LABELS, (bare(["Q"]), Labels.from_names("b", LABELS.classes)))
    assert scripted.searches[0][2:] == (Limits(3, 0.1, 9), torch.get_num_threads())


def test_rows_held_out_for_the_choice_are_no_targets_of_it_but_of_predictions(scripted: Scripted) -> None:
    x = bare(f"T{letter}" for letter in "ABCDEFGHIJ")
    head = HomologyHead().fit(x, Labels.from_names("aaaaabbbbb"), seed=4)
    [(queries, targets, *_)] = scripted.searches
    assert queries
    assert sorted(queries + targets) == x.sequences
    head.predict_proba(bare(["Q"]))
    assert scripted.searches[1][:2] == (["Q"], x.sequences)


def test_with_one_member_a_class_nothing_is_searched_and_the_top_hit_decides(scripted: Scripted) -> None:
    head = HomologyHead().fit(bare(["TA", "TB"]), Labels.from_names("ab"))
    assert scripted.searches == []
    assert (head.chosen.vote, head.chosen.k, head.chosen.temperature, head.scores) == ("top", 1, 20, {})


def test_probabilities_and_the_nearest_of_the_same_rows_take_one_search(scripted: Scripted) -> None:
    scripted.script = {"Q": {"TC": 10.0, "TB": 10.0}}
    head = HomologyHead(HomologyConfig(temperature=5)).fit(TRAIN, LABELS)
    before, x = len(scripted.searches), bare(["Q", "R"])
    codes, mass = head.top_k(x, 2)
    evalues, ids = head.nearest(x)
    assert len(scripted.searches) == before + 1
    assert codes.tolist() == [[1, 0], [1, 0]]
    np.testing.assert_allclose(mass[0], [np.exp(2) / (np.exp(2) + 0.5), 0.25 / (np.exp(2) + 0.5)], rtol=1e-6)
    assert mass[1].tolist() == [0.5, 0.25]
    assert evalues.tolist() == [2.0**-10, np.inf]
    assert ids == ["second", None]
    head.predict_proba(bare(["R"]))
    assert len(scripted.searches) == before + 1
    head.predict_proba(bare(["R", "S"]))
    assert len(scripted.searches) == before + 2


def test_what_is_predicted_does_not_depend_on_how_rows_fall_into_blocks(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.script = {f"Q{n}": {"TA": float(n), "TD": 9.0} for n in range(20)}
    head, x = HomologyHead(HomologyConfig(k=3)).fit(TRAIN, LABELS), bare(f"Q{n}" for n in range(20))
    whole = head.predict_proba(x), *head.top_k(x, 2)
    monkeypatch.setattr(homology, "VOTED_ROWS", 7)
    for one, other in zip(whole, (head.predict_proba(x), *head.top_k(x, 2)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_rows_without_a_sequence_are_an_error(scripted: Scripted) -> None:
    vectors = Features.from_arrays(np.zeros((2, 3), dtype=np.float32), ["MA", ""])
    message = "head homology reads sequences, but 1 of 2 rows are vectors without a sequence; give Features.from_arrays"
    with pytest.raises(UsageError, match=message):
        HomologyHead().fit(vectors, Labels.from_names("ab"))
    with pytest.raises(UsageError, match=message):
        HomologyHead().fit(TRAIN, LABELS).predict_proba(vectors)


def test_the_engine_and_its_version_are_kept_and_asked_for_again(scripted: Scripted, tmp_path: Path) -> None:
    head = HomologyHead().fit(TRAIN, LABELS)
    assert (head.chosen.engine, head.chosen.version) == ("mmseqs", "1")
    head.save(tmp_path)

    def loaded(**knobs: Any) -> HomologyHead:
        return HomologyHead.load(tmp_path, replace(head.chosen, **knobs), head.classes)

    scripted.version = "2"
    with pytest.raises(EngineMismatchError) as error:
        loaded().predict_proba(bare(["Q"]))
    assert str(error.value) == (
        "the model is of search engine mmseqs 1, but here is mmseqs 2: its scores may differ; install the one it is "
        "of, or fit again (with --set any_version true, where only versions may differ)"
    )
    assert loaded(any_version=True).predict_proba(bare(["Q"])).tolist() == [[0.25, 0.5, 0.25]]
    scripted.name = "phmmer"
    with pytest.raises(EngineMismatchError, match="of search engine mmseqs 1, but here is phmmer 2"):
        loaded(any_version=True).nearest(bare(["Q"]))


@pytest.mark.parametrize(
    ("fitted", "here", "said"),
    [
        ("14-7e284", "14-7e284", []),
        ("14-7e284+ds-1", "14.7e284", ["mmseqs 14-7e284+ds-1, here is 14.7e284"]),
        ("14", "14-7e284", ["mmseqs 14, here is 14-7e284"]),
    ],
)
def test_another_build_of_the_same_major_version_is_taken_and_said(
    scripted: Scripted, caplog: pytest.LogCaptureFixture, fitted: str, here: str, said: list[str]
) -> None:
    scripted.version = fitted
    head = HomologyHead().fit(TRAIN, LABELS)
    scripted.version = here
    head.finder._engine = None
    assert head.predict_proba(bare(["Q"])).tolist() == [[0.25, 0.5, 0.25]]
    assert [line.message for line in caplog.records] == [
        f"the model is of search engine {builds}: scores may differ a little" for builds in said
    ]


@pytest.mark.parametrize(
    ("fitted", "here"), [("13-45111", "14-7e284"), ("14-7e284", "7e284aa01c"), ("7e284aa01c", "7e284aa02c")]
)
def test_another_major_version_or_commit_is_refused(scripted: Scripted, fitted: str, here: str) -> None:
    scripted.version = fitted
    head = HomologyHead().fit(TRAIN, LABELS)
    scripted.version = here
    head.finder._engine = None
    with pytest.raises(EngineMismatchError, match=f"of search engine mmseqs {fitted}, but here is mmseqs {here}"):
        head.predict_proba(bare(["Q"]))


def test_a_version_that_is_asked_for_must_be_the_one_that_is_there(scripted: Scripted) -> None:
    with pytest.raises(EngineMismatchError, match="mmseqs 7, but here is mmseqs 1"):
        HomologyHead(HomologyConfig(version="7")).fit(TRAIN, LABELS)
    assert HomologyHead(HomologyConfig(version="7", any_version=True)).fit(TRAIN, LABELS).chosen.version == "1"


def test_a_model_without_any_engine_names_the_one_it_needs(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = HomologyHead().fit(TRAIN, LABELS)
    head.save(tmp_path)
    monkeypatch.setattr(finder, "installed", lambda name: None)
    with pytest.raises(EngineMismatchError, match="of search engine mmseqs 1, but here is none"):
        HomologyHead.load(tmp_path, head.chosen, head.classes).predict_proba(bare(["Q"]))


# from a data set to predictions


@pytest.fixture(scope="module")
def families() -> Dataset:
    pytest.importorskip("pyhmmer", reason="pyhmmer is not installed")
    codes = [row % FAMILIES for row in range(48)]
    parts = ["train" if row < 32 else "validation" if row < 40 else "test" for row in range(48)]
    names = [f"family {code}" for code in codes]
    return Dataset([f"p{row}" for row in range(48)], relatives(codes, seed=8), names, parts)


def test_a_model_needs_no_encoder_and_tells_the_nearest_and_its_e_value(families: Dataset, tmp_path: Path) -> None:
    encoder = load_encoder("composition")
    cache = EmbeddingCache.open(tmp_path / "cache", EmbeddingSpec.of(encoder))
    embed_into(cache, encoder, families.sequences)
    fit = fit_dataset(OneLabel(), families, cache, "homology", {"evalue": "1e-3"})
    manifest = fit.manifest
    assert (manifest.config["engine"], manifest.config["version"]) == ("phmmer", open_engine("phmmer").version)
    assert None not in manifest.config.values()
    assert manifest.validation == {"accuracy": 1, "macro_f1": 1, "n": 8}
    imported = replace(manifest, spec=replace(manifest.spec, encoder="imported"))
    model = load_model(save_model(tmp_path / "m", fit.head, imported))
    test = families.part("test")
    strange = Protein("strange", "".join(reversed(ancestors(7)[6])))
    proteins = [*map(Protein, test.ids, test.sequences), strange]
    *told, last = predict_stream(model, proteins)
    assert [row.label for row in told] == test.labels
    near = dict(zip(families.ids, families.labels, strict=True))
    assert [near[str(row.nearest_id)] for row in told] == test.labels
    assert all(row.distance is not None and 0 < row.distance < 1e-3 for row in told)
    assert (last.probability, last.distance, last.nearest_id) == (0.25, None, None)


def test_sequences_are_saved_small_and_come_back_as_they_were(scripted: Scripted, tmp_path: Path) -> None:
    x = bare("".join(np.random.default_rng(row).choice(RESIDUES, 300)) for row in range(50))
    head = HomologyHead().fit(x, Labels.from_names(["a", "b"] * 25))
    head.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["homology.safetensors", "ids.json"]
    assert (tmp_path / "homology.safetensors").stat().st_size < 0.7 * sum(map(len, x.sequences))
    again = HomologyHead.load(tmp_path, head.chosen, head.classes)
    assert again.finder.targets == x.sequences
    assert again.finder.ids == list(map(str, range(50)))
    np.testing.assert_array_equal(again.codes, head.codes)
    np.testing.assert_array_equal(again.priors, head.priors)
