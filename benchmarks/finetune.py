"""Measures fine-tuning: its speed and memory on random weights, and what it reaches on real families.

    python benchmarks/finetune.py speed --shapes bundled 8M --precisions fp32 bf16 --methods full lora
    python benchmarks/finetune.py speed --device cuda --shapes 35M 650M --precisions fp32 bf16 fp16 \\
        --optimizers adamw adamw8bit --tokens 32768
    python benchmarks/finetune.py choose ../shared/data/cath --every 4 --rates 2e-5 1e-4 5e-4 --epochs 1
    python benchmarks/finetune.py accuracy ../shared/data/pfam --encoder bundled --methods lora full --epochs 3
    python benchmarks/finetune.py checkpoint W/reports/finetune/N/run.checkpoint --work W --methods full --set mask 0.1

`speed` trains on random proteins of log-normal length (median 294) and counts sequences and residues a second, the most
memory held, and the share of the device's matrix products, measured just before, that the model's own arithmetic is:
24 n d² + 4 L d n FLOP a residue forward (n layers of width d, length L), three times that with all weights trained and
twice with adapters. Each row is a process of its own. What does not fit or is not installed is told as such.

`choose` fine-tunes with each method and learning rate on a set without its test part, and tells what validation says.
`accuracy` embeds a set, fits the frozen `linear` head and fine-tunes with each method, in a workspace under `--work`;
the epoch is chosen on validation and the test part is read once for each. `checkpoint` asks the model of a checkpoint,
though its start was better on validation, the frozen head of the workspace, and both together, weighed on validation.
All but the last write into `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from embed_speed import SHAPES, processor, proteins

from esmcls.plain_values import write_json

RESULTS = Path(__file__).with_name("results")
MODELS = SHAPES | {"150M": (30, 640, 20), "650M": (33, 1280, 20), "3B": (36, 2560, 40)}
AIM = {("650M", "bf16"): 0.4}
"""Share of the measured peak that training is to reach on a GPU."""
PASSES = {"full": 3, "top-k": 3, "lora": 2}
"""Forward, gradients of states, and gradients of weights, in passes; adapters need no full gradients of weights."""


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    speed = commands.add_parser("speed")
    speed.add_argument("--device", default="cpu")
    speed.add_argument("--shapes", nargs="+", default=["bundled", "8M"], choices=MODELS)
    speed.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16", "fp16"])
    speed.add_argument("--optimizers", nargs="+", default=["adamw"], choices=["adamw", "adamw8bit"])
    speed.add_argument("--methods", nargs="+", default=["full", "lora"], choices=["full", "lora"])
    speed.add_argument("--classes", type=int, default=5000)
    speed.add_argument("--batch", type=int, default=64)
    speed.add_argument("--tokens", type=int)
    speed.add_argument("--steps", type=int, default=10)
    speed.add_argument("--checkpointing", action="store_true")
    speed.add_argument("--output", type=Path, default=RESULTS / "finetune_speed.json")
    speed.add_argument("--child", help=argparse.SUPPRESS)
    choose, accuracy, asked = (commands.add_parser(name) for name in ("choose", "accuracy", "checkpoint"))
    for one in (choose, accuracy, asked):
        one.add_argument("folder", type=Path)
        one.add_argument("--encoder", default="bundled")
        one.add_argument("--device", default="cpu")
        one.add_argument("--methods", nargs="+", default=["lora", "full"], choices=["lora", "top-k", "full"])
        one.add_argument("--epochs", type=float, default=3.0)
        one.add_argument("--set", nargs=2, action="append", default=[], metavar=("KNOB", "JSON"), dest="knobs")
        one.add_argument("--families", type=int)
        one.add_argument("--every", type=int, default=1)
        one.add_argument("--seed", type=int, default=0)
        one.add_argument("--work", type=Path, default=Path("esmcls-work/finetune"))
    choose.add_argument("--rates", nargs="+", type=float, required=True)
    accuracy.add_argument("--lr", type=float)
    asked.add_argument("--lr", type=float)
    options = parser.parse_args()
    if options.command == "choose":
        choose_rates(options)
    elif options.command == "accuracy":
        measure_accuracy(options)
    elif options.command == "checkpoint":
        ask_checkpoint(options)
    elif options.child:
        print(json.dumps(measure_speed(options, **json.loads(options.child))))
    else:
        compare_speeds(options)


def compare_speeds(options: argparse.Namespace) -> None:
    """Measure every combination in a process of its own; print and write the table."""
    rows = []
    for shape in options.shapes:
        for precision in options.precisions:
            for optimizer in options.optimizers:
                for method in options.methods:
                    about = {"shape": shape, "precision": precision, "optimizer": optimizer, "method": method}
                    rows.append(about | measured_apart(about))
                    print(rows[-1], flush=True)
    settings = {name: str(value) for name, value in vars(options).items() if name not in ("child", "output")}
    RESULTS.mkdir(exist_ok=True)
    write_json(options.output, {"command": settings, "processor": device_name(options.device), "rows": rows})


def measured_apart(about: dict[str, str]) -> dict[str, Any]:
    """Return a row from a process of its own, or why there is none."""
    ran = subprocess.run(
        [sys.executable, *sys.argv, "--child", json.dumps(about)], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        return {"not_run": ran.stderr.strip().splitlines()[-1][:200]}
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def measure_speed(
    options: argparse.Namespace, shape: str, precision: str, optimizer: str, method: str
) -> dict[str, Any]:
    """Return what a few steps of training, and as many of prediction, take."""
    import torch

    from esmcls.finetuning.encoder import training_precision
    from esmcls.finetuning.task import peak_memory
    from esmcls.training.loop import run
    from esmcls.training.schedule import TrainingPlan

    device = torch.device(options.device)
    training_precision(precision, device)
    peak = gemm_peak(device, precision)
    task = random_task(options, shape, precision, optimizer, method)
    run(task, TrainingPlan(steps=2, lr=1e-5, clip=1.0), scaler=task.scaler)
    seconds = timed(lambda: run(task, TrainingPlan(steps=options.steps, lr=1e-5, clip=1.0), scaler=task.scaler), device)
    memory = peak_memory(device)
    rows = np.concatenate([task.sampler.rows(step) for step in range(options.steps)])
    lengths = np.array([len(task.proteins.sequences[row]) for row in rows])
    task.model.eval()
    predicted = timed(lambda: [None for _ in task.blocks(task.proteins)], device)
    flop = PASSES[method] * sum(flop_of(MODELS[shape], int(length)) for length in lengths)
    return {
        "sequences_per_second": round(len(rows) / seconds, 2),
        "residues_per_second": round(float(lengths.sum()) / seconds),
        "predicted_sequences_per_second": round(len(task.proteins) / predicted, 2),
        "peak_memory_gb": round(memory / 1e9, 3),
        "tokens_of_a_piece": int(task.model.budget),
        "gemm_tflops": round(peak / 1e12, 3),
        "share_of_gemm": round(flop / seconds / peak, 3),
    } | ({"aim": AIM[shape, precision]} if device.type == "cuda" and (shape, precision) in AIM else {})


def random_task(options: argparse.Namespace, shape: str, precision: str, optimizer: str, method: str) -> Any:
    """Return a fine-tuning of a model with random weights, the last layer pooled."""
    import torch

    from esmcls.encoders.model import ESM2, ModelConfig
    from esmcls.encoders.windows import parse_long
    from esmcls.finetuning.config import FinetuneConfig
    from esmcls.finetuning.model import Tuned
    from esmcls.finetuning.packing import Proteins
    from esmcls.finetuning.task import Finetuning
    from esmcls.heads.layers.ridge import Scaling
    from esmcls.labels.labels import Labels
    from esmcls.tasks.objective import OutputLayer
    from esmcls.tasks.one_label.tuning import OneLabelSupervision
    from esmcls.training.processes import Replicas

    layers, width, _ = MODELS[shape]
    torch.manual_seed(0)
    weight = torch.nn.init.normal_(torch.empty(options.classes, width), std=0.02)
    layer = OutputLayer(weight, torch.zeros(options.classes), Scaling(torch.zeros(width), torch.ones(width)))
    knobs = {"batch": options.batch, "tokens": options.tokens, "checkpointing": options.checkpointing}
    config = FinetuneConfig(method=method, optimizer=optimizer, **knobs)
    sequences = proteins(options.batch * options.steps)
    codes = np.random.default_rng(0).integers(options.classes, size=len(sequences))
    labels = Labels(tuple(map(str, range(options.classes))), codes)
    model = Tuned(ESM2(ModelConfig(*MODELS[shape])), layer, (layers,), config, precision)
    supervision = OneLabelSupervision(labels, labels.take([]))
    replicas = Replicas(torch.device(options.device))
    return Finetuning(model, Proteins(sequences, parse_long("balanced")), supervision, replicas=replicas)


def flop_of(shape: tuple[int, int, int], length: int) -> float:
    """Return the FLOP of one forward pass over a protein."""
    layers, width, _ = shape
    return float(length * (24 * layers * width**2 + 4 * length * width * layers))


def gemm_peak(device: Any, precision: str) -> float:
    """Return the FLOP/s of a large matrix product: the best of five."""
    import torch

    from esmcls.encoders.inference import DTYPES

    n = 8192 if device.type == "cuda" else 2048
    dtype = DTYPES[precision]
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / min(timed(lambda: a @ b, device) for _ in range(5))


def timed(work: Any, device: Any) -> float:
    """Return the seconds of some work, until the device has done it."""
    import torch

    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def device_name(device: str) -> str:
    """Return what it was measured on."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()


def choose_rates(options: argparse.Namespace) -> None:
    """Fine-tune with each method and rate without the test part; print and write what validation says."""
    from esmcls.finetuning.config import FinetuneConfig, FinetuneInputs
    from esmcls.finetuning.run import finetune
    from esmcls.training.processes import start_replicas

    rows, place = [], prepared(options, test=False)
    for method in options.methods:
        for rate in options.rates:
            given = {"epochs": options.epochs, "lr": rate, "seed": options.seed}
            config = FinetuneConfig(method=method, **given | {knob: json.loads(value) for knob, value in options.knobs})
            inputs = FinetuneInputs(encoder=options.encoder, families=options.families)
            replicas = start_replicas([options.device])
            began, name = time.perf_counter(), f"{method}-{rate:g}"
            tuned = finetune(place, config, inputs, name=name, replicas=replicas)
            assert tuned is not None
            about = tuned.manifest.setup["finetuned"]
            found = {"method": method, "rate": rate, "frozen": about["start_scores"], "best_step": about["best_step"]}
            rows.append(found | tuned.manifest.validation | {"seconds": round(time.perf_counter() - began)})
            print(rows[-1], flush=True)
    write_rows(options, "finetune_rates", rows)


def ask_checkpoint(options: argparse.Namespace) -> None:
    """Print what the model of a checkpoint reaches on the test part, beside the frozen head and together with it."""
    import torch

    from esmcls.encoders.windows import parse_long
    from esmcls.finetuning.config import FinetuneConfig, FinetuneInputs
    from esmcls.finetuning.packing import Proteins
    from esmcls.finetuning.run import begin, make_task
    from esmcls.labels.labels import Labels
    from esmcls.metrics.classification import bootstrap_interval, summary
    from esmcls.models.model import features_for
    from esmcls.models.predict import open_model
    from esmcls.training.processes import start_replicas
    from esmcls.workspace.workspace import Workspace

    place, frozen = Workspace.open(options.work), open_model(options.work, "linear", device=options.device)
    given = {"epochs": options.epochs, "lr": options.lr} | {knob: json.loads(value) for knob, value in options.knobs}
    config, inputs = FinetuneConfig(method=options.methods[0], **given), FinetuneInputs(encoder=options.encoder)
    replicas = start_replicas([options.device])
    begun = begin(place, config, inputs, replicas, print)
    classes = begun.supervision.classes
    task, state = make_task(begun, replicas, print), torch.load(options.folder, weights_only=True)
    task.model.load_state_dict(state["model"])
    task.model.eval()

    def asked(part: Any) -> tuple[Any, Any]:
        logits = torch.zeros(len(part), len(classes))
        for rows, block in task.blocks(Proteins(part.sequences, parse_long("balanced"))):
            logits[rows] = block.cpu()
        return torch.from_numpy(frozen.head.predict_proba(features_for(frozen, part, place))), logits

    def loss(temperature: float, weight: float) -> float:
        mixed = (1 - weight) * near + weight * (logits / temperature).softmax(1)
        return -float(mixed[torch.arange(len(mixed)), truth].clamp(min=1e-12).log().mean())

    (near, logits), truth = (
        asked(begun.rows.held),
        torch.from_numpy(Labels.from_names(begun.rows.held.labels, classes).codes),
    )
    grid = [
        (temperature, weight) for temperature in (0.3, 0.5, 0.7, 1.0, 1.5) for weight in (0.2, 0.35, 0.5, 0.65, 0.8)
    ]
    temperature, weight = min(grid, key=lambda one: loss(*one))
    test = begun.rows.test
    (near, logits), codes = asked(test), Labels.from_names(test.labels, classes).codes
    tuned = (logits / temperature).softmax(1)
    print(f"step {state['history']['steps_done']}; together: weight {weight}, temperature {temperature}, of validation")
    for name, found in (("frozen", near), ("tuned", tuned), ("together", (1 - weight) * near + weight * tuned)):
        ranked = found.topk(10).indices.numpy()
        reached = bootstrap_interval(summary(codes, ranked, len(classes)), len(codes), seed=options.seed)
        told = ("accuracy", "macro_recall", "macro_f1")
        shown = (
            f"{one} {100 * reached[one].value:.2f} ({100 * reached[one].low:.2f}-{100 * reached[one].high:.2f})"
            for one in told
        )
        print(f"{name:10}", "  ".join(shown), flush=True)


def prepared(options: argparse.Namespace, *, test: bool) -> Any:
    """Return a workspace with a data set, embedded, with or without its test part."""
    from families import every_nth_class

    from esmcls.datasets.dataset import build
    from esmcls.reading.readers import read_records
    from esmcls.workspace.embed_in_workspace import EmbeddingRecipe, embed_in_workspace
    from esmcls.workspace.intake import Intake
    from esmcls.workspace.workspace import Workspace

    tables = sorted(options.folder.glob("*_labels.tsv.gz"))
    sources = sorted(options.folder.glob("*.fasta.gz")) or [options.folder]
    built = build(read_records(sources, labels=tables or None))
    data = every_nth_class(built.dataset, options.every)
    place = Workspace.open(options.work, create=True)
    kept = [row for row, part in enumerate(data.parts) if test or part != "test"]
    place.set_dataset(data.take(kept), built.report)
    embed_in_workspace(place, Intake(place.dataset), EmbeddingRecipe(options.encoder), device=options.device)
    return place


def write_rows(options: argparse.Namespace, name: str, rows: list[dict[str, Any]]) -> None:
    """Write a table with the command that made it."""
    options.folder = options.folder.parent if options.folder.name == "random_split" else options.folder
    settings = {name: str(value) for name, value in vars(options).items()}
    RESULTS.mkdir(exist_ok=True)
    encoder = Path(options.encoder).name.removesuffix(".safetensors").removesuffix(".pt")
    result = {"command": settings, "processor": device_name(options.device), "rows": rows}
    write_json(RESULTS / f"{name}_{options.folder.name}_{encoder}.json", result)


def measure_accuracy(options: argparse.Namespace) -> None:
    """Fit the frozen head and fine-tune with each method; print and write what they reach."""
    from esmcls.evaluation.assess import assess
    from esmcls.finetuning.config import FinetuneConfig, FinetuneInputs
    from esmcls.finetuning.run import finetune
    from esmcls.models.fit import fit_head
    from esmcls.models.predict import open_model
    from esmcls.training.processes import start_replicas

    place = prepared(options, test=True)
    fit_head(place, "linear", refit=False, device=options.device, seed=options.seed)
    found = assess(open_model(options.work, "linear", device=options.device), place, seed=options.seed)
    rows = [{"method": "frozen, linear"} | found.evaluation.to_json()]
    print("frozen, linear", rows[0]["metrics"]["accuracy"], flush=True)
    given = {"epochs": options.epochs, "lr": options.lr, "seed": options.seed}
    given |= {knob: json.loads(value) for knob, value in options.knobs}
    for method in options.methods:
        config, name = FinetuneConfig(method=method, **given), f"finetuned-{method}"
        inputs = FinetuneInputs(encoder=options.encoder, families=options.families)
        replicas = start_replicas([options.device])
        tuned = finetune(place, config, inputs, name=name, replicas=replicas, say=print, planned=print)
        assert tuned is not None
        folder = place.reports / "finetune" / name
        report, timing = (json.loads((folder / f"{one}.json").read_text()) for one in ("report", "timing"))
        rows.append({"method": method, "timing": timing, "history": vars(tuned.history) | {"entries": None}} | report)
        print("\n".join(tuned.lines()), flush=True)
    write_rows(options, "finetune", rows)


if __name__ == "__main__":
    main()
