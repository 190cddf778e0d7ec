"""Fine-tuning as a task: accumulation, weights, schedules, resume, memory; what is trained and what stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from tiny import CONFIG, FAMILIES, sequences, tiny_model
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from esmcls.cache.features import Features
from esmcls.encoders.esm2 import ESM2Encoder
from esmcls.encoders.model import SelfAttention
from esmcls.encoders.windows import parse_long
from esmcls.errors import FolderError, MissingExtraError, SequenceTooLargeError, UnknownNameError, UsageError
from esmcls.finetuning.config import FinetuneConfig, FinetuneInputs
from esmcls.finetuning.kind import check_machine
from esmcls.finetuning.model import Tuned
from esmcls.finetuning.packing import Packed, Proteins
from esmcls.finetuning.task import Finetuning
from esmcls.heads.layers.linear import LinearHead
from esmcls.labels.labels import Labels
from esmcls.tasks.one_label.tuning import OneLabelStart, OneLabelSupervision
from esmcls.training.loop import run
from esmcls.training.optimizers import make_optimizer
from esmcls.training.processes import ALONE, Replicas
from esmcls.training.schedule import TrainingPlan, learning_rate

SEQUENCES = sequences(60)
NAMES = tuple(f"F{code}" for code in range(FAMILIES))
CODES = np.array([row % FAMILIES if row < 40 else 0 for row in range(60)])  # F0 is the largest
LABELS = Labels(NAMES, CODES)
HELD = Proteins(sequences(12, seed=9), parse_long("full"))
SUPERVISION = OneLabelSupervision(LABELS, Labels(NAMES, np.arange(12) % FAMILIES))
LAYERS = (1, 2)
PLAIN = FinetuneConfig(method="full", batch=16, tokens=10_000, dropout=0.0, lr=1e-3)


@dataclass(frozen=True)
class Numbered(Replicas):
    """Stands for one process of several."""

    number: int = 0
    of: int = 1

    @property
    def rank(self) -> int:
        return self.number

    @property
    def count(self) -> int:
        return self.of


def frozen_head() -> LinearHead:
    encoder = ESM2Encoder("tiny", CONFIG, tiny_model().state_dict(), layers=LAYERS, precision="fp32")
    vectors = Features.from_arrays(encoder.encode(SEQUENCES).pooled["mean"], SEQUENCES)
    head = LinearHead().fit(vectors, LABELS)
    head.config = head.chosen = replace(head.chosen, temperature=2.0)  # unsure, so that losses have much to say
    return head


HEAD = frozen_head()
LAYER = OneLabelStart(HEAD, SUPERVISION.held).output
SHARED = """
import sys
from pathlib import Path
import torch
from test_finetuning import AVERAGED, HELD, PLAIN, losses_in_bf16, task
from esmcls.training.processes import start_replicas
from esmcls.training.loop import run
folder, replicas = Path(sys.argv[1]), start_replicas(["cpu", "cpu"], sharded=True)
def trained(name, **options):
    found = task(PLAIN, HELD, replicas)
    run(found, AVERAGED, checkpoint=folder / f"{name}.checkpoint", replicas=replicas, **options)
    parts = {value.to_local().numel() < value.numel() for value in found.model.parameters() if len(value) > 1}
    return replicas.whole(found.model.state_dict()), parts
whole, parts = trained("whole")
trained("alone", stop_after=3)
trained("stopped", stop_after=3)
resumed, _ = trained("stopped", resume=True)
losses = [losses_in_bf16(method, replicas) for method in ("full", "lora")]
if replicas.first:
    print(parts, all(torch.equal(value, resumed[name]) for name, value in whole.items()))
    torch.save(whole, folder / "whole.pt")
    torch.save(losses, folder / "losses.pt")
"""
AVERAGED = TrainingPlan(6, 1e-3, validate_every=2, checkpoint_every=3, average=0.5)


def tuned(config: FinetuneConfig = PLAIN, precision: Any = "fp32") -> Tuned:
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return Tuned(tiny_model(), LAYER, LAYERS, config, precision)


def task(config: FinetuneConfig = PLAIN, held: Any = None, replicas: Replicas = ALONE) -> Finetuning:
    proteins = Proteins(SEQUENCES, parse_long("full"), crop=config.crop)
    return Finetuning(tuned(config), proteins, SUPERVISION, held, replicas)


def losses_in_bf16(method: Any, replicas: Replicas = ALONE) -> list[float]:
    """Return the losses of a few steps where the hardware has bf16; where it lacks it, those of fp32."""
    low = Finetuning(
        tuned(replace(PLAIN, method=method), "bf16"),
        Proteins(SEQUENCES, parse_long("full")),
        SUPERVISION,
        None,
        replicas,
    )
    return [entry["loss"] for entry in run(low, TrainingPlan(6, 1e-3), replicas=replicas).entries]


def gradients(found: Finetuning, step: int = 0) -> tuple[Tensor, dict[str, float]]:
    """Return all gradients of a step (numbers,) and its entry."""
    found.model.train()
    entry = found.accumulate(step, lambda loss: loss.backward())
    grads = [value.grad for value in found.model.parameters() if value.requires_grad and value.grad is not None]
    return torch.cat([grad.flatten() for grad in grads]), entry


def alike(found: Tensor, expected: Tensor) -> bool:
    """Whether gradients differ by no more than sums in another order do."""
    return bool((found - expected).abs().max() < 2e-5 * expected.abs().max())


def numbers(model: Tuned) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


# the golden tests: schedule, accumulation, weights


@pytest.mark.parametrize(("schedule", "floor"), [("cosine", 0.1), ("linear", 0.0), ("linear", 0.2)])
def test_the_learning_rate_is_that_of_torchs_schedulers(schedule: Any, floor: float) -> None:
    config = FinetuneConfig(lr=0.4, schedule=schedule, floor=floor, epochs=2, warmup=5)
    plan = config.plan(20)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    rise = LinearLR(optimizer, start_factor=1 / 5, end_factor=1.0, total_iters=4)
    rest = plan.steps - 5
    fall = (
        CosineAnnealingLR(optimizer, rest, 0.4 * floor) if schedule == "cosine" else LinearLR(optimizer, 1, floor, rest)
    )
    expected = []
    both = SequentialLR(optimizer, [rise, fall], milestones=[5])
    for _ in range(plan.steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        both.step()
    assert plan.steps == 40
    assert [learning_rate(plan, step) for step in range(40)] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("steps", "warmup"), [(100, 6), (16_000, 960), (100_000, 1000)])
def test_the_rate_rises_for_6_percent_of_the_steps_but_no_more_than_1000(steps: int, warmup: int) -> None:
    assert FinetuneConfig(epochs=1).plan(steps).warmup == warmup


def test_the_peak_rate_is_that_of_the_method_unless_it_is_set() -> None:
    assert [FinetuneConfig(method=one).peak for one in ("lora", "top-k", "full")] == [2e-4, 2e-5, 2e-5]
    assert FinetuneConfig(method="full", lr=1e-3).peak == 1e-3
    assert FinetuneConfig(epochs=5, max_steps=7).plan(100).steps == 7


@pytest.mark.parametrize(
    "change",
    [{}, {"class_weights": "balanced"}, {"class_weights": "sqrt", "loss": "focal"}, {"loss": "logit-adjusted"}],
    ids=["plain", "weighted", "focal", "adjusted"],
)
def test_accumulated_pieces_have_the_gradients_of_the_whole_batch(change: dict[str, Any]) -> None:
    config = replace(PLAIN, **change)
    whole, told = gradients(task(config))
    pieces = task(replace(config, tokens=90))
    streams = list(pieces.proteins.packed(pieces.sampler.rows(0), 90))
    found, said = gradients(pieces)
    assert len(streams) > 5
    assert alike(found, whole)
    assert said["loss"] == pytest.approx(told["loss"], rel=1e-5)
    assert {name: said[name] for name in ("accuracy", "tokens", "sequences")} == {
        name: told[name] for name in ("accuracy", "tokens", "sequences")
    }


def test_a_mean_of_the_pieces_means_would_not_have_passed() -> None:
    found = task(replace(PLAIN, tokens=90, class_weights="balanced"))
    rows, means = found.sampler.rows(0), []
    weights = torch.from_numpy(found.cost.weights)
    for packed in found.proteins.packed(rows, 90):
        each = F.cross_entropy(found.model(packed), torch.from_numpy(CODES[packed.rows]), reduction="none")
        own = weights[packed.rows]
        means.append(float((each.detach() * own).sum() / own.sum()))
    assert np.mean(means) != pytest.approx(gradients(found)[1]["loss"], rel=1e-3)


def test_the_weighted_loss_is_torchs_with_scikit_learns_balanced_weights() -> None:
    found = task(replace(PLAIN, class_weights="balanced", tokens=90))
    rows = found.sampler.rows(0)
    weights = torch.from_numpy(compute_class_weight("balanced", classes=np.arange(FAMILIES), y=CODES)).float()
    [packed] = found.proteins.packed(rows, 10_000)
    with torch.no_grad():
        expected = F.cross_entropy(found.model(packed), torch.from_numpy(CODES[packed.rows]), weight=weights)
    assert gradients(found)[1]["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_the_shares_of_two_processes_add_up_to_the_step_of_one() -> None:
    config, parts = replace(PLAIN, class_weights="balanced"), []
    for number in (0, 1):
        parts.append(gradients(task(config, replicas=Numbered(number=number, of=2))))
    whole, told = gradients(task(config))
    assert alike((parts[0][0] + parts[1][0]) / 2, whole)
    for name in ("loss", "accuracy", "tokens", "sequences"):
        assert (parts[0][1][name] + parts[1][1][name]) / 2 == pytest.approx(told[name], rel=1e-5), name


def test_a_process_without_rows_has_zeros_for_gradients() -> None:
    found, entry = gradients(task(replace(PLAIN, batch=2), replicas=Numbered(number=2, of=3)))
    assert not found.any()
    assert (entry["loss"], entry["sequences"]) == (0.0, 0.0)


# what is trained


@pytest.mark.parametrize(
    ("method", "trained"),
    [
        ("lora", "lora_"),
        ("top-k", "layers.1.|emb_layer_norm_after|out."),
        ("full", "layers.|emb_layer_norm_after|embed_tokens|out."),
    ],
)
def test_frozen_parameters_are_unchanged_and_the_others_are_not(method: Any, trained: str) -> None:
    config = replace(PLAIN, method=method, top_layers=1)
    found = task(config)
    before = numbers(found.model)
    run(found, TrainingPlan(steps=3, lr=1e-2))
    after = numbers(found.model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    expected = {name for name in before if name.startswith("out.") or any(part in name for part in trained.split("|"))}
    silent = {name for name in expected if "k_proj.bias" in name}  # softmax does not see a constant added to all scores
    assert expected - silent <= moved <= expected


def test_layers_beyond_those_used_are_not_trained() -> None:
    head = LinearHead().fit(Features.from_arrays(np.random.default_rng(0).normal(size=(60, 16)).astype("f4")), LABELS)
    model = Tuned(tiny_model(), OneLabelStart(head, SUPERVISION.held).output, (1,), PLAIN, "fp32")
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert not any("layers.1." in name or "emb_layer_norm_after" in name for name in trained)
    assert any("layers.0." in name for name in trained)


def test_it_begins_where_the_frozen_head_stands_as_sure_as_that_is_calibrated() -> None:
    found = task(replace(PLAIN, dropout=0.5))
    encoder = ESM2Encoder("tiny", CONFIG, tiny_model().state_dict(), layers=LAYERS, precision="fp32")
    vectors = Features.from_arrays(encoder.encode(SEQUENCES).pooled["mean"], SEQUENCES)
    logits = torch.zeros(60, FAMILIES)
    found.model.eval()
    for rows, block in found.blocks(found.proteins):
        logits[rows] = block
    assert np.allclose(logits.softmax(1).numpy(), HEAD.predict_proba(vectors), atol=1e-4)


def test_what_is_subtracted_in_training_follows_the_mean_of_each_step() -> None:
    found = task()
    before = found.model.mean.clone()
    gradients(found)
    encoder = ESM2Encoder("tiny", CONFIG, tiny_model().state_dict(), layers=LAYERS, precision="fp32")
    step = torch.from_numpy(encoder.encode([SEQUENCES[row] for row in found.sampler.rows(0)]).pooled["mean"]).mean(0)
    assert torch.allclose(found.model.centre, 0.9 * before + 0.1 * step, atol=1e-6)
    assert torch.equal(found.model.mean, before)


def test_a_step_that_overflows_does_not_move_what_is_subtracted() -> None:
    model = tuned()
    before = model.centre.clone()
    model.follow(torch.full_like(before, torch.inf), 16)
    assert torch.equal(model.centre, before)


def test_what_all_vectors_have_in_common_changes_no_answer() -> None:
    def answers() -> Tensor:
        return torch.cat([block.softmax(1) for _, block in found.blocks(HELD)])

    found = task(PLAIN, HELD)
    gradients(found)
    found.model.eval().requires_grad_(False)
    found.validate()
    before = answers()
    found.model.encoder.emb_layer_norm_after.bias += 0.1
    assert not torch.allclose(answers(), before, atol=0.1)
    found.validate()
    assert torch.allclose(answers(), before, atol=1e-3)


def test_before_any_step_the_mean_is_that_of_the_frozen_head() -> None:
    found = task(PLAIN, HELD)
    found.validate()
    assert torch.equal(found.model.mean, HEAD.scaling.mean)


def test_a_run_that_makes_it_worse_leaves_it_as_it_began() -> None:
    class Falling(Finetuning):
        def validate(self) -> float:
            self.asked = getattr(self, "asked", 0) + 1
            return 1.0 / self.asked

    found = Falling(tuned(), Proteins(SEQUENCES, parse_long("full")), SUPERVISION, HELD)
    before = numbers(found.model)
    history = run(found, replace(PLAIN, epochs=2).plan(4))
    after = numbers(found.model)
    assert (history.best_step, history.best_score) == (0, 1.0)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_matrices_decay_and_biases_and_norms_do_not_and_the_head_has_its_own_rate() -> None:
    groups = task(replace(PLAIN, lr=1e-4, head_lr=1e-3)).optimizers[0].param_groups
    found = {
        (value.ndim > 1, group["weight_decay"], group["lr_scale"]) for group in groups for value in group["params"]
    }
    assert found == {(True, 0.01, 1.0), (False, 0.0, 1.0), (True, 0.01, 10.0), (False, 0.0, 10.0)}


def test_training_learns_the_families_from_a_layer_of_zeros() -> None:
    found = task(replace(PLAIN, lr=1e-3), HELD)
    torch.nn.init.zeros_(found.model.out.weight)
    torch.nn.init.zeros_(found.model.out.bias)
    history = run(found, TrainingPlan(steps=80, lr=5e-3, warmup=8, validate_every=40))
    losses = [entry["loss"] for entry in history.entries]
    assert losses[0] == pytest.approx(np.log(FAMILIES), rel=1e-5)
    assert sum(losses[-5:]) / 5 < 0.7 * losses[0]
    assert found.validate() == pytest.approx(history.best_score, abs=1e-6)


# memory


def starving(limit: int) -> tuple[Finetuning, list[int]]:
    """Return a task that has memory for `limit` tokens a pass, and the sizes of the passes that it made."""
    found, sizes = task(), []
    forward = found.model.forward

    def passed(packed: Packed) -> Tensor:
        if len(packed.tokens) > limit:
            raise torch.OutOfMemoryError("out of memory")
        sizes.append(len(packed.tokens))
        return forward(packed)

    found.model.forward = passed  # type: ignore[method-assign]
    return found, sizes


def test_out_of_memory_makes_pieces_smaller_and_the_step_stays_the_same() -> None:
    whole, _ = gradients(task())
    found, sizes = starving(200)
    small, entry = gradients(found)
    assert alike(small, whole)
    assert entry["sequences"] == 16
    assert max(sizes) <= 200
    assert int(found.model.budget) <= 400


def test_a_protein_that_does_not_fit_alone_is_named() -> None:
    found, _ = starving(30)
    with pytest.raises(
        SequenceTooLargeError, match=r"sequence number \d+ \(\d+ residues\) does not fit into memory alone"
    ):
        gradients(found)


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    found = task()

    def broken(packed: Packed) -> Tensor:
        raise RuntimeError("a bug")

    found.model.forward = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="a bug"):
        gradients(found)


def test_computing_states_again_in_the_backward_pass_changes_no_gradient() -> None:
    plain, _ = gradients(task())
    again, _ = gradients(task(replace(PLAIN, checkpointing=True)))
    assert torch.equal(plain, again)


# resume

NOISY = replace(PLAIN, dropout=0.3, crop=20, mask=0.1, tokens=150, checkpoint_every=2, epochs=2, sampling="balanced")


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("stop", [1, 3, 7])
def test_stopped_and_resumed_is_uninterrupted_to_the_bit(tmp_path: Path, method: Any, stop: int) -> None:
    config = replace(NOISY, method=method)
    whole, broken, resumed = (task(config, HELD) for _ in range(3))
    plan = config.plan(4)
    expected = run(whole, plan)
    run(broken, plan, checkpoint=tmp_path / "c", stop_after=stop)
    history = run(resumed, plan, checkpoint=tmp_path / "c", resume=True)
    assert history.best_score == expected.best_score
    one, other = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.extras
def test_processes_that_share_a_model_resume_to_the_bit_and_one_alone_goes_on_from_their_checkpoint(
    tmp_path: Path,
) -> None:
    (tmp_path / "shared.py").write_text(SHARED)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, str(tmp_path / "shared.py"), str(tmp_path)]
    ran = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "{True} True"
    found = task(PLAIN, HELD)
    run(found, AVERAGED, checkpoint=tmp_path / "alone.checkpoint", resume=True)
    together = torch.load(tmp_path / "whole.pt")
    assert all(torch.allclose(value, together[name], atol=1e-5) for name, value in found.model.state_dict().items())
    for method, losses in zip(("full", "lora"), torch.load(tmp_path / "losses.pt"), strict=True):
        # weights are gathered as autocast would round them, but LayerNorm's, too: 2^-9 of each
        assert losses == pytest.approx(losses_in_bf16(method), rel=2**-7), method


def test_layers_of_a_model_in_parts_multiply_apart_so_that_no_copy_of_their_weights_stays() -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        in_parts = task(replicas=Replicas(sharded=True))
    finally:
        torch.distributed.destroy_process_group()
    for model, apart in ((in_parts.model, True), (task().model, False)):
        assert {part.apart for part in model.encoder.modules() if isinstance(part, SelfAttention)} == {apart}


def test_what_cannot_be_trained_in_parts_is_refused() -> None:
    with pytest.raises(UsageError, match="a model in parts is trained in bf16 or fp32 and by adamw"):
        check_machine(PLAIN, FinetuneInputs(precision="fp16"), torch.device("cuda"), sharded=True)


def test_the_running_mean_of_the_weights_is_what_is_validated_and_kept() -> None:
    found, seen = task(PLAIN), [numbers(tuned())]
    expected = seen[0]

    def log(entry: dict[str, float]) -> None:
        nonlocal expected
        now = numbers(found.model)
        expected = {name: 0.75 * expected[name] + 0.25 * now[name] for name in now}
        seen.append(now)

    run(found, TrainingPlan(steps=4, lr=1e-3, average=0.75), log=log)
    after = numbers(found.model)
    assert all(torch.allclose(after[name], expected[name], atol=1e-7) for name in after)
    assert not torch.allclose(after["out.weight"], seen[-1]["out.weight"], atol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_running_mean_resumes_to_the_bit(tmp_path: Path, method: Any) -> None:
    config = replace(PLAIN, method=method)
    whole, parts = task(config, HELD), task(config, HELD)
    run(whole, AVERAGED)
    run(task(config, HELD), AVERAGED, checkpoint=tmp_path / "c", stop_after=3)
    run(parts, AVERAGED, checkpoint=tmp_path / "c", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True))


# attention over residues


def test_attention_begins_as_the_mean() -> None:
    attentive, plain = tuned(replace(PLAIN, pooling="attention")), tuned(PLAIN)
    (packed,) = Proteins(SEQUENCES[:9], parse_long("chunk:8")).packed(np.arange(9), 10_000)
    assert torch.allclose(attentive(packed), plain(packed), atol=1e-5)


@pytest.mark.parametrize("long", ["full", "balanced:9", "chunk:9"])
def test_attention_is_that_of_the_encoder_that_is_saved(long: str) -> None:
    model = tuned(replace(PLAIN, pooling="attention")).eval()
    assert model.attention is not None
    torch.nn.init.normal_(model.attention.weight)
    proteins = Proteins(SEQUENCES, parse_long(long), "attention")
    encoder = ESM2Encoder(
        "tiny", CONFIG, model.encoder_state(tiny_model().state_dict()), layers=LAYERS, long=long, precision="fp32"
    )
    vectors = torch.from_numpy(encoder.encode(SEQUENCES, ("attention",)).pooled["attention"])
    with torch.no_grad():
        for packed in proteins.packed(np.arange(60), 500):
            states = model.encoder(packed.tokens, packed.offsets, LAYERS)
            joined = torch.cat([states[layer] for layer in LAYERS], dim=-1)
            found = packed.pool(joined, model.attention(joined)[:, 0])
            assert torch.allclose(found, vectors[packed.rows], atol=1e-4)


def test_scores_too_large_for_an_exponential_give_no_nan() -> None:
    model = tuned(replace(PLAIN, pooling="attention"))
    assert model.attention is not None
    torch.nn.init.constant_(model.attention.weight, 1e4)
    (packed,) = Proteins(SEQUENCES[:9], parse_long("full"), "attention").packed(np.arange(9), 10_000)
    model(packed).square().sum().backward()
    assert all(value.grad is None or bool(value.grad.isfinite().all()) for value in model.parameters())


def test_attention_is_refused_where_windows_overlap_and_where_it_was_not_trained() -> None:
    with pytest.raises(UsageError, match="whose windows overlap"):
        Proteins(SEQUENCES, parse_long("window"), "attention")
    encoder = ESM2Encoder("tiny", CONFIG, tiny_model().state_dict(), precision="fp32")
    with pytest.raises(UsageError, match="no attention over residues for layers 2; choose mean, cls or max"):
        encoder.encode(SEQUENCES, ("attention",))


def test_a_checkpoint_holds_what_is_trained_and_not_what_is_frozen(tmp_path: Path) -> None:
    config = replace(PLAIN, method="lora")
    run(task(config), TrainingPlan(steps=1, lr=1e-3), checkpoint=tmp_path / "c", stop_after=1)
    names = torch.load(tmp_path / "c", weights_only=True)["model"].keys()
    parameters = {name for name in names if name in numbers(tuned(config))}
    assert parameters == {name for name in parameters if ".lora_" in name or name.startswith("out.")}
    assert {"mean", "spread", "budget"} <= names


def test_a_state_that_lacks_a_trained_parameter_is_refused() -> None:
    model = tuned()
    state = model.state_dict()
    del state["out.bias"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"out.bias\""):
        model.load_state_dict(state)


@pytest.mark.parametrize(
    "change",
    [{"dropout": 0.2}, {"crop": 9}, {"mask": 0.2}, {"method": "top-k", "top_layers": 1}, {"class_weights": "sqrt"}],
)
def test_a_checkpoint_of_other_knobs_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    plan, first, other = TrainingPlan(steps=4, lr=1e-3), task(), task(replace(PLAIN, **change))
    run(first, plan, checkpoint=tmp_path / "c", stop_after=2, about=first.digest("base"))
    with pytest.raises(FolderError, match="a checkpoint of a run with other options or data"):
        run(other, plan, checkpoint=tmp_path / "c", resume=True, about=other.digest("base"))
    assert task().digest("base") == task().digest("base")
    assert task().digest("another") != task().digest("base")


# precision and optimisers


def test_bf16_begins_near_fp32_and_fp16_is_refused_on_a_cpu() -> None:
    exact, low = (
        task(),
        Finetuning(
            Tuned(tiny_model(), LAYER, LAYERS, PLAIN, "bf16"), Proteins(SEQUENCES, parse_long("full")), SUPERVISION
        ),
    )
    assert gradients(low)[1]["loss"] == pytest.approx(gradients(exact)[1]["loss"], rel=0.05)
    assert not low.scaler.is_enabled()
    with pytest.raises(UsageError, match="precision 'int8' is not for training"):
        Tuned(tiny_model(), LAYER, LAYERS, PLAIN, "int8")


def test_states_of_8_bits_need_cuda_and_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))]}]
    with pytest.raises(UsageError, match="optimizer adamw8bit needs a CUDA device, not cpu; use --optimizer adamw"):
        make_optimizer("adamw8bit", groups, 1e-3, torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(MissingExtraError, match="optimizer adamw8bit needs the package bitsandbytes"):
        make_optimizer("adamw8bit", groups, 1e-3, torch.device("cuda"))
    with pytest.raises(UnknownNameError, match="unknown optimizer 'adam'"):
        make_optimizer("adam", groups, 1e-3, torch.device("cpu"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FinetuneConfig(method="all"), "unknown method 'all'"),  # type: ignore[arg-type]
        (lambda: FinetuneConfig(epochs=0), "must be above 0"),
        (lambda: FinetuneConfig(dropout=1.0), "dropout 1.0, mask 0.0, average 0.0 and floor 0.1 must be shares"),
        (
            lambda: tuned(replace(PLAIN, method="top-k", top_layers=3)),
            "3 top layers asked of an encoder of which 2 are",
        ),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_begins_with_the_losses_of_the_cpu(precision: Any) -> None:
    config = replace(PLAIN, checkpointing=True)
    losses = []
    for device, own in (("cpu", "fp32"), ("cuda", precision)):
        proteins = Proteins(SEQUENCES, parse_long("full"))
        model = Tuned(tiny_model(), LAYER, LAYERS, config, own)
        found = Finetuning(model, proteins, SUPERVISION, HELD, Replicas(torch.device(device)))
        history = run(found, TrainingPlan(steps=4, lr=1e-3, clip=1.0), scaler=found.scaler)
        losses.append([entry["loss"] for entry in history.entries])
        assert history.skipped == 0
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_running_mean_is_resumed_on_a_gpu(tmp_path: Path, precision: Any) -> None:
    def on_gpu() -> Finetuning:
        model = Tuned(tiny_model(), LAYER, LAYERS, PLAIN, precision)
        proteins = Proteins(SEQUENCES, parse_long("full"))
        return Finetuning(model, proteins, SUPERVISION, HELD, Replicas(torch.device("cuda")))

    whole, stopped, resumed = on_gpu(), on_gpu(), on_gpu()
    run(whole, AVERAGED, scaler=whole.scaler)
    run(stopped, AVERAGED, checkpoint=tmp_path / "c", stop_after=3, scaler=stopped.scaler)
    run(resumed, AVERAGED, checkpoint=tmp_path / "c", resume=True, scaler=resumed.scaler)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-2)  # a GPU's sums are not the same bits twice
