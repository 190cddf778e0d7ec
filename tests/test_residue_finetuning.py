"""Fine-tuning for labels and numbers of residues: what is packed, a step's loss, where it begins, what it leaves."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import residues
import torch
from command import done, run
from test_finetuning import LAYERS, PLAIN, Numbered, alike, gradients
from tiny import CONFIG, tiny_model, write_encoder
from torch import Tensor
from torch.nn import functional as F

import esmcls
from esmcls.cache.features import Features
from esmcls.encoders.esm2 import ESM2Encoder
from esmcls.encoders.windows import parse_long
from esmcls.finetuning.config import FinetuneConfig
from esmcls.finetuning.keep import mean_vector
from esmcls.finetuning.model import Tuned
from esmcls.finetuning.packing import Proteins
from esmcls.finetuning.task import Finetuning
from esmcls.heads.residues.networks import ResidueLinearHead
from esmcls.labels.kinds import RESIDUE_LABEL, RESIDUE_NUMBER
from esmcls.labels.residue_labels import ResidueLabels, ResidueNumbers, Targets
from esmcls.models.folder import load_model, read_manifest
from esmcls.tasks.residues.tuning import ResidueObjective, ResidueStart, ResidueSupervision
from esmcls.training.loop import run as train
from esmcls.training.losses import class_weights
from esmcls.training.processes import ALONE, Replicas
from esmcls.training.schedule import TrainingPlan

LONG = ["full", "start:30", "balanced:8", "ends:8", "chunk:7", "window:8:3"]
SEQUENCES, HELD_SEQUENCES = residues.sequences()[:16], residues.sequences()[16:]


def labels_of(sequences: list[str], kind: str) -> Targets:
    """What is known of residues: nothing of the first two of each protein, and of the second protein nothing at all."""
    if kind == RESIDUE_NUMBER:
        texts = ["nan nan " + " ".join(residues.numbers(sequence).split()[2:]) for sequence in sequences]
        texts[1] = " ".join(["nan"] * len(sequences[1]))
        return ResidueNumbers.from_texts(texts)
    texts = ["??" + residues.states(sequence)[2:] for sequence in sequences]
    texts[1] = "?" * len(sequences[1])
    return ResidueLabels.from_texts(texts, "CEH")


def vectors_of(proteins: list[str]) -> Features:
    encoder = ESM2Encoder("tiny", CONFIG, tiny_model().state_dict(), layers=LAYERS, precision="fp32")
    embedded = encoder.encode(proteins, ("mean",), "residue")
    return Features.from_arrays(embedded.pooled["mean"], proteins, residues=embedded.residues)


SUPERVISION = {
    kind: ResidueSupervision(labels_of(SEQUENCES, kind), labels_of(HELD_SEQUENCES, kind))
    for kind in (RESIDUE_LABEL, RESIDUE_NUMBER)
}
SETTINGS = {RESIDUE_LABEL: replace(PLAIN, loss="ce"), RESIDUE_NUMBER: replace(PLAIN, loss="mse")}
STARTS = {
    kind: one.fit(vectors_of(SEQUENCES), vectors_of(HELD_SEQUENCES), SETTINGS[kind], "mean", "cpu")
    for kind, one in SUPERVISION.items()
}
HELD = Proteins(HELD_SEQUENCES, parse_long("full"), of_residues=True)
EACH_KIND = pytest.mark.parametrize("kind", [RESIDUE_LABEL, RESIDUE_NUMBER])


def task(
    kind: str,
    config: FinetuneConfig | None = None,
    held: Proteins | None = None,
    replicas: Replicas = ALONE,
    start: ResidueStart | None = None,
    supervision: ResidueSupervision | None = None,
) -> Finetuning:
    config = config or SETTINGS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = Tuned(tiny_model(), (start or STARTS[kind]).output, LAYERS, config, "fp32")
    proteins = Proteins(SEQUENCES, parse_long("full"), crop=config.crop, of_residues=True)
    return Finetuning(network, proteins, supervision or SUPERVISION[kind], held, replicas)


# residues in packed streams


@pytest.mark.parametrize("budget", [30, 10_000])
@pytest.mark.parametrize("long", LONG)
def test_residues_have_the_vectors_that_the_encoder_keeps_of_them(long: str, budget: int) -> None:
    model = tiny_model()
    encoder = ESM2Encoder("tiny", CONFIG, model.state_dict(), layers=LAYERS, long=long, precision="fp32")
    expected = np.concatenate(encoder.encode(SEQUENCES, ("mean",), "residue").residues)
    proteins = Proteins(SEQUENCES, parse_long(long), of_residues=True)
    numbers, vectors = [], []
    for packed in proteins.packed(np.arange(16), budget):
        with torch.no_grad():
            states = model(packed.tokens, packed.offsets, LAYERS)
        numbers.append(packed.answered)
        vectors.append(packed.pool(torch.cat([states[1], states[2]], dim=1)).numpy())
    answered = np.concatenate(numbers)
    order = np.argsort(answered)
    assert answered[order].tolist() == proteins.answered(np.arange(16)).tolist()
    np.testing.assert_allclose(np.concatenate(vectors)[order], expected, atol=1e-5)


def test_of_a_crop_its_own_residues_are_answered() -> None:
    proteins = Proteins(["ACD", "ACDEFGHIKL"], parse_long("full"), crop=4, of_residues=True)
    for place, first in ((0.0, 0), (0.5, 3), (0.999, 6)):
        places = np.array([place])
        [packed] = proteins.packed(np.array([1]), 100, places)
        assert packed.answered.tolist() == [3 + first + number for number in range(4)]
        assert proteins.answered(np.array([1]), places).tolist() == packed.answered.tolist()
    assert proteins.answered(np.array([1, 0])).tolist() == [*range(3, 13), 0, 1, 2]


# the loss of a step


@pytest.mark.parametrize(
    ("kind", "loss"), [(kind, loss) for kind in SUPERVISION for loss in ResidueObjective(kind).losses]
)
def test_accumulated_pieces_have_the_gradients_of_the_whole_batch(kind: str, loss: Any) -> None:
    weights: Any = "sqrt" if kind == RESIDUE_LABEL else "none"
    config = replace(SETTINGS[kind], loss=loss, class_weights=weights)
    whole, entry = gradients(task(kind, config))
    parts, logged = gradients(task(kind, replace(config, tokens=45)))
    assert alike(parts, whole)
    assert logged["loss"] == pytest.approx(entry["loss"], rel=1e-5)


@EACH_KIND
def test_the_shares_of_two_processes_add_up_to_the_step_of_one(kind: str) -> None:
    shares = [gradients(task(kind, replicas=Numbered(number=number, of=2))) for number in (0, 1)]
    whole, entry = gradients(task(kind))
    assert alike((shares[0][0] + shares[1][0]) / 2, whole)
    assert (shares[0][1]["loss"] + shares[1][1]["loss"]) / 2 == pytest.approx(entry["loss"], rel=1e-5)


def outputs_of(found: Finetuning) -> Tensor:
    """The outputs of all training residues, in their order."""
    found.model.eval()
    outputs = torch.zeros(len(np.concatenate([list(one) for one in SEQUENCES])), found.model.out.out_features)
    for answered, block in found.blocks(found.proteins):
        outputs[torch.from_numpy(answered)] = block
    return outputs


def test_the_loss_is_the_weighted_cross_entropy_of_the_residues_that_are_known() -> None:
    labels = SUPERVISION[RESIDUE_LABEL].labels
    assert isinstance(labels, ResidueLabels)
    found = task(RESIDUE_LABEL, replace(SETTINGS[RESIDUE_LABEL], class_weights="balanced"))
    logits, codes = outputs_of(found), torch.from_numpy(labels.codes)
    weights = torch.from_numpy(class_weights(labels.counts(), "balanced").values)
    expected = float(F.cross_entropy(logits, codes, weights, ignore_index=-1))
    assert gradients(found)[1]["loss"] == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_the_squared_error_in_deviations_of_the_numbers_that_are_known() -> None:
    labels = SUPERVISION[RESIDUE_NUMBER].labels
    assert isinstance(labels, ResidueNumbers)
    found = task(RESIDUE_NUMBER)
    values = labels.values[labels.known]
    errors = outputs_of(found)[:, 0].numpy()[labels.known] - (values - values.mean()) / values.std()
    assert gradients(found)[1]["loss"] == pytest.approx(float(np.square(errors).mean()), rel=1e-4)


@EACH_KIND
def test_a_step_of_which_no_residue_is_known_changes_nothing(kind: str) -> None:
    found = task(kind, replace(SETTINGS[kind], batch=1))
    step = next(step for step in range(16) if found.sampler.rows(step).tolist() == [1])
    grads, entry = gradients(found, step)
    assert entry["loss"] == 0.0
    assert not grads.any()


# where it begins, and what is measured


@EACH_KIND
def test_it_begins_where_the_linear_head_stands(kind: str) -> None:
    head, outputs = STARTS[kind].head, outputs_of(task(kind, replace(SETTINGS[kind], dropout=0.5)))
    expected = torch.from_numpy(np.concatenate(list(head.per_protein(vectors_of(SEQUENCES)))))
    if kind == RESIDUE_LABEL:
        adjusted = (outputs - (head.chosen.adjust or 0.0) * head.prior).softmax(1)
    else:
        adjusted = outputs * head.network.spread + head.network.centre
    torch.testing.assert_close(adjusted, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("tokens", [20, 10_000])
@EACH_KIND
def test_validation_is_the_score_of_the_head_whatever_the_pieces(kind: str, tokens: int) -> None:
    expected = STARTS[kind].scores[ResidueObjective(kind).chosen_by]
    assert task(kind, replace(SETTINGS[kind], tokens=tokens), HELD).validate() == pytest.approx(expected, abs=1e-6)


def test_of_equal_answers_the_one_of_less_loss_is_better() -> None:
    for supervision in SUPERVISION.values():
        held = supervision.held
        rows = np.arange(int(held.offsets[-1]))
        if isinstance(held, ResidueNumbers):
            right = np.nan_to_num(supervision._standardised(held))[:, None]
            sure, unsure = right, right + 1
        else:
            sure = 9.0 * np.eye(3)[held.codes]
            unsure = sure / 3
        scores = [supervision.score(rows, iter([(slice(None), torch.from_numpy(one))])) for one in (sure, unsure)]
        assert scores[0] > scores[1] > 1 - 1e-6


@EACH_KIND
def test_training_raises_the_score_from_a_layer_of_zeros_on_a_set_it_may_learn_by_heart(kind: str) -> None:
    labels = SUPERVISION[kind].labels
    known, vectors = ResidueSupervision(labels, labels), vectors_of(SEQUENCES)
    config = replace(SETTINGS[kind], start="zero", lr=3e-3, head_lr=3e-2)
    start = known.fit(vectors, vectors, config, "mean", "cpu")
    assert not start.output.weight.any()
    assert not start.output.bias.any()
    before = start.scores[ResidueObjective(kind).chosen_by]
    proteins = Proteins(SEQUENCES, parse_long("full"), of_residues=True)
    found = task(kind, config, proteins, start=start, supervision=known)
    history = train(found, TrainingPlan(steps=40, lr=3e-3, warmup=5, clip=1.0, validate_every=20))
    assert history.best_score > max(0.9, before)
    losses = [entry["loss"] for entry in history.entries]
    assert losses[-1] < 0.5 * losses[0]


def test_what_is_subtracted_follows_the_mean_of_the_residues() -> None:
    found = task(RESIDUE_LABEL, held=HELD)
    train(found, TrainingPlan(steps=2, lr=1e-2, validate_every=2))
    vectors = Features.from_arrays(np.zeros((16, 32), np.float32), SEQUENCES, residues=list(_states(found)))
    measured = mean_vector(vectors, "mean", of_residues=True)
    np.testing.assert_allclose(found.model.mean.numpy(), measured, atol=1e-4)
    assert not np.allclose(measured, STARTS[RESIDUE_LABEL].output.scaling.mean.numpy(), atol=1e-3)


def _states(found: Finetuning) -> Any:
    """The vectors of the residues of each training protein by the network as it is."""
    for row in range(16):
        [_] = found.blocks(found.proteins, np.array([row]))
        yield found.model.pooled.numpy()


@EACH_KIND
def test_the_head_that_is_kept_has_the_trained_layer_and_is_read_as_it_was_written(tmp_path: Path, kind: str) -> None:
    start, held = STARTS[kind], vectors_of(HELD_SEQUENCES)
    output = start.output
    head = start.continued(-output.weight, output.bias, output.scaling.mean, held, "mean")
    chosen_by = ResidueObjective(kind).chosen_by
    assert head.scores[chosen_by] < start.scores[chosen_by] - 0.1
    again = start.continued(output.weight, output.bias, output.scaling.mean, held, "mean")
    assert again.scores[chosen_by] == pytest.approx(start.scores[chosen_by])
    np.testing.assert_array_equal(again.predict_proba(held), start.head.predict_proba(held))
    head.save(tmp_path)
    read = ResidueLinearHead.load(tmp_path, head.chosen, head.classes)
    np.testing.assert_array_equal(read.predict_proba(held), head.predict_proba(held))


# in a workspace

SHORT = ("--method", "full", "--epochs", "2", "--batch", "4", "--lr", "1e-3", "--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workspaces of labels and of numbers of residues, one of labels without validation, and a tiny encoder beside."""
    folder = tmp_path_factory.mktemp("residues")
    write_encoder(folder / "tiny.safetensors")
    encoder = ("--encoder", folder / "tiny.safetensors", "--device", "cpu")
    fasta, table = residues.fasta(folder / "set.fasta", mask=True), residues.table(folder / "set.tsv")
    done("embed", fasta, "-w", folder / RESIDUE_LABEL, *encoder)
    done("embed", table, "-w", folder / RESIDUE_NUMBER, "--label-column", "z_score", *encoder)
    return folder


def finetune(folder: Path, kind: str, *more: str | Path) -> Any:
    return run("finetune", "-w", folder / kind, "--encoder", folder / "tiny.safetensors", *SHORT, *more)


@EACH_KIND
def test_the_model_is_one_of_residues_with_its_encoder_and_is_taken_like_any_other(place: Path, kind: str) -> None:
    ran = finetune(place, kind)
    assert ran.code == 0, ran.err
    of_labels = kind == RESIDUE_LABEL
    measure = "macro F1" if of_labels else "Spearman"
    assert f"the output layer begins with {measure}" in ran.err
    assert ("3 classes, 16 sequences" if of_labels else "a number for each residue, 16 sequences") in ran.out
    folder = place / kind / "models" / "finetuned"
    manifest = read_manifest(folder)
    assert (manifest.head, manifest.kind, manifest.spec.poolings) == ("linear", kind, ("mean", "residue"))
    assert manifest.spec.long == "window:1022:511"
    assert {"encoder.safetensors", "residue_linear.safetensors"} <= set(manifest.files)
    report = json.loads((place / kind / "reports" / "finetune" / "finetuned" / "report.json").read_text())
    where = ("-w", place / kind, "--device", "cpu", "--model", "finetuned")
    assert f"{measure} " in done("evaluate", *where).out
    metrics = json.loads((place / kind / "reports" / "evaluate-finetuned" / "metrics.json").read_text())
    assert {name: report[name] for name in ("known", "metrics")} == {
        name: metrics[name] for name in ("known", "metrics")
    }
    source = place / ("set.fasta" if of_labels else "set.tsv")
    rows = done("predict", source, *where, "-q").out.splitlines()
    assert len(rows) == 1 + sum(map(len, residues.sequences()))
    said = load_model(folder).predict(["MKAL"])
    assert len(said) == 4
    assert all(isinstance(one, list if of_labels else float) for one in said)


def test_what_validation_chose_is_what_the_saved_model_reaches(place: Path) -> None:
    finetune(place, RESIDUE_LABEL, "--name", "again")
    manifest = read_manifest(place / RESIDUE_LABEL / "models" / "again")
    scores = [
        entry["score"]
        for line in (place / RESIDUE_LABEL / "reports" / "finetune" / "again" / "log.jsonl").read_text().splitlines()
        if "score" in (entry := json.loads(line))
    ]
    best = max([*scores, manifest.setup["finetuned"]["start_scores"]["macro_f1"]])
    assert manifest.validation["macro_f1"] == pytest.approx(best, abs=1e-3)


def test_a_run_that_is_asked_to_end_resumes_to_the_same_bytes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finetune(place, RESIDUE_NUMBER, "--name", "whole", "--checkpoint-every", "1")
    taken: list[int] = []
    accumulate = Finetuning.accumulate

    def ended(self: Finetuning, step: int, backward: Any) -> Any:
        taken.append(step)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return accumulate(self, step, backward)

    with monkeypatch.context() as patched:
        patched.setattr(Finetuning, "accumulate", ended)
        ran = finetune(place, RESIDUE_NUMBER, "--name", "stopped", "--checkpoint-every", "1")
    assert ran.code == 143
    assert taken == [0, 1, 2]
    assert finetune(place, RESIDUE_NUMBER, "--name", "stopped", "--checkpoint-every", "1", "--resume").code == 0
    models = place / RESIDUE_NUMBER / "models"
    for name in ("encoder.safetensors", "residue_linear.safetensors"):
        assert (models / "stopped" / name).read_bytes() == (models / "whole" / name).read_bytes()


def test_adapters_alone_are_kept_where_asked_for(place: Path) -> None:
    words = ("--method", "lora", "--rank", "2", "--adapters-only", "--name", "adapters", "--crop", "9", "--mask", ".1")
    ran = finetune(place, RESIDUE_LABEL, *words)
    assert ran.code == 0, ran.err
    model = esmcls.load_model(place / RESIDUE_LABEL / "models" / "adapters")
    assert len(esmcls.predict(model, ["MKALVI"])) == 6


@pytest.mark.parametrize(
    ("kind", "words", "problem"),
    [
        (RESIDUE_LABEL, ("--loss", "mse"), "--loss mse is not for a label a residue; choose from ce, focal, logit-adj"),
        (RESIDUE_NUMBER, ("--loss", "ce"), "--loss ce is not for a number a residue; choose from mse, huber"),
        (RESIDUE_LABEL, ("--families", "3"), "--families takes the largest families, but what is labelled is residues"),
        (RESIDUE_LABEL, ("--pool", "cls"), "--pool makes one vector of a protein, but each residue is answered by its"),
        (RESIDUE_LABEL, ("--calibration", "20%"), "--calibration is for sets of classes, but of residues there are no"),
        (RESIDUE_NUMBER, ("--class-weights", "sqrt"), "--class-weights weighs a residue by its class, but residues ha"),
    ],
)
def test_what_residues_cannot_have_is_refused(place: Path, kind: str, words: tuple[str, ...], problem: str) -> None:
    ran = finetune(place, kind, *words)
    assert (ran.code, ran.out) == (2, "")
    assert problem in ran.err
