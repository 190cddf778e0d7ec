"""The pair head by its own API: fit on training chains, measured on the validation part, and once on the test part.

    python benchmarks/pair_head.py ../shared/data WORKSPACE --out FOLDER --set channels=48 --set epochs=4
    python benchmarks/pair_head.py ../shared/data WORKSPACE --out FOLDER --test

WORKSPACE holds the vectors of residues of all chains of `structure` (`esmcls embed … --residues`) and says which are of
the validation part. FOLDER gets the head, log.jsonl with a line a step, and scores.json; what was killed goes on from
its checkpoint there. With --test the saved head is asked about the test part, and nothing is fitted.
--head separation is the baseline; --chains N takes N of the training chains, --held N the first N of validation: with
them knobs are chosen in minutes (results/pair_head.json).
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from esmcls.cache.features import Features
from esmcls.heads.registry import PAIR_GROUP, load_head
from esmcls.heads.settings import parse_settings
from esmcls.labels.structure_labels import Structures
from esmcls.training.loop import LogFile
from esmcls.types import Coordinates
from esmcls.workspace.workspace import Workspace

FILES = ("test", *(f"train_{number}" for number in range(5)))


def read_traces(data: Path) -> dict[str, Coordinates]:
    """Return the CA trace of each chain by its id."""
    traces = dict[str, Coordinates]()
    for name in FILES:
        arrays = np.load(data / "structure" / f"{name}.npz")
        ends = np.cumsum(arrays["length"].astype(np.int64))
        steps = np.split(arrays["ca_delta_tenth_angstrom"].astype(np.int32), ends[:-1], axis=1)
        for chain, step in zip(arrays["id"].tolist(), steps, strict=True):
            traces[chain.decode()] = (np.cumsum(step, axis=1).T * 0.1).astype(np.float32)
    return traces


class Part:
    """The chains of a part of the data: vectors and structures."""

    def __init__(self, place: Workspace, traces: dict[str, Coordinates], name: str, most: int | None) -> None:
        chains = place.dataset.part(name)
        if most is not None and name == "train":
            chains = chains.take(np.sort(np.random.default_rng(0).permutation(len(chains))[:most]))
        elif most is not None:
            chains = chains.take(np.arange(min(most, len(chains))))
        self.features = Features.from_cache(place.latest_cache(), chains)
        self.structures = Structures.from_traces([traces[chain] for chain in chains.ids])


class Clock:
    """A log that writes each step to a file, prints each hundredth, and all that validation gave."""

    def __init__(self, path: Path) -> None:
        self.write = LogFile(path)
        self.losses = list[float]()

    def __call__(self, entry: dict[str, float]) -> None:
        """Take an entry."""
        if "step" not in entry:
            print({name: round(value, 4) for name, value in entry.items()}, flush=True)
            return
        self.write(entry)
        self.losses = [*self.losses[-99:], entry["loss"]]
        if entry["step"] % 100 == 0:
            seconds = time.perf_counter() - self.write.begun
            print(f"step {entry['step']:,.0f}: loss {np.mean(self.losses):.4f}, {seconds:,.0f} s", flush=True)


def main() -> None:
    """Fit and measure, or ask about the test part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--head", default="pairs")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--chains", type=int)
    parser.add_argument("--held", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--test", action="store_true")
    given = parser.parse_args()
    head_class = load_head(given.head, PAIR_GROUP)
    place, traces, scores = Workspace.open(given.workspace), read_traces(given.data), given.out / "scores.json"
    given.out.mkdir(parents=True, exist_ok=True)
    if given.test:
        known = json.loads(scores.read_text())
        head = head_class.load(given.out, head_class.Config(**known["knobs"]), (), given.device)
        test = Part(place, traces, "test", None)
        known["test"] = head._score(test.features, test.structures)
    else:
        known = fit(given, head_class, place, traces)
    scores.write_text(json.dumps(known, indent=1) + "\n")
    print(json.dumps(known, indent=1))


def fit(given: argparse.Namespace, head_class: Any, place: Workspace, traces: dict[str, Coordinates]) -> dict[str, Any]:
    """Fit a head, save it, and return what to write of it."""
    settings = dict(text.split("=", 1) for text in given.set)
    head = head_class(parse_settings(head_class.Config, settings), given.device)
    checkpoints = given.out / "checkpoints"
    head.checkpoints = checkpoints
    train = Part(place, traces, "train", given.chains)
    held = Part(place, traces, "validation", given.held)
    begun, seconds = time.perf_counter(), time.process_time()
    clock = Clock(given.out / "log.jsonl")
    head.fit(train.features, train.structures, (held.features, held.structures), given.seed, clock)
    head.save(given.out)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return {
        "head": given.head,
        "encoder": place.latest_cache().spec.encoder,
        "knobs": asdict(head.chosen),
        "chains": len(train.features),
        "validation": head.scores,
        "minutes": round((time.perf_counter() - begun) / 60, 1),
        "cpu_minutes": round((time.process_time() - seconds) / 60, 1),
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    main()
