"""Aligns residue vectors: what was chosen on training proteins alone, how fast it is, and whether E-values hold.

    esmcls embed cath.csv -w cath                                # labelled; any encoder
    python benchmarks/alignment.py choose cath --queries 400     # components, offsets: on train, never on test
    python benchmarks/alignment.py coarse cath --draw 3          # fewer bits a component, fewer layers: as `choose`
    python benchmarks/alignment.py speed cath                    # cells a second and core, proteins a second
    python benchmarks/alignment.py evalues cath                  # of shuffled proteins and of families left out

`choose` asks for proteins drawn from the train part and searches the others; every setting meets the same candidates.
`speed` uses one thread. `evalues` leaves a tenth of the families out of the search. Each prints a table and adds it,
with the encoder and the processor, to `benchmarks/results/alignment.json`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from embed_speed import processor

from esmcls.cache.features import Features
from esmcls.heads.alignment.align import AlignConfig, AlignHead
from esmcls.heads.alignment.residues.aligner import Aligner, ResidueConfig, sampled_residues
from esmcls.heads.alignment.residues.finder import ResidueFinder
from esmcls.heads.alignment.residues.reduction import Codes, Reduction
from esmcls.heads.alignment.residues.scoring import align, scores
from esmcls.heads.alignment.residues.significance import Significance
from esmcls.heads.alignment.residues.store import ResiduePool, Residues
from esmcls.heads.alignment.search import Limits, open_engine, search
from esmcls.heads.neighbours.finder import Finder, whitening_of
from esmcls.heads.whitening import WithinClass
from esmcls.labels.labels import Labels
from esmcls.plain_values import read_json, write_json
from esmcls.types import Indices, Vectors
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).parent / "results" / "alignment.json"
SHRINKAGE = 0.1
COARSER: list[tuple[tuple[int, ...] | None, int, float]] = [
    (None, 8, 0.0),
    (None, 4, 0.0),
    (None, 4, 0.35),
    (None, 3, 0.3),
    (None, 2, 0.2),
    ((4,), 8, 0.0),
    ((3,), 8, 0.0),
    ((2,), 8, 0.0),
    ((3, 4), 8, 0.0),
]
"""Layers, all if none are named; bits; the largest number in a vector of length 1, if 0 the largest of the protein."""
WIDE, PAIRS, NEIGHBOURS = 256, 3000, 60
"""Components that the best are chosen of, pairs of relatives that are aligned for it, neighbours of a protein."""
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
    """Return the share of queries whose best alignment is with a member of their family, by setting.

    Beside each, how far it is from the first components and offset, with the standard error of paired queries.
    """
    x, labels = train_part(workspace, options.proteins)
    drawn = np.random.default_rng(options.draw).permutation(len(x))
    queries, searched = np.sort(drawn[: options.queries]), np.sort(drawn[options.queries :])
    asked, truth = x.take(queries), labels.take(queries)
    targets, families = x.take(searched), labels.take(searched)
    means = nearest_means(targets, families)
    vectors = asked.vectors()
    nearest = means.whole(vectors, max(options.candidates))[1]
    hits = homologues(asked, targets, options.mmseqs)
    hits = np.where(hits >= 0, hits, nearest[:, :1])  # where there is no further hit: one that is aligned anyway
    rows = [{"nearest mean vector, right %": percent(families.codes[nearest[:, 0]] == truth.codes)}]
    first: dict[tuple[int, int, str], npt.NDArray[np.bool_]] = {}
    for components, contrast in itertools.product(options.components, (False, True)[: 1 + options.contrast]):
        aligner = Aligner(ResidueConfig(components=components), targets, seed=0)
        if contrast:
            aligner.pool = ResiduePool(contrasted(targets, families, means, components))
        aligner.collect(asked)
        aligner.significance = NO_SIGNIFICANCE
        for offset in options.offsets:
            aligner.config = ResidueConfig(components=components, offset=offset)
            finder = aligner.finder(targets, means)
            begun = time.process_time()
            nearness = finder._nearness(finder._codes_of(asked), np.concatenate([nearest, hits], 1))
            seconds = time.process_time() - begun
            own, found = nearness[:, : nearest.shape[1]], nearness[:, nearest.shape[1] :]
            for candidates, extra, by_length in itertools.product(
                options.candidates, sorted({0, options.mmseqs}), ("yes", "no")[: 1 + options.raw]
            ):
                among = np.concatenate([nearest[:, :candidates], hits[:, :extra]], 1)
                score = np.concatenate([own[:, :candidates], found[:, :extra]], 1)
                if by_length == "no":
                    score = score * np.sqrt(asked.lengths[:, None] * targets.lengths[among])
                right = families.codes[among[np.arange(len(among)), score.argmax(1)]] == truth.codes
                against = right.astype(float) - first.setdefault((candidates, extra, by_length), right)
                about = {"components": components, "contrasted": contrast, "offset": offset, "candidates": candidates}
                about |= {"MMseqs2's hits": extra, "over length": by_length, "right %": percent(right)}
                about |= {"better by": percent(against), "standard error": percent(against.std() / len(against) ** 0.5)}
                rows.append(about | {"seconds": round(seconds, 1)})
    return rows


@dataclass(frozen=True, eq=False)
class Coarse(Reduction):
    """A reduction of some columns alone, to fewer bits a component; `clipped` is the largest number that is told."""

    columns: Indices
    bits: int = 8
    clipped: float = 0.0

    def codes(self, residues: Vectors) -> Codes:
        """Return the residues of one protein, int8 (n, components), in numbers that fit into so many bits."""
        whole = super().codes(residues[:, self.columns])
        most = 2 ** (self.bits - 1) - 1
        if self.bits == 8:
            return whole
        longest = np.linalg.norm(whole.astype(np.float32), axis=1).max(initial=1)  # that of a vector of length 1
        factor = most / (self.clipped * longest) if self.clipped else most / 127
        return np.clip(np.rint(whole * factor), -most, most).astype(np.int8)


def coarse(workspace: Workspace, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what fewer bits and fewer layers do to the best alignment, each among the same candidates."""
    x, labels = train_part(workspace, options.proteins)
    drawn = np.random.default_rng(options.draw).permutation(len(x))
    queries, searched = np.sort(drawn[: options.queries]), np.sort(drawn[options.queries :])
    asked, truth = x.take(queries), labels.take(queries)
    targets, families = x.take(searched), labels.take(searched)
    if options.validation:
        held = workspace.dataset.part("validation")
        asked, truth = (
            Features.from_cache(workspace.latest_cache(), held),
            Labels.from_names(held.labels, labels.classes),
        )
        targets, families = x, labels
    means = nearest_means(targets, families)
    nearest = means.whole(asked.vectors(), max(options.candidates))[1]
    needed = np.unique(nearest)
    layers = x.spec.layers if x.spec is not None else ()
    width = x.width // max(1, len(layers))
    sample = sampled_residues(targets, 0)
    pools = {}
    for chosen, bits, clipped in COARSER:
        kept = [layer for layer in layers if chosen is None or layer in chosen]
        columns = np.concatenate([layers.index(layer) * width + np.arange(width) for layer in kept])
        fitted = Reduction.of(sample[:, columns], ResidueConfig.components)
        about = {"layers": kept, "bits": bits, "clipped": clipped}
        pools[json.dumps(about)] = ResiduePool(Coarse(fitted.mean, fitted.matrix, columns, bits, clipped))
    few = targets.take(needed)
    for part in (asked, few):
        for sequence, vectors in zip(part.sequences, part.residues(), strict=True):
            for pool in pools.values():
                if pool.missing([sequence]):
                    pool.add([sequence], [vectors])
    rows, first = [], {}
    scheme = ResidueConfig().scheme
    for about, pool in pools.items():
        finder = ResidueFinder(
            means, "mean", pool.of(few.sequences), few.sequences, pool.reduction, scheme, options.candidates[-1]
        )
        own = pool.of(asked.sequences)
        codes = map(own.of, range(len(asked)))
        nearness = finder._nearness(codes, np.searchsorted(needed, nearest))
        for candidates in options.candidates:
            best = nearest[np.arange(len(nearest)), nearness[:, :candidates].argmax(1)]
            right = families.codes[best] == truth.codes
            against = right.astype(float) - first.setdefault(candidates, right)
            result = {"candidates": candidates, "right %": percent(right), "better by": percent(against)}
            rows.append(json.loads(about) | result | {"standard error": percent(against.std() / len(against) ** 0.5)})
    return rows


def percent(shares: npt.ArrayLike) -> float:
    """Return the mean of shares in percent."""
    return round(100 * float(np.mean(shares)), 2)


def homologues(asked: Features, targets: Features, most: int) -> Indices:
    """Return the best hits of MMseqs2 for each protein, (n, most); -1 where there is none."""
    if not most:
        return np.zeros((len(asked), 0), dtype=np.int64)
    return search(open_engine("mmseqs"), asked.sequences, targets.sequences, Limits(), most).rows


def contrasted(x: Features, labels: Labels, means: Finder, components: int) -> Reduction:
    """Return components that tell relatives from others, of WIDE principal ones; residues are aligned on half of these.

    A component is worth how much larger the mean product of aligned residues is in a family than between a protein and
    the best aligned of its neighbours from other families; the best components are kept, each times the root of that.
    """
    generator = np.random.default_rng(5)
    wide = Reduction.of(sampled_residues(x, 0), WIDE)
    scheme = ResidueConfig().scheme
    members = [np.flatnonzero(labels.codes == code) for code in range(labels.n_classes)]
    pairs = [
        generator.choice(family, 2, replace=False)
        for family in (members[code] for code in generator.integers(0, len(members), 2 * PAIRS))
        if len(family) > 1
    ][:PAIRS]
    asked = generator.permutation(len(x))[: PAIRS // 2]
    near = means.whole(x.vectors()[asked], NEIGHBOURS)[1]
    rows = np.unique(np.concatenate([np.ravel(pairs), asked, near.ravel()]))
    codes = dict(zip(rows.tolist(), map(wide.codes, x.take(rows).residues()), strict=True))
    strangers = []
    for row, others in zip(asked.tolist(), near.tolist(), strict=True):
        others = [other for other in others if labels.codes[other] != labels.codes[row]]
        lengths = np.array([len(codes[other]) for other in others])
        stacked = Residues(np.concatenate([codes[other] for other in others]), np.cumsum(lengths) - lengths, lengths)
        narrow = replace(stacked, codes=np.ascontiguousarray(stacked.codes[:, : WIDE // 2]))
        query = np.ascontiguousarray(codes[row][:, : WIDE // 2])
        best = np.argsort(-scores(query, narrow, np.arange(len(others)), scheme) / np.sqrt(lengths))
        strangers += [(row, others[place]) for place in best[:2].tolist()]

    def mean_product(among: Iterable[tuple[int, int]]) -> npt.NDArray[np.float64]:
        products = []
        for row, other in among:
            one, two = codes[row], codes[other]
            narrow = [np.ascontiguousarray(both[:, : WIDE // 2]) for both in (one, two)]
            aligned = align(narrow[0], narrow[1], scheme)
            of_one, of_two = one[aligned.query].astype(float), two[aligned.target].astype(float)
            norms = np.linalg.norm(of_one, axis=1) * np.linalg.norm(of_two, axis=1)
            products.append(of_one * of_two / np.maximum(norms, 1)[:, None])
        return np.asarray(np.concatenate(products).mean(0))

    worth = mean_product((int(row), int(other)) for row, other in pairs) - mean_product(strangers)
    best = np.argsort(-worth)[:components]
    return Reduction(wide.mean, wide.matrix[:, best] * np.sqrt(np.maximum(worth[best], 0)).astype(np.float32))


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
    """Run one of the four and keep what it prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("choose", "coarse", "speed", "evalues"))
    parser.add_argument("workspace")
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--proteins", type=int, default=0, help="drawn of the train part; 0 for all")
    parser.add_argument("--components", type=int, nargs="+", default=[128])
    parser.add_argument("--offsets", type=float, nargs="+", default=[1.0])
    parser.add_argument("--draw", type=int, default=1, help="seed that the queries are drawn by")
    parser.add_argument("--raw", action="store_true", help="choose: scores as they are, too")
    parser.add_argument(
        "--contrast", action="store_true", help="choose: components by contrast of aligned residues, too"
    )
    parser.add_argument("--mmseqs", type=int, default=0, help="choose: so many hits of MMseqs2 as candidates, too")
    parser.add_argument("--validation", action="store_true", help="coarse: ask for the validation part")
    parser.add_argument("--candidates", type=int, nargs="+", default=[50, 100, 200, 400])
    options = parser.parse_args()
    workspace = Workspace.open(options.workspace)
    rows = {"choose": choose, "coarse": coarse, "speed": speed, "evalues": evalues}[options.what](workspace, options)
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
