"""Measures `--layers auto`: what it chooses, what that reaches beside the encoder's own layers and the last, its cost.

    python benchmarks/layers.py ../shared/data/cath --encoder bundled
    python benchmarks/layers.py ../shared/data/pfam/random_split --every 4 --encoder …/esm2_t6_8M_hemolysis

All layers are embedded into a workspace under `--work` (which resumes), compared and chosen on the validation part, a
tenth of train where the set has none, as `esmcls embed --layers auto` does it. Then the test part is asked once, by
`--heads` on the chosen layers, the encoder's own and the last: accuracy with its 95 % bootstrap interval, heads as
`esmcls fit` makes them. `--every N` keeps each N-th class alone, `--families N` so many. Times are of the processor:
comparing, and embedding the encoder's own layers, by the rate of a sample. Writes
`benchmarks/results/layers_<set>_<encoder>.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from families import every_nth_class, measure, read_dataset

from esmcls.cache.embed import plan_run
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Built, Dataset, build
from esmcls.files import temporary_folder
from esmcls.layer_choice.choice import LayerChoice, Layers, in_words
from esmcls.layer_choice.embed import choose_layers, whole_recipe
from esmcls.plain_values import write_json
from esmcls.workspace.embed_in_workspace import EmbeddingRecipe, embed_in_workspace
from esmcls.workspace.intake import Intake
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).parent / "results"


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="bundled")
    parser.add_argument("--heads", nargs="*", default=["knn", "linear"])
    parser.add_argument("--every", type=int, default=1, help="keep every N-th class alone")
    parser.add_argument("--families", type=int, default=0, help="keep so many classes of train alone, drawn by name")
    parser.add_argument("--work", type=Path, default=Path("esmcls-work/layers"))
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def read_set(folder: Path, every: int = 1, families: int = 0) -> Built:
    """Read a set, or some of its classes; where it has no validation part one is drawn, as `esmcls embed` does it."""
    dataset = every_nth_class(read_dataset(folder), every)
    return build((drawn_classes(dataset, families) if families else dataset).records())


def drawn_classes(dataset: Dataset, n: int) -> Dataset:
    """Return the rows of n classes of train: those whose names have the lowest sha256."""
    names = {label for label, part in zip(dataset.labels, dataset.parts, strict=True) if part == "train"}
    kept = set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:n])
    return dataset.take([row for row, label in enumerate(dataset.labels) if label in kept])


def embedding_seconds(recipe: EmbeddingRecipe, built: Built) -> float:
    """Estimate the processor seconds that embedding the whole set takes, by the rate of a sample."""
    encoder, spec = recipe.open(None, "cpu")
    began = time.process_time(), time.perf_counter()
    with temporary_folder("layers") as empty, EmbeddingCache.open(empty, spec) as cache:
        wall = plan_run(cache, encoder, built.dataset.sequences).seconds
    busy = (time.process_time() - began[0]) / (time.perf_counter() - began[1])  # others may share the cores
    return wall * min(1.0, busy)


def ask_test_part(
    place: Workspace, intake: Intake, recipe: EmbeddingRecipe, choice: LayerChoice, heads: list[str], seed: int
) -> list[dict[str, Any]]:
    """Measure heads on the chosen layers, the encoder's own and the last; their vectors are taken from those of all."""
    names: dict[Layers, list[str]] = {}
    for name, layers in (("chosen", choice.layers), ("encoder's own", choice.default), ("last", choice.last)):
        names.setdefault(layers, []).append(name)
    rows = []
    for layers, which in names.items():
        embed_in_workspace(place, intake, replace(recipe, layers=layers))
        with place.latest_cache() as cache:
            validation = choice.score_of(layers)
            print(
                f"{', '.join(which)}: {in_words(layers)}, {choice.measure} {validation:.4f} on validation", flush=True
            )
            measured = [measure(place.dataset, cache, head, seed) for head in heads]
            rows += [{"which": which, "compared_by": validation} | row for row in measured]
    return rows


def main() -> None:
    """Choose the layers of one encoder on one set, and ask the test part."""
    options = read_options()
    built = read_set(options.folder, options.every, options.families)
    name = options.folder.parent.name if options.folder.name == "random_split" else options.folder.name
    named = Path(options.encoder).name.removesuffix(".safetensors")
    sizes = {part: len(built.dataset.part(part)) for part in ("train", "validation", "test")}
    print(f"{name}: {sizes}, {len(set(built.dataset.labels)):,} classes", flush=True)
    place = Workspace.open(options.work / f"{name}-{options.every}-{options.families}-{named}", create=True)
    intake = Intake(built.dataset, built.report)
    _, recipe, _ = whole_recipe(place, EmbeddingRecipe(options.encoder))
    embed_in_workspace(place, intake, recipe)
    began = time.process_time()
    choice = choose_layers(place, options.encoder, seed=options.seed).choice
    comparing = time.process_time() - began
    print("\n".join(choice.lines()), flush=True)
    embedding = embedding_seconds(replace(recipe, layers=choice.default), built)
    print(f"{comparing:.0f} s of the processor to compare, {embedding:.0f} s to embed", flush=True)
    rows = ask_test_part(place, intake, recipe, choice, options.heads, options.seed)
    seconds = {"compare": comparing, "embed": embedding, "share": comparing / embedding}
    some = {"every": options.every, "families": options.families}
    about = {"set": name, "encoder": named, "parts": sizes, "seconds": seconds, **some}
    write_json(RESULTS / f"layers_{name}_{named}.json", about | {"choice": choice.to_json(), "rows": rows})


if __name__ == "__main__":
    main()
