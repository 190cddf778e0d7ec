"""The ranker of terms on folds of the validation part: what it brings to the mix of the same members.

    esmcls embed train_sequences.fasta --test … --labels … --obo … -w WORKSPACE
    python benchmarks/term_ranker.py WORKSPACE --members knn,homology,linear

Members are fitted on the train part and answer the validation part. Its proteins are then drawn into folds: mix and
ranker are learnt on all but one and measured on that one, so that neither has seen what it is measured on. `--every N`
takes each N-th protein of each part, to try things out. The test part is not
read. Written to `benchmarks/results/term_ranker.json`, or `--output`, with the command line and the commit.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from go import differences, measured, opened, say, shown
from scipy.sparse import csr_matrix, load_npz, save_npz, vstack

from esmcls.cache.features import Features
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.dataset import Dataset
from esmcls.heads.base import FindsNearest, TellsRelatives
from esmcls.heads.ensemble import term_ranking
from esmcls.heads.ensemble.term_mixing import Pairs, choose_members, mixed
from esmcls.heads.ensemble.term_ranking import About, learn
from esmcls.heads.registry import TERM_GROUP, load_head
from esmcls.labels.information_accretion import information_accretion
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import Counts, count, group_codes
from esmcls.models.manifest import versions
from esmcls.plain_values import write_json
from esmcls.tasks.kinds import task_of
from esmcls.tasks.label_sets.evaluation import with_unseen
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).parent / "results"
FOLDS = 5
LEAST = 1e-4
"""Probabilities below are not kept."""


@dataclass
class Answers:
    """What members say of the validation proteins: sparse, (n, classes); who has a relative, and how near."""

    said: list[csr_matrix]
    related: np.ndarray | None = None
    distance: np.ndarray | None = None
    teller: int | None = None


def main() -> None:
    """Fit members, measure in folds, write."""
    options = arguments()
    workspace = opened(options)
    cache = workspace.latest_cache() if options.cache is None else EmbeddingCache.open(options.cache)
    train, held = (embedded(workspace.dataset.part(part), cache) for part in ("train", "validation"))
    task = task_of(workspace)
    labels = task.labels(train)
    truth = task.labels(held, labels.classes)
    say(f"{len(train):,} to train, {len(held):,} to validate, {labels.n_classes:,} terms")
    names = options.members.split(",")
    answers = asked(
        names, (Features.from_cache(cache, train), labels), (Features.from_cache(cache, held), truth), options
    )
    hierarchy = task.hierarchy(labels.classes)
    ia = information_accretion(labels, workspace.ontology)
    whole = with_unseen(task.labels(held), labels.classes, hierarchy.groups)
    bits = np.concatenate([ia, np.zeros(whole.n_classes - len(ia))])
    said = in_folds(answers, truth, labels.counts(), options)
    counts: dict[str, Counts] = {}
    for name, scores in said.items():
        counts[name] = count(whole, raised(scores, hierarchy), bits)
        say(f"{name:10} {shown(measured(counts[name], 200, options.seed))}")
    rows = {name: measured(one, options.draws, options.seed) for name, one in counts.items()}
    versus = differences(counts["mix"], {"ranker": counts["ranker"]}, options.draws, options.seed)
    say(str({a: {k: round(v["value"], 4) for k, v in d.items()} for a, d in versus["ranker"].items()}))
    write(options, workspace, {"proteins": len(held), "trained": len(train), "rows": rows, "versus_mix": versus})


def embedded(part: Dataset, cache: EmbeddingCache) -> Dataset:
    """Return the proteins that have vectors."""
    missing = set(cache.missing(part.sequences))
    return part.take([row for row in range(len(part)) if row not in missing])


def asked(names: Sequence[str], train: Any, held: Any, options: argparse.Namespace) -> Answers:
    """Fit members and ask them, or read what they said before."""
    answers = Answers([])
    folder = options.work / f"answers-{options.every}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path, beside = folder / f"{name}.npz", folder / f"{name}-near.npz"
        if not path.exists():
            began = time.perf_counter()
            head: Any = load_head(name, TERM_GROUP)(None, "cpu")
            head.fit(*train, held, options.seed)
            probabilities = head.predict_proba(held[0])
            if isinstance(head, TellsRelatives) and isinstance(head, FindsNearest):
                np.savez(beside, related=head.related(held[0]), distance=head.nearest(held[0])[0])
            save_npz(path.with_suffix(".part.npz"), csr_matrix(np.where(probabilities >= LEAST, probabilities, 0)))
            path.with_suffix(".part.npz").rename(path)
            say(f"{name}: {head.scores} in {time.perf_counter() - began:.0f} s")
        answers.said.append(load_npz(path))
        if beside.exists() and answers.related is None:
            near = np.load(beside)
            answers.related, answers.distance = near["related"], near["distance"]
            answers.teller = len(answers.said) - 1
    return answers


def in_folds(answers: Answers, truth: LabelSets, counts: Any, options: argparse.Namespace) -> dict[str, csr_matrix]:
    """Return what mix and ranker say of each protein, learnt on the other folds, and what each member says."""
    n = len(truth)
    folds = np.random.default_rng(options.seed).permutation(n) % FOLDS
    parts: dict[str, list[Any]] = {"mix": [], "ranker": []}
    order = []
    place = group_codes(truth)[1]
    for fold in range(FOLDS):
        rest, some = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        related, distance = (None if one is None else one[rest] for one in (answers.related, answers.distance))
        known = truth.take(rest)
        pairs = Pairs.of(known, blocks_of(answers, rest), len(answers.said))
        members, mixes = choose_members(pairs, known, related, answers.teller)
        chosen = Pairs(pairs.groups, pairs.given[:, members], pairs.right, pairs.rows, pairs.cells)
        learnt = learn(chosen, known, mixes, related, About(counts, distance))
        say(f"fold {fold}: members {members}, {'a ranker' if learnt else 'no ranker'}")
        for row in np.array_split(some, max(1, len(some) // 100)):
            given = [answers.said[member][row].toarray() for member in members]
            mix = mixed(mixes, place, given, None if answers.related is None else answers.related[row])
            near = None if answers.distance is None else answers.distance[row]
            parts["mix"].append(sparse(mix))
            parts["ranker"].append(sparse(mix if learnt is None else learnt.ranker.correct(mix, given, place, near)))
            order.append(row)
    back = np.argsort(np.concatenate(order), kind="stable")
    return {name: stacked(blocks)[back] for name, blocks in parts.items()}


def blocks_of(answers: Answers, rows: Any) -> Iterator[tuple[slice, list[Any]]]:
    """Give the members' answers for some rows in blocks."""
    for start in range(0, len(rows), 256):
        some = rows[start : start + 256]
        yield slice(start, start + len(some)), [one[some].toarray() for one in answers.said]


def sparse(block: Any) -> csr_matrix:
    """Keep what measures can see."""
    return csr_matrix(np.where(block >= LEAST, block, 0))


def stacked(blocks: Sequence[csr_matrix]) -> csr_matrix:
    """Return blocks one below another."""
    return vstack(blocks).tocsr()


def raised(scores: csr_matrix, hierarchy: Any) -> Iterator[tuple[slice, Any]]:
    """Give blocks with no parent below its child."""
    for start in range(0, scores.shape[0], 256):
        rows = slice(start, min(start + 256, scores.shape[0]))
        yield rows, hierarchy.raised(scores[rows].toarray())


def write(options: argparse.Namespace, workspace: Workspace, found: dict[str, Any]) -> None:
    """Write the results with all that they depend on."""
    ran = subprocess.run(["git", "rev-parse", "HEAD"], cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    about = {
        "command": shlex.join(["python", "benchmarks/term_ranker.py", *options.said]),
        "commit": ran.stdout.strip() or None,
        "versions": versions(),
        "split_digest": workspace.split_digest,
        "members": options.members,
        "knobs": asdict(term_ranking.Knobs()),
        "seed": options.seed,
    }
    path = options.output or RESULTS / "term_ranker.json"
    write_json(path, about | found)
    say(f"written: {path}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--members", default="knn,homology,linear")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("esmcls-work/go"))
    parser.add_argument("--cache", type=Path, help="folder of a cache; default the workspace's latest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    options.said = ["WORKSPACE", *(Path(word).name if "/" in word else word for word in sys.argv[2:])]
    return options


if __name__ == "__main__":
    main()
