"""Training on a pretended CUDA device: nothing mixes devices, nothing is copied at each step that could lie there."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import done
from pretended_device import OnDevice, pretended, without_kernel
from test_finetuning import AVERAGED, CODES, HELD, LABELS, LAYERS, PLAIN, SEQUENCES, tuned
from tiny import sequences, write_encoder, write_set

from esmcls.cache.features import Features
from esmcls.encoders.windows import parse_long
from esmcls.errors import NothingLearnedError
from esmcls.finetuning.packing import Proteins
from esmcls.finetuning.task import Finetuning
from esmcls.heads.layers.linear import LinearHead
from esmcls.heads.whitening import Whitening
from esmcls.models.folder import load_model
from esmcls.pretraining.corpus import Corpus
from esmcls.pretraining.run import PretrainConfig, Pretraining
from esmcls.tasks.one_label.tuning import OneLabelSupervision
from esmcls.training.loop import run
from esmcls.training.processes import Replicas
from esmcls.training.schedule import TrainingPlan

FEW = Proteins(SEQUENCES[:8], parse_long("full"))
"""Each operation takes a millisecond here."""
FEW_LABELS = OneLabelSupervision(replace(LABELS, codes=CODES[:8]), replace(LABELS, codes=CODES[:4]))
FEW_HELD = Proteins(HELD.sequences[:4], parse_long("full"))
SHORT = ("--max-steps", "3", "--validate-every", "2", "--batch", "16", "--name", "tuned")


def task(precision: Any = "fp32", **changes: Any) -> Finetuning:
    model = tuned(replace(PLAIN, batch=4, **changes), precision)
    return Finetuning(model, FEW, FEW_LABELS, FEW_HELD, Replicas(torch.device("cuda")))


def values(task: Finetuning) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu() for name, value in task.model.state_dict().items()}


@pytest.mark.parametrize(
    ("capability", "method", "precision"),
    [((9, 0), "full", "bf16"), ((8, 0), "lora", "bf16"), ((7, 5), "full", "fp16"), ((6, 0), "top-k", "fp32")],
)
def test_a_running_mean_is_resumed_on_the_device_to_the_bit(
    tmp_path: Path, capability: tuple[int, int], method: Any, precision: Any
) -> None:
    with pretended(capability):
        whole, stopped, resumed = (task(precision, method=method) for _ in range(3))
        plan = replace(AVERAGED, steps=3)
        run(whole, plan, scaler=whole.scaler)
        run(stopped, plan, checkpoint=tmp_path / "c", stop_after=2, scaler=stopped.scaler)
        run(resumed, plan, checkpoint=tmp_path / "c", resume=True, scaler=resumed.scaler)
        expected, found = values(whole), values(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    ("capability", "method", "precision", "attention"),
    [
        ((9, 0), "full", "bf16", "varlen_attn"),
        ((8, 0), "lora", "bf16", "varlen_attn"),
        ((8, 0), "full", "fp32", "efficient_attention"),
        ((7, 5), "lora", "fp16", "efficient_attention"),
        ((6, 0), "lora", "fp32", "efficient_attention"),
    ],
)
def test_it_begins_with_the_losses_of_the_cpu_and_every_operation_has_a_kernel(
    capability: tuple[int, int], method: Any, precision: Any, attention: str
) -> None:
    plan = TrainingPlan(steps=2, lr=1e-3, clip=1.0)
    on_cpu = Finetuning(tuned(replace(PLAIN, batch=4, method=method)), FEW, FEW_LABELS, FEW_HELD)
    expected = [entry["loss"] for entry in run(on_cpu, plan).entries]
    with pretended(capability) as device:
        on_gpu = task(precision, method=method)
        losses = [entry["loss"] for entry in run(on_gpu, plan, scaler=on_gpu.scaler).entries]
        assert without_kernel(device.overloads) == set()
        assert device.kernels[attention] == device.kernels[f"{attention}_backward"] == plan.steps * len(LAYERS)
    assert losses == pytest.approx(expected, rel=0.05)


def test_the_best_weights_are_kept_on_the_cpu() -> None:
    def held(validated: int) -> int:
        with pretended() as device:
            found = task(method="full")
            run(found, TrainingPlan(steps=2, lr=1e-3, validate_every=validated), scaler=found.scaler)
            return device.peak

    weights = sum(value.numel() * 4 for value in tuned().state_dict().values())
    assert held(1) - held(0) < 0.5 * weights  # validation itself holds some vectors


class Overflowing(Finetuning):
    """Has infinite losses at first, or always."""

    until = 2

    def accumulate(self, step: int, backward: Any) -> dict[str, float]:
        return super().accumulate(step, (lambda loss: backward(loss * torch.inf)) if step < self.until else backward)


@pytest.mark.parametrize("until", [2, 100])
def test_steps_that_fp16_skips_are_told_and_nothing_but_them_is_an_error(until: int) -> None:
    with pretended((7, 5)):
        found = task("fp16")
        found.__class__ = Overflowing
        found.until = until
        plan = TrainingPlan(steps=5, lr=1e-3)
        found.scaler = torch.amp.GradScaler("cuda", init_scale=256.0)
        if until == 100:
            with pytest.raises(NothingLearnedError, match="5 last steps were not finite, down to losses times 16"):
                run(found, plan, scaler=found.scaler)
            return
        history = run(found, plan, scaler=found.scaler)
    assert history.skipped == 2
    assert [entry["skipped"] for entry in history.entries] == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert [entry["scale"] for entry in history.entries] == [256.0, 128.0, 64.0, 64.0, 64.0]


def test_a_linear_head_copies_its_whitening_to_the_device_a_few_times_and_not_at_each_step() -> None:
    vectors = np.random.default_rng(0).normal(size=(600, 64)).astype(np.float32)
    labels = replace(LABELS, codes=np.arange(600) % len(LABELS.classes))
    with pretended() as device:
        head = LinearHead(replace(LinearHead().config, batch=20, epochs=3), "cuda")
        head.fit(Features.from_arrays(vectors), labels)
    lines, first = inspect.getsourcelines(Whitening)
    of_the_map = {f"whitening.py:{number}" for number in range(first, first + len(lines))}
    copied = sum(size for line, size in device.to_device.items() if line in of_the_map)
    steps = 3 * 600 // 20
    assert 0 < copied / (64 * 64 * 4) < steps / 2


@pytest.mark.parametrize(
    ("capability", "attention"),
    [
        ((9, 0), "varlen_attn"),
        ((8, 0), "varlen_attn"),
        ((7, 5), "efficient_attention"),
        ((6, 0), "efficient_attention"),
    ],
)
def test_pretraining_runs_on_the_device(capability: tuple[int, int], attention: str) -> None:
    config = PretrainConfig(2, 16, 2, distill_weight=0.0, mlm_weight=1.0, tokens=256, shortest=8, longest=32)
    corpus = Corpus(sequences(20), tokens=256, shortest=8, longest=32)
    with pretended(capability) as device:
        found = Pretraining(config, corpus, replicas=Replicas(torch.device("cuda")))
        history = run(found, TrainingPlan(steps=3, lr=1e-3, clip=1.0))
        assert all(isinstance(value, OnDevice) for value in found.model.parameters())
        assert device.kernels[attention] == 3 * config.layers
    assert np.isfinite([entry["loss"] for entry in history.entries]).all()


def test_a_model_that_was_tuned_in_fp16_is_served_in_it(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "tiny.safetensors")
    work = ("-w", tmp_path / "w", "--device", "cuda")
    with pretended((7, 5)):
        done("embed", write_set(tmp_path / "set.csv"), "--encoder", encoder, *work)
        done("fit", "--head", "linear", *work)
        ran = done("finetune", "--encoder", encoder, "--precision", "fp16", *SHORT, *work)
        done("evaluate", "--model", "tuned", *work)
    assert ran.err.splitlines()[0] == "esmcls: on cuda (Pretended): fp16"
    log = (tmp_path / "w" / "reports" / "finetune" / "tuned" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["skipped"] for line in log] == [0.0] * 3
    model = load_model(tmp_path / "w" / "models" / "tuned")
    assert model.manifest.spec.precision == "fp16"
    assert len(model.predict(sequences(3))) == 3  # on a processor, emulated where it lacks it


def test_a_step_of_adapters_takes_few_kernels_more_than_one_of_all_weights_and_reads_the_frozen_ones_in_bf16() -> None:
    kernels = {}
    for method in ("full", "lora"):
        with pretended() as device:
            trained = task("bf16", method=method)
            device.kernels.clear()
            trained.accumulate(0, lambda loss: loss.backward())
            kernels[method] = sum(device.kernels.values())
            products = {name: value.dtype for name, value in trained.model.named_parameters() if "fc1." in name}
    assert kernels["lora"] < 1.3 * kernels["full"]
    assert products["encoder.layers.0.fc1.weight"] == torch.bfloat16
    assert products["encoder.layers.0.fc1.lora_A"] == torch.float32
