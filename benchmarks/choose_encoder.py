"""Chooses the bundled encoder: short trainings of several shapes and objectives, compared on parts of train alone.

    python benchmarks/choose_encoder.py CORPUS --teacher ESM2_8M --sets ../shared/data/cath \
        ../shared/data/pfam/random_split --minutes 10 --trials shape-4x256 shape-3x320 …
    python benchmarks/choose_encoder.py --layers ENCODER.safetensors --sets …
    python benchmarks/choose_encoder.py --judge ENCODER.safetensors … --sets …

Every trial has the same time on one core, as that is what is scarce (or `--steps`, where the machine is shared and
time says nothing). An encoder is judged by `knn` (whitened within
classes) on a development part: of `--families` families with two training sequences or more, up to four each are drawn,
one half is asked for and the other searched. No test part is read. With `--layers` a finished encoder's layers are
compared instead; with `--judge` finished encoders, with their default layers in fp32, by `linear` and `align` (200
candidates), too. Prints a table and adds it to `benchmarks/results/choose_encoder.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from families import read_dataset

from esmcls.cache.features import Features
from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.weights import load_state
from esmcls.heads.alignment.align import AlignConfig, AlignHead
from esmcls.heads.layers.linear import LinearHead
from esmcls.heads.neighbours.knn import KNNHead
from esmcls.labels.labels import Labels
from esmcls.plain_values import write_json
from esmcls.pretraining.read_targets import read_residue_targets
from esmcls.pretraining.residue_targets import ResidueTargets
from esmcls.pretraining.run import PretrainConfig, pretrain
from esmcls.reading.readers import read_records

RESULTS = Path(__file__).parent / "results" / "choose_encoder.json"
TRIALS: dict[str, dict[str, Any]] = {
    "shape-4x256": {"layers": 4, "width": 256, "heads": 8},
    "shape-3x320": {"layers": 3, "width": 320, "heads": 10},
    "shape-5x240": {"layers": 5, "width": 240, "heads": 6},
    "shape-6x192": {"layers": 6, "width": 192, "heads": 6},
    "pooled-0": {"pooled_weight": 0.0},
    "pooled-2": {"pooled_weight": 2.0},
    "contrast-0.1": {"contrast_weight": 0.1},
    "contrast-0.3": {"contrast_weight": 0.3},
    "contrast-1": {"contrast_weight": 1.0},
    "masked-0.1": {"mlm_weight": 0.1},
    "structure-0.3": {"structure_weight": 0.3},
    "targets-0.3": {"structure_weight": 0.3, "profile_weight": 0.3},
    "aligned-0.1": {"aligned_weight": 0.1},
    "aligned-0.3": {"aligned_weight": 0.3},
    "targets-0.3-aligned-0.1": {"structure_weight": 0.3, "profile_weight": 0.3, "aligned_weight": 0.1},
    "targets-0.3-aligned-0.3": {"structure_weight": 0.3, "profile_weight": 0.3, "aligned_weight": 0.3},
    "contrast-only": {"contrast_weight": 1.0, "distill_weight": 0.0},
    "as-is": {},
}


@dataclass(frozen=True)
class Development:
    """Training sequences of one set: those that are searched and those that are asked for."""

    name: str
    sequences: list[str]
    labels: list[str]
    asked: np.ndarray[Any, Any]

    @classmethod
    def of(cls, folder: Path, families: int) -> Development:
        """Draw it from the train part of a set."""
        train = read_dataset(folder).part("train")
        rows = defaultdict(list)
        for row, label in enumerate(train.labels):
            rows[label].append(row)
        random = np.random.default_rng(0)
        several = sorted(label for label, members in rows.items() if len(members) > 1)
        chosen = [rows[str(label)][:4] for label in random.permutation(several)[:families]]
        kept = [row for members in chosen for row in members]
        asked = np.array([place < len(members) // 2 for members in chosen for place, _ in enumerate(members)])
        name = folder.parent.name if folder.name == "random_split" else folder.name
        return cls(name, [train.sequences[row] for row in kept], [train.labels[row] for row in kept], asked)

    def accuracy(self, vectors: np.ndarray[Any, Any]) -> float:
        """Return the share of asked sequences, in percent, whose family `knn` finds."""
        return self.right(KNNHead(), Features.from_arrays(vectors))

    def right(self, head: KNNHead | LinearHead | AlignHead, features: Features) -> float:
        """Return the share of asked sequences, in percent, whose family a head finds that is fitted on the others."""
        known, asked = np.flatnonzero(~self.asked), np.flatnonzero(self.asked)
        labels = Labels.from_names([self.labels[row] for row in known])
        head.fit(features.take(known), labels, None, 0)
        answers = head.top_k(features.take(asked), 1)[0][:, 0]
        truth = np.array([self.labels[row] for row in asked])
        return 100 * float(np.mean(np.array(head.classes)[answers] == truth))


def vectors_of(encoder: Path, layers: tuple[int, ...], sets: list[Development]) -> list[np.ndarray[Any, Any]]:
    """Embed the development parts."""
    opened = load_encoder(str(encoder), layers=layers)
    return [opened.encode(one.sequences).pooled["mean"] for one in sets]


def judged(encoder: Path, one: Development) -> dict[str, float]:
    """Return the share that `knn`, `linear` and `align` find with an encoder's default layers, in percent."""
    opened = load_encoder(str(encoder), precision="fp32")
    embedded = opened.encode(one.sequences, keep="residue")
    features = Features.from_arrays(embedded.pooled, one.sequences, residues=embedded.residues, encoder=lambda: opened)
    heads = {"knn": KNNHead(), "linear": LinearHead(), "align": AlignHead(AlignConfig(candidates=200))}
    return {f"{one.name} {name}": round(one.right(head, features), 1) for name, head in heads.items()}


def train(name: str, given: argparse.Namespace, corpus: list[Any], targets: ResidueTargets | None) -> Path:
    """Train one trial, unless its file is there."""
    output: Path = given.work / f"{name}.safetensors"
    if not output.exists():
        base: dict[str, Any] = {"seed": given.seed}
        if given.initial:
            shape = load_state(given.initial)[0]
            base |= {"layers": given.depth or shape.layers, "width": shape.width, "heads": shape.heads}
        if given.steps:
            base |= {"steps": given.steps, "warmup": given.steps // 5, "checkpoint_every": 10}
        config = PretrainConfig(**(base | TRIALS[name]))
        families = [record.label for record in corpus] if config.wants_families else None
        sequences = [record.protein.sequence for record in corpus]
        history = pretrain(
            sequences, output, config, teacher=given.teacher, families=families, initial=given.initial,
            targets=targets if config.wants_targets else None, minutes=None if given.steps else given.minutes,
            resume=True,
        )  # fmt: skip
        print(f"{name}: {history.steps_done} steps, {history.entries[-1]}", flush=True)
    return output


def candidate_layers(last: int) -> list[tuple[int, ...]]:
    """Return the layers to compare: the last one to four, and the one before the last."""
    return [(last,), (last - 1,), *(tuple(range(last - count + 1, last + 1)) for count in (2, 3, 4) if count <= last)]


def report(row: dict[str, Any]) -> None:
    """Print a row and keep it among the results."""
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    write_json(RESULTS, [*rows, row])


def main() -> None:
    """Run the trials that were asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("corpus", nargs="?")
    parser.add_argument("--teacher")
    parser.add_argument("--initial", help="Start every trial from this encoder.")
    parser.add_argument("--depth", type=int, help="Layers of it to keep.")
    parser.add_argument("--sets", nargs="+", type=Path, required=True)
    parser.add_argument("--families", type=int, default=800)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--steps", type=int, help="Steps of a trial, instead of minutes.")
    parser.add_argument("--residue-targets", type=Path)
    parser.add_argument("--residue-profiles", type=Path)
    parser.add_argument("--trials", nargs="+", choices=list(TRIALS), default=[])
    parser.add_argument("--layers", nargs="+", type=Path, default=[])
    parser.add_argument("--judge", nargs="+", type=Path, default=[])
    parser.add_argument("--work", type=Path, default=Path("esmcls-work/choose"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    sets = [Development.of(folder, given.families) for folder in given.sets]
    for one in sets:
        print(f"{one.name}: {len(one.sequences):,} sequences, {int(one.asked.sum()):,} asked", flush=True)
    corpus = list(read_records([given.corpus])) if given.trials else []
    targets = read_residue_targets(given.residue_targets, given.residue_profiles) if given.residue_targets else None
    for name in given.trials:
        encoder = train(name, given, corpus, targets)
        layers = load_state(encoder)[0].layers
        found = vectors_of(encoder, tuple(range(layers - 1, layers + 1)), sets)
        start = given.initial and Path(given.initial).stem
        length = {"steps": given.steps} if given.steps else {"minutes": given.minutes}
        row = {"trial": name, **length, "start": start, "time": time.strftime("%Y-%m-%d")}
        report(row | {one.name: round(one.accuracy(x), 1) for one, x in zip(sets, found, strict=True)})
    for encoder in given.judge:
        row = {"encoder": encoder.stem, "digest": load_encoder(str(encoder)).digest}
        report(row | {name: share for one in sets for name, share in judged(encoder, one).items()})
    for encoder in given.layers:
        shape = load_state(encoder)[0]
        everything = vectors_of(encoder, tuple(range(shape.layers + 1)), sets)  # side by side
        for layers in candidate_layers(shape.layers):
            columns = np.concatenate([np.arange(layer * shape.width, (layer + 1) * shape.width) for layer in layers])
            found = [vectors[:, columns] for vectors in everything]
            row = {"encoder": encoder.stem, "layers": ",".join(map(str, layers))}
            report(row | {one.name: round(one.accuracy(x), 1) for one, x in zip(sets, found, strict=True)})


if __name__ == "__main__":
    main()
