"""CPU seconds that commands need which have next to nothing to do: `heads`, `encoders`, and `predict` of one protein.

    OMP_NUM_THREADS=1 python benchmarks/start_up.py --workspace w

The models are of the demo set and the bundled encoder, fitted in the workspace unless they are there. A command's
seconds are user and system of a process of its own, the interpreter's included. Prints a table and writes the medians
to `benchmarks/results/start_up.json`, or `--output`.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from embed_speed import processor

from esmcls.workspace.intake import demo_set

PROGRAM = Path(sys.executable).with_name("esmcls")
HEADS = ("linear", "knn", "mlp", "ensemble")
PROTEIN = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKRQTLGQHDFSAGEGLYTHMKALRPD"
AIMS = {"heads": 0.3, "encoders": 0.3} | {f"predict {head}": 2.5 for head in HEADS}
RESULTS = Path(__file__).with_name("results") / "start_up.json"


def run(*words: str | Path) -> None:
    """Run the installed command."""
    subprocess.run([PROGRAM, *words], check=True, stdout=subprocess.PIPE)


def fit_models(workspace: Path) -> None:
    """Embed the demo set and fit the heads, each unless it is there; write the protein beside them."""
    workspace.mkdir(parents=True, exist_ok=True)
    run("embed", demo_set(), "-w", workspace)
    for head in HEADS:
        if not (workspace / "models" / head).exists():
            knob = ("--set", "members", "linear,knn") if head == "ensemble" else ()
            run("fit", "--head", head, *knob, "-w", workspace)
    (workspace / "one.fasta").write_text(f">one\n{PROTEIN}\n", encoding="utf-8")


def cpu_seconds(*words: str | Path) -> float:
    """Return what a command takes of a processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(*words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, in rounds of all commands; the first round reads the files and does not count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    fit_models(options.workspace)
    predict = ("predict", options.workspace / "one.fasta", "-w", options.workspace, "--device", "cpu", "--quiet")
    commands: dict[str, tuple[str | Path, ...]] = {"heads": ("heads",), "encoders": ("encoders",)}
    commands |= {f"predict {head}": (*predict, "--model", head) for head in HEADS}
    rounds = [{name: cpu_seconds(*words) for name, words in commands.items()} for _ in range(options.rounds + 1)][1:]
    medians = {name: round(statistics.median(taken[name] for taken in rounds), 2) for name in commands}
    for name, seconds in medians.items():
        print(f"{name:18} {seconds:5.2f} CPU s (at most {AIMS[name]})")
    versions = {name: version(name) for name in ("esmcls", "torch", "polars", "numpy")}
    versions["python"] = ".".join(map(str, sys.version_info[:3]))
    about = {"processor": processor(), "versions": versions, "rounds": options.rounds}
    text = json.dumps(about | {"cpu_seconds": medians}, indent=2) + "\n"
    options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
