"""Aligns residue vectors: what was chosen on training proteins alone, how fast it is, and whether E-values hold.

    esmcls embed cath.csv -w cath                                # labelled; any encoder
    python benchmarks/alignment.py choose cath --queries 400     # components, offsets, lengths: on train, never on test
    python benchmarks/alignment.py speed cath                    # cells a second and core, proteins a second
    python benchmarks/alignment.py evalues cath                  # of shuffled proteins and of families left out

`choose` asks for proteins drawn from the train part and searches the others; every setting meets the same candidates.
`speed` uses one thread. `evalues` leaves a tenth of the families out of the search. Each prints a table and adds it,
with the encoder and the processor, to `benchmarks/results/alignment.json`.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embed_speed import processor

from esmcls.cache.features import Features
from esmcls.files import read_json, write_json
from esmcls.heads.alignment.align import AlignConfig, AlignHead
from esmcls.heads.alignment.residues.aligner import Aligner, ResidueConfig
from esmcls.heads.alignment.residues.scoring import scores
from esmcls.heads.alignment.residues.significance import Significance
from esmcls.heads.neighbours.finder import Finder, whitening_of
from esmcls.heads.whitening import WithinClass
from esmcls.labels.labels import Labels
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).parent / "results" / "alignment.json"
SHRINKAGE = 0.1
NO_SIGNIFICANCE = Significance(0, 0, 1)
"""Where E-values are not asked for."""


def train_part(workspace: Workspace, most: int) -> tuple[Features, Labels]:
    """Return the training proteins of a workspace, of families with two members or more, and their families."""
    train = workspace.dataset.part("train")
    x = Features.from_cache(workspace.latest_cache(), train)
    labels = Labels.from_names(train.labels)
    rows = np.flatnonzero(labels.counts()[labels.codes] > 1)
    rows = np.sort(np.random.default_rng(0).permutation(rows)[: most or None])
    return x.take(rows), labels.take(rows)


def nearest_means(x: Features, labels: Labels) -> Finder:
    """Return the search among whitened mean vectors."""
    within = WithinClass.of(x.vectors(), labels.codes, labels.n_classes)
    return Finder.of(x.vectors(), list(x.ids), whitening_of(x.vectors(), within, SHRINKAGE), "cosine", "auto")


def choose(workspace: Workspace, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the share of queries whose best alignment is with a member of their family, by setting."""
    x, labels = train_part(workspace, options.proteins)
    drawn = np.random.default_rng(1).permutation(len(x))
    queries, searched = np.sort(drawn[: options.queries]), np.sort(drawn[options.queries :])
    asked, truth = x.take(queries), labels.take(queries)
    targets, families = x.take(searched), labels.take(searched)
    means = nearest_means(targets, families)
    rows = []
    for components in options.components:
        aligner = Aligner(ResidueConfig(components=components), targets, seed=0)
        aligner.collect(asked)
        aligner.significance = NO_SIGNIFICANCE
        for offset in options.offsets:
            aligner.config = ResidueConfig(components=components, offset=offset)
            begun = time.perf_counter()
            nearness, hits = aligner.finder(targets, means).with_candidates(max(options.candidates)).aligned(asked)
            seconds = time.perf_counter() - begun
            raw = nearness * np.sqrt(asked.lengths[:, None] * targets.lengths[hits])
            for candidates, (by_length, score) in itertools.product(
                options.candidates, {"yes": nearness, "no": raw}.items()
            ):
                best = hits[np.arange(len(hits)), score[:, :candidates].argmax(1)]
                right = (families.codes[best] == truth.codes).mean()
                rows.append(
                    {"components": components, "offset": offset, "candidates": candidates, "over length": by_length}
                    | {"right %": round(100 * float(right), 2), "seconds": round(seconds, 1)}
                )
    by_mean = (families.codes[hits[:, 0]] == truth.codes).mean()
    return [{"nearest mean vector, right %": round(100 * float(by_mean), 2)}, *rows]


def speed(workspace: Workspace, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return cells a second and proteins a second of one core, at 100 candidates."""
    x, labels = train_part(workspace, options.proteins or 3000)
    torch.set_num_threads(1)
    aligner = Aligner(ResidueConfig(), x, seed=0)
    aligner.significance = NO_SIGNIFICANCE
    finder = aligner.finder(x, nearest_means(x, labels))
    rows = finder.nearest_means.whole(x.vectors()[: options.queries], 100)[1]
    cells = sum(
        int(finder.residues.lengths[row] * finder.residues.lengths[hits].sum()) for row, hits in enumerate(rows)
    )
    scores(finder.residues.of(0), finder.residues, rows[0], finder.scheme)  # compiles
    begun = time.process_time()
    for row, hits in enumerate(rows):
        scores(finder.residues.of(row), finder.residues, hits, finder.scheme)
    seconds = time.process_time() - begun
    size = finder.residues.codes.nbytes / len(x)
    return [
        {"cells a second": f"{cells / seconds:.3g}", "proteins a second": round(len(rows) / seconds, 1)}
        | {"bytes a protein": round(size), "residues a protein": round(float(x.lengths.mean()), 1)}
    ]


def evalues(workspace: Workspace, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return how many shuffled proteins, and proteins of families left out, are below an E-value."""
    x, labels = train_part(workspace, options.proteins)
    left_out = np.random.default_rng(2).permutation(labels.n_classes)[: labels.n_classes // 10]
    strange = np.isin(labels.codes, left_out)
    generator = np.random.default_rng(3)
    strangers = x.take(np.sort(generator.permutation(np.flatnonzero(strange))[: options.queries]))
    known = np.flatnonzero(~strange)
    asked = np.sort(generator.permutation(known)[: options.queries])
    searched = np.setdiff1d(known, asked)
    head = AlignHead(AlignConfig(candidates=200))
    head.refit(x.take(searched), Labels.from_names([labels.classes[code] for code in labels.codes[searched]]))
    shuffled = ["".join(generator.permutation(list(x.sequences[row]))) for row in asked]
    found = {
        "shuffled": head.nearest(x.embedded(shuffled))[0],
        "of families left out": head.nearest(strangers)[0],
        "of known families": head.nearest(x.take(asked))[0],
    }
    return [
        {"proteins": name, "n": len(numbers)}
        | {f"E < {level:g}, %": round(100 * float((numbers < level).mean()), 2) for level in (1e-3, 1e-2, 0.1)}
        for name, numbers in found.items()
    ]


def main() -> None:
    """Run one of the three and keep what it prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("choose", "speed", "evalues"))
    parser.add_argument("workspace")
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--proteins", type=int, default=0, help="drawn of the train part; 0 for all")
    parser.add_argument("--components", type=int, nargs="+", default=[128])
    parser.add_argument("--offsets", type=float, nargs="+", default=[1.0])
    parser.add_argument("--candidates", type=int, nargs="+", default=[50, 100, 200, 400])
    options = parser.parse_args()
    workspace = Workspace.open(options.workspace)
    rows = {"choose": choose, "speed": speed, "evalues": evalues}[options.what](workspace, options)
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    kept = read_json(RESULTS) if RESULTS.exists() else []
    spec = workspace.latest_cache().spec
    about = {
        "what": options.what,
        "set": workspace.folder.name,
        "encoder": spec.short_name,
        "layers": list(spec.layers),
    }
    write_json(RESULTS, [*kept, about | {"processor": processor(), "rows": rows}])


if __name__ == "__main__":
    main()
