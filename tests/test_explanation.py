"""Explanations: what residues add is the answer itself, whatever the head; what is no sum over residues is refused."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from command import done, run

from esmcls.cache.features import Features, residues_by
from esmcls.cache.spec import EmbeddingSpec
from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.esm2 import read_weights
from esmcls.errors import UsageError
from esmcls.heads.layers.linear import LinearConfig, LinearHead
from esmcls.heads.layers.mlp import MLPConfig, MLPHead, TermMLPConfig, TermMLPHead
from esmcls.heads.layers.number_mlp import NumberMLPConfig, NumberMLPHead
from esmcls.heads.layers.number_ridge import RidgeConfig, RidgeHead
from esmcls.heads.layers.term_linear import TermLinearConfig, TermLinearHead
from esmcls.heads.layers.term_multitask import TermMultitaskConfig, TermMultitaskHead
from esmcls.heads.neighbours.knn import KNNConfig, KNNHead
from esmcls.heads.term_naive import NaiveHead
from esmcls.insight.explanation.evidence import Neighbour
from esmcls.insight.explanation.explain import Explanation
from esmcls.insight.explanation.opened import opened, opened_at_nearest
from esmcls.insight.explanation.page import explanation_page
from esmcls.insight.explanation.residues import contributions
from esmcls.insight.explanation.through_encoder import ThroughEncoder
from esmcls.insight.pages import script_json
from esmcls.labels.labels import Labels, LabelSets
from esmcls.labels.numbers import Numbers
from esmcls.reading.records import Protein
from esmcls.workspace.intake import demo_set

ROWS, WIDTH = 48, 6
SPEC = EmbeddingSpec("esm2", "c0ffee", (2,), "balanced", "fp32", "float32", ("mean", "max"), WIDTH)
SPITEFUL = "</script><b>"


@pytest.fixture(scope="module")
def residues() -> list[np.ndarray]:
    """Residue vectors of proteins of four families, of different lengths."""
    random = np.random.default_rng(3)
    centres = 2 * random.normal(size=(4, WIDTH))
    lengths = random.integers(5, 30, ROWS)
    return [
        (centres[row % 4] + random.normal(size=(length, WIDTH))).astype(np.float32)
        for row, length in enumerate(lengths)
    ]


def features(residues: list[np.ndarray]) -> Features:
    """Return the pooled vectors of proteins."""
    tables = {"mean": np.stack([one.mean(0) for one in residues]), "max": np.stack([one.max(0) for one in residues])}
    return Features.from_arrays(tables, spec=SPEC)


def names() -> list[str]:
    return [f"F{row % 4}" for row in range(ROWS)]


ONE_LABEL = {
    "linear": LinearHead(),
    "linear not whitened": LinearHead(LinearConfig(whiten=False)),
    "linear on maxima": LinearHead(LinearConfig(pooling="max")),
    "mlp": MLPHead(MLPConfig(epochs=3, hidden=16)),
    "mlp of layer norm": MLPHead(MLPConfig(epochs=3, hidden=16, norm="layer", depth=2)),
    "mlp not whitened": MLPHead(MLPConfig(epochs=3, hidden=16, whiten=False)),
}
TERMS = {
    "linear": TermLinearHead(TermLinearConfig(epochs=2)),
    "mlp": TermMLPHead(TermMLPConfig(epochs=2, hidden=16)),
    "multitask": TermMultitaskHead(TermMultitaskConfig(epochs=2, hidden=16, shared=8)),
}
NUMBERS = {
    "ridge": RidgeHead(RidgeConfig(whiten=False)),
    "whitened ridge": RidgeHead(RidgeConfig(whiten=True)),
    "mlp": NumberMLPHead(NumberMLPConfig(epochs=3, hidden=16)),
}


@pytest.mark.parametrize("name", ONE_LABEL)
def test_contributions_add_up_to_the_logit_whose_softmax_is_predicted(name: str, residues: list[np.ndarray]) -> None:
    head, x = ONE_LABEL[name], features(residues)
    head.fit(x, Labels.from_names(names()))
    part = opened(head)
    assert part is not None
    added = [contributions(part, residues[5], column) for column in range(4)]
    logits = np.array([one.base + one.values.sum() for one in added])
    spread = max(abs(one.output - one.base) for one in added)
    assert np.abs([one.rest for one in added]).max() <= (1e-9 if part.linear else 0.02 * spread)
    powers = np.exp([one.output for one in added])
    assert powers / powers.sum() == pytest.approx(head.predict_proba(x.take([5]))[0], abs=2e-5)
    assert logits.argmax() == head.predict_proba(x.take([5]))[0].argmax()


@pytest.mark.parametrize("name", TERMS)
def test_contributions_add_up_to_the_logit_whose_sigmoid_is_predicted(name: str, residues: list[np.ndarray]) -> None:
    head, x = TERMS[name], features(residues)
    labels = LabelSets.from_names([[family, "even"] if family in ("F0", "F2") else [family] for family in names()])
    head.fit(x, labels)
    part = opened(head)
    assert part is not None
    column = head.classes.index("even")
    added = contributions(part, residues[2], column)
    most = 1e-5 if part.linear else 0.02  # of a network in fp32
    assert abs(added.rest) <= most * abs(added.output - added.base)
    assert 1 / (1 + np.exp(-added.output)) == pytest.approx(head.predict_proba(x.take([2]))[0, column], abs=2e-5)


@pytest.mark.parametrize("name", NUMBERS)
def test_contributions_add_up_to_the_predicted_number(name: str, residues: list[np.ndarray]) -> None:
    head, x = NUMBERS[name], features(residues)
    head.fit(x, Numbers(x.vectors()[:, 0].astype(np.float64) * 3 + 40))
    part = opened(head)
    assert part is not None
    added = contributions(part, residues[7], 0)
    assert abs(added.rest) <= (1e-9 if part.linear else 0.02 * abs(added.output - added.base))
    assert added.output == pytest.approx(head.predict(x.take([7]))[0], rel=1e-5)


def test_contributions_add_up_to_the_nearness_of_the_nearest_protein(residues: list[np.ndarray]) -> None:
    x = features(residues)
    head = KNNHead(KNNConfig(k=1)).fit(x.take(range(40)), Labels.from_names(names()[:40]))
    part = opened_at_nearest(head, x.take([44]))
    assert part is not None
    added = contributions(part, residues[44], 0)
    assert added.rest == pytest.approx(0, abs=1e-9)
    assert 1 - added.output == pytest.approx(head.nearest(x.take([44]))[0][0], abs=1e-5)


def test_a_residue_at_the_mean_of_training_adds_nothing(residues: list[np.ndarray]) -> None:
    head = LinearHead().fit(features(residues), Labels.from_names(names()))
    part = opened(head)
    assert part is not None
    protein = residues[0].copy()
    protein[3] = part.mean.numpy()
    values = contributions(part, protein, 0).values
    assert abs(values[3]) < 1e-6 * np.abs(values).max()


def test_residues_that_no_maximum_is_from_add_nothing() -> None:
    head = LinearHead(LinearConfig(whiten=False, pooling="max"))
    vectors = [np.array([[9.0, 0.0], [0.0, row], [-5.0, -5.0]], dtype=np.float32) for row in range(8)]
    tables = {"max": np.stack([one.max(0) for one in vectors])}
    head.fit(Features.from_arrays(tables, spec=SPEC), Labels.from_names(["low"] * 4 + ["high"] * 4))
    part = opened(head)
    assert part is not None
    assert contributions(part, vectors[6], 0).values[2] == 0


def test_cls_vectors_are_no_sum_over_residues(residues: list[np.ndarray]) -> None:
    head = LinearHead(LinearConfig(pooling="cls"))
    x = Features.from_arrays({"cls": np.stack([one[0] for one in residues])})
    part = opened(head.fit(x, Labels.from_names(names())))
    assert part is not None
    with pytest.raises(UsageError, match="pooling cls, which are no sum over residues"):
        contributions(part, residues[0], 0)


def test_a_head_without_layers_is_not_opened() -> None:
    assert opened(NaiveHead()) is None


# with an encoder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of six families and a tiny encoder, with a model of each of some heads."""
    place = tmp_path_factory.mktemp("explain")
    encoder = tiny.write_encoder(place / "tiny.safetensors")
    options = ["--encoder", encoder, "--dtype", "float32", "--precision", "fp32"]
    done("embed", tiny.write_set(place / "set.csv"), "-w", place / "w", *options)
    done("fit", "-w", place / "w", "--head", "linear")
    done("fit", "-w", place / "w", "--head", "knn")
    done("fit", "-w", place / "w", "--head", "lightgbm", "--set", "rounds", "2")
    query = tiny.sequences(12)[7]
    (place / "q.fasta").write_text(f">{SPITEFUL}\n{query}\n>p7\n{query}\n")
    return place


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def test_the_table_adds_up_to_what_it_says_is_the_logit(workspace: Path) -> None:
    words = ["-w", workspace / "w", "--model", "linear"]
    rows = rows_of(done("explain", workspace / "q.fasta", *words).out)
    [predicted, _] = rows_of(done("predict", workspace / "q.fasta", *words).out)
    mine = [row for row in rows if row["id"] == "p7"]
    assert "".join(row["residue"] for row in mine) == tiny.sequences(12)[7]
    assert {row["of"] for row in mine} == {predicted["label"]}
    added = sum(float(row["contribution"]) for row in mine)
    assert float(mine[0]["base"]) + added == pytest.approx(float(mine[0]["output"]), abs=1e-4)


def test_another_class_is_explained_on_demand(workspace: Path) -> None:
    words = ["explain", workspace / "q.fasta", "-w", workspace / "w", "--model", "linear"]
    outputs = {name: rows_of(done(*words, "--class", name).out)[0]["output"] for name in ("F0", "F3")}
    assert outputs["F0"] != outputs["F3"]
    assert rows_of(done(*words, "--term", "F3").out)[0]["output"] == outputs["F3"]


def test_gradients_through_the_encoder_add_up_to_the_same_logit(workspace: Path) -> None:
    words = ["explain", workspace / "q.fasta", "-w", workspace / "w", "--model", "linear", "--class", "F1"]
    plain = rows_of(done(*words).out)[0]
    rows = [row for row in rows_of(done(*words, "--method", "gradients").out) if row["id"] == "p7"]
    output, base = float(rows[0]["output"]), float(rows[0]["base"])
    assert output == pytest.approx(float(plain["output"]), abs=1e-3)
    assert sum(float(row["contribution"]) for row in rows) == pytest.approx(
        output - base, abs=0.02 * abs(output - base)
    )


@pytest.mark.parametrize("pooling", ["cls", "max", "mean"])
def test_gradients_are_complete_for_each_pooling(pooling: str, workspace: Path) -> None:
    weights = read_weights(str(workspace / "tiny.safetensors"))
    encoder = load_encoder(str(workspace / "tiny.safetensors"), layers=(2,))
    texts = tiny.sequences(30)
    x = Features.from_arrays(dict(encoder.encode(texts, (pooling,)).pooled), texts)
    labels = Labels.from_names([f"F{row % tiny.FAMILIES}" for row in range(30)])
    part = opened(LinearHead(LinearConfig(pooling=pooling)).fit(x, labels))
    assert part is not None
    added = ThroughEncoder.of(weights.config, weights.state, (2,), part).contributions(texts[4], 2)
    assert abs(added.rest) <= 0.02 * np.abs(added.values).sum()


def test_knn_shows_the_nearest_proteins_and_where_they_align(workspace: Path, tmp_path: Path) -> None:
    words = ["-w", workspace / "w", "--model", "knn", "--neighbours", "3", "--nearest", tmp_path / "near.tsv"]
    rows = rows_of(done("explain", workspace / "q.fasta", *words).out)
    near = [row for row in rows_of((tmp_path / "near.tsv").read_text()) if row["id"] == "p7"]
    assert [row["rank"] for row in near] == ["1", "2", "3"]
    assert {row["of"] for row in rows if row["id"] == "p7"} == {near[0]["nearest_id"]}
    assert near[0]["nearest_label"].startswith("F")
    assert int(near[0]["query_end"]) <= len(tiny.sequences(12)[7])


def test_ids_and_labels_on_the_page_are_escaped_and_nothing_is_fetched(workspace: Path, tmp_path: Path) -> None:
    done("explain", workspace / "q.fasta", "-w", workspace / "w", "--model", "linear", "--html", tmp_path / "why.html")
    page = (tmp_path / "why.html").read_text()
    assert SPITEFUL not in page
    assert "&lt;/script&gt;&lt;b&gt;" in page
    assert "http" not in page


def test_a_spiteful_label_of_a_neighbour_is_escaped() -> None:
    near = Neighbour("n", SPITEFUL, 0.1, None)
    explanation = Explanation(
        Protein("a", "MK"), SPITEFUL, "logit", 0.5, "residues", np.array([1.0, np.nan]), 0, 1, (near,)
    )
    page = explanation_page([explanation], "m", "said")
    assert SPITEFUL not in page
    assert "K2: not seen by the encoder" in page
    assert SPITEFUL not in script_json({"label": SPITEFUL})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "linear", "--class", "F9"], "model linear has no class 'F9'; name one of its 6"),
        (["--model", "lightgbm"], "model lightgbm has the head lightgbm, whose answer is no sum over residues"),
        (["--model", "knn", "--method", "gradients"], "--method gradients is for linear, ridge and mlp heads on ESM-2"),
        (["--model", "linear", "--structure", "a.pdb"], "--structure FILE is what is read and --coloured FILE"),
        (["--model", "linear", "--structure", "a.txt", "--coloured", "b.txt"], "a.txt: a structure is a file named"),
        (["--model", "linear", "--structure", "a.pdb", "--coloured", "b.pdb.gz"], "b.pdb.gz: it is written unpacked"),
        (
            ["--model", "linear", "--nearest", "n.tsv"],
            "--nearest is for the heads knn, align and homology; model linear",
        ),
        (["--model", "linear", "--chain", "A"], "--chain is of a structure"),
    ],
)
def test_what_cannot_be_explained_is_one_line(words: list[str], message: str, workspace: Path) -> None:
    ran = run("explain", workspace / "q.fasta", "-w", workspace / "w", *words)
    assert ran.code != 0
    assert ran.out == ""
    [line] = ran.err.splitlines()
    assert message in line


def test_counts_of_k_mers_have_no_residues(tmp_path: Path) -> None:
    done("embed", tiny.write_set(tmp_path / "set.csv", 60), "-w", tmp_path / "w", "--encoder", "composition")
    done("fit", "-w", tmp_path / "w", "--head", "linear", "--set", "epochs", "0")
    ran = run("explain", tmp_path / "set.csv", "-w", tmp_path / "w")
    assert "encoder composition has no vectors of residues" in ran.err


def test_a_fine_tuned_model_is_explained_through_its_own_encoder(workspace: Path) -> None:
    tuning = ["--method", "full", "--epochs", "1", "--batch", "16", "--lr", "1e-3", "--start", "zero", "--quiet"]
    words = ["--encoder", workspace / "tiny.safetensors", "--name", "tuned", "--precision", "fp32", *tuning]
    done("finetune", "-w", workspace / "w", *words)
    rows = rows_of(done("explain", workspace / "q.fasta", "-w", workspace / "w", "--model", "tuned").out)
    plain = ["--model", "tuned", "--method", "residues", "--class", rows[0]["of"]]
    others = rows_of(done("explain", workspace / "q.fasta", "-w", workspace / "w", *plain).out)
    assert {row["method"] for row in rows} == {"gradients"}
    assert {row["method"] for row in others} == {"residues"}
    assert float(rows[0]["output"]) == pytest.approx(float(others[0]["output"]), abs=1e-3)


# what it is worth


def short_families(families: int = 10, members: int = 12) -> tuple[list[str], list[str]]:
    """Return sequences and labels of the demo set's families of the shortest proteins, family after family."""
    of_family: dict[str, list[str]] = {}
    with gzip.open(demo_set(), "rt", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            of_family.setdefault(row["label"], []).append(row["sequence"])
    shortest = {name: sorted(texts, key=len)[:members] for name, texts in of_family.items() if len(texts) >= members}
    chosen = sorted(shortest, key=lambda name: len(shortest[name][-1]))[:families]
    pairs = [(text, name) for name in chosen for text in shortest[name]]
    return [text for text, _ in pairs], [name for _, name in pairs]


def test_shuffling_the_most_important_tenth_lowers_the_logit_more_than_a_random_tenth() -> None:
    """By gradients through the bundled encoder: the mean over proteins of ten families that were not fitted on."""
    sequences, labels = short_families()
    held = np.arange(len(sequences)) % 12 == 5
    encoder, weights = load_encoder("bundled", precision="fp32"), read_weights("bundled")
    x = Features.from_arrays(np.concatenate([encoder.encode([text]).pooled["mean"] for text in sequences]), sequences)
    fitted = np.flatnonzero(~held)
    head = LinearHead(LinearConfig(epochs=0)).fit(x.take(fitted), Labels.from_names([labels[row] for row in fitted]))
    part = opened(head)
    assert part is not None
    through = replace(ThroughEncoder.of(weights.config, weights.state, encoder.layers, part), tries=(16,))
    random = np.random.default_rng(0)
    lowered: dict[str, list[float]] = {"important": [], "random": []}
    for row in np.flatnonzero(held):
        column = head.classes.index(labels[row])
        added = through.contributions(sequences[row], column)
        length = len(sequences[row])
        chosen = {"important": np.argsort(-added.values), "random": random.permutation(length)}
        for name, order in chosen.items():
            letters = np.array(list(sequences[row]))
            tenth = order[: max(2, length // 10)]
            letters[tenth] = letters[random.permutation(tenth)]
            [vectors] = residues_by(encoder, ["".join(letters)], None)
            lowered[name].append(added.output - contributions(part, vectors, column).output)
    assert len(lowered["random"]) == 10
    assert np.mean(lowered["important"]) > np.mean(lowered["random"])
