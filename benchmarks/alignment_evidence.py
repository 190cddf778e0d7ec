"""What alignment is worth as evidence: to a ranker of classes, and to tell strangers. Chosen on train and validation.

    esmcls embed cath.csv -w cath; esmcls fit --head align -w cath; esmcls fit --head knn -w cath; ... linear
    python benchmarks/alignment_evidence.py rank cath          # boosted trees on alignments against votes and stacking
    python benchmarks/alignment_evidence.py strangers cath     # signs of a known family, alone and together

`rank` fits a ranker on training proteins that are searched for among the others, and asks it, the votes of the same
alignments, and an ensemble of these votes with models of the workspace, about validation proteins. `strangers` asks
for validation proteins, and for training proteins of which the own family is left out of what is found. Both take the
reduced residues from the model `align`, and write `benchmarks/results/alignment_evidence.json`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from scipy.stats import binomtest

from esmcls.cache.features import Features
from esmcls.heads.alignment.align import AlignHead, background_of
from esmcls.heads.alignment.residues.scoring import scores
from esmcls.heads.alignment.residues.store import Residues
from esmcls.heads.blocks import score
from esmcls.heads.ensemble.combining import Slate, cross_validated
from esmcls.heads.ensemble.members import Ranked, Scale
from esmcls.heads.neighbours.finder import Finder, whitening_of
from esmcls.heads.neighbours.votes import Tally, priors_of
from esmcls.heads.trees.candidates import Candidates, CandidateSources, LabelledRows, Recipe, ranked, unite
from esmcls.heads.trees.ranker import Groups
from esmcls.heads.whitening import WithinClass
from esmcls.labels.labels import Labels
from esmcls.metrics.calibration import auroc, rejection_threshold
from esmcls.metrics.open_set import fit_logistic
from esmcls.models.folder import load_model
from esmcls.plain_values import read_json, write_json
from esmcls.types import Indices
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).parent / "results" / "alignment_evidence.json"
FOLDS = 5
STRANGERS = 0.05
NAMED = 15
"""Classes that alignments add to those of the ranker."""
SHAPES = ({"num_leaves": 7, "num_boost_round": 30}, {"num_leaves": 7, "num_boost_round": 60})


@dataclass(frozen=True)
class Alignments:
    """Proteins with the training rows that align best, the best first."""

    nearness: Any  # float64 (n, candidates)
    rows: Indices

    @classmethod
    def of(cls, nearness: Any, rows: Indices) -> Alignments:
        """Put candidates in order."""
        order = np.argsort(-nearness, axis=1, kind="stable")
        return cls(np.take_along_axis(nearness, order, 1).astype(float), np.take_along_axis(rows, order, 1))


class Place:
    """A workspace, with the residues that its model `align` holds of training and validation rows."""

    def __init__(self, folder: str) -> None:
        self.workspace = Workspace.open(folder)
        head = load_model(self.workspace.find_model("align")).head
        assert isinstance(head, AlignHead)
        self.head = head
        self.row_of = {sequence: row for row, sequence in enumerate(head.finder.sequences)}
        self.train, self.held = (self.workspace.dataset.part(part) for part in ("train", "validation"))
        cache = self.workspace.latest_cache()
        self.x, self.asked = (Features.from_cache(cache, part) for part in (self.train, self.held))
        self.labels = Labels.from_names(self.train.labels)
        self.truth = Labels.from_names(self.held.labels, self.labels.classes)

    @cached_property
    def means(self) -> Finder:
        """The search among the mean vectors of the train part."""
        within = WithinClass.of(self.x.vectors(), self.labels.codes, self.labels.n_classes)
        whitening = whitening_of(self.x.vectors(), within, self.head.chosen.shrinkage)
        return Finder.of(self.x.vectors(), list(self.x.ids), whitening, "cosine", "auto")

    @cached_property
    def residues(self) -> Residues:
        """Those of the train part."""
        known = self.head.finder.residues
        rows = np.array([self.row_of[sequence] for sequence in self.train.sequences])
        return Residues(known.codes, known.starts[rows], known.lengths[rows])

    def align(self, x: Features, candidates: int, left_out: Callable[[int, Indices], Any] | None = None) -> Alignments:
        """Align proteins with the nearest training rows; `left_out` marks those that one is not to find."""
        searched = candidates if left_out is None else min(len(self.train), candidates + 2500)
        rows = self.means.whole(x.vectors(), searched)[1]
        if left_out is not None:
            rows = np.stack([row[~left_out(place, row)][:candidates] for place, row in enumerate(rows)])
        nearness = np.zeros(rows.shape)
        for place, sequence in enumerate(x.sequences):
            query = np.array(self.head.finder.residues.of(self.row_of[sequence]))
            lengths = self.residues.lengths[rows[place]] * max(len(query), 1)
            found = scores(query, self.residues, rows[place], self.head.finder.scheme)
            nearness[place] = found / np.sqrt(np.maximum(lengths, 1))
        return Alignments.of(nearness, rows)


# to rank classes


def evidence(codes: Indices, found: Alignments, classes: Indices) -> Any:
    """Return what alignments say of candidate classes, float32 (n, m, 8); `classes` is that of each training row."""
    match = codes[:, :, None] == classes[found.rows][:, None, :]  # (n, m, hits)
    nearness = found.nearness
    turn = np.cumsum(match, 2)
    first, second = (_only(match & (turn == place), nearness) for place in (1, 2))
    weights = np.exp((nearness - nearness[:, :1]) / 0.1) * (np.arange(nearness.shape[1]) < 20)
    votes = (match * weights[:, None]).sum(2) / weights.sum(1, keepdims=True)
    bulk = nearness[:, 5:]
    above = (first - bulk.mean(1, keepdims=True)) / np.maximum(bulk.std(1, keepdims=True), 0.01)
    best = np.broadcast_to(nearness[:, :1], codes.shape)
    columns = (first, second, votes, match[:, :, :10].sum(2), *ranked(first), above, best)
    return np.stack(columns, 2).astype(np.float32)


def _only(match: Any, nearness: Any) -> Any:
    found = np.where(match, nearness[:, None], -np.inf).max(2)
    return np.where(np.isfinite(found), found, np.nan)


def candidates_of(
    sources: CandidateSources, x: Features, found: Alignments, classes: Indices
) -> list[tuple[slice, Candidates]]:
    """Return candidates of a ranker's sources and of alignments, with the features of both."""
    parts = []
    for rows, named in sources.candidates(x.vectors().astype(np.float32), x.lengths):
        hits = Alignments(found.nearness[rows], found.rows[rows])
        aligned = [list(dict.fromkeys(row))[:NAMED] for row in classes[hits.rows].tolist()]
        codes = unite(named.codes, np.array([row + [-1] * (NAMED - len(row)) for row in aligned]))
        features = np.full((*codes.shape, named.features.shape[2]), np.nan, dtype=np.float32)
        known = codes[:, :, None] == np.where(named.codes < 0, -2, named.codes)[:, None, :]
        there = known.any(2)
        features[there] = np.take_along_axis(named.features, known.argmax(2)[:, :, None], 1)[there]
        parts.append((rows, Candidates(codes, np.concatenate((features, evidence(codes, hits, classes)), 2))))
    return parts


def rank(place: Place, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what votes, a ranker with and without alignments, and stacking reach on validation proteins."""
    classes, generator = place.labels.codes, np.random.default_rng(0)
    several = np.flatnonzero(place.labels.counts()[classes] > 1)
    queries = np.sort(generator.permutation(several)[: options.queries])
    fitted = place.align(place.x.take(queries), options.candidates, lambda _, rows: np.isin(rows, queries))
    known = np.sort(generator.permutation(np.flatnonzero(place.truth.codes >= 0))[: options.held])
    asked, truth = place.asked.take(known), place.truth.take(known)
    found = place.align(asked, options.candidates)
    others = LabelledRows(place.x.vectors(), place.labels, place.x.lengths).take(
        np.setdiff1d(np.arange(len(classes)), queries)
    )
    sources = CandidateSources.of(others, Recipe(place.head.chosen.shrinkage or 0.01, 0.03))
    fit_parts = candidates_of(sources, place.x.take(queries), fitted, classes)
    ask_parts = candidates_of(sources, asked, found, classes)
    width = fit_parts[0][1].features.shape[2]
    columns = {"without alignments": slice(0, width - 8), "alignments alone": slice(width - 8, width)}
    answers = {"votes of alignments": _votes(place, found).codes[:, 0]}
    for name, taken in (columns | {"with alignments": slice(0, width)}).items():
        for shape in SHAPES:
            label = f"ranker {name}, {shape['num_boost_round']} rounds"
            answers[label] = _ranker(_part(fit_parts, taken), classes[queries], _part(ask_parts, taken), shape)
    for others_of in (("knn",), ("knn", "linear")):
        answers[f"stacking of votes, {', '.join(others_of)}"] = _stacked(place, found, known, truth, others_of)
    votes = answers["votes of alignments"] == truth.codes
    return [
        {"what": name, "n": len(known)}
        | {measure: round(100 * value, 2) for measure, value in score(truth, codes).items()}
        | _against(codes == truth.codes, votes)
        for name, codes in answers.items()
    ]


def _part(parts: Sequence[tuple[slice, Candidates]], taken: slice) -> list[tuple[slice, Candidates]]:
    return [(rows, Candidates(one.codes, one.features[:, :, taken])) for rows, one in parts]


def _ranker(fitted: Any, truth: Indices, asked: Any, shape: dict[str, int]) -> Indices:
    groups = _groups(fitted, truth)
    knobs = {"objective": groups.slopes, "learning_rate": 0.1, "min_data_in_leaf": 20, "lambda_l2": 1.0}
    rounds = shape["num_boost_round"]
    quiet = {"verbose": -1, "num_threads": 1, "num_leaves": shape["num_leaves"]}
    trees = lightgbm.train(knobs | quiet, groups.dataset(), num_boost_round=rounds)
    best = []
    for _, candidates in asked:
        flat = candidates.features.reshape(-1, candidates.features.shape[2])
        given = trees.predict(flat, raw_score=True).reshape(candidates.codes.shape)
        places = np.where(candidates.codes >= 0, given, -np.inf).argmax(1)
        best.append(candidates.codes[np.arange(len(places)), places])
    return np.concatenate(best)


def _groups(parts: Any, truth: Indices) -> Groups:
    """Return groups of any number of features, as `Groups.of` does of those of the ranker."""
    features, right, sizes = [], [], []
    for rows, candidates in parts:
        there = candidates.codes >= 0
        same = there & (candidates.codes == truth[rows][:, None])
        there &= same.any(1)[:, None]
        features.append(candidates.features[there])
        right.append(same[there])
        sizes.append(there.sum(1)[same.any(1)])
    counts = np.concatenate(sizes)
    return Groups(np.concatenate(features), np.concatenate(right), np.cumsum(counts) - counts)


def _votes(place: Place, found: Alignments) -> Any:
    """Return the votes of the best alignments, as the head was fitted."""
    chosen = place.head.chosen.settled()
    codes = place.labels.codes[found.rows]
    tally = Tally.soft(codes[:, : chosen.k], found.nearness[:, :20], chosen.temperature or 0.1)
    return tally.weigh(priors_of(place.labels.codes, place.labels.n_classes), chosen.softness or 0.1)


def _stacked(place: Place, found: Alignments, known: Indices, truth: Labels, names: Sequence[str]) -> Indices:
    """Return what votes and what models of the workspace said of these rows come to, weights fitted out of fold."""
    codes, mass = _votes(place, found).top(20)
    said = [Ranked(codes, mass, found.nearness[:, 0])]
    for name in names:
        model = load_model(place.workspace.find_model(name))
        held = model.findings.held
        place_of = {label: code for code, label in enumerate(place.labels.classes)}
        moved = np.array([place_of.get(label, -1) for label in model.classes])
        said.append(Ranked(moved[held.codes[known]], held.probabilities[known], held.familiarity[known]))
    scaled = [Ranked(one.codes, one.mass, Scale.of(one.familiarity).shares(one.familiarity)) for one in said]
    return cross_validated("stack", Slate.of(scaled, place.labels.n_classes), truth.codes)[0]


def _against(right: Any, votes: Any) -> dict[str, Any]:
    """Return how often one is right where votes are not, the other way round, and McNemar's exact p."""
    wins, losses = int((right & ~votes).sum()), int((votes & ~right).sum())
    p = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    return {"right where votes are wrong": wins, "the other way round": losses, "p": round(float(p), 3)}


# to tell strangers


def signs(place: Place, found: Alignments, lengths: Indices) -> dict[str, Any]:
    """Return what may tell a protein of a known family, each (n,)."""
    nearness, codes = found.nearness, place.labels.codes[found.rows]
    best = nearness[:, 0]
    other = np.where(codes == codes[:, :1], nearness[:, -1:], nearness).max(1)
    bulk = nearness[:, 5:]
    return {
        "nearness": best,
        "probability": np.log(_votes(place, found).top(1)[1][:, 0]),
        "ahead of another class": best - other,
        "ahead of the bulk": (best - bulk.mean(1)) / np.maximum(bulk.std(1), 0.01),
        "score as it is": best * np.sqrt(lengths * place.residues.lengths[found.rows[:, 0]]),
        "alike lengths": -np.abs(np.log(lengths / place.residues.lengths[found.rows[:, 0]])),
        "length": np.log(lengths),
    }


def strangers(place: Place, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return how well signs tell proteins of known families from those whose family is left out."""
    generator = np.random.default_rng(0)
    known = np.sort(generator.permutation(np.flatnonzero(place.truth.codes >= 0))[: options.held])
    drawn = generator.permutation(len(place.train))
    turn = dict.fromkeys(range(place.labels.n_classes), 0)
    few = []
    for row in drawn.tolist():
        code = int(place.labels.codes[row])
        turn[code] += 1
        few += [row] if turn[code] <= 10 else []
    far = np.array(few[: options.queries])
    families = place.labels.codes[far]
    near = place.align(place.asked.take(known), options.candidates)
    without = place.align(
        place.x.take(far), options.candidates, lambda row, rows: place.labels.codes[rows] == families[row]
    )
    sides = [
        signs(place, near, place.asked.take(known).lengths),
        signs(place, without, place.x.take(far).lengths),
    ]
    table = {name: np.concatenate((sides[0][name], sides[1][name])) for name in sides[0]}
    codes = place.truth.codes[known], families
    better = _less_background(place, (near, without), codes)
    first_of = [(place.labels.codes[found.rows[:, 0]] == codes[0]).mean() for found in (near, better[0])]
    table["probability, less background"] = np.concatenate(
        [np.log(_votes(place, found).top(1)[1][:, 0]) for found in better]
    )
    right = [(_votes(place, found).codes[:, 0] == codes[0]).mean() for found in (near, better[0])]
    truth = np.arange(len(known) + len(far)) < len(known)
    folds = generator.permutation(np.arange(len(truth)) % FOLDS)
    rows = [_told(name, values, truth) for name, values in table.items()]
    for name, shares in {"best alignment": first_of, "votes": right}.items():
        plain, less = (round(100 * float(share), 2) for share in shares)
        rows.append({"what": f"{name} right, %", "plain": plain, "less background": less, "n": len(known)})
    first = ("nearness", "probability", "ahead of another class", "ahead of the bulk")
    for names in (first[:2], first[:3], first, tuple(table)):
        columns = np.column_stack([table[name] for name in names])
        for way, fit in (("logistic regression", _logistic), ("boosted trees", _boosted)):
            crossed = np.zeros(len(truth))
            for fold in range(FOLDS):
                own = folds == fold
                crossed[own] = fit(columns[~own], truth[~own])(columns[own])
            rows.append(_told(f"{way}: {', '.join(names)}", crossed, truth))
    return rows


def _less_background(
    place: Place, sides: tuple[Alignments, Alignments], codes: tuple[Indices, Indices]
) -> list[Alignments]:
    """Return alignments less the background of the training rows, which no row's own alignments are part of."""
    rows = np.concatenate([side.rows for side in sides])
    nearness = np.concatenate([side.nearness for side in sides])
    _, own = background_of(nearness, rows, place.labels.codes, np.concatenate(codes))
    parts = np.split(np.arange(len(rows)), [len(codes[0])])
    return [Alignments.of(nearness[part] - own[part], rows[part]) for part in parts]


def _logistic(columns: Any, known: Any) -> Callable[[Any], Any]:
    weights = fit_logistic(columns, known)
    return lambda asked: asked @ weights[:-1] + weights[-1]


def _boosted(columns: Any, known: Any) -> Callable[[Any], Any]:
    knobs = {"n_estimators": 80, "num_leaves": 7, "learning_rate": 0.06, "min_child_samples": 20, "verbose": -1}
    trees = lightgbm.LGBMClassifier(class_weight="balanced", num_threads=1, **knobs).fit(columns, known)
    return lambda asked: trees.predict(asked, raw_score=True)


def _told(name: str, values: Any, known: Any) -> dict[str, Any]:
    near, far = values[known], values[~known]
    accepted = float((near > rejection_threshold(far, STRANGERS)).mean())
    reached = {"AUROC": round(auroc(near, far), 3), "known at 5 % strangers": round(100 * accepted, 1)}
    return {"what": name, "known": len(near), "strangers": len(far)} | reached


def main() -> None:
    """Ask one of the two questions and keep what comes of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rank", "strangers"))
    parser.add_argument("workspace")
    parser.add_argument("--queries", type=int, default=700, help="of the train part")
    parser.add_argument("--held", type=int, default=400, help="of the validation part")
    parser.add_argument("--candidates", type=int, default=100)
    options = parser.parse_args()
    place = Place(options.workspace)
    rows = {"rank": rank, "strangers": strangers}[options.what](place, options)
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    kept = read_json(RESULTS) if RESULTS.exists() else []
    spec = place.workspace.latest_cache().spec
    about = {name: getattr(options, name) for name in ("what", "queries", "held", "candidates")}
    write_json(
        RESULTS, [*kept, about | {"set": Path(options.workspace).name, "encoder": spec.short_name, "rows": rows}]
    )


if __name__ == "__main__":
    main()
