"""Measures the heads on families that were held out: accuracy and macro recall on the test part, with intervals.

    python benchmarks/families.py ../shared/data/cath --encoder ../shared/weights/esm2_t6_8M_hemolysis --layers 3,4,5
    python benchmarks/families.py ../shared/data/pfam/random_split --encoder … --layers 3,4,5

    python benchmarks/families.py ../shared/data/function5000 --every 5 --encoder bundled

The folder is a `random_split` folder of CSV shards, or holds `train.fasta.gz`, `test.fasta.gz` and `*_labels.tsv.gz`.
An encoder (the one named, then `kmer`) is embedded into a cache under `--work`, each head is fitted on train. Where the
set has no validation part the heads hold out a tenth of train for their choices and then fit on all of it. The test
part is read by `evaluate` alone. `--every N` keeps each N-th class alone; the encoder `random` has the bundled one's
shape and random weights. Writes `benchmarks/results/families_<set>_<encoder>.json`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from esmcls.cache.embed import embed_into
from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset, build
from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.model import ESM2
from esmcls.encoders.sources.places import bundled_path
from esmcls.encoders.weights import default_layers, load_state, save_state
from esmcls.models.fit import fit_dataset
from esmcls.plain_values import write_json
from esmcls.reading.readers import read_records
from esmcls.tasks.one_label.evaluation import evaluate
from esmcls.tasks.one_label.task import OneLabel

RESULTS = Path(__file__).parent / "results"
SHOWN = ("accuracy", "macro_recall", "macro_f1", "top_5")
PUBLISHED = {"cath": {"MMseqs2 14": 74.3}, "pfam": {"MMseqs2 14": 97.86}}
"""Top hit on the same test parts, percent."""
TARGETS = {
    ("cath", "esm2_t6_8M_hemolysis"): 65.0,
    ("pfam", "esm2_t6_8M_hemolysis"): 96.0,
    ("cath", "bundled"): 35.5,
    ("pfam", "bundled"): 90.9,
}
"""Accuracy that the better head is to reach, percent, by set and encoder."""


def read_dataset(folder: Path) -> Dataset:
    """Read a set; a validation part that was not given goes back to train."""
    tables = sorted(folder.glob("*_labels.tsv.gz"))
    sources = sorted(folder.glob("*.fasta.gz")) or [folder]
    built = build(read_records(sources, labels=tables or None))
    dataset, drawn = built.dataset, built.report.drawn_validation
    parts = ["train" if part == "validation" and drawn else part for part in dataset.parts]
    return replace(dataset, parts=parts)


def every_nth_class(dataset: Dataset, n: int) -> Dataset:
    """Return the rows of each n-th class, by name."""
    kept = set(sorted(set(dataset.labels))[::n])
    return dataset.take([row for row, label in enumerate(dataset.labels) if label in kept])


def random_encoder(folder: Path) -> str:
    """Write an encoder of the bundled one's shape and random weights."""
    config, _ = load_state(bundled_path())
    torch.manual_seed(0)
    path = folder / "random.safetensors"
    save_state(path, config, ESM2(config).state_dict(), torch.float16, layers=default_layers(bundled_path()))
    return str(path)


def embedded(dataset: Dataset, work: Path, name: str, layers: tuple[int, ...] | None) -> EmbeddingCache:
    """Embed what the cache of this encoder does not hold yet."""
    encoder = load_encoder(name, layers=layers, long="full" if name == "kmer" else "balanced")
    spec = EmbeddingSpec.of(encoder)
    cache = EmbeddingCache.open(work / spec.key(), spec)
    began = time.perf_counter()
    report = embed_into(cache, encoder, dataset.sequences)
    print(f"{name}: {report.embedded:,} embedded in {time.perf_counter() - began:.0f} s ({spec.precision})", flush=True)
    return cache


def measure(dataset: Dataset, cache: EmbeddingCache, head: str, seed: int) -> dict[str, Any]:
    """Fit one head and evaluate it on the test part."""
    began = time.perf_counter()
    fit = fit_dataset(OneLabel(), dataset, cache, head, seed=seed)
    seconds = time.perf_counter() - began
    test = dataset.part("test")
    model = SimpleNamespace(head=fit.head, class_counts=fit.manifest.class_counts)
    found = evaluate(model, test, Features.from_cache(cache, test))
    shown = {name: found.metrics[name] for name in SHOWN}
    text = "  ".join(f"{name} {100 * x.value:.2f} ({100 * x.low:.2f}–{100 * x.high:.2f})" for name, x in shown.items())
    print(f"{cache.spec.encoder.rsplit('/', 1)[-1]:24} {head:8} {text}  fit {seconds:.0f} s", flush=True)
    return {
        "encoder": cache.spec.encoder.rsplit("/", 1)[-1],
        "layers": list(cache.spec.layers),
        "precision": cache.spec.precision,
        "head": head,
        "config": fit.manifest.config,
        "chosen_on": fit.manifest.validation,
        "test": {name: vars(interval) for name, interval in shown.items()},
        "tiers": [vars(tier) for tier in found.tiers],
    }


def main() -> None:
    """Measure every encoder with every head on one set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="bundled")
    parser.add_argument("--layers", type=lambda text: tuple(map(int, text.split(","))))
    parser.add_argument("--heads", nargs="*", default=["linear", "knn"])
    parser.add_argument("--every", type=int, default=1, help="keep every N-th class alone")
    parser.add_argument("--alone", action="store_true", help="without kmer")
    parser.add_argument("--work", type=Path, default=Path("esmcls-work/families"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dataset = every_nth_class(read_dataset(options.folder), options.every)
    name = options.folder.parent.name if options.folder.name == "random_split" else options.folder.name
    sizes = {part: len(dataset.part(part)) for part in ("train", "validation", "test")}
    print(f"{name}: {sizes}, {len(set(dataset.part('train').labels)):,} classes", flush=True)
    options.work.mkdir(parents=True, exist_ok=True)
    opened = random_encoder(options.work) if options.encoder == "random" else options.encoder
    rows = []
    for encoder, layers in [(opened, options.layers), ("kmer", None)][: 2 - options.alone]:
        with embedded(dataset, options.work, encoder, layers) as cache:
            rows += [measure(dataset, cache, head, options.seed) for head in options.heads]
    named = Path(options.encoder).name.removesuffix(".safetensors")
    best, target = max(100 * row["test"]["accuracy"]["value"] for row in rows), TARGETS.get((name, named))
    verdict = None if target is None else "reached" if best >= target else "missed"
    print(f"best {best:.2f}; target {target}: {verdict}; published {PUBLISHED.get(name)}")
    summary = {"set": name, "every": options.every, "parts": sizes, "published": PUBLISHED.get(name), "target": target}
    RESULTS.mkdir(exist_ok=True)
    file = f"families_{name}_{named}.json"
    write_json(RESULTS / file, summary | {"best": round(best, 2), "verdict": verdict, "rows": rows})


if __name__ == "__main__":
    main()
