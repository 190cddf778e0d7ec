"""Fine-tuning for Gene Ontology terms: the loss of pieces, what it begins with, the model folder and what takes it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from command import done, run
from ontologies import BINDING, CELL_GROWTH, GROWTH, ION, MEMBRANE, NUCLEUS, ZINC, tiny_ontology
from test_finetuning import LAYERS, PLAIN, Numbered, alike, gradients
from tiny import CONFIG, sequences, tiny_model, write_encoder
from torch.nn import functional as F

import esmcls
from esmcls.cache.features import Features
from esmcls.encoders.esm2 import ESM2Encoder
from esmcls.encoders.windows import parse_long
from esmcls.errors import FolderError
from esmcls.finetuning.config import FinetuneConfig
from esmcls.finetuning.model import Tuned
from esmcls.finetuning.packing import Proteins
from esmcls.finetuning.task import Finetuning
from esmcls.heads.layers.term_linear import TermLinearHead
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import mean_fmax
from esmcls.models.folder import load_model, read_manifest
from esmcls.tasks.go_terms.hierarchy import TermHierarchy
from esmcls.tasks.go_terms.tuning import TermObjective
from esmcls.tasks.label_sets.tuning import LOSSES, TermStart, TermSupervision
from esmcls.training.loop import LogFile
from esmcls.training.loop import run as train
from esmcls.training.processes import ALONE, Replicas
from esmcls.training.schedule import TrainingPlan
from esmcls.training.term_losses import TermLossName
from esmcls.workspace.workspace import Workspace

DIRECT = ((ZINC, MEMBRANE), (ION, NUCLEUS, GROWTH), (BINDING, CELL_GROWTH), (ZINC,), (NUCLEUS,), (GROWTH, MEMBRANE))
"""The terms of each family of `tiny.sequences`: some say nothing of an aspect."""
ONTOLOGY = tiny_ontology()
SEQUENCES, HELD_SEQUENCES = sequences(60), sequences(12, seed=9)
LABELS = ONTOLOGY.term_sets([DIRECT[row % len(DIRECT)] for row in range(60)])
HELD_LABELS = LABELS.take(np.arange(12))
SUPERVISION = TermSupervision(LABELS, HELD_LABELS, TermHierarchy(ONTOLOGY, LABELS.classes))
HELD = Proteins(HELD_SEQUENCES, parse_long("full"))
BCE = replace(PLAIN, loss="bce")


def vectors_of(proteins: list[str]) -> Features:
    encoder = ESM2Encoder("tiny", CONFIG, tiny_model().state_dict(), layers=LAYERS, precision="fp32")
    return Features.from_arrays(encoder.encode(proteins).pooled["mean"], proteins)


START = SUPERVISION.fit(vectors_of(SEQUENCES), vectors_of(HELD_SEQUENCES), BCE, "mean", "cpu")


def network(config: FinetuneConfig = BCE, start: TermStart = START) -> Tuned:
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return Tuned(tiny_model(), start.output, LAYERS, config, "fp32")


def task(config: FinetuneConfig = BCE, held: Proteins | None = None, replicas: Replicas = ALONE) -> Finetuning:
    proteins = Proteins(SEQUENCES, parse_long("full"), crop=config.crop)
    return Finetuning(network(config), proteins, SUPERVISION, held, replicas)


# the loss of a step


@pytest.mark.parametrize("loss", get_args(TermLossName))
def test_accumulated_pieces_have_the_gradients_of_the_whole_batch(loss: TermLossName) -> None:
    config = replace(BCE, loss=loss, weight_cap=3.0)
    whole, entry = gradients(task(config))
    pieces = task(replace(config, tokens=90))
    assert len(list(pieces.proteins.packed(pieces.sampler.rows(0), 90))) > 5
    parts, logged = gradients(pieces)
    assert alike(parts, whole)
    assert logged["loss"] == pytest.approx(entry["loss"], rel=1e-5)
    assert "accuracy" not in logged


def test_the_shares_of_two_processes_add_up_to_the_step_of_one() -> None:
    shares = [gradients(task(replicas=Numbered(number=number, of=2))) for number in (0, 1)]
    whole, entry = gradients(task())
    assert alike((shares[0][0] + shares[1][0]) / 2, whole)
    assert (shares[0][1]["loss"] + shares[1][1]["loss"]) / 2 == pytest.approx(entry["loss"], rel=1e-5)


def test_the_loss_is_the_cross_entropy_of_the_terms_of_the_aspects_that_a_protein_has_a_term_of() -> None:
    found = task(replace(BCE, tokens=90))
    rows = found.sampler.rows(0)
    [packed] = found.proteins.packed(rows, 10_000)
    with torch.no_grad():
        logits = found.model(packed)
    expected = 0.0
    for row, answers in zip(packed.rows.tolist(), logits, strict=True):
        own = set(LABELS.names()[row])
        aspects = {group for name, group in zip(LABELS.classes, LABELS.groups, strict=True) if name in own}
        for name, group, logit in zip(LABELS.classes, LABELS.groups, answers, strict=True):
            if group in aspects:
                expected += float(F.binary_cross_entropy_with_logits(logit, torch.tensor(float(name in own))))
    assert gradients(found)[1]["loss"] == pytest.approx(expected / len(rows), rel=1e-5)


def test_each_loss_of_the_heads_for_terms_can_be_had_and_weights_are_capped() -> None:
    assert tuple(LOSSES.values()) == TermObjective.losses == get_args(TermLossName)
    assert task(replace(BCE, loss="weighted", weight_cap=1.0)).cost.capped > 0
    assert task().cost.capped == 0


# where it begins, and what is measured


def test_it_begins_where_the_frozen_head_stands_as_sure_as_that_is_calibrated() -> None:
    found, logits = task(replace(BCE, dropout=0.5)), torch.zeros(60, LABELS.n_classes)
    assert START.head.chosen.slope != 1.0
    found.model.eval()
    for rows, block in found.blocks(found.proteins):
        logits[rows] = block
    assert np.allclose(logits.sigmoid().numpy(), START.head.predict_proba(vectors_of(SEQUENCES)), atol=1e-4)


@pytest.mark.parametrize("tokens", [60, 10_000])
def test_validation_is_the_mean_fmax_of_raised_scores_whatever_the_pieces(tokens: int) -> None:
    found = task(replace(BCE, tokens=tokens), HELD)
    scores = SUPERVISION.terms.blocks(START.head, vectors_of(HELD_SEQUENCES))
    assert found.validate() == pytest.approx(mean_fmax(HELD_LABELS, scores), abs=1e-6)
    assert START.scores == {"fmax": pytest.approx(found.validate(), abs=1e-6)}


def test_of_equal_fmax_the_one_with_less_loss_is_better() -> None:
    right = torch.from_numpy(HELD_LABELS.dense()).float() * 2 - 1
    order = np.arange(12)[::-1].copy()

    def score(logits: torch.Tensor) -> float:
        return SUPERVISION.score(order, iter([(slice(0, 5), logits[order][:5]), (slice(5, 12), logits[order][5:])]))

    assert score(9 * right) > score(5 * right) > 1 - 1e-6
    assert score(-right) < 0.9


def test_training_raises_fmax_from_a_layer_of_zeros_on_a_set_it_may_learn_by_heart() -> None:
    known = TermSupervision(LABELS, LABELS, SUPERVISION.terms)
    vectors = vectors_of(SEQUENCES)
    start = known.fit(vectors, vectors, replace(BCE, start="zero"), "mean", "cpu")
    assert not start.output.weight.any()
    config = replace(BCE, lr=3e-3, head_lr=3e-2)
    proteins = Proteins(SEQUENCES, parse_long("full"))
    found = Finetuning(network(config, start), proteins, known, proteins)
    before = found.validate()
    history = train(found, TrainingPlan(steps=60, lr=3e-3, warmup=5, clip=1.0, validate_every=20))
    assert before is not None
    assert history.best_score > before + 0.1
    losses = [entry["loss"] for entry in history.entries]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("stop", [1, 4])
def test_stopped_and_resumed_is_uninterrupted_to_the_bit(tmp_path: Path, method: Any, stop: int) -> None:
    noisy = {"dropout": 0.3, "crop": 20, "mask": 0.1, "tokens": 150, "checkpoint_every": 2, "epochs": 2}
    config = replace(BCE, method=method, **noisy)
    whole, broken, resumed = (task(config, HELD) for _ in range(3))
    plan = config.plan(3)
    expected = train(whole, plan)
    train(broken, plan, checkpoint=tmp_path / "c", stop_after=stop)
    history = train(resumed, plan, checkpoint=tmp_path / "c", resume=True)
    assert history.best_score == expected.best_score
    one, other = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_of_other_terms_or_of_another_loss_is_refused(tmp_path: Path) -> None:
    plan, first = TrainingPlan(steps=4, lr=1e-3), task()
    train(first, plan, checkpoint=tmp_path / "c", stop_after=2, about=first.digest("base"))
    rows = [LABELS.row(number).tolist() for number in range(60)]
    rows[7] = rows[7][1:]
    fewer = replace(SUPERVISION, labels=LabelSets.from_codes(LABELS.classes, rows, LABELS.groups))
    others = [Finetuning(network(), first.proteins, fewer), task(replace(BCE, loss="focal"))]
    for other in others:
        with pytest.raises(FolderError, match="a checkpoint of a run with other options or data"):
            train(other, plan, checkpoint=tmp_path / "c", resume=True, about=other.digest("base"))
    assert task().digest("base") == task().digest("base")


# the head that is kept


def test_the_head_that_is_kept_has_the_trained_layer_calibrated_anew_and_is_read_as_it_was_written(
    tmp_path: Path,
) -> None:
    output, held = START.output, vectors_of(HELD_SEQUENCES)
    head = START.continued(3 * output.weight, 3 * output.bias, output.scaling.mean, held, "mean")
    again = START.continued(output.weight, output.bias, output.scaling.mean, held, "mean")
    assert head.chosen.slope == pytest.approx(again.chosen.slope / 3, rel=0.05)
    assert np.allclose(head.predict_proba(held), again.predict_proba(held), atol=1e-2)
    assert head.scores == {"fmax": pytest.approx(START.scores["fmax"], abs=0.05)}
    head.save(tmp_path)
    read = TermLinearHead.load(tmp_path, head.chosen, head.classes, head.groups)
    assert np.array_equal(read.predict_proba(held), head.predict_proba(held))


def test_without_held_rows_logits_are_taken_as_they_are() -> None:
    output = START.output
    head = START.continued(output.weight, output.bias, output.scaling.mean, None, "mean")
    assert (head.chosen.slope, head.chosen.shift, head.scores) == (1.0, 0.0, {})
    x = vectors_of(SEQUENCES)
    assert np.allclose(head.predict_proba(x), START.head.predict_proba(x), atol=1e-5)


# in a workspace

SLICES = Path(__file__).with_name("archives") / "slices"
SHORT = ("--method", "full", "--epochs", "2", "--batch", "16", "--lr", "1e-3", "--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of 70 proteins with terms, embedded by composition, and a tiny encoder beside it."""
    folder = tmp_path_factory.mktemp("terms")
    write_encoder(folder / "tiny.safetensors")
    parts = ("--validation", SLICES / "terms_validation.fasta", "--test", SLICES / "terms_test.fasta")
    about = ("--labels", SLICES / "terms.tsv", "--obo", SLICES / "go.obo", "--encoder", "composition")
    done("embed", SLICES / "terms_train.fasta", *parts, *about, "-w", folder / "w")
    return folder


@pytest.fixture(scope="module")
def tuned(place: Path) -> Path:
    """The same with a fine-tuned model."""
    finetune(place)
    return place


@pytest.fixture
def fresh(place: Path, tmp_path: Path) -> Path:
    """A copy of the workspace without models, to be changed."""
    shutil.copytree(place / "w", tmp_path / "w", ignore=shutil.ignore_patterns("models", "reports"))
    shutil.copy(place / "tiny.safetensors", tmp_path)
    return tmp_path


def command(folder: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return ("finetune", "-w", folder / "w", "--encoder", folder / "tiny.safetensors", *SHORT, *more)


def finetune(folder: Path, *more: str | Path) -> Any:
    return done(*command(folder, *more))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_model_folder_is_that_of_a_model_of_terms_with_its_encoder(tuned: Path) -> None:
    folder = tuned / "w" / "models" / "finetuned"
    manifest = read_manifest(folder)
    assert (manifest.head, manifest.many, manifest.spec.layers) == ("linear", True, (1, 2))
    files = {"encoder.safetensors", "linear.safetensors", "terms.json", "thresholds.json"}
    assert files == set(manifest.files)
    assert {"fmax", "fmax_C", "fmax_F", "fmax_P", "n"} == set(manifest.validation)
    about = manifest.setup["finetuned"]
    assert (about["loss"], set(about["start_scores"])) == ("bce", {"fmax"})
    assert load_model(folder).findings.thresholds.n == 14


def test_evaluate_predict_and_compare_take_it_like_any_other(tuned: Path) -> None:
    folder, where = tuned / "w", ("-w", tuned / "w", "--device", "cpu")
    done("evaluate", *where, "--model", "finetuned")
    metrics = read(folder / "reports" / "evaluate-finetuned" / "metrics.json")
    report = read(folder / "reports" / "finetune" / "finetuned" / "report.json")
    assert {name: report[name] for name in metrics if name in ("aspects", "n", "n_terms", "unseen")} == {
        name: metrics[name] for name in ("aspects", "n", "n_terms", "unseen")
    }
    assert report["information_accretion"] == metrics["information_accretion"]
    table = done("predict", SLICES / "terms_queries.fasta", *where, "--model", "finetuned").out
    assert table.startswith("id\trank\tterm\tname\taspect\tprobability\tpredicted")
    done("compare", *where, "--heads", "naive", "--no-baselines", "--models", "finetuned")
    rows = read(folder / "reports" / "compare" / "report.json")["rows"]
    assert {row["name"] for row in rows} == {"finetuned", "naive"}


def test_no_parent_is_less_probable_than_its_child(tuned: Path) -> None:
    model = load_model(tuned / "w" / "models" / "finetuned")
    scores = model.predict_proba(["MKTAYIAKQRQISFVKSHFSRQ", "MKV"])
    assert all(
        (scores[:, parent] >= scores[:, child]).all()
        for child, parent in model.task.hierarchy(model.classes).edges.tolist()
    )


def test_log_curves_and_report_lie_beside_it_and_times_apart(tuned: Path) -> None:
    folder = tuned / "w" / "reports" / "finetune" / "finetuned"
    assert sorted(path.name for path in folder.iterdir()) == ["curves.svg", "log.jsonl", "report.json", "timing.json"]
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert len(entries) == 8
    assert {"step", "lr", "loss", "tokens", "sequences", "memory", "seconds"} <= set(entries[0])
    assert "score" in entries[-1]
    assert {"training", "prediction", "latency"} <= set(read(folder / "timing.json"))


def test_a_run_that_is_asked_to_end_resumes_to_the_same_bytes(
    tuned: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = LogFile.__call__

    def terminate(self: LogFile, entry: dict[str, float]) -> None:
        write(self, entry)
        if entry["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(LogFile, "__call__", terminate)
        assert run(*command(fresh)).code == 143
    finetune(fresh, "--resume")
    for name in ("encoder.safetensors", "linear.safetensors", "thresholds.json", "terms.json"):
        paths = [folder / "w" / "models" / "finetuned" / name for folder in (tuned, fresh)]
        assert paths[0].read_bytes() == paths[1].read_bytes(), name
    reports = [read(folder / "w" / "reports" / "finetune" / "finetuned" / "report.json") for folder in (tuned, fresh)]
    for report in reports:
        report.pop("encoder")
    assert reports[0] == reports[1]


def test_several_seeds_leave_a_model_each_and_intervals_of_which_that_of_smin_may_pass_1(fresh: Path) -> None:
    two = ("--max-steps", "2", "--seeds", "2", "--name", "many")
    ran = finetune(fresh, *two)
    spread = read(fresh / "w" / "reports" / "finetune" / "many" / "seeds.json")["metrics"]
    names = {f"{metric}_{aspect}" for metric in ("fmax", "wfmax", "f_micro_w", "smin") for aspect in "CFP"}
    assert set(spread) == names
    assert spread["smin_P"]["value"] > 1
    assert spread["smin_P"]["high"] >= spread["smin_P"]["value"]
    assert all(spread[name]["high"] <= 1 for name in names if "fmax" in name)
    assert "2 seeds, mean and 95 % interval of the mean (" in ran.out
    again = finetune(fresh, *two, "--resume")
    assert again.out.count("done before") == 2
    assert read(fresh / "w" / "reports" / "finetune" / "many" / "seeds.json")["metrics"] == spread


def test_adapters_are_kept_alone_if_wanted_and_attention_is_trained(fresh: Path) -> None:
    finetune(fresh, "--method", "lora", "--rank", "2", "--max-steps", "2", "--adapters-only", "--pool", "attention")
    model = load_model(fresh / "w" / "models" / "finetuned")
    assert "adapters.safetensors" in model.manifest.files
    assert model.manifest.pooling == model.head.config.pooling == "attention"
    done("evaluate", "-w", fresh / "w", "--model", "finetuned", "--device", "cpu")


@pytest.mark.parametrize("change", [{}, {"loss": "focal"}, {"loss": "asymmetric", "start": "zero"}])
def test_without_a_validation_part_the_epoch_is_chosen_on_rows_that_are_held_out(
    fresh: Path, change: dict[str, Any]
) -> None:
    workspace = Workspace.open(fresh / "w")
    parts = workspace.dataset.parts
    parts[:] = ["train" if part == "validation" else part for part in parts]
    config = FinetuneConfig(method="full", max_steps=2, batch=8, **change)
    tuned = esmcls.finetune(workspace, config, esmcls.FinetuneInputs(str(fresh / "tiny.safetensors")))
    assert tuned is not None
    held = parts.count("train") - tuned.manifest.n_train
    assert held == tuned.manifest.validation["n"] == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--families 3", "--families takes the largest families, but a protein has any number of Gene Ontology terms"),
        ("--stratify 1x2", "--stratify draws so many sequences a family, but"),
        ("--hold-out-families 10%", "--hold-out-families keeps families from training, but"),
        ("--class-weights balanced", "--class-weights weighs a sequence by its one family, but"),
        ("--sampling balanced", "--sampling balanced draws each family as often, but"),
        ("--loss ce", "--loss ce is not for Gene Ontology terms; choose from bce, weighted, focal, asymmetric"),
        ("--loss weighted --weight-cap 0.5", "setting cap: 0.5 is not at least 1; 0 is for none"),
    ],
)
def test_what_terms_cannot_have_is_one_line_that_says_why(place: Path, words: str, message: str) -> None:
    ran = run(*command(place, *words.split()))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1].startswith(f"esmcls: error: {message}")
