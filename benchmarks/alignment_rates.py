"""Measures how many proteins a second `align` searches for, beside `mmseqs search` and `hmmscan`, all on one core.

    esmcls embed cath.csv -w cath --residues          # labelled; any encoder
    python benchmarks/alignment_rates.py cath --queries 300

Proteins of the validation part are searched for among those of the train part: by `align` with the 100 nearest mean
vectors, vectors of the queries being there, and with the encoder's time; by MMseqs2 as the head `homology` asks it,
and with its own default sensitivity; by HMMER's `hmmscan` among one profile a family, as the head `profile` builds it
with `subfamily=0`. Profiles are built of every N-th family alone (`--every N`), and HMMER's rate is divided by N: it
compares a protein with one profile after another. What is made of the train part once (residues, databases, profiles)
is made before and not counted. Each is asked for one protein first: the rate is that of the others, without what a
search begins with. Seconds are those of the processor, that of programs that were started included. Adds to
`benchmarks/results/alignment_rates.json`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alignment import NO_SIGNIFICANCE, nearest_means
from embed_speed import processor
from pyhmmer import easel, hmmer, plan7

from esmcls.cache.features import Features
from esmcls.files import temporary_folder
from esmcls.heads.alignment.profile import ProfileConfig, ProfileHead
from esmcls.heads.alignment.profiles.models import Profile
from esmcls.heads.alignment.residues.aligner import Aligner, ResidueConfig
from esmcls.heads.alignment.residues.finder import ResidueFinder
from esmcls.heads.alignment.residues.store import Residues
from esmcls.heads.alignment.search import Limits, MMseqs, open_engine
from esmcls.labels.labels import Labels
from esmcls.plain_values import read_json, write_json
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).parent / "results" / "alignment_rates.json"
CANDIDATES = 100
DEFAULT_SENSITIVITY = 5.7
SEARCHERS = ("align", "mmseqs", "hmmscan")

Ask = Callable[[int], object]
"""Searches for so many of the queries."""


def processor_seconds(ask: Callable[[], object]) -> float:
    """Return the seconds of the processor that a call takes, those of ended children included."""
    before = os.times()
    ask()
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


def rate(searcher: str, ask: Ask, queries: int, megabytes: float) -> dict[str, Any]:
    """Return how long one query takes, and how many more of them a second does."""
    first = processor_seconds(lambda: ask(1))
    whole = processor_seconds(lambda: ask(queries))
    row = {
        "searcher": searcher,
        "first query, s": round(first, 2),
        "queries a second": round((queries - 1) / max(whole - first, 1e-3), 2),
        "searched, MB": round(megabytes, 1),
    }
    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return row


def finder_of(x: Features, labels: Labels, asked: Features) -> ResidueFinder:
    """Return the search of `align` among all rows, with the residues of those alone that the queries are aligned with.

    So that not all residues of a large cache are read for it: what is measured is the same.
    """
    means = nearest_means(x, labels)
    needed = np.unique(means.whole(asked.vectors(), CANDIDATES)[1])
    aligner = Aligner(ResidueConfig(candidates=CANDIDATES), x, seed=0)
    aligner.significance = NO_SIGNIFICANCE
    few = x.take(needed)
    aligner.collect(few)
    known = aligner.pool.of(few.sequences)
    starts, lengths = np.zeros((2, len(x)), dtype=np.int64)
    starts[needed], lengths[needed] = known.starts, known.lengths
    residues = Residues(known.codes, starts, lengths)
    config = aligner.config
    return ResidueFinder(means, "mean", residues, x.sequences, aligner.pool.reduction, config.scheme, CANDIDATES)


def align_rates(x: Features, labels: Labels, queries: Features) -> list[dict[str, Any]]:
    """Measure `align`: queries whose vectors are there, and sequences."""
    asked = x.embedded(queries.sequences)
    finder = finder_of(x, labels, asked)
    megabytes = (int(x.lengths.sum()) * finder.reduction.components + x.vectors().nbytes) / 1e6

    def search(x: Features) -> object:
        return replace(finder, _searched=[]).aligned(x)

    search(asked.take(slice(2)))  # compiles
    return [
        rate("align, 100 candidates", lambda n: search(asked.take(slice(n))), len(asked), megabytes),
        rate("align, with the encoder", lambda n: search(x.embedded(queries.sequences[:n])), len(asked), megabytes),
    ]


def mmseqs_rate(targets: Sequence[str], queries: Sequence[str], sensitivity: float) -> dict[str, Any]:
    """Measure MMseqs2; the database of the targets is there, but not that of the queries."""
    engine = open_engine("mmseqs")
    assert isinstance(engine, MMseqs)
    limits = Limits(sensitivity=sensitivity)
    with temporary_folder("rates") as folder:
        engine._create(folder / "targets", targets)
        megabytes = sum(path.stat().st_size for path in folder.glob("targets*")) / 1e6

        def search(n: int) -> object:
            with temporary_folder("asked") as place:
                for path in folder.glob("targets*"):
                    (place / path.name).symlink_to(path)
                engine._create(place / "queries", queries[:n])
                return engine._align(place, limits, 1)

        return rate(f"mmseqs search -s {sensitivity:g}", search, len(queries), megabytes)


def hmmscan_rate(x: Features, labels: Labels, queries: Sequence[str], max_members: int, every: int) -> dict[str, Any]:
    """Measure HMMER with its own filters and a profile a family."""
    head = ProfileHead(ProfileConfig(max_members=max_members, subfamily=0))
    rows = np.flatnonzero(labels.codes % every == 0)
    building = processor_seconds(lambda: head.refit(x.take(rows), labels.take(rows)))
    print(f"{len(head.profiles):,} profiles in {building:.0f} s", flush=True)
    alphabet = easel.Alphabet.amino()
    background = plan7.Background(alphabet)

    def searchable(profile: Profile) -> Any:
        model = profile.model()
        configured = plan7.Profile(model.M, alphabet)
        configured.configure(model, background, 100)
        return configured.to_optimized()

    models = [searchable(profile) for profile in head.profiles]
    texts = [
        easel.TextSequence(name=str(row).encode(), sequence=query).digitize(alphabet)
        for row, query in enumerate(queries)
    ]
    numbers = sum(profile.match.nbytes + profile.transitions.nbytes for profile in head.profiles)
    row = rate("hmmscan", lambda n: list(hmmer.hmmscan(texts[:n], models, cpus=1)), len(texts), numbers / 1e6)
    return row | {
        "first query, s": round(row["first query, s"] * every, 2),
        "queries a second": round(row["queries a second"] / every, 3),
        "searched, MB": round(row["searched, MB"] * every, 1),
        "building them, s": round(building * every, 1),
        "profiles": len(models),
        "of every": every,
    }


def main() -> None:
    """Measure all of them in one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--only", nargs="+", choices=SEARCHERS, default=SEARCHERS, help="the others stay as they were")
    parser.add_argument("--every", type=int, default=10, help="build profiles of every N-th family alone")
    parser.add_argument("--members", type=int, default=100, help="of a family that its profile is of, at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    workspace = Workspace.open(options.workspace)
    train, held = workspace.dataset.part("train"), workspace.dataset.part("validation")
    x = Features.from_cache(workspace.latest_cache(), train)
    labels = Labels.from_names(train.labels)
    drawn = np.sort(np.random.default_rng(0).permutation(len(held))[: options.queries])
    queries = Features.from_cache(workspace.latest_cache(), held.take(drawn.tolist()))
    rows: list[dict[str, Any]] = []
    if "align" in options.only:
        rows += align_rates(x, labels, queries)
    if "mmseqs" in options.only:
        levels = (Limits.sensitivity, DEFAULT_SENSITIVITY)
        rows += [mmseqs_rate(x.sequences, queries.sequences, level) for level in levels]
    if "hmmscan" in options.only:  # which is fast enough for all that there are
        rows.append(hmmscan_rate(x, labels, held.sequences, options.members, options.every))
    before = read_json(RESULTS) if RESULTS.exists() else []
    known = {row["searcher"]: row for entry in before if entry["set"] == workspace.folder.name for row in entry["rows"]}
    rows = list((known | {row["searcher"]: row for row in rows}).values())
    own = rows[0]["queries a second"]
    rows = [row | {"align is faster by": round(own / row["queries a second"], 2)} for row in rows]
    about = {
        "set": workspace.folder.name,
        "encoder": workspace.latest_cache().spec.short_name,
        "processor": processor(),
        "searched": len(x),
        "residues searched": int(x.lengths.sum()),
        "queries": len(queries),
        "residues a query": round(float(queries.lengths.mean()), 1),
        "load": [round(number, 2) for number in os.getloadavg()],
    }
    kept = [entry for entry in before if entry["set"] != about["set"]]
    write_json(RESULTS, [*kept, about | {"rows": rows}])


if __name__ == "__main__":
    main()
