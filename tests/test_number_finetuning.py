"""Fine-tuning for numbers, and layers chosen by them: the loss of a step, where it begins, what it leaves."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import done, run
from number_proteins import write_numbers
from test_finetuning import LAYERS, PLAIN, Numbered, alike, gradients
from tiny import CONFIG, sequences, tiny_model, write_encoder

from esmcls.cache.features import Features
from esmcls.encoders.esm2 import ESM2Encoder
from esmcls.encoders.windows import parse_long
from esmcls.finetuning.config import FinetuneConfig
from esmcls.finetuning.model import Tuned
from esmcls.finetuning.packing import Proteins
from esmcls.finetuning.task import Finetuning
from esmcls.heads.layers.number_ridge import RidgeHead, Spectrum
from esmcls.labels.numbers import Numbers
from esmcls.metrics.regression import spearman
from esmcls.models.folder import load_model, read_manifest
from esmcls.tasks.number.tuning import NumberObjective, NumberStart, NumberSupervision
from esmcls.training.loop import run as train
from esmcls.training.processes import ALONE, Replicas
from esmcls.training.schedule import TrainingPlan

SEQUENCES, HELD_SEQUENCES = sequences(60), sequences(12, seed=9)
VALUES = Numbers(np.array([30.0 + 4 * sequence.count("L") - 3 * sequence.count("K") for sequence in SEQUENCES]))
HELD_VALUES = Numbers(np.array([30.0 + 4 * text.count("L") - 3 * text.count("K") for text in HELD_SEQUENCES]))
SUPERVISION = NumberSupervision(VALUES, HELD_VALUES)
HELD = Proteins(HELD_SEQUENCES, parse_long("full"))
MSE = replace(PLAIN, loss="mse")


def vectors_of(proteins: list[str]) -> Features:
    encoder = ESM2Encoder("tiny", CONFIG, tiny_model().state_dict(), layers=LAYERS, precision="fp32")
    return Features.from_arrays(encoder.encode(proteins).pooled["mean"], proteins)


START = SUPERVISION.fit(vectors_of(SEQUENCES), vectors_of(HELD_SEQUENCES), MSE, "mean", "cpu")


def task(
    config: FinetuneConfig = MSE,
    held: Proteins | None = None,
    replicas: Replicas = ALONE,
    start: NumberStart = START,
    supervision: NumberSupervision = SUPERVISION,
) -> Finetuning:
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = Tuned(tiny_model(), start.output, LAYERS, config, "fp32")
    proteins = Proteins(SEQUENCES, parse_long("full"), crop=config.crop)
    return Finetuning(network, proteins, supervision, held, replicas)


# the ridge regression that it begins with


@pytest.mark.parametrize("shape", [(12, 5), (6, 9)])
def test_the_dual_gives_the_weights_of_the_primal_and_both_those_of_the_formula(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=shape).astype(np.float32), random.normal(size=shape[0])
    y -= y.mean()
    centred = x.astype(np.float64) - x.mean(0)
    gram = centred.T @ centred
    level = np.trace(gram) / shape[1]
    expected = np.linalg.solve(gram + 0.3 * level * np.eye(shape[1]), centred.T @ y)
    for dual in (False, True):
        weight, bias = Spectrum.of(x, y, lambda block: block, dual).solve(0.3)
        np.testing.assert_allclose(weight[0].numpy(), expected, atol=1e-5)
        assert float(bias) == pytest.approx(-float(x.mean(0) @ expected), abs=1e-5)


# the loss of a step


@pytest.mark.parametrize("loss", NumberObjective.losses)
def test_accumulated_pieces_have_the_gradients_of_the_whole_batch(loss: Any) -> None:
    config = replace(MSE, loss=loss)
    whole, entry = gradients(task(config))
    parts, logged = gradients(task(replace(config, tokens=90)))
    assert alike(parts, whole)
    assert logged["loss"] == pytest.approx(entry["loss"], rel=1e-5)


def test_the_shares_of_two_processes_add_up_to_the_step_of_one() -> None:
    shares = [gradients(task(replicas=Numbered(number=number, of=2))) for number in (0, 1)]
    whole, entry = gradients(task())
    assert alike((shares[0][0] + shares[1][0]) / 2, whole)
    assert (shares[0][1]["loss"] + shares[1][1]["loss"]) / 2 == pytest.approx(entry["loss"], rel=1e-5)


def test_the_loss_is_the_squared_error_in_deviations_of_the_training_numbers() -> None:
    found = task(replace(MSE, tokens=10_000, dropout=0.0))
    rows = found.sampler.rows(0)
    [packed] = found.proteins.packed(rows, 10_000)
    with torch.no_grad():
        outputs = found.model(packed)[:, 0].numpy()
    wanted = (VALUES.values[packed.rows] - VALUES.values.mean()) / VALUES.values.std()
    assert gradients(found)[1]["loss"] == pytest.approx(float(np.square(outputs - wanted).mean()), rel=1e-4)


# where it begins, and what is measured


def test_it_begins_where_the_ridge_regression_stands() -> None:
    found, outputs = task(replace(MSE, dropout=0.5)), np.zeros(60)
    found.model.eval()
    for rows, block in found.blocks(found.proteins):
        outputs[rows] = block[:, 0].numpy()
    np.testing.assert_allclose(START.head.scale.restored(outputs), START.head.predict(vectors_of(SEQUENCES)), atol=1e-2)


@pytest.mark.parametrize("tokens", [60, 10_000])
def test_validation_is_spearman_whatever_the_pieces(tokens: int) -> None:
    expected = spearman(HELD_VALUES.values, START.head.predict(vectors_of(HELD_SEQUENCES)))
    assert task(replace(MSE, tokens=tokens), HELD).validate() == pytest.approx(expected, abs=1e-6)
    assert START.scores["spearman"] == pytest.approx(expected)


def test_of_equal_order_the_one_that_is_nearer_is_better() -> None:
    right = (HELD_VALUES.values - VALUES.values.mean()) / VALUES.values.std()
    order = np.arange(12)[::-1].copy()

    def score(values: np.ndarray) -> float:
        outputs = torch.from_numpy(values[order])[:, None]
        return SUPERVISION.score(order, iter([(slice(0, 5), outputs[:5]), (slice(5, 12), outputs[5:])]))

    assert score(right) > score(right + 1) > 1 - 1e-6
    assert score(-right) < 0


def test_training_raises_spearman_from_a_layer_of_zeros_on_a_set_it_may_learn_by_heart() -> None:
    known = NumberSupervision(VALUES, VALUES)
    vectors = vectors_of(SEQUENCES)
    start = known.fit(vectors, vectors, replace(MSE, start="zero"), "mean", "cpu")
    assert not start.output.weight.any()
    assert start.scores["spearman"] == 0.0
    config = replace(MSE, lr=3e-3, head_lr=3e-2)
    proteins = Proteins(SEQUENCES, parse_long("full"))
    found = task(config, proteins, start=start, supervision=known)
    history = train(found, TrainingPlan(steps=60, lr=3e-3, warmup=5, clip=1.0, validate_every=20))
    assert history.best_score > 0.5
    losses = [entry["loss"] for entry in history.entries]
    assert losses[-1] < 0.6 * losses[0]


def test_the_head_that_is_kept_has_the_trained_layer_and_is_read_as_it_was_written(tmp_path: Path) -> None:
    output, held = START.output, vectors_of(HELD_SEQUENCES)
    head = START.continued(2 * output.weight, output.bias, output.scaling.mean, held, "mean")
    centre = START.head.scale.centre + START.head.scale.spread * float(output.bias)
    again = START.head.predict(held)
    np.testing.assert_allclose(head.predict(held) - centre, 2 * (again - centre), rtol=1e-3, atol=1e-3)
    assert head.scores["spearman"] == pytest.approx(START.scores["spearman"])
    head.save(tmp_path)
    np.testing.assert_array_equal(RidgeHead.load(tmp_path, head.chosen).predict(held), head.predict(held))


# in a workspace

SHORT = ("--method", "full", "--epochs", "1", "--batch", "16", "--lr", "1e-3", "--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of proteins with a number, layers chosen by them, and a tiny encoder beside it."""
    folder = tmp_path_factory.mktemp("numbers")
    write_encoder(folder / "tiny.safetensors")
    path = write_numbers(folder / "s.csv")
    encoder = ("--encoder", folder / "tiny.safetensors", "--layers", "auto")
    (folder / "embedded.txt").write_text(done("embed", path, "-w", folder / "w", *encoder, "--device", "cpu").out)
    return folder


def finetune(folder: Path, *more: str | Path) -> Any:
    return run("finetune", "-w", folder / "w", "--encoder", folder / "tiny.safetensors", *SHORT, *more)


def test_layers_are_chosen_by_the_spearman_of_a_ridge_regression(place: Path) -> None:
    told = (place / "embedded.txt").read_text()
    assert re.search(r"chosen.*: Spearman [−\d.]+ on 20 validation proteins by ridge regression", told)
    [report] = (place / "w" / "reports").glob("layers-*/choice.json")
    choice = json.loads(report.read_text())
    assert (choice["measure"], choice["asked"]) == ("spearman", 20)
    assert "of ridge regression with train, on 20 proteins" in (report.parent / "report.html").read_text()


def test_the_model_is_one_of_numbers_with_its_encoder_and_is_taken_like_any_other(place: Path) -> None:
    ran = finetune(place, "--calibration", "20%")
    assert ran.code == 0, ran.err
    assert "the output layer begins with Spearman" in ran.err
    assert "a number each, 48 sequences" in ran.out
    folder = place / "w" / "models" / "finetuned"
    manifest = read_manifest(folder)
    assert (manifest.head, manifest.kind, manifest.classes) == ("ridge", "number", ())
    files = {"encoder", "ridge", "scale", "held", "conformal"}
    assert {f"{name}.safetensors" for name in files} == set(manifest.files)
    assert manifest.setup["finetuned"]["loss"] == "mse"
    report = json.loads((place / "w" / "reports" / "finetune" / "finetuned" / "report.json").read_text())
    where = ("-w", place / "w", "--device", "cpu", "--model", "finetuned")
    done("evaluate", *where)
    metrics = json.loads((place / "w" / "reports" / "evaluate-finetuned" / "metrics.json").read_text())
    assert {name: report[name] for name in ("n", "metrics")} == {name: metrics[name] for name in ("n", "metrics")}
    assert len(load_model(folder).findings.errors) == 12
    table = done("predict", place / "s.csv", *where, "--coverage", ".8", "-q").out.splitlines()
    assert len(table) == 111


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--loss", "ce"), "--loss ce is not for a number a protein; choose from mse, huber"),
        (("--families", "3"), "--families takes the largest families, but a protein has a number, and no family"),
        (("--sampling", "balanced"), "--sampling balanced draws each family as often, but a protein has a number"),
        (("--class-weights", "sqrt"), "--class-weights weighs a sequence by its family, but a protein has a number"),
    ],
)
def test_what_numbers_cannot_have_is_refused(place: Path, words: tuple[str, ...], problem: str) -> None:
    ran = finetune(place, *words)
    assert (ran.code, ran.out) == (2, "")
    assert problem in ran.err
