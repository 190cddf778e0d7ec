"""Training a small encoder: its objectives together, the file it writes, exact resume."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import esm
import numpy as np
import pytest
import torch

from esmcls.encoders.alphabet import MASK
from esmcls.encoders.model import ESM2, ModelConfig
from esmcls.encoders.weights import default_layers, load_state, save_state, state_digest
from esmcls.errors import FolderError, UsageError
from esmcls.pretraining.corpus import Corpus
from esmcls.pretraining.residue_targets import ResidueTargets
from esmcls.pretraining.run import PretrainConfig, Pretraining, make_optimizers, measured_steps, pretrain
from esmcls.training.loop import run
from esmcls.training.processes import start_replicas
from esmcls.training.schedule import TrainingPlan

CONFIG = PretrainConfig(
    layers=2, width=16, heads=2, teacher_layers=(1, 2), steps=6, tokens=128, warmup=2, shortest=8, longest=32,
    checkpoint_every=2,
)  # fmt: skip


ALL_THREE = {"distill_weight": 1.0, "mlm_weight": 0.1, "contrast_weight": 0.1}
TARGETS = {"structure_weight": 0.3, "profile_weight": 0.2}


@pytest.fixture(scope="module")
def sequences() -> list[str]:
    random = np.random.default_rng(0)
    return ["".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), size=size)) for size in random.integers(5, 60, 40)]


@pytest.fixture(scope="module")
def targets() -> ResidueTargets:
    """A sixth of the residues has no state, every accessibility hangs on the residue, and profiles are its letter."""
    random = np.random.default_rng(1)
    letters = random.choice(list("ACDEFGHIKLMNPQRSTVWY"), size=600)
    numbers = np.array(["ACDEFGHIKLMNPQRSTVWY".index(letter) for letter in letters])
    states = np.where(np.arange(600) % 6, numbers % 8, -1).astype(np.int8)
    texts = ["".join(letters[start : start + 40]) for start in range(0, 600, 40)]
    accessibility = (numbers / 20).astype(np.float32)
    return ResidueTargets(
        [f"t{row}" for row in range(15)], texts, states, accessibility, np.eye(20)[numbers].astype("e")
    )


@pytest.fixture(scope="module")
def teacher() -> ESM2:
    torch.manual_seed(0)
    return ESM2(ModelConfig(2, 24, 3))


@pytest.fixture
def teacher_file(teacher: ESM2, tmp_path: Path) -> Path:
    save_state(tmp_path / "teacher.safetensors", teacher.config, teacher.state_dict())
    return tmp_path / "teacher.safetensors"


@pytest.fixture(scope="module")
def corpus(sequences: list[str]) -> Corpus:
    families = [number // 2 for number in range(len(sequences))]
    return Corpus(sequences, families, tokens=CONFIG.tokens, shortest=CONFIG.shortest, longest=CONFIG.longest)


def test_a_student_that_repeats_the_teacher_has_no_loss(corpus: Corpus, teacher: ESM2) -> None:
    task = Pretraining(dataclasses.replace(CONFIG, layers=2, width=24, heads=3), corpus, teacher)
    task.model["student"].load_state_dict(teacher.state_dict())
    distill = task.model["distill"]
    with torch.no_grad():
        distill.projection.weight.copy_(torch.diag(1 / distill.scale))
        distill.projection.bias.copy_(-distill.mean / distill.scale)
        loss, parts = task.loss(0)
    assert loss.item() < 1e-4
    assert parts.keys() == {"residue", "pooled", "tokens"}


@pytest.mark.parametrize(
    ("weights", "parts"),
    [
        ({}, ("residue", "pooled")),
        ({"distill_weight": 0.0, "mlm_weight": 1.0}, ("masked",)),
        ({"distill_weight": 0.0, "contrast_weight": 1.0}, ("contrast",)),
        (ALL_THREE, ("residue", "pooled", "masked")),
    ],
)
def test_training_lowers_the_errors(
    corpus: Corpus, teacher: ESM2, weights: dict[str, float], parts: tuple[str, ...]
) -> None:
    task = Pretraining(dataclasses.replace(CONFIG, **weights, queue=8), corpus, teacher)
    history = run(task, TrainingPlan(steps=150, lr=5e-3, warmup=5))
    for part in parts:
        values = [entry[part] for entry in history.entries]
        assert np.mean(values[-15:]) < 0.97 * np.mean(values[:8])


def test_training_lowers_the_errors_of_residue_targets_and_of_aligned_residues(
    sequences: list[str], targets: ResidueTargets
) -> None:
    weights = {"distill_weight": 0.0, "aligned_weight": 0.5} | TARGETS
    sizes = {"tokens": CONFIG.tokens, "shortest": CONFIG.shortest, "longest": CONFIG.longest}
    twins = [text for text in sequences for _ in range(2)]
    corpus = Corpus(twins, [row // 2 for row in range(len(twins))], targets=targets, aligned=True, **sizes)
    history = run(Pretraining(dataclasses.replace(CONFIG, **weights), corpus), TrainingPlan(150, lr=5e-3, warmup=5))
    for part in ("states", "accessibility", "profile", "aligned"):
        values = [entry[part] for entry in history.entries]
        assert np.mean(values[-15:]) < 0.97 * np.mean(values[:8])


def test_the_loss_is_the_weighted_sum_of_its_parts(corpus: Corpus, teacher: ESM2) -> None:
    config = dataclasses.replace(CONFIG, distill_weight=2.0, mlm_weight=0.3, contrast_weight=0.7)
    loss, parts = Pretraining(config, corpus, teacher).loss(0)
    distilled = parts["residue"] + CONFIG.pooled_weight * parts["pooled"]
    assert loss.item() == pytest.approx(2.0 * distilled + 0.3 * parts["masked"] + 0.7 * parts["contrast"], rel=1e-5)


def test_the_student_sees_masks_and_the_teacher_never(corpus: Corpus, teacher: ESM2) -> None:
    task = Pretraining(dataclasses.replace(CONFIG, mlm_weight=1.0), corpus, teacher)
    shown: list[torch.Tensor] = []
    for model in (task.model["student"], teacher):
        model.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    task.loss(0)
    assert [bool((tokens == MASK).any()) for tokens in shown] == [True, False]


def test_the_teacher_stays_as_it_is(corpus: Corpus, teacher: ESM2) -> None:
    before = state_digest(teacher.state_dict())
    run(Pretraining(CONFIG, corpus, teacher), TrainingPlan(steps=2, lr=1e-2))
    assert state_digest(teacher.state_dict()) == before


def test_every_parameter_has_exactly_one_optimiser(corpus: Corpus, teacher: ESM2) -> None:
    model = Pretraining(dataclasses.replace(CONFIG, **ALL_THREE), corpus, teacher).model
    held = [id(p) for o in make_optimizers(model, CONFIG) for group in o.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_a_student_can_start_from_the_first_layers_of_another(corpus: Corpus, teacher: ESM2) -> None:
    torch.manual_seed(5)
    initial = ESM2(ModelConfig(3, 16, 2))
    task = Pretraining(CONFIG, corpus, teacher, initial)
    own, other = task.model["student"].state_dict(), initial.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in own.items())
    deeper = Pretraining(dataclasses.replace(CONFIG, layers=4), corpus, teacher, initial).model["student"]
    assert torch.equal(deeper.layers[2].fc1.weight, initial.layers[2].fc1.weight)


def test_a_start_of_another_width_is_refused(corpus: Corpus, teacher: ESM2) -> None:
    with pytest.raises(UsageError, match="the encoder to start from has width 24 and 3 heads, the student 16 and 2"):
        Pretraining(CONFIG, corpus, teacher, ESM2(ModelConfig(2, 24, 3)))


def test_the_file_holds_a_model_that_fair_esm_takes_and_its_default_layers(
    sequences: list[str], teacher_file: Path, tmp_path: Path
) -> None:
    pretrain(sequences, tmp_path / "own.safetensors", CONFIG, teacher=teacher_file)
    config, state = load_state(tmp_path / "own.safetensors")
    reference = esm.ESM2(num_layers=config.layers, embed_dim=config.width, attention_heads=config.heads)
    missing, unexpected = reference.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all(name.startswith(("lm_head", "contact_head")) for name in missing)
    assert default_layers(tmp_path / "own.safetensors") == (1, 2)
    pretrain(
        sequences,
        tmp_path / "own.safetensors",
        dataclasses.replace(CONFIG, default_layers=(0, 2)),
        teacher=teacher_file,
    )
    assert default_layers(tmp_path / "own.safetensors") == (0, 2)


def test_interrupted_and_resumed_gives_the_same_file_with_all_objectives_and_the_queue(
    sequences: list[str], teacher_file: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, **ALL_THREE, queue=16)
    inputs = {"teacher": teacher_file, "families": [number // 2 for number in range(len(sequences))]}

    def interrupt(entry: dict[str, float]) -> None:
        if entry["step"] == 3:
            raise KeyboardInterrupt

    pretrain(sequences, tmp_path / "whole.safetensors", config, **inputs)
    with pytest.raises(KeyboardInterrupt):
        pretrain(sequences, tmp_path / "resumed.safetensors", config, **inputs, log=interrupt)
    assert not (tmp_path / "resumed.safetensors").exists()
    pretrain(sequences, tmp_path / "resumed.safetensors", config, **inputs, resume=True)
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "resumed.safetensors").read_bytes()
    assert not (tmp_path / "resumed.checkpoint").exists()


def test_interrupted_and_resumed_gives_the_same_file_with_residue_targets_and_aligned_pairs(
    sequences: list[str], targets: ResidueTargets, teacher_file: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, **TARGETS, aligned_weight=0.1)
    families = [row // 2 for row in range(len(sequences))]
    inputs: dict[str, Any] = {"teacher": teacher_file, "families": families, "targets": targets}

    def interrupt(entry: dict[str, float]) -> None:
        if entry["step"] == 3:
            raise KeyboardInterrupt

    pretrain(sequences, tmp_path / "whole.safetensors", config, **inputs)
    with pytest.raises(KeyboardInterrupt):
        pretrain(sequences, tmp_path / "resumed.safetensors", config, **inputs, log=interrupt)
    pretrain(sequences, tmp_path / "resumed.safetensors", config, **inputs, resume=True)
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "resumed.safetensors").read_bytes()


@pytest.mark.parametrize("array", ["states", "accessibility", "profile"])
def test_a_checkpoint_of_other_targets_is_refused(
    sequences: list[str], targets: ResidueTargets, teacher_file: Path, tmp_path: Path, array: str
) -> None:
    def interrupt(entry: dict[str, float]) -> None:
        if entry["step"] == 3:
            raise KeyboardInterrupt

    output = tmp_path / "own.safetensors"
    config = dataclasses.replace(CONFIG, **TARGETS)
    with pytest.raises(KeyboardInterrupt):
        pretrain(sequences, output, config, teacher=teacher_file, targets=targets, log=interrupt)
    others = dataclasses.replace(targets, **{array: getattr(targets, array)[::-1].copy()})
    with pytest.raises(FolderError, match="a checkpoint of a run with other options or data"):
        pretrain(sequences, output, config, teacher=teacher_file, targets=others, resume=True)


@pytest.mark.parametrize("change", ["weights", "corpus", "teacher", "start"])
def test_a_checkpoint_of_other_options_or_data_is_refused(
    sequences: list[str], teacher_file: Path, tmp_path: Path, change: str
) -> None:
    def interrupt(entry: dict[str, float]) -> None:
        if entry["step"] == 3:
            raise KeyboardInterrupt

    output, config, others = tmp_path / "own.safetensors", CONFIG, {"teacher": teacher_file}
    with pytest.raises(KeyboardInterrupt):
        pretrain(sequences, output, config, **others, log=interrupt)
    torch.manual_seed(9)
    for name, shape in (("teacher", ModelConfig(2, 24, 3)), ("initial", ModelConfig(2, 16, 2))):
        save_state(tmp_path / f"another-{name}.safetensors", shape, ESM2(shape).state_dict())
    if change == "weights":
        config = dataclasses.replace(CONFIG, pooled_weight=0.7)
    elif change == "corpus":
        sequences = [*sequences[1:], "MKTAYIAKQR"]
    else:
        name = "teacher" if change == "teacher" else "initial"
        others[name] = tmp_path / f"another-{name}.safetensors"
    with pytest.raises(FolderError, match="a checkpoint of a run with other options or data"):
        pretrain(sequences, output, config, **others, resume=True)


def test_the_same_steps_and_seed_give_the_same_bytes_and_another_seed_others(
    sequences: list[str], teacher_file: Path, tmp_path: Path
) -> None:
    written = []
    for number, seed in enumerate((3, 3, 4)):
        output = tmp_path / f"{number}.safetensors"
        pretrain(sequences, output, dataclasses.replace(CONFIG, seed=seed), teacher=teacher_file)
        written.append(output.read_bytes())
    assert written[0] == written[1] != written[2]


def test_minutes_become_steps_once_and_a_resumed_run_keeps_them(
    sequences: list[str], teacher_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmcls.pretraining.run.measured_steps", lambda task, minutes: int(7 * minutes))
    told: list[int] = []

    def interrupt(entry: dict[str, float]) -> None:
        if entry["step"] == 5:
            raise KeyboardInterrupt

    inputs = {"teacher": teacher_file, "minutes": 1.0, "planned": told.append}
    with pytest.raises(KeyboardInterrupt):
        pretrain(sequences, tmp_path / "own.safetensors", CONFIG, **inputs, log=interrupt)
    monkeypatch.setattr("esmcls.pretraining.run.measured_steps", lambda task, minutes: 1000)
    history = pretrain(sequences, tmp_path / "own.safetensors", CONFIG, **inputs, resume=True)
    assert (told, history.steps_done) == ([7, 7], 7)


def test_measuring_the_speed_leaves_the_task_as_it_was(corpus: Corpus, teacher: ESM2) -> None:
    config = dataclasses.replace(CONFIG, contrast_weight=1.0)
    measured, fresh = Pretraining(config, corpus, teacher), Pretraining(config, corpus, teacher)
    assert measured_steps(measured, minutes=0.1) >= 1
    for task in (measured, fresh):
        run(task, TrainingPlan(steps=2, lr=1e-3))
    states = (task.model.state_dict() for task in (measured, fresh))
    assert all(torch.equal(one, other) for one, other in zip(*(state.values() for state in states), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student_layers": 3}, "3 student layers asked of a student of 2 layers"),
        ({"heads": 3}, "with 3 attention heads: give a width that is a multiple of twice their number"),
        ({"default_layers": (2, 3)}, r"default layers \(2, 3\) asked of a student of 2 layers"),
        ({"longest": 127}, "crop lengths need 1 <= shortest <= longest <= tokens - 2"),
        ({"distill_weight": 0.0}, "one of them more than 0"),
        ({"mlm_weight": -1.0}, "must be 0 or more"),
        ({"profile_weight": float("nan")}, "must be 0 or more"),
        ({"targets_share": 1.0}, "1.0 of the crops from residue targets; give a share between 0 and 1"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_teacher_layers_beyond_the_teacher_are_refused(teacher_file: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, teacher_layers=(2, 3))
    with pytest.raises(UsageError, match=r"teacher layers \(2, 3\) asked of a teacher of 2 layers"):
        pretrain(["MKT"], tmp_path / "own.safetensors", config, teacher=teacher_file)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"mlm_weight": 1.0}, "distillation needs a teacher"),
        (ALL_THREE | {"distill_weight": 0.0}, "needs clusters"),
        ({"distill_weight": 0.0, "aligned_weight": 0.1}, "needs clusters"),
        ({"distill_weight": 0.0, "structure_weight": 0.1}, "structure and profiles are learned from residue targets"),
    ],
)
def test_an_objective_that_lacks_what_it_needs_is_refused(
    sequences: list[str], tmp_path: Path, weights: dict[str, float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        pretrain(sequences, tmp_path / "own.safetensors", dataclasses.replace(CONFIG, **weights))


@pytest.mark.parametrize(
    ("weights", "lacking", "message"),
    [
        ({"structure_weight": 0.3}, ("states", "accessibility"), "the residue targets hold no structure"),
        ({"profile_weight": 0.3}, ("profile",), "the residue targets hold no profile"),
    ],
)
def test_targets_that_lack_what_an_objective_learns_are_refused(
    sequences: list[str],
    targets: ResidueTargets,
    tmp_path: Path,
    weights: dict[str, float],
    lacking: tuple[str, ...],
    message: str,
) -> None:
    unknown = {"states": np.full_like(targets.states, -1), "accessibility": np.full_like(targets.accessibility, np.nan)}
    unknown["profile"] = np.zeros_like(targets.profile)
    others = dataclasses.replace(targets, **{name: unknown[name] for name in lacking})
    config = dataclasses.replace(CONFIG, distill_weight=0.0, **weights)
    with pytest.raises(UsageError, match=message):
        pretrain(sequences, tmp_path / "own.safetensors", config, targets=others)


@pytest.mark.gpu
def test_a_gpu_begins_with_the_losses_of_the_cpu(corpus: Corpus, teacher: ESM2) -> None:
    config = dataclasses.replace(CONFIG, **ALL_THREE, queue=16)
    losses = []
    for device in ("cpu", "cuda"):
        task = Pretraining(config, corpus, copy.deepcopy(teacher), replicas=start_replicas([device]))
        losses.append(
            [entry["loss"] for entry in run(task, TrainingPlan(steps=3, lr=1e-3), replicas=task.replicas).entries]
        )
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
