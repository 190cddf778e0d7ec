"""`esmcls finetune`: the encoder itself, end to end, on the dataset's train part."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from esmcls_cli.options.command_groups import Grouped
from esmcls_cli.options.common import common
from esmcls_cli.options.names import complete_encoders, fetch_encoder
from esmcls_cli.options.progress import training_bar
from esmcls_cli.options.set_aside import set_aside_options, shares_of
from esmcls_cli.options.speech import note
from esmcls_cli.options.values import integers

RATE = click.FloatRange(0, min_open=True)
_METHODS = ("lora", "top-k", "full")
_LOSSES = ("ce", "focal", "logit-adjusted", "bce", "weighted", "asymmetric", "mse", "huber")
"""Which are for the workspace's kind of task is seen to when that is known."""


_GROUPS = {
    "Common options": (
        *(
            "method",
            "encoder",
            "epochs",
            "lr",
            "batch",
            "name",
            "resume",
            "dry_run",
            "workspace",
            "device",
            "seed",
            "quiet",
        ),
    ),
    "Sequences": ("families", "stratify", "layers", "long", "crop", "mask", "pooling"),
    "LoRA and top-k": ("rank", "alpha", "targets", "adapters_only", "top_layers"),
    "Loss and sampling": ("loss", "class_weights", "weight_cap", "sampling", "start", "dropout"),
    "Rates and steps": (
        *("max_steps", "head_lr", "weight_decay", "warmup", "schedule", "floor", "clip", "optimizer", "average"),
        *("validate_every", "patience"),
    ),
    "Memory, machines and logs": (
        *("tokens", "precision", "checkpointing", "checkpoint_minutes", "checkpoint_every", "nodes", "shard"),
        *("seeds", "track", "debug"),
    ),
    "What is set aside": ("hold_out_families", "calibration", "false_acceptance", "accept_known"),
}


@click.command("finetune", cls=Grouped, groups=_GROUPS)
@click.option("--method", type=click.Choice(_METHODS), default="lora", show_default=True, help="What is trained.")
@click.option("--families", type=click.IntRange(2), metavar="N", help="The N largest families.  [default: all]")
@click.option("--stratify", metavar="PLAN", help="Train sequences of each, such as 1000x200+4000x50.")
@click.option(
    "--encoder",
    shell_complete=complete_encoders,
    default="bundled",
    show_default=True,
    metavar="NAME_OR_PATH",
    help="Where it starts.",
)
@click.option("--layers", metavar="N,N,…", help="Layers side by side.  [default: the encoder's]")
@click.option(
    "--long",
    default="balanced",
    show_default=True,
    help="start, balanced (of residues window), ends, window, chunk or full.",
)
@click.option("--crop", type=click.IntRange(0), default=0, show_default=True, help="Train on random crops; 0: none.")
@click.option(
    "--mask",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Train with this share of the residues hidden.",
)
@click.option(
    "--pool",
    "pooling",
    type=click.Choice(["mean", "cls", "attention"]),
    default="mean",
    show_default=True,
    help="Of residues.",
)
@click.option("--rank", type=click.IntRange(1), default=8, show_default=True, help="LoRA: rank of the change.")
@click.option(
    "--alpha", type=click.IntRange(1), default=16, show_default=True, help="LoRA: the change times alpha / rank."
)
@click.option("--targets", help="LoRA: which products.  [default: q_proj,k_proj,v_proj,out_proj,fc1,fc2]")
@click.option("--adapters-only", is_flag=True, help="LoRA: keep the adapters without the encoder they change.")
@click.option("--top-layers", type=click.IntRange(1), default=2, show_default=True, help="top-k: how many layers.")
@click.option("--epochs", type=RATE, default=3.0, show_default=True, help="Passes over the training sequences.")
@click.option("--max-steps", type=click.IntRange(1), help="Steps at most.")
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True, help="Sequences a step, in all.")
@click.option("--tokens", type=click.IntRange(1), help="Tokens held at once; halved where memory is short.")
@click.option("--lr", type=RATE, help="Peak rate.  [default: 2e-4 with lora, else 2e-5]")
@click.option("--head-lr", type=RATE, default=1e-3, show_default=True, help="That of the output layer.")
@click.option("--weight-decay", type=click.FloatRange(0), default=0.01, show_default=True, help="Of matrices.")
@click.option("--warmup", type=click.IntRange(0), help="Steps.  [default: 1,000 or 6 %, the less]")
@click.option(
    "--schedule", type=click.Choice(["cosine", "linear"]), default="cosine", show_default=True, help="Of the rate."
)
@click.option("--floor", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Last rate, of the peak.")
@click.option("--clip", type=click.FloatRange(0), default=1.0, show_default=True, help="Largest gradient norm.")
@click.option(
    "--dropout",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="Before the output layer.",
)
@click.option(
    "--loss",
    type=click.Choice(_LOSSES),
    help="What is minimised: ce, focal, logit-adjusted; of terms bce, weighted, focal, asymmetric; of numbers mse, "
    "huber.  [default: first]",
)
@click.option(
    "--class-weights",
    type=click.Choice(["none", "balanced", "sqrt", "effective-number"]),
    default="none",
    show_default=True,
    help="What a sequence counts by the size of its family.",
)
@click.option(
    "--weight-cap",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Largest, in medians; 0: none. Of terms that of --loss weighted; 0: 10.",
)
@click.option(
    "--sampling",
    type=click.Choice(["as-is", "balanced"]),
    default="as-is",
    show_default=True,
    help="balanced: each family as often.",
)
@click.option(
    "--start",
    type=click.Choice(["linear", "zero"]),
    default="linear",
    show_default=True,
    help="The output layer begins as the linear head on the frozen encoder, or at zero.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="auto: bf16 where the hardware has it.",
)
@click.option(
    "--optimizer",
    type=click.Choice(["adamw", "adamw8bit"]),
    default="adamw",
    show_default=True,
    help="8 bits need CUDA.",
)
@click.option("--gradient-checkpointing", "checkpointing", is_flag=True, help="Less memory for a third more time.")
@click.option(
    "--average",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Keep the running mean of the weights, of which each step leaves this share; 0: the last weights.",
)
@click.option("--validate-every", type=click.IntRange(0), default=0, show_default=True, help="Steps; 0: each epoch.")
@click.option("--patience", type=click.IntRange(0), default=0, show_default=True, help="Validations; 0: to the end.")
@click.option(
    "--checkpoint-minutes", type=click.FloatRange(0), default=10.0, show_default=True, help="Between checkpoints."
)
@click.option(
    "--checkpoint-every", type=click.IntRange(0), default=0, show_default=True, help="Steps besides; 0: minutes alone."
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint.")
@click.option("--dry-run", is_flag=True, help="Check the options and say what the run would be.")
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs, each with a seed of its own."
)
@click.option("--track", type=click.Choice(["wandb", "tensorboard"]), help="Show the run there, too.")
@click.option("--name", default="finetuned", show_default=True, help="Name of the model.")
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines that run this command.")
@click.option("--shard", is_flag=True, help="Each device keeps a part of the model (FSDP), for the largest ones.")
@set_aside_options(
    "Take this share of the families, such as 10%, away for good: half of them set the threshold of rejection, the "
    "others tell what it reaches. To tune once a fold, as `esmcls fit` does, would take too long."
)
@common(devices=True, seed=True)
def command(
    workspace: Path,
    name: str,
    seeds: int,
    track: str | None,
    resume: bool,
    dry_run: bool,
    nodes: int,
    shard: bool,
    device: str,
    seed: int,
    targets: str | None,
    hold_out_families: float | None,
    calibration: float,
    false_acceptance: float | None,
    accept_known: float | None,
    **settings: Any,
) -> None:
    """Fine-tune the encoder and a linear head end to end on the workspace's dataset, of whatever kind of task.

    Writes models/<name>/ with the tuned encoder, which `predict` and `evaluate` take like any model's, and
    `embed --encoder models/<name>` embeds with. Log, curves and report lie in reports/finetune/<name>/.
    """
    import torch

    from esmcls.finetuning.config import FinetuneConfig, FinetuneInputs
    from esmcls.finetuning.kind import check_machine, objective_of, settled
    from esmcls.finetuning.run import rehearse
    from esmcls.finetuning.seeds import finetune_seeds
    from esmcls.training.processes import Replicas, start_replicas
    from esmcls.workspace.workspace import Workspace

    place = Workspace.open(workspace)
    shares = shares_of(hold_out_families, calibration, false_acceptance, accept_known)
    layers = integers(settings.pop("layers"), "--layers")
    given = {field.name: settings.pop(field.name) for field in fields(FinetuneInputs) if field.name in settings}
    given["encoder"] = place.encoder_name(given["encoder"])
    inputs = FinetuneInputs(layers=layers, shares=shares, **given)
    config = FinetuneConfig(seed=seed, **settings)
    config = config if targets is None else replace(config, targets=tuple(targets.split(",")))
    config, inputs = settled(objective_of(place), config, inputs)  # before anything is fetched
    check_machine(config, inputs, torch.device(device.split(",")[0]), shard, track)
    fetch_encoder(inputs.encoder)
    if dry_run:
        alone = Replicas(torch.device(device.split(",")[0]))
        click.echo("\n".join(rehearse(place, config, inputs, alone, note)))
        return
    replicas = start_replicas(device.split(","), nodes=nodes, sharded=shard)
    with _terminations() as stop, training_bar(shown=replicas.first) as bar:
        options = {"replicas": replicas, "resume": resume, "planned": bar.start, "say": note, "stop": stop}
        for result in finetune_seeds(place, config, inputs, name, seeds, track=track, log=bar.advance, **options):
            bar.bar.clear()
            click.echo("\n".join(result.lines()))
    if replicas.first:
        note("next: esmcls predict FASTA, or esmcls embed --encoder models/" + name)


@contextlib.contextmanager
def _terminations() -> Iterator[Any]:
    """Give what tells whether the process was asked to end."""
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGTERM, before)
