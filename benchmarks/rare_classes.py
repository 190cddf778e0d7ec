"""Where classes of few members are lost, what might help them, and how much can be right at all: on function5000.

    python benchmarks/rare_classes.py part ../shared/data/function5000 --every 8 --to PART
    python benchmarks/rare_classes.py ceiling ../shared/data/function5000
    python benchmarks/rare_classes.py misses PART --obo go.obo.gz --terms ../shared/data/function5000/classes.tsv.gz
    esmcls embed PART/train.csv --test PART/test.csv -w W
    python benchmarks/rare_classes.py choose W --obo … --terms …
    python benchmarks/rare_classes.py errors W --model knn --obo … --terms …

`part` keeps every n-th group of classes with all their proteins. Classes are of a group where MMseqs2's linclust puts
proteins of both into one cluster of 30 % identity: a class keeps those that it is taken for, which every n-th class
alone would lose. `ceiling` clusters train and test together at 90, 95 and 99 % identity: how often a test protein is
alone with training proteins of other classes. `misses` asks each training protein of those in the other four folds:
how near the terms of the best hit's class are to those of the true one, and whether that is among the hits at all.
`choose` asks one question at a time in the same way, never of the test part. `errors` counts a model's errors: of the
validation part, or with `--part test` of the test part. Each adds to
`benchmarks/results/rare_classes.json`.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from families import RESULTS, read_dataset
from torch import Tensor
from torch.nn import functional as F

from esmcls.cache.features import Features
from esmcls.datasets.dataset import Dataset
from esmcls.heads.alignment.search import Limits, open_engine, search
from esmcls.heads.blocks import class_factors
from esmcls.heads.layers.linear import LinearConfig, LinearHead
from esmcls.heads.layers.ridge import Ridge
from esmcls.heads.trees.candidates import assign_folds
from esmcls.heads.whitening import WithinClass
from esmcls.labels.labels import Labels
from esmcls.labels.ontology import Ontology, read_obo
from esmcls.models.folder import load_model
from esmcls.plain_values import read_json, write_json
from esmcls.training.losses import log_prior
from esmcls.workspace.workspace import Workspace

SIZES: Final = ((1, 3), (4, 7), (8, 15), (16, 10**9))
"""Training members of a class, from and to."""
CLUSTERED: Final = 0.3
"""Identity at which proteins of two classes put these into one group."""
COVERED: Final = {0.3: 0.6}
"""Share of both sequences that has to align, by identity; else .9."""
SHRINKAGE: Final = 0.01
PENALTY: Final = 0.1
"""Of the whitening and of the ridge regression of all trials: what `linear` chose on function5000."""
SCALE, EPOCHS = 20.0, 4
"""Of cosine layers; what a cosine is multiplied by beside log probabilities."""
LINEAR: Final = LinearConfig(shrinkage=SHRINKAGE, ridge=PENALTY, scale=20.0, stop=8, temperature=1.0)
NAMED: Final = 20
"""Classes a row among which an expected utility is taken."""

FOLDS, HITS, SENSITIVITY = 5, 40, 5.7
"""Of `misses`; the folds of `choose`, too."""

Codes = npt.NDArray[np.int64]
TermSets = dict[str, frozenset[int]]
"""Terms of each class with all that contain them, without roots."""


def size_name(low: int, high: int) -> str:
    """Return what a range of class sizes is called."""
    return f"{low}-{high}" if high < 10**9 else f"{low}+"


# groups of classes, and near-identical proteins


def clusters(dataset: Dataset, identity: float) -> list[list[int]]:
    """Return the rows of each cluster of MMseqs2's linclust."""
    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder) / "all.fasta"
        with open(fasta, "w", encoding="ascii") as handle:
            handle.writelines(f">{row}\n{sequence}\n" for row, sequence in enumerate(dataset.sequences))
        command = ["mmseqs", "easy-linclust", fasta, f"{folder}/out", f"{folder}/steps", "--min-seq-id", identity]
        command += ["-c", COVERED.get(identity, 0.9), "--threads", torch.get_num_threads(), "-v", 1]
        subprocess.run([str(part) for part in command], check=True)
        members = defaultdict(list)
        with open(f"{folder}/out_cluster.tsv", encoding="ascii") as lines:
            for line in lines:
                representative, row = line.split()
                members[representative].append(int(row))
    return list(members.values())


def groups(dataset: Dataset, members: Sequence[Sequence[int]]) -> dict[str, str]:
    """Return the group of each class, by the first class of it: classes that share a cluster are of one group."""
    above = {label: label for label in dataset.labels}

    def first(label: str) -> str:
        while above[label] != label:
            above[label] = above[above[label]]
            label = above[label]
        return label

    for rows in members:
        low, *others = sorted({dataset.labels[row] for row in rows})
        for other in others:
            one, two = sorted((first(low), first(other)))
            above[two] = one
    return {label: first(label) for label in above}


def part(dataset: Dataset, options: argparse.Namespace) -> dict[str, Any]:
    """Write every n-th group of classes as train.csv and test.csv."""
    group = groups(dataset, clusters(dataset, CLUSTERED))
    names = sorted(set(group.values()))
    kept = set(names[:: options.every])
    options.to.mkdir(parents=True, exist_ok=True)
    counted: dict[str, Any] = {"every": options.every, "groups": len(names), "groups kept": len(kept)}
    for name in ("train", "test"):
        rows = dataset.part(name)
        some = rows.take([row for row, label in enumerate(rows.labels) if group[label] in kept])
        with open(options.to / f"{name}.csv", "w", encoding="utf-8", newline="") as handle:
            table = csv.writer(handle)
            table.writerow(["id", "sequence", "label"])
            table.writerows(zip(some.ids, some.sequences, some.labels, strict=True))
        counted[name] = len(some)
    return counted | {"classes": len({label for label, first in group.items() if first in kept})}


def ceiling(dataset: Dataset, options: argparse.Namespace) -> dict[str, Any]:
    """Return, by identity, how many test proteins have near-identical training proteins, and of what class."""
    train = np.array([name == "train" for name in dataset.parts])
    table = {}
    for identity in options.identities:
        counts = Counter[str]()
        for rows in clusters(dataset, identity):
            near = Counter(dataset.labels[row] for row in rows if train[row])
            for row in rows:
                if train[row] or not near:
                    continue
                label = dataset.labels[row]
                counts["near"] += 1
                counts["alone with others"] += label not in near
                counts["with its class and others"] += label in near and len(near) > 1
                counts["most are of its class"] += near.most_common(1)[0][0] == label
        table[f"{identity:.0%}"] = {name: round(100 * n / int((~train).sum()), 2) for name, n in counts.items()}
    return {"test proteins": int((~train).sum()), "of them, %": table}


# near misses among errors


def read_terms(path: Path, ontology: Ontology) -> TermSets:
    """Return the terms of each class of a table `family_accession, molecular_function, biological_process`."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    listed = [
        [term for column in ("molecular_function", "biological_process") for term in (row[column] or "").split(";")]
        for row in rows
    ]
    sets = ontology.term_sets(listed)
    return {row["family_accession"]: frozenset(sets.row(n).tolist()) for n, row in enumerate(rows)}


def kinship(one: frozenset[int], other: frozenset[int]) -> float:
    """Return the share of the terms of two classes that both have."""
    return len(one & other) / max(1, len(one | other))


def kin_of(classes: Sequence[frozenset[int]]) -> list[list[float]]:
    """Return the kinship of each class with each."""
    return [[kinship(one, other) for other in classes] for one in classes]


def kind_of_miss(truth: frozenset[int], taken: frozenset[int]) -> str:
    """Return how the terms of the class taken differ from those of the true one."""
    if truth == taken:
        return "the same terms"
    apart = len(truth ^ taken)
    if apart == 1:
        return "one term more or less"
    if truth < taken or taken < truth:
        return "one contains the other"
    return "half of the terms or more in common" if kinship(truth, taken) >= 0.5 else "less than half in common"


def answers_in_words(
    truth: Sequence[str], taken: Sequence[str | None], sizes: Codes, terms: TermSets
) -> dict[str, Any]:
    """Return accuracy by class size, and how far the classes taken are from the true ones; None is no answer."""
    pairs = list(zip(truth, taken, strict=True))
    right = np.array([one == other for one, other in pairs])
    missed = Counter(
        "no answer" if other is None else kind_of_miss(terms[one], terms[other]) for one, other in pairs if one != other
    )
    common = [0.0 if other is None else kinship(terms[one], terms[other]) for one, other in pairs]
    errors_made = int((~right).sum())
    return {
        "asked": len(right),
        "right %": percent(right),
        "by class size": by_size(right, sizes),
        "errors": errors_made,
        "of the errors, %": {kind: round(100 * n / errors_made, 1) for kind, n in missed.most_common()},
        "terms in common, mean": round(float(np.mean(common)), 4),
    }


def errors(workspace: Workspace, options: argparse.Namespace) -> dict[str, Any]:
    """Return a model's accuracy by class size and its near misses."""
    model = load_model(workspace.find_model(options.model))
    rows = workspace.dataset.part(options.part)
    names = model.head.classes
    codes = model.head.top_k(Features.from_cache(workspace.latest_cache(), rows), 5)[0]
    truth = Labels.from_names(rows.labels, names).codes
    taken = [names[code] for code in codes[:, 0]]
    sizes = np.array(model.manifest.class_counts)[truth]
    about = {"model": options.model, "part": options.part}
    about["among the first five, %"] = percent((codes == truth[:, None]).any(1))
    return about | answers_in_words(rows.labels, taken, sizes, read_terms(options.terms, read_obo(options.obo)))


def misses(dataset: Dataset, options: argparse.Namespace) -> dict[str, Any]:
    """Return the near misses of MMseqs2's best hit, each training protein asked of those in the other folds."""
    train = dataset.part("train")
    labels = Labels.from_names(train.labels)
    fold = assign_folds(labels.codes, FOLDS, seed=0)
    limits = Limits(sensitivity=SENSITIVITY, max_hits=HITS)
    hits = search(open_engine("mmseqs"), train.sequences, train.sequences, limits, HITS, torch.get_num_threads()).rows
    allowed = (hits >= 0) & (fold[hits] != fold[:, None])
    first = hits[np.arange(len(hits)), allowed.argmax(1)]
    taken = [train.labels[row] if some else None for row, some in zip(first, allowed.any(1), strict=True)]
    among = ((labels.codes[hits] == labels.codes[:, None]) & allowed).any(1)
    wrong = np.array([one != other for one, other in zip(train.labels, taken, strict=True)])
    terms = read_terms(options.terms, read_obo(options.obo))
    about = answers_in_words(train.labels, taken, labels.counts()[labels.codes], terms)
    return about | {"true class among the hits, % of the errors": percent(among[wrong])}


def percent(right: npt.NDArray[np.bool_]) -> float:
    """Return the share that is true, in percent."""
    return round(100 * float(right.mean()), 2) if len(right) else float("nan")


def by_size(right: npt.NDArray[np.bool_], sizes: Codes) -> dict[str, Any]:
    """Return number and accuracy of the rows whose class has so many members."""
    table = {}
    for low, high in SIZES:
        some = (sizes >= low) & (sizes <= high)
        table[size_name(low, high)] = {"n": int(some.sum()), "right %": percent(right[some])}
    return table


# one question at a time


def unit_rows(x: Features, rows: Codes, labels: Labels) -> Tensor:
    """Return all rows, whitened by some of them within classes, and of length 1."""
    vectors = np.asarray(x.vectors(), dtype=np.float32)
    some = labels.take(rows)
    return WithinClass.of(vectors[rows], some.codes, labels.n_classes)(SHRINKAGE).unit(torch.from_numpy(vectors))


class Trial:
    """Training proteins, validation proteins among them, each asked of those in the other folds.

    Parameters
    ----------
    workspace : Workspace

    Attributes
    ----------
    nearest, centre, ridge, cosine, adjusted : float32 tensors, (n, classes)
        Cosine with the nearest row of a class; with its mean; output of the ridge regression that `linear` begins at;
        of a layer of unit weights; of one that was trained with the log prior added to its logits.
    linear : float32 tensor, (n, classes)
        Log probabilities by `linear`.
    """

    def __init__(self, workspace: Workspace) -> None:
        dataset = workspace.dataset
        known = dataset.take([row for row, part in enumerate(dataset.parts) if part != "test"])
        x = Features.from_cache(workspace.latest_cache(), known)
        self.labels = Labels.from_names(known.labels)
        self.codes = torch.from_numpy(self.labels.codes)
        self.counts = self.labels.counts()
        self.sizes: Codes = self.counts[self.labels.codes]
        shape = len(known), self.labels.n_classes
        self.nearest, self.centre, self.ridge, self.cosine = (torch.zeros(shape) for _ in range(4))
        self.adjusted, self.linear = torch.zeros(shape), torch.zeros(shape)
        fold = assign_folds(self.labels.codes, FOLDS, seed=0)
        for number in range(FOLDS):
            rows = np.flatnonzero(fold != number)
            self._fill(rows, torch.from_numpy(fold == number), unit_rows(x, rows, self.labels))
            head = LinearHead(LINEAR).refit(x.take(rows), self.labels.take(rows))
            asked = np.flatnonzero(fold == number)
            self.linear[asked] = torch.from_numpy(head.predict_proba(x.take(asked))).clamp(min=1e-12).log()

    def _fill(self, rows: Codes, asked: Tensor, unit: Tensor) -> None:
        """Fill in what the asked rows get from those of the other folds."""
        held, known, codes = unit[asked], unit[rows], self.codes[rows]
        counts = self.labels.take(rows).counts()
        missing = torch.where(torch.from_numpy(counts > 0), 0.0, -9.0)
        index = codes[None].expand(len(held), -1)
        start = torch.full((len(held), len(counts)), -1.0)
        self.nearest[asked] = start.scatter_reduce(1, index, held @ known.T, "amax", include_self=False)
        centres = F.normalize(torch.zeros(len(counts), unit.shape[1]).index_add_(0, codes, known), eps=1e-9)
        self.centre[asked] = held @ centres.T
        factors = class_factors(counts, "sqrt")
        weight, bias = Ridge.of(known.numpy(), codes.numpy(), factors, lambda block: block).solve(PENALTY)
        self.ridge[asked] = held @ weight.T + bias + missing
        for target, tau in ((self.cosine, 0.0), (self.adjusted, 1.0)):
            layer = cosine_layer(known, codes, centres, tau * log_prior(counts))
            target[asked] = held @ layer.T + missing

    def told(self, name: str, scores: Tensor, base: Tensor | None = None) -> dict[str, Any]:
        """Return what scores (n, classes) reach, and the paired difference from others with its deviation."""
        asked = self.sizes > 1  # others have no class to be found
        right = scores.argmax(1).numpy() == self.labels.codes
        recall = np.mean(
            [right[asked & (self.labels.codes == code)].mean() for code in np.unique(self.labels.codes[asked])]
        )
        row: dict[str, Any] = {"trial": name, "right %": percent(right[asked])}
        row["macro recall %"] = round(100 * float(recall), 2)
        if base is not None:
            gain = (right.astype(float) - (base.argmax(1).numpy() == self.labels.codes))[asked]
            row["gain %"] = round(100 * float(gain.mean()), 2)
            row["2 deviations"] = round(200 * float(gain.std() / np.sqrt(len(gain))), 2)
        row["by class size"] = {
            size: cell["right %"] for size, cell in by_size(right[asked], self.sizes[asked]).items()
        }
        print(row, flush=True)
        return row


def cosine_layer(rows: Tensor, codes: Tensor, centres: Tensor, prior: Tensor) -> Tensor:
    """Return a layer of unit weights, begun at the centres of classes and trained on logits plus a prior."""
    generator = torch.Generator().manual_seed(0)
    weight = centres.clone().requires_grad_()
    optimiser = torch.optim.AdamW([weight], lr=2e-3, weight_decay=0.0)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(rows), generator=generator).split(256):
            loss = F.cross_entropy(SCALE * rows[batch] @ F.normalize(weight, eps=1e-9).T + prior, codes[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return F.normalize(weight.detach(), eps=1e-9)


def heads(trial: Trial) -> Iterator[dict[str, Any]]:
    """Try prototypes and cosine layers beside the nearest row and the ridge regression."""
    nearest = trial.nearest
    yield trial.told("nearest row", nearest)
    others = {
        "prototype: cosine with the centre": trial.centre,
        "ridge regression": trial.ridge,
        "cosine layer": trial.cosine,
        "cosine layer, adjusted logits": trial.adjusted,
    }
    for name, scores in others.items():
        yield trial.told(name, scores, nearest)
    for name, scores in others.items():
        yield trial.told(f"nearest row and {name}, half and half", 0.5 * nearest + 0.5 * scores, nearest)
    yield trial.told("linear", trial.linear, nearest)
    both = SCALE * nearest + trial.linear
    yield trial.told("nearest row and linear", both, nearest)
    for name, scores in others.items():
        yield trial.told(f"nearest row, linear and {name}", both + SCALE * scores, both)


def adjustment(trial: Trial) -> Iterator[dict[str, Any]]:
    """Try to take a part of the log prior off the logits of the nearest row and the ridge regression."""
    logits = SCALE * (0.5 * trial.nearest + 0.5 * trial.ridge)
    for tau in (-0.5, -0.25, 0.25, 0.5, 1.0):
        yield trial.told(
            f"nearest row and ridge less {tau} of the log prior", logits - tau * log_prior(trial.counts), logits
        )


def hierarchy(trial: Trial, terms: TermSets) -> Iterator[dict[str, Any]]:
    """Try to choose the class of the largest expected share of terms in common."""
    mixed = 0.5 * trial.nearest + 0.5 * trial.ridge
    best, named = mixed.topk(min(NAMED, mixed.shape[1]), dim=1)
    kin = torch.tensor(kin_of([terms[name] for name in trial.labels.classes]))
    among = kin[named[:, :, None], named[:, None, :]]  # (n, named, named)
    for heat in (0.02, 0.05, 0.1):
        shares = (best / heat).softmax(1)
        expected = torch.full_like(mixed, -1.0).scatter(1, named, (among @ shares[:, :, None])[:, :, 0])
        yield trial.told(f"largest expected share of terms, heat {heat}", expected, mixed)
    for weight in (0.01, 0.03):
        shared = trial.nearest @ kin / kin.sum(0)  # what classes of like terms say
        yield trial.told(f"with {weight} of what classes of like terms get", mixed + weight * shared, mixed)


def calibration(trial: Trial) -> Iterator[dict[str, Any]]:
    """Try a temperature for each range of class size in place of one for all, in two halves of the rows."""
    scores = 0.5 * trial.nearest + 0.5 * trial.ridge
    half = torch.arange(len(scores)) % 2 == 0
    heats = torch.logspace(-2.3, -0.5, 12)
    bins = torch.from_numpy(np.digitize(trial.counts, [low for low, _ in SIZES]) - 1)

    def loss(rows: Tensor, by_bin: Tensor) -> float:
        return float(F.cross_entropy(scores[rows] / by_bin[bins], trial.codes[rows]))

    totals = Counter[str]()
    for rows in (half, ~half):
        one = min(heats, key=lambda heat: loss(rows, heat.expand(len(SIZES))))
        each = one.repeat(len(SIZES))
        for place in range(len(SIZES)):
            options = [each.clone().index_fill_(0, torch.tensor([place]), float(heat)) for heat in heats]
            each = min(options, key=lambda heat: loss(rows, heat))
        totals["one temperature"] += loss(~rows, one.expand(len(SIZES))) / 2
        totals["a temperature a size"] += loss(~rows, each) / 2
    yield {"trial": "log loss on the other half", **{name: round(value, 4) for name, value in totals.items()}}


def choose(workspace: Workspace, options: argparse.Namespace) -> dict[str, Any]:
    """Ask the questions of training proteins, each by those in the other folds."""
    trial = Trial(workspace)
    terms = read_terms(options.terms, read_obo(options.obo))
    questions: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "heads": lambda: heads(trial),
        "adjustment": lambda: adjustment(trial),
        "hierarchy": lambda: hierarchy(trial, terms),
        "calibration": lambda: calibration(trial),
    }
    asked = {name: list(questions[name]()) for name in options.questions.split(",")}
    return {"asked": int((trial.sizes > 1).sum()), "classes": trial.labels.n_classes, **asked}


def main() -> None:
    """Do one of the five and keep what it gives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("part", "ceiling", "misses", "choose", "errors"))
    parser.add_argument("folder", type=Path, help="the data set, or a workspace")
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--to", type=Path, default=Path("part"))
    parser.add_argument("--identities", type=float, nargs="+", default=[0.9, 0.95, 0.99])
    parser.add_argument("--questions", default="heads,adjustment,hierarchy,calibration")
    parser.add_argument("--model", default="linear")
    parser.add_argument("--part", default="validation", choices=("validation", "test"))
    parser.add_argument("--terms", type=Path)
    parser.add_argument("--obo", type=Path)
    options = parser.parse_args()
    about: dict[str, Any] = {"what": options.what, "set": options.folder.name}
    if options.what in ("part", "ceiling", "misses"):
        of_data = {"part": part, "ceiling": ceiling, "misses": misses}
        result = of_data[options.what](read_dataset(options.folder), options)
    else:
        workspace = Workspace.open(options.folder)
        about["encoder"] = workspace.latest_cache().spec.short_name
        result = {"choose": choose, "errors": errors}[options.what](workspace, options)
    print(result)
    file = RESULTS / "rare_classes.json"
    write_json(file, [*(read_json(file) if file.exists() else []), about | result])


if __name__ == "__main__":
    main()
