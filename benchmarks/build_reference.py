"""Build `data/reference.safetensors`, what `esmcls annotate` asks: UniProt proteins of 2014 and their terms.

    python benchmarks/build_reference.py SHARED_DATA --work FOLDER --clusters clusters_cluster.tsv

SHARED_DATA holds `go/train_{sequences.fasta,terms.tsv}.gz` and `go/go-201401.obo.gz`; the table is that of `mmseqs
easy-cluster train_sequences.fasta clusters tmp --min-seq-id 0.3 -c 0.6`. Nothing of go's test part is read. Whole
clusters are a validation part, on which all choices are made; then what was chosen is fitted on all. `--vectors
WORKSPACE` takes vectors that a workspace has of the proteins, which is only read, so that they need not be embedded
again. What was fitted in FOLDER before is taken. Writes `benchmarks/results/reference.json`, too.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.encoders.encoder import Embedded
from esmcls.heads.neighbours.term_knn import TermKNNConfig, TermKNNHead
from esmcls.models.folder import load_model, read_manifest
from esmcls.models.manifest import versions
from esmcls.plain_values import read_json, write_json
from esmcls.reading.inputs import Inputs
from esmcls.reference.build import (
    ALIGNMENT,
    BOTH,
    SETTINGS,
    VECTORS,
    Built,
    build_reference,
    finish_reference,
    read_inputs,
)
from esmcls.reference.packed import pack
from esmcls.tasks.kinds import task_of
from esmcls.workspace.embed_in_workspace import EmbeddingRecipe, embed_in_workspace
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).parent / "results" / "reference.json"
SOURCE = "UniProtKB/Swiss-Prot 2014_01 and GO 2014-01 (CC BY 4.0)"
COMPONENTS = (64, 96, 128, 192, 0)
"""That are tried: 0 are all 768."""
EVERY = 4
"""Of the validation proteins that tell how many numbers to keep of a vector, one is asked about."""
CHOSEN = 128
"""The most that leave the file below 6 MB."""


def prepare(shared: Path, work: Path, clusters: Path, vectors: Path | None) -> Workspace:
    """Make a workspace of go's training proteins, embedded."""
    folder = shared / "go"
    files = ((folder / "train_sequences.fasta.gz",), (), (), (folder / "train_terms.tsv.gz",), clusters)
    workspace = Workspace.open(work / "workspace", create=True)
    intake = read_inputs(Inputs(*files, obo=folder / "go-201401.obo.gz"))
    recipe = EmbeddingRecipe("bundled")
    if vectors is not None:
        take_vectors(workspace, vectors, intake.sequences)
        recipe = replace(recipe, precision=workspace.caches[-1].spec.precision)
    print(*embed_in_workspace(workspace, intake, recipe).lines(), sep="\n")
    return workspace


def take_vectors(workspace: Workspace, other: Path, sequences: Iterable[str]) -> None:
    """Take over the mean vectors that the latest cache of another workspace has."""
    wide = Workspace.open(other).latest_cache()
    spec: EmbeddingSpec = replace(wide.spec, poolings=("mean",))
    distinct = list(dict.fromkeys(sequences))
    with wide, workspace.cache_for(spec) as cache:
        lacking = [distinct[row] for row in cache.missing(distinct)]
        known = [lacking[row] for row in sorted(set(range(len(lacking))) - set(wide.missing(lacking)))]
        if known:
            seen = np.array([min(len(sequence), 1022) for sequence in known], dtype=np.int64)
            table = {"mean": np.asarray(wide.read(known, "mean"))}
            cache.append(known, Embedded(table, np.ones(len(known), dtype=np.int64), seen))


def by_components(workspace: Workspace) -> dict[str, float]:
    """Return the mean Fmax of nearest neighbours on a quarter of validation by how many numbers a vector keeps."""
    task, dataset, found = task_of(workspace), workspace.dataset, dict[str, float]()
    train, held = dataset.part("train"), dataset.part("validation")
    held = held.take(list(range(0, len(held), EVERY)))
    labels = task.labels(train)
    with workspace.latest_cache() as cache:
        x, rows = Features.from_cache(cache, train), Features.from_cache(cache, held)
        for components in COMPONENTS:
            head = TermKNNHead(TermKNNConfig(shrinkage=0.01, components=components, k=20, background=0.1))
            head.fit(x, labels, (rows, task.labels(held, labels.classes)))
            found[str(components or "all")] = round(head.scores["fmax"], 4)
            print(f"{components or 'all'} components: Fmax {head.scores['fmax']:.4f}", flush=True)
    return found


def build(workspace: Workspace, work: Path, output: Path) -> tuple[Built, Built]:
    """Build both models, of vectors and alignment and of vectors alone, and pack them."""
    settings = {**SETTINGS, VECTORS: {"components": CHOSEN}}
    if not workspace.model_folder(BOTH).exists():
        both = build_reference(workspace, work / "annotate", source=SOURCE, settings=settings, aligned=True)
    else:
        both = finish_reference(workspace, load_model(workspace.find_model(BOTH)), work / "annotate", source=SOURCE)
    vectors = load_model(workspace.find_model(VECTORS))
    alone = finish_reference(workspace, vectors, work / "annotate-vectors", source=SOURCE)
    pack([work / "annotate", work / "annotate-vectors"], output)
    return both, alone


def main() -> None:
    """Prepare, choose, build, and write down what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--clusters", type=Path, required=True)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("data/reference.safetensors"))
    options = parser.parse_args()
    if (options.work / "workspace").exists():
        workspace = Workspace.open(options.work / "workspace")
    else:
        workspace = prepare(options.shared, options.work, options.clusters, options.vectors)
    kept = options.work / "components.json"
    if not kept.exists():
        write_json(kept, by_components(workspace))
    tried = read_json(kept)
    both, alone = build(workspace, options.work, options.output)
    names = (VECTORS, ALIGNMENT, BOTH)
    found = {name: read_manifest(workspace.model_folder(name)).validation for name in names}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    about = {
        "command": shlex.join(["python", "benchmarks/build_reference.py", *sys.argv[1:]]),
        "commit": commit,
        "versions": versions(),
        "parts": {part: len(workspace.dataset.part(part)) for part in ("train", "validation", "test")},
        "components_fmax": tried,
        "components": CHOSEN,
        "scope": both.scope.to_json(),
        "scope_of_vectors_alone": alone.scope.to_json(),
        "validation": found,
        "bytes": options.output.stat().st_size,
    }
    write_json(RESULTS, about)
    print(f"{both}\n{alone}\n{options.output}: {options.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
