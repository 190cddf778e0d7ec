"""`esmcls finetune`: a model folder with its own encoder, what lies beside it; seeds, processes and trackers."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from command import done, run
from tiny import write_encoder, write_set

from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.weights import load_state
from esmcls.finetuning.config import FinetuneConfig, FinetuneInputs
from esmcls.finetuning.report import over_seeds
from esmcls.finetuning.rows import choose_families
from esmcls.finetuning.task import CENTRED, Finetuning, peak_memory
from esmcls.models.folder import load_model, read_manifest
from esmcls.tasks.one_label.tuning import by_rank
from esmcls.training.loop import LogFile
from esmcls.workspace.workspace import Workspace
from esmcls_cli.main import esmcls
from esmcls_cli.options.progress import TrainingBar

SHORT = ("--method", "full", "--epochs", "2", "--batch", "16", "--lr", "1e-3", "--start", "zero", "--device", "cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a dataset that is embedded, and the encoder beside it."""
    folder = tmp_path_factory.mktemp("place")
    encoder = write_encoder(folder / "tiny.safetensors")
    done("embed", write_set(folder / "set.csv"), "--encoder", encoder, "-w", folder / "w", "--device", "cpu")
    return folder


@pytest.fixture(scope="module")
def tuned(place: Path) -> Path:
    """The same with a fine-tuned model."""
    done("finetune", "-w", place / "w", "--encoder", place / "tiny.safetensors", *SHORT)
    return place


@pytest.fixture
def fresh(place: Path, tmp_path: Path) -> Path:
    """A copy of the workspace without models, to be changed."""
    shutil.copytree(place / "w", tmp_path / "w", ignore=shutil.ignore_patterns("models", "reports"))
    shutil.copy(place / "tiny.safetensors", tmp_path)
    return tmp_path


def finetune(folder: Path, *more: str | Path) -> Any:
    return done("finetune", "-w", folder / "w", "--encoder", folder / "tiny.safetensors", *SHORT, *more)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_model_folder_holds_its_encoder_and_predicts_without_the_one_it_came_from(
    tuned: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(tuned / "w" / "models" / "finetuned")
    assert (manifest.head, manifest.spec.layers) == ("linear", (1, 2))
    assert manifest.spec.encoder == str(tuned / "w" / "models" / "finetuned")
    assert manifest.setup["finetuned"]["method"] == "full"
    assert {"encoder.safetensors", "linear.safetensors", "held.safetensors"} == set(manifest.files)
    shutil.copytree(tuned / "w" / "models" / "finetuned", tmp_path / "elsewhere")
    model = load_model(tmp_path / "elsewhere")
    assert model.encoder.digest == manifest.spec.digest
    [[best]] = model.predict(["MKTAYIAKQRQISFVK"])
    assert best[0] in manifest.classes


def test_the_tuned_weights_are_not_those_it_began_with(tuned: Path) -> None:
    _, before = load_state(tuned / "tiny.safetensors")
    _, after = load_state(tuned / "w" / "models" / "finetuned")
    assert before.keys() == after.keys()
    assert not torch.equal(before["layers.0.fc1.weight"], after["layers.0.fc1.weight"])


def test_the_head_is_centred_on_what_the_tuned_encoder_makes_of_training_proteins(tuned: Path) -> None:
    model = load_model(tuned / "w" / "models" / "finetuned")
    vectors = model.features(Workspace.open(tuned / "w").dataset.part("train").sequences).vectors("mean")
    assert len(vectors) < CENTRED, "it is the mean of some of them"
    assert np.allclose(model.head.scaling.mean, vectors.astype(np.float64).mean(0), atol=1e-6)


def test_predict_and_evaluate_take_it_like_any_model(tuned: Path) -> None:
    ran = done("evaluate", "-w", tuned / "w", "--model", "finetuned", "--device", "cpu")
    assert ran.out.startswith("model finetuned\n")
    report = read(tuned / "w" / "reports" / "finetune" / "finetuned" / "report.json")
    metrics = read(tuned / "w" / "reports" / "evaluate-finetuned" / "metrics.json")
    assert metrics["metrics"] == report["metrics"]
    ran = done(
        "predict", tuned / "set.csv", "-w", tuned / "w", "--model", "finetuned", "--top-k", "2", "--device", "cpu"
    )
    assert ran.out.splitlines()[1].startswith("p0\t1\tF")


def test_the_tuned_encoder_embeds_and_other_heads_are_fitted_on_it(tuned: Path) -> None:
    done("embed", "-w", tuned / "w", "--encoder", "models/finetuned", "--device", "cpu")
    digest = read_manifest(tuned / "w" / "models" / "finetuned").spec.digest
    cache = Workspace.open(tuned / "w").cache_of_encoder("models/finetuned")
    assert cache.spec.digest == digest
    assert load_encoder(str(tuned / "w" / "models" / "finetuned")).digest == digest


def test_log_curves_and_report_lie_beside_it_and_times_apart(tuned: Path) -> None:
    folder = tuned / "w" / "reports" / "finetune" / "finetuned"
    assert sorted(path.name for path in folder.iterdir()) == ["curves.svg", "log.jsonl", "report.json", "timing.json"]
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert {"step", "lr", "loss", "accuracy", "tokens", "sequences", "memory", "seconds"} <= set(entries[0])
    assert all(f">{panel}<" in (folder / "curves.svg").read_text() for panel in ("accuracy", "validation score"))
    report, timing = read(folder / "report.json"), read(folder / "timing.json")
    assert {"metrics", "tiers", "ranks", "confusions", "lengths", "validation", "start_scores"} <= set(report)
    assert [row["residues"] for row in timing["latency"]] == [64, 128, 256, 512, 1022]
    assert {"seconds", "sequences_per_second", "tokens_per_second", "peak_memory"} == set(timing["training"])
    assert not any("second" in key for key in report)


def test_the_same_seed_gives_the_same_bytes_of_model_and_report(tuned: Path, fresh: Path) -> None:
    finetune(fresh)
    for name in ("encoder.safetensors", "linear.safetensors"):
        paths = [folder / "w" / "models" / "finetuned" / name for folder in (tuned, fresh)]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    reports = [read(folder / "w" / "reports" / "finetune" / "finetuned" / "report.json") for folder in (tuned, fresh)]
    for one in reports:
        one.pop("encoder")
    assert reports[0] == reports[1]


def test_a_run_that_is_asked_to_end_keeps_a_checkpoint_and_resumes_to_the_same_bytes(
    tuned: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = LogFile.__call__

    def terminate(self: LogFile, entry: dict[str, float]) -> None:
        told(self, entry)
        if entry["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(LogFile, "__call__", terminate)
        ran = run("finetune", "-w", fresh / "w", "--encoder", fresh / "tiny.safetensors", *SHORT)
    assert (ran.code, ran.out) == (143, "")
    assert "esmcls: error: asked to end after step 3 of 8, which is kept; go on with --resume\n" in ran.err
    assert not (fresh / "w" / "models" / "finetuned").exists()
    finetune(fresh, "--resume")
    paths = [folder / "w" / "models" / "finetuned" / "encoder.safetensors" for folder in (tuned, fresh)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    log = (fresh / "w" / "reports" / "finetune" / "finetuned" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == list(range(1, 9))


@pytest.mark.extras
def test_two_processes_train_as_one(fresh: Path) -> None:
    plain = ("--dropout", "0", "--precision", "fp32", "--class-weights", "balanced")
    finetune(fresh, *plain, "--name", "one")
    words = ["finetune", "-w", fresh / "w", "--encoder", fresh / "tiny.safetensors", *SHORT, *plain, "--name", "two"]
    command = [sys.executable, "-m", "esmcls_cli.main", *words, "--device", "cpu,cpu"]
    subprocess.run(command, check=True, capture_output=True)
    logs = [(fresh / "w" / "reports" / "finetune" / name / "log.jsonl").read_text() for name in ("one", "two")]
    entries = [[json.loads(line) for line in log.splitlines()] for log in logs]
    for key in ("loss", "accuracy", "tokens", "sequences", "lr"):
        found = [[entry[key] for entry in log] for log in entries]
        assert found[0] == pytest.approx(found[1], rel=2e-3), key
    states = [load_state(fresh / "w" / "models" / name)[1] for name in ("one", "two")]
    assert all(torch.allclose(states[0][name], states[1][name], atol=2e-3) for name in states[0])


@pytest.mark.extras
@pytest.mark.parametrize(
    "more",
    [
        ("--average", "0.9", "--gradient-checkpointing", "--pool", "attention"),
        ("--method", "lora", "--rank", "2", "--tokens", "64"),
    ],
)
def test_two_processes_that_share_a_model_train_as_one(fresh: Path, more: tuple[str, ...]) -> None:
    plain = ("--dropout", "0", "--precision", "fp32", "--max-steps", "6", "--validate-every", "2", "--batch", "5")
    finetune(fresh, *plain, *more, "--name", "one")
    words = ["finetune", "-w", fresh / "w", "--encoder", fresh / "tiny.safetensors", *SHORT, *plain, *more]
    command = [sys.executable, "-m", "esmcls_cli.main", *words, "--name", "two", "--device", "cpu,cpu", "--shard"]
    subprocess.run(command, check=True, capture_output=True)
    logs = [(fresh / "w" / "reports" / "finetune" / name / "log.jsonl").read_text() for name in ("one", "two")]
    entries = [[json.loads(line) for line in log.splitlines()] for log in logs]
    for key in ("loss", "accuracy", "tokens", "sequences"):
        found = [[entry[key] for entry in log] for log in entries]
        assert found[0] == pytest.approx(found[1], rel=1e-4), key
    states = [load_state(fresh / "w" / "models" / name)[1] for name in ("one", "two")]
    names = [name for name in states[0] if "k_proj.bias" not in name]  # softmax does not see it: its steps are rounding
    assert all(torch.allclose(states[0][name], states[1][name], atol=1e-3) for name in names)


def test_the_largest_families_alone_are_trained_and_measured(fresh: Path) -> None:
    finetune(fresh, "--families", "3", "--max-steps", "1")
    manifest = read_manifest(fresh / "w" / "models" / "finetuned")
    assert manifest.classes == ("F0", "F1", "F2")
    report = read(fresh / "w" / "reports" / "finetune" / "finetuned" / "report.json")
    assert (report["families"], report["n_classes"], report["unseen"]) == (3, 3, 0)


def test_a_plan_draws_from_train_alone(place: Path) -> None:
    dataset = Workspace.open(place / "w").dataset
    chosen, told = choose_families(dataset, 4, "1x5+2x3", seed=0)
    counts = {label: chosen.part("train").labels.count(label) for label in sorted(set(chosen.labels))}
    assert counts == {"F0": 5, "F1": 3, "F2": 3}
    assert len(chosen.part("test")) == sum(label in counts for label in dataset.part("test").labels)
    assert any(line.startswith("drawn from") for line in told)
    assert choose_families(dataset, None, None, seed=0) == (dataset, [])


def test_several_seeds_leave_a_model_each_and_an_interval(fresh: Path) -> None:
    ran = finetune(fresh, "--max-steps", "2", "--seeds", "2", "--seed", "4", "--name", "many")
    assert [path.name for path in Workspace.open(fresh / "w").models()] == ["many-4", "many-5"]
    spread = read(fresh / "w" / "reports" / "finetune" / "many" / "seeds.json")
    assert spread["seeds"] == 2
    assert spread["metrics"]["accuracy"]["low"] <= spread["metrics"]["accuracy"]["value"]
    assert "2 seeds, mean and 95 % interval of the mean" in ran.out


def test_a_resumed_run_of_several_seeds_leaves_out_those_that_are_done(fresh: Path) -> None:
    two = ("--max-steps", "2", "--seeds", "2", "--name", "many", "--precision", "fp32")
    finetune(fresh, *two)
    folder = fresh / "w" / "reports" / "finetune"
    spread = (folder / "many" / "seeds.json").read_bytes()
    shutil.rmtree(fresh / "w" / "models" / "many-1")
    first, second = ((folder / f"many-{seed}" / "timing.json") for seed in (0, 1))
    before = first.stat().st_mtime_ns, second.stat().st_mtime_ns
    ran = finetune(fresh, *two, "--resume")
    assert "many-0: done before" in ran.out
    assert (first.stat().st_mtime_ns == before[0], second.stat().st_mtime_ns == before[1]) == (True, False)
    assert (folder / "many" / "seeds.json").read_bytes() == spread
    assert "done before" not in finetune(fresh, *two[:-1], "bf16", "--resume").out
    write_encoder(fresh / "tiny.safetensors", seed=1)
    assert "done before" not in finetune(fresh, *two[:-1], "bf16", "--resume").out


def test_what_is_kept_is_no_worse_as_it_is_saved_than_where_it_began(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rising = iter(range(1000))
    monkeypatch.setattr(Finetuning, "validate", lambda self: float(next(rising)))  # praises whatever it sees
    ran = finetune(fresh, "--start", "linear", "--lr", "1")
    manifest = read_manifest(fresh / "w" / "models" / "finetuned")
    assert manifest.setup["finetuned"]["best_step"] == 0
    assert manifest.validation["macro_f1"] == manifest.setup["finetuned"]["start_scores"]["macro_f1"]
    assert "nothing was better than its start" in ran.out
    # the encoder is then what it was: its vectors are there, under the name it had
    assert "0 embedded" in done("embed", "-w", fresh / "w", "--encoder", "models/finetuned", "--device", "cpu").out
    done("fit", "--head", "knn", "--encoder", "models/finetuned", "-w", fresh / "w", "--device", "cpu")
    states = [load_state(path)[1] for path in (fresh / "tiny.safetensors", fresh / "w" / "models" / "finetuned")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_cache_that_it_begins_with_is_not_the_one_used_last_unless_it_was(fresh: Path) -> None:
    """It may hold the rows of some families alone, so that `fit` could not go on with it."""
    before = Workspace.open(fresh / "w").caches
    finetune(fresh, "--families", "3", "--max-steps", "1", "--layers", "2")
    after = Workspace.open(fresh / "w").caches
    assert len(after) == len(before) + 1
    assert after[-1] == before[-1]
    done("fit", "--head", "knn", "-w", fresh / "w", "--device", "cpu")


def test_what_memory_was_held_is_0_where_nothing_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_memory(torch.device("cpu")) > 1e6
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert peak_memory(torch.device("cpu")) == 0


@pytest.mark.parametrize("more", [(), ("--method", "lora", "--rank", "2", "--adapters-only")])
def test_attention_over_residues_is_trained_saved_and_embeds(fresh: Path, more: tuple[str, ...]) -> None:
    finetune(fresh, "--pool", "attention", "--head-lr", "1e-2", *more)
    folder = fresh / "w" / "models" / "finetuned"
    manifest = read_manifest(folder)
    assert (manifest.pooling, manifest.spec.poolings) == ("attention", ("attention",))
    done("evaluate", "-w", fresh / "w", "--model", "finetuned")
    encoder = load_encoder(str(folder))
    vectors = encoder.encode(["MKTAYIAKQRQISFVK", "MKV"], ("mean", "attention")).pooled
    assert not np.allclose(vectors["mean"], vectors["attention"], atol=1e-4)
    done("embed", "-w", fresh / "w", "--encoder", folder, "--pool", "mean,attention", "--device", "cpu")
    done("fit", "-w", fresh / "w", "--head", "knn", "--encoder", folder, "--pool", "attention", "--device", "cpu")
    assert read_manifest(fresh / "w" / "models" / "knn").pooling == "attention"
    assert encoder.digest == manifest.spec.digest


def test_adapters_are_kept_alone_if_wanted(fresh: Path) -> None:
    more = ("--method", "lora", "--rank", "2", "--targets", "q_proj,fc2", "--max-steps", "2")
    finetune(fresh, *more, "--adapters-only", "--name", "alone")
    finetune(fresh, *more, "--name", "merged")
    models = {name: load_model(fresh / "w" / "models" / name) for name in ("alone", "merged")}
    assert "adapters.safetensors" in models["alone"].manifest.files
    assert "encoder.safetensors" not in models["alone"].manifest.files
    said = [model.predict_proba(["MKTAYIAKQRQISFVK"]) for model in models.values()]
    assert np.allclose(said[0], said[1], atol=1e-3)


def test_sets_and_rejection_can_be_asked_for(fresh: Path) -> None:
    finetune(fresh, "--max-steps", "2", "--calibration", "20%", "--hold-out-families", "34%")
    model = load_model(fresh / "w" / "models" / "finetuned")
    assert len(model.classes) == 4
    assert model.findings.confidence.rejection is not None
    assert len(model.findings.confidence.true_probabilities) > 3


@pytest.mark.parametrize("kind", ["wandb", "tensorboard"])
def test_a_tracker_gets_the_run(fresh: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = importlib.import_module(kind)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    finetune(fresh, "--max-steps", "2", "--track", kind)
    if kind == "wandb":
        package.teardown()  # as at the end of a process: its service writes on after the run has ended
    folder = fresh / "w" / "reports" / "finetune" / "finetuned"
    pattern = {"wandb": "wandb/offline-run-*/*.wandb", "tensorboard": "tensorboard/finetuned/events.*"}[kind]
    [written] = folder.glob(pattern)
    assert written.stat().st_size > 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--track wandb", "--track wandb needs the package wandb; run: pip install 'esmcls[track]'"),
        ("--track tensorboard", "--track tensorboard needs the package tensorboard; run: pip install 'esmcls[track]'"),
        ("--optimizer adamw8bit", "optimizer adamw8bit needs a CUDA device, not cpu; use --optimizer adamw"),
        ("--precision fp16", "precision 'fp16' needs a CUDA device; use bf16 or fp32"),
        ("--method top-k --top-layers 3", "3 top layers asked of an encoder of which 2 are used"),
        ("--pool attention --long window:16:8", "attention over residues does not go with --long window:16:8, whose "),
        ("--class-weights balanced --weight-cap .5", "cap 0.5 on class weights: not at least 1; give 0 for none"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_embedded_or_fitted(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, words: str, message: str
) -> None:
    for package in ("wandb", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, package, None)
    before = set(fresh.rglob("*"))
    ran = run("finetune", "-w", fresh / "w", "--encoder", fresh / "tiny.safetensors", *SHORT, *words.split())
    assert (ran.code in (1, 2), ran.out) == (True, "")
    assert ran.err.splitlines()[-1].startswith(f"esmcls: error: {message}")
    assert {path for path in fresh.rglob("*") if path.is_file()} == {path for path in before if path.is_file()}
    assert not (fresh / "w" / "reports" / "finetune").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--adapters-only", "--adapters-only is for --method lora, not for full"),
        ("--name ../x", "model name '../x': use letters, digits and . _ + -, beginning with a letter or digit"),
        ("--method lora --targets query", "unknown LoRA target 'query'; (known: "),
        ("--loss bce", "--loss bce is not for one label a protein; choose from ce, focal, logit-adjusted"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(place: Path, words: str, message: str) -> None:
    ran = run("finetune", "-w", place / "w", "--encoder", place / "tiny.safetensors", *SHORT, *words.split())
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith(f"esmcls: error: {message}")


def test_a_dry_run_of_the_published_options_says_what_the_run_would_be_and_writes_nothing(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path for path in fresh.rglob("*") if path.is_file()}
    plan = ("--stratify", "1000x5+4000x2", "--warmup", "2", "--class-weights", "balanced", "--method", "full")
    words = ("finetune", "-w", fresh / "w", "--encoder", fresh / "tiny.safetensors", "--families", "5", *plan)
    ran = done(*words, "--batch", "8", "--epochs", "2", "--device", "cpu", "--precision", "fp32", "--dry-run")
    lines = ran.out.splitlines()
    assert lines[0].startswith("sequences: ")
    assert lines[0].endswith("; classes: 5")
    assert lines[1].endswith("tiny.safetensors, 2 layers of width 16; full in fp32")
    assert ", of which 2 rise to 2e-05; adamw, loss ce, class weights balanced" in lines[2]
    assert lines[-1] == "nothing was embedded or trained (--dry-run)"
    assert {path for path in fresh.rglob("*") if path.is_file()} == before
    monkeypatch.setattr("esmcls.encoders.devices.hardware_precisions", lambda device: {"fp32"})
    refused = run(*words, "--optimizer", "adamw8bit", "--dry-run", "--device", "cpu")
    assert "optimizer adamw8bit needs a CUDA device" in refused.err


def test_the_memory_of_a_device_that_is_full_is_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **options: object) -> None:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    monkeypatch.setattr("esmcls.heads.layers.linear.LinearHead.fit", full)
    ran = run("fit", "--head", "linear", "-w", place / "w", "--device", "cpu")
    assert ran.code == 1
    assert ran.err.splitlines()[-1].startswith("esmcls: error: the memory of the device is full; see what else runs")


def test_the_defaults_of_the_command_are_those_of_the_library() -> None:
    command = esmcls.get_command(click.Context(esmcls), "finetune")
    assert command is not None
    known = vars(FinetuneConfig()) | vars(FinetuneInputs())
    names = known.keys() - {"targets", "shares", "layers"}
    given = {one.name: one.default for one in command.params if one.name in names}
    assert given.keys() == names - {"gamma", "tau", "beta"}
    unset = {name for name in given if not known[name]}  # what click says of these differs from version to version
    assert {name: given[name] for name in given.keys() - unset} == {name: known[name] for name in given.keys() - unset}
    assert unset >= {"loss", "families", "max_steps", "lr", "warmup", "adapters_only", "checkpointing"}


def test_the_bar_shows_loss_accuracy_and_sequences_a_second() -> None:
    class Bar:
        n = initial = 0

        def set_postfix(self, shown: dict[str, str], refresh: bool) -> None:
            self.shown = shown

        def update(self) -> None:
            self.n += 1

    bar = Bar()
    entry = {"step": 1, "lr": 1e-3, "loss": 2.0, "accuracy": 0.5, "tokens": 900.0, "sequences": 64.0, "memory": 1.0}
    TrainingBar(bar).advance(entry)
    assert list(bar.shown) == ["loss", "accuracy", "sequences/s"]
    assert (bar.shown["loss"], bar.shown["accuracy"], bar.n) == ("2.000", "0.500", 1)


def test_an_interval_over_seeds_is_students() -> None:
    found = over_seeds([0.5, 0.6, 0.7])  # t(0.975, 2) = 4.302653, deviation 0.1
    assert (found.high - found.low) / 2 == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert over_seeds([0.4]).low == over_seeds([0.4]).high == 0.4


def test_metrics_by_rank_are_means_over_the_families_of_that_rank() -> None:
    codes, predicted = np.array([0, 0, 1, 2, 2, -1]), np.array([0, 1, 1, 2, 0, 0])
    large, rest = by_rank(codes, predicted, np.array([50, 2, 9, 4]), largest=1)
    assert (large.name, large.families, large.n, large.accuracy, large.macro_recall) == ("largest 1", 1, 2, 0.5, 0.5)
    assert (rest.families, rest.n, rest.accuracy) == (2, 3, pytest.approx(2 / 3))
    assert rest.macro_recall == pytest.approx((1 + 1 / 2) / 2)
    assert large.macro_precision == pytest.approx(1 / 3)
