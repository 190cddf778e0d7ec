"""Distillation of a small encoder: crops, losses, the file it writes, exact resume."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import esm
import numpy as np
import pytest
import torch

from esmcls.alphabet import BOS, EOS, TOKENS
from esmcls.errors import UsageError
from esmcls.model import ESM2, ModelConfig
from esmcls.pretraining import Corpus, Distillation, PretrainConfig, crop_means, make_optimizers, pretrain
from esmcls.training import Plan, run
from esmcls.weights import default_layers, load_state, save_state, state_digest

CONFIG = PretrainConfig(
    layers=2, width=16, heads=2, teacher_layers=(1, 2), steps=6, tokens=128, warmup=2, shortest=8, longest=32,
    checkpoint_every=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def sequences() -> list[str]:
    random = np.random.default_rng(0)
    return ["".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), size=size)) for size in random.integers(5, 60, 40)]


@pytest.fixture(scope="module")
def teacher() -> ESM2:
    torch.manual_seed(0)
    return ESM2(ModelConfig(2, 24, 3))


@pytest.fixture
def teacher_file(teacher: ESM2, tmp_path: Path) -> Path:
    save_state(tmp_path / "teacher.safetensors", teacher.config, teacher.state_dict())
    return tmp_path / "teacher.safetensors"


def test_crops_are_pieces_of_the_corpus_between_bos_and_eos(sequences: list[str]) -> None:
    tokens, offsets = Corpus(sequences, CONFIG).batch(3)
    assert len(tokens) <= CONFIG.tokens
    for start, end in pairwise(offsets):
        crop = tokens[start:end].tolist()
        text = "".join(TOKENS[token] for token in crop[1:-1])
        assert (crop[0], crop[-1]) == (BOS, EOS)
        assert any(text in sequence for sequence in sequences)


def test_a_batch_is_a_function_of_seed_and_step_alone(sequences: list[str]) -> None:
    first, second = (Corpus(sequences, CONFIG) for _ in range(2))
    second.batch(0)
    assert torch.equal(first.batch(5)[0], second.batch(5)[0])
    other = Corpus(sequences, dataclasses.replace(CONFIG, seed=1))
    assert not torch.equal(first.batch(5)[0][:40], other.batch(5)[0][:40])


def test_the_mean_of_a_crop_leaves_bos_and_eos_out() -> None:
    states = torch.tensor([[9.0], [1.0], [3.0], [9.0], [9.0], [5.0], [9.0]])
    assert crop_means(states, torch.tensor([0, 4, 7])).tolist() == [[2.0], [5.0]]


def test_a_student_that_repeats_the_teacher_has_no_loss(sequences: list[str], teacher: ESM2) -> None:
    config = dataclasses.replace(CONFIG, layers=2, width=24, heads=3)
    task = Distillation(config, Corpus(sequences, config), teacher)
    task.model["student"].load_state_dict(teacher.state_dict())
    projection = task.model["projection"]
    with torch.no_grad():
        projection.weight.copy_(torch.diag(1 / task.scale))
        projection.bias.copy_(-task.mean / task.scale)
        loss, parts = task.loss(0)
    assert loss.item() < 1e-4
    assert parts.keys() == {"residue", "pooled"}


def test_distillation_lowers_both_errors(sequences: list[str], teacher: ESM2) -> None:
    config = dataclasses.replace(CONFIG, tokens=512)
    history = run(Distillation(config, Corpus(sequences, config), teacher), Plan(steps=80, lr=5e-3, warmup=5))
    for part in ("residue", "pooled"):
        values = [entry[part] for entry in history.entries]
        assert np.mean(values[-10:]) < 0.8 * np.mean(values[:5])


def test_the_teacher_stays_as_it_is(sequences: list[str], teacher: ESM2) -> None:
    before = state_digest(teacher.state_dict())
    run(Distillation(CONFIG, Corpus(sequences, CONFIG), teacher), Plan(steps=2, lr=1e-2))
    assert state_digest(teacher.state_dict()) == before


def test_every_parameter_has_exactly_one_optimiser(sequences: list[str], teacher: ESM2) -> None:
    model = Distillation(CONFIG, Corpus(sequences, CONFIG), teacher).model
    held = [id(p) for o in make_optimizers(model, CONFIG) for group in o.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_the_file_holds_a_model_that_fair_esm_takes_and_its_default_layers(
    sequences: list[str], teacher_file: Path, tmp_path: Path
) -> None:
    pretrain(sequences, teacher_file, tmp_path / "own.safetensors", CONFIG)
    config, state = load_state(tmp_path / "own.safetensors")
    reference = esm.ESM2(num_layers=config.layers, embed_dim=config.width, attention_heads=config.heads)
    missing, unexpected = reference.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all(name.startswith(("lm_head", "contact_head")) for name in missing)
    assert default_layers(tmp_path / "own.safetensors") == (1, 2)


def test_interrupted_and_resumed_gives_the_same_file(sequences: list[str], teacher_file: Path, tmp_path: Path) -> None:
    def interrupt(entry: dict[str, float]) -> None:
        if entry["step"] == 3:
            raise KeyboardInterrupt

    pretrain(sequences, teacher_file, tmp_path / "whole.safetensors", CONFIG)
    with pytest.raises(KeyboardInterrupt):
        pretrain(sequences, teacher_file, tmp_path / "resumed.safetensors", CONFIG, log=interrupt)
    assert not (tmp_path / "resumed.safetensors").exists()
    pretrain(sequences, teacher_file, tmp_path / "resumed.safetensors", CONFIG, resume=True)
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "resumed.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student_layers": 3}, "3 student layers asked of a student of 2 layers"),
        ({"longest": 127}, "crop lengths need 1 <= shortest <= longest <= tokens - 2"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_teacher_layers_beyond_the_teacher_are_refused(teacher_file: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, teacher_layers=(2, 3))
    with pytest.raises(UsageError, match=r"teacher layers \(2, 3\) asked of a teacher of 2 layers"):
        pretrain(["MKT"], teacher_file, tmp_path / "own.safetensors", config)


def test_an_empty_corpus_is_refused(teacher_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no sequences to train on"):
        pretrain([], teacher_file, tmp_path / "own.safetensors", CONFIG)
