"""Gene Ontology: every head, what each change to the mlp brings, and what to do with long sequences.

    esmcls embed train_sequences.fasta --validation … --test … --labels … --obo … -w WORKSPACE
    python benchmarks/go.py heads WORKSPACE
    python benchmarks/go.py losses WORKSPACE
    python benchmarks/go.py long WORKSPACE --work FOLDER --encoder bundled

`heads` is `esmcls compare` in a given workspace, kept: measures with intervals, paired differences from homology, and
all by how identical a test protein is to a training protein, by one MMseqs2 search. `losses` changes one thing at a
time in the plain mlp; where a change has knobs of its own, the validation part chooses them, and the test part tells
what came of it. `long` fits one head on vectors of each strategy for long sequences, in 5 folds of whole clusters over
the proteins beyond the context. Each runs on one core; `heads` and `losses` go on where they were stopped.

`--every N` takes each N-th protein of each part, in a workspace of its own (`--work`), to try things out. Each writes
`benchmarks/results/go_<heads|changes|long>.json`, or `--output`, with the command line and the commit.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy.sparse import csr_matrix

from esmcls.cache.embed import embed_into
from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.datasets.clusters import cluster_sequences, find_mmseqs, read_clusters
from esmcls.datasets.dataset import Dataset
from esmcls.datasets.split import SplitReport
from esmcls.encoders.encoder import load_encoder
from esmcls.encoders.windows import parse_long
from esmcls.evaluation.compare import compare
from esmcls.evaluation.fit_and_ask import Arena
from esmcls.evaluation.plan import ComparisonPlan, PlannedModel
from esmcls.heads.registry import TERM_GROUP, load_head
from esmcls.heads.settings import parse_settings
from esmcls.labels.information_accretion import information_accretion
from esmcls.labels.labels import LabelSets
from esmcls.metrics.cafa import Counts, count
from esmcls.metrics.cafa_curves import draw, peaks, resample
from esmcls.metrics.classification import percentile_intervals
from esmcls.models.combine import combine_in_workspace
from esmcls.models.folder import load_model
from esmcls.models.manifest import versions
from esmcls.models.model import features_for
from esmcls.plain_values import read_json, write_json
from esmcls.programs import run_program
from esmcls.tasks.go_terms.answers import TermAnswers
from esmcls.tasks.go_terms.comparison import compare_terms
from esmcls.tasks.go_terms.hierarchy import TermHierarchy
from esmcls.tasks.kinds import task_of
from esmcls.tasks.label_sets.counts import join_counts
from esmcls.tasks.label_sets.evaluation import with_unseen
from esmcls.tasks.label_sets.task import HOMOLOGY, NAIVE
from esmcls.tasks.label_sets.thresholds import Thresholds
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).parent / "results"
CONTEXT = 1022
STRATA = (("no hit", -1.0, 0.0), ("<30 %", 0.0, 0.3), ("30-50 %", 0.3, 0.5), (">50 %", 0.5, 1.01))
"""Name, least and first larger identity to a training protein."""
EVALUE = 1e-3
"""A hit above is none."""
STRATEGIES = ("start", "balanced", "ends", "window", "chunk")
CHANGES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "mlp": ("mlp", [{}]),
    "weighted": ("mlp", [{"loss": "weighted", "cap": cap} for cap in (3.0, 10.0)]),
    "focal": ("mlp", [{"loss": "focal", "gamma": gamma} for gamma in (1.0, 2.0)]),
    "asymmetric": ("mlp", [{"loss": "asymmetric", "gamma_negative": one, "clip": 0.05} for one in (2.0, 4.0)]),
    "two-layers": ("mlp", [{"depth": 2}]),
    "multitask": ("multitask", [{}]),
}
"""Name of a change -> head, and the settings that validation chooses from; two-layers has the depth of multitask."""
PLAIN = "mlp"
SEEDS = 3
"""Members of the ensemble of the plain mlp with other seeds."""


# What the commands share


def say(line: str) -> None:
    """Tell what is being done."""
    print(line, flush=True)


def opened(options: argparse.Namespace) -> Workspace:
    """Return the workspace, or a smaller one with each N-th protein of each part and the same cache."""
    whole = Workspace.open(options.workspace)
    if options.every == 1:
        return whole
    dataset, folder = whole.dataset, options.work / f"every-{options.every}"
    places, rows = Counter[str](), list[int]()
    for row, part in enumerate(dataset.parts):
        rows += [row] if places[part] % options.every == 0 else []
        places[part] += 1
    workspace = Workspace.open(folder, create=True)
    propagate = bool(whole.state()["dataset"]["propagate"])
    workspace.set_dataset(dataset.take(rows), SplitReport("given"), (), whole.ontology, propagate)
    if not (folder / "cache").exists():
        (folder / "cache").symlink_to((whole.folder / "cache").resolve())
    return workspace


def keep(name: str, options: argparse.Namespace, workspace: Workspace, found: Mapping[str, Any]) -> None:
    """Write the results with all that they depend on."""
    ran = subprocess.run(["git", "rev-parse", "HEAD"], cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    about = {
        "command": shlex.join(["python", "benchmarks/go.py", *sys.argv[1:]]),
        "commit": ran.stdout.strip() or None,
        "versions": versions(),
        "parts": dict(sorted(Counter(workspace.dataset.parts).items())),
        "split_digest": workspace.split_digest,
        "seed": options.seed,
    }
    path = options.output or RESULTS / f"go_{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, about | dict(found))
    say(f"written: {path}")


def differences(reference: Counts, others: Mapping[str, Counts], draws: int, seed: int) -> dict[str, Any]:
    """Return how far each model is from one: name -> aspect -> measure -> difference."""
    found = compare_terms(reference, list(others.values()), folds=draws, seed=seed)
    return {
        name: {a: {what: asdict(one) for what, one in measures.items()} for a, measures in aspects.items()}
        for name, aspects in zip(others, found, strict=True)
    }


def measured(counts: Counts, draws: int, seed: int) -> dict[str, Any]:
    """Return each measure with its 95 % interval: aspect -> proteins and measures."""
    found, drawn = dict[str, Any](), draw(len(counts), draws, seed)
    for group, aspect in enumerate(counts.groups):
        if not counts.measured[group]:
            continue
        at, again, shown = peaks(counts, group), resample(counts, group, drawn), dict[str, Any]()
        for name, (value, _) in at.items():
            high = np.inf if name == "smin" else 1.0
            shown[name] = asdict(percentile_intervals({name: value}, again[name][:, None], high=high)[name])
        found[aspect] = {"proteins": int(counts.measured[group]), **shown}
    return found


def shown(one: Mapping[str, Any]) -> str:
    """Say Fmax in each aspect."""
    return "  ".join(
        f"{aspect} {found['fmax']['value']:.3f} ({found['fmax']['low']:.3f}–{found['fmax']['high']:.3f})"
        for aspect, found in one.items()
    )


# heads


def heads(options: argparse.Namespace) -> None:
    """Compare all heads and keep what they reached."""
    workspace = opened(options)
    settings: dict[str, dict[str, Any]] = {}
    for head, name, value in options.set:
        settings.setdefault(head, {})[name] = value
    names = tuple(options.heads.split(",")) if options.heads else ()
    plan = ComparisonPlan(heads=names, settings=settings, seed=options.seed, draws=options.draws)
    found = compare(workspace, plan, device=options.device, say=say)
    found.write()
    print("\n".join(found.lines()))
    answers = dict[str, Counts]()
    report = found.report.to_json()
    for row in report["rows"]:
        one = TermAnswers.load(found.place.answers / f"{row['name']}.safetensors")
        assert one is not None
        answers[row["name"]] = one.counts
        for aspect in row["aspects"].values():
            del aspect["precision"], aspect["recall"]
    by_identity = strata(workspace, answers, options)
    about = {name: report[name] for name in ("dataset", "settings", "best", "chosen", "rows", "not_run")}
    keep("heads", options, workspace, about | {"timing": found.timing.to_json()["rows"], "by_identity": by_identity})
    print("\n".join(verdicts(report["rows"])))


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say whether the targets are met: heads beat naive, the ensemble homology by more than the interval."""
    by_name, told = {row["name"]: row for row in rows}, []
    naive, ensemble = by_name.get(NAIVE), by_name.get("ensemble")
    for row in rows if naive else []:
        fmax = {a: (row["aspects"][a]["metrics"]["fmax"]["value"], one) for a, one in naive["aspects"].items()}
        lost = [a for a, (value, one) in fmax.items() if value <= one["metrics"]["fmax"]["value"]]
        told += [f"{row['name']} does not beat naive in {', '.join(lost)}"] if lost and row is not naive else []
    told = told or ["every head beats naive in every aspect"] * bool(naive)
    if ensemble is not None and ensemble["versus_homology"]:
        ahead = {aspect: one["fmax"]["low"] > 0 for aspect, one in ensemble["versus_homology"].items()}
        told.append(f"the ensemble beats homology by more than the interval: {ahead}")
    return told


def strata(workspace: Workspace, answers: Mapping[str, Counts], options: argparse.Namespace) -> dict[str, Any]:
    """Measure by identity to the nearest training protein."""
    dataset = workspace.dataset
    nearest, found = identities(dataset.part("test").sequences, dataset.part("train").sequences), dict[str, Any]()
    for name, least, below in STRATA:
        rows = (nearest >= least) & (nearest < below)
        say(f"{name}: {rows.sum():,} test proteins")
        some = {model: counts.take(rows) for model, counts in answers.items()}
        if not any(counts.measured.any() for counts in some.values()):
            continue
        reached = {model: measured(counts, options.draws // 10, options.seed) for model, counts in some.items()}
        for model, one in reached.items():
            say(f"  {model:20} {shown(one)}")
        entry: dict[str, Any] = {"proteins": int(rows.sum()), "models": reached}
        if (alignment := some.pop(HOMOLOGY, None)) is not None:
            entry["versus_homology"] = differences(alignment, some, options.draws, options.seed)
        found[name] = entry
    return found


def identities(queries: Sequence[str], targets: Sequence[str]) -> Any:
    """Return the highest identity of each query to any target that it aligns with, float64 (n,); -1 without a hit."""
    distinct = {sequence: str(row) for row, sequence in enumerate(dict.fromkeys(queries))}
    best = dict.fromkeys(distinct.values(), -1.0)
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder, f"{name}.fasta") for name in ("queries", "targets")}
        for name, some in (("queries", list(distinct)), ("targets", list(dict.fromkeys(targets)))):
            paths[name].write_text("".join(f">{row}\n{one}\n" for row, one in enumerate(some)), encoding="ascii")
        out = Path(folder, "hits.tsv")
        asked = ["easy-search", *map(str, paths.values()), str(out), str(Path(folder, "steps"))]
        columns = ["--format-output", "query,target,fident", "-e", f"{EVALUE:g}", "-s", "7.5", "--threads", "1"]
        code, _, err = run_program([find_mmseqs(), *asked, *columns, "-v", "1"])
        if code:
            raise SystemExit(f"mmseqs easy-search failed: {err}")
        for line in out.read_text(encoding="ascii").splitlines():
            query, _, identity = line.split("\t")
            best[query] = max(best[query], float(identity))
    return np.array([best[distinct[query]] for query in queries])


# losses


def losses(options: argparse.Namespace) -> None:
    """Change one thing at a time in the plain mlp."""
    workspace = opened(options)
    unknown = set(options.changes) - CHANGES.keys()
    if unknown:
        raise SystemExit(f"no such change: {', '.join(sorted(unknown))} (known: {', '.join(CHANGES)})")
    answers, rows = dict[str, TermAnswers](), dict[str, dict[str, Any]]()
    for name in dict.fromkeys([PLAIN, *options.changes]):
        head, grid = CHANGES[name]
        tried = [fitted(workspace, f"{name}-{n}", head, one, options) for n, one in enumerate(grid)]
        reached = [one.about["validation"]["fmax"] for one in tried]
        place = int(np.argmax(reached))
        answers[name] = tried[place]
        settings = [{"settings": one, "validation_fmax": fmax} for one, fmax in zip(grid, reached, strict=True)]
        rows[name] = {"head": head, "model": f"{name}-{place}", "settings": grid[place], "tried": settings}
    for name, members in ensembles(workspace, options).items():
        answers[name], rows[name] = (
            combined(workspace, name, members, options),
            {"head": "ensemble", "members": members},
        )
    counts = {name: one.counts for name, one in answers.items()}
    against = differences(
        counts[PLAIN], {n: one for n, one in counts.items() if n != PLAIN}, options.draws, options.seed
    )
    for name, row in rows.items():
        row["aspects"] = {a: one["metrics"] for a, one in answers[name].evaluation["aspects"].items()}
        row["aupr"] = {a: one["aupr"] for a, one in answers[name].evaluation["aspects"].items()}
        row["buckets"] = {a: one["buckets"] for a, one in answers[name].evaluation["aspects"].items()}
        row["validation"], row["fit_seconds"] = answers[name].about["validation"], answers[name].seconds[0]
        row["versus_mlp"] = against.get(name)
        gained = {
            a: f"{one['fmax']['value']:+.4f} (p {one['fmax']['p_holm']:.3f})"
            for a, one in against.get(name, {}).items()
        }
        say(f"{name:20} {shown(row['aspects'])}  {gained}")
    found = {"changes": rows, "thresholds": thresholds(workspace, rows[PLAIN]["model"], options)}
    keep("changes", options, workspace, found)


def fitted(
    workspace: Workspace, name: str, head: str, settings: dict[str, Any], options: argparse.Namespace, seed: int = 0
) -> TermAnswers:
    """Fit a head as models/<name>/ and ask it, or take what an earlier run kept."""
    plan = ComparisonPlan(settings={head: settings | options.knobs}, seed=options.seed + seed, baselines=False)
    return asked(workspace, name, plan, [PlannedModel(name, head, workspace.caches[-1])], options)


def asked(
    workspace: Workspace, name: str, plan: ComparisonPlan, models: Sequence[PlannedModel], options: argparse.Namespace
) -> TermAnswers:
    """Fit and ask models on the workspace's split, and return what one of them answered."""
    dataset, not_run = workspace.dataset, list[dict[str, str]]()
    arena = Arena(workspace, task_of(workspace), plan, options.device, say, tuple(sorted(set(dataset.labels))))
    answers = arena.round(None, dataset, models, not_run)
    if name not in answers:
        raise SystemExit(f"{name}: {not_run[0]['reason']}")
    return cast(TermAnswers, answers[name])


def ensembles(workspace: Workspace, options: argparse.Namespace) -> dict[str, list[str]]:
    """Fit the members that are no change themselves, and return the members of each ensemble."""
    if options.no_ensembles:
        return {}
    for head in ("linear", "knn"):
        fitted(workspace, f"{head}-0", head, {}, replace_knobs(options))
    for seed in range(1, SEEDS):
        fitted(workspace, f"{PLAIN}-seed-{seed}", PLAIN, {}, options, seed)
    seeds = [f"{PLAIN}-0", *(f"{PLAIN}-seed-{seed}" for seed in range(1, SEEDS))]
    return {"ensemble of seeds": seeds, "ensemble of heads": [f"{PLAIN}-0", "linear-0", "knn-0"]}


def replace_knobs(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options without the knobs that are those of the mlp."""
    return argparse.Namespace(**vars(options) | {"knobs": {}})


def combined(workspace: Workspace, name: str, members: Sequence[str], options: argparse.Namespace) -> TermAnswers:
    """Combine fitted models and ask the ensemble."""
    plain = name.replace(" ", "-")
    combine_in_workspace(workspace, members, plain, device=options.device)
    plan = ComparisonPlan(models=(plain,), seed=options.seed, baselines=False)
    return asked(workspace, plain, plan, [], options)


def thresholds(workspace: Workspace, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Compare what is predicted by a threshold per term with what is by one per aspect, or .5; of the same model.

    A decision is a score of 0 or 1: its Fmax is F of what is decided. macro_f1 is the mean over terms of test proteins.
    """
    model = load_model(workspace.find_model(name), options.device)
    hierarchy, chosen = model.task.hierarchy(model.classes), cast(Any, model.findings).thresholds
    test = workspace.dataset.part("test")
    truth = with_unseen(workspace.term_sets(test), model.classes, hierarchy.groups)
    bits = accretion(workspace)
    ia = np.array([bits.get(one, 0.0) for one in truth.classes])
    pooled = [chosen.pooled[group] for group in hierarchy.groups]
    rules = {
        "one an aspect": replace(chosen, values=np.array(pooled, np.float32)),
        "one a term": chosen,
        "0.5": Thresholds.unknown(hierarchy.groups),
    }
    x, counts, marks = features_for(model, test, workspace), dict[str, Counts](), dict[str, Any]()
    for rule, one in rules.items():
        blocks = [(rows, decided(one, scores, hierarchy)) for rows, scores in hierarchy.blocks(model.head, x)]
        counts[rule] = count(truth, ((rows, block.toarray()) for rows, block in blocks), ia)
        marks[rule] = blocks
    first, *others = rules
    drawn = draw(len(truth), options.draws // 10, options.seed)
    macro = {rule: term_f1(truth, blocks, drawn) for rule, blocks in marks.items()}
    found: dict[str, Any] = {"model": name, "reference": first, "rules": {}}
    against = differences(counts[first], {rule: counts[rule] for rule in others}, options.draws, options.seed)
    for rule in rules:
        value, again = macro[rule]
        gap = again - macro[first][1]
        entry = {"aspects": measured(counts[rule], options.draws // 10, options.seed), "versus": against.get(rule)}
        entry["macro_f1"] = asdict(percentile_intervals({"": value}, again[:, None])[""])
        low, high = np.percentile(gap, [2.5, 97.5]).tolist()
        entry["macro_f1_versus"] = {"value": value - macro[first][0], "low": low, "high": high}
        found["rules"][rule] = entry
        say(f"{rule:20} {shown(entry['aspects'])}  macro F1 over terms {value:.4f}")
    return found


def decided(rule: Thresholds, scores: Any, terms: TermHierarchy) -> Any:
    """Return what is predicted, sparse float32 (rows, classes) of ones."""
    return csr_matrix(rule.decide(scores, terms).astype(np.float32))


def term_f1(truth: LabelSets, blocks: Sequence[tuple[slice, Any]], drawn: Any) -> tuple[float, Any]:
    """Return the mean over terms of test proteins of F1, and that of each resample, (draws,)."""
    n, classes = len(truth), truth.n_classes
    ones = np.ones(len(truth.codes), dtype=np.float32)
    true = csr_matrix((ones, truth.codes, truth.offsets), (n, classes))
    said = csr_matrix((n, classes), dtype=np.float32).tolil()
    for rows, block in blocks:
        said[rows, : block.shape[1]] = block
    said = said.tocsr()
    right, occurs = said.multiply(true).tocsr(), np.flatnonzero(truth.counts())
    parts = [one[:, occurs] for one in (right, said, true)]

    def mean(weights: Any) -> Any:
        hit, claimed, there = (np.asarray((one.T @ weights.T).T) for one in parts)  # (draws, terms)
        f1 = np.divide(2 * hit, claimed + there, out=np.zeros_like(hit), where=claimed + there > 0)
        return np.divide((f1 * (there > 0)).sum(1), (there > 0).sum(1))

    again = [mean(drawn[start : start + 50].astype(np.float64)) for start in range(0, len(drawn), 50)]
    return float(mean(np.ones((1, n)))[0]), np.concatenate(again)


def accretion(workspace: Workspace) -> dict[str, float]:
    """Return the information accretion of each training term."""
    labels = workspace.term_sets(workspace.dataset.part("train"))
    assert workspace.ontology is not None
    return dict(zip(labels.classes, information_accretion(labels, workspace.ontology).tolist(), strict=True))


# long


def long(options: argparse.Namespace) -> None:
    """Fit one head on vectors of each strategy, in folds of whole clusters."""
    workspace = Workspace.open(options.workspace)
    dataset = workspace.dataset
    rows = [row for row, sequence in enumerate(dataset.sequences) if len(sequence) > options.least]
    proteins = dataset.take(rows[:: options.every])
    folds = cluster_folds(proteins, options)
    lengths = np.array([len(sequence) for sequence in proteins.sequences])
    say(f"{len(proteins):,} proteins of {lengths.min():,} to {lengths.max():,} residues, folds {np.bincount(folds)}")
    bits, counts, rows_out = accretion(workspace), dict[str, Counts](), dict[str, dict[str, Any]]()
    trials: list[tuple[str, str, str, dict[str, Any]]] = [(one, one, "mlp", {}) for one in options.strategies]
    if "chunk" in options.strategies:
        trials.append(("chunk, attention", "chunk", "mlp", {"attention": "true"}))
    trials.append(("naive", options.strategies[0], "naive", {}))
    for name, strategy, head, knobs in trials:
        x, cost = embedded(proteins, strategy, options)
        own = {"whiten": "false", "epochs": "40"} | options.knobs | knobs if head == "mlp" else {}
        began = time.perf_counter()
        counts[name] = in_folds(workspace, proteins, x, folds, head, own, bits, options)
        cost["fit_seconds"] = round(time.perf_counter() - began, 1)
        rows_out[name] = {"strategy": strategy, "head": head, "settings": own, "cost": cost}
        rows_out[name]["aspects"] = measured(counts[name], options.draws // 10, options.seed)
        say(f"{name:20} {shown(rows_out[name]['aspects'])}  {cost}")
    first, *others = counts
    against = differences(counts[first], {name: counts[name] for name in others}, options.draws, options.seed)
    cuts = {"1,023-2,000": lengths <= 2000, ">2,000": lengths > 2000}
    for name, row in rows_out.items():
        row["versus"] = against.get(name)
        row["lengths"] = {
            cut: measured(counts[name].take(some), options.draws // 10, options.seed) for cut, some in cuts.items()
        }
    about = {"proteins": len(proteins), "folds": np.bincount(folds).tolist(), "residues": int(lengths.sum())}
    keep("long", options, workspace, about | {"longest": int(lengths.max()), "reference": first, "rows": rows_out})


def cluster_folds(proteins: Dataset, options: argparse.Namespace) -> Any:
    """Return the fold of each protein: whole clusters, the largest first, each to the fold that is smallest by then."""
    if options.clusters is not None:
        table = read_clusters(options.clusters, proteins.ids)
        clusters = [table[name] for name in proteins.ids]
    else:
        clusters = cluster_sequences(proteins.sequences, identity=0.3)
    sizes, place, filled = Counter(clusters), dict[str, int](), np.zeros(options.folds, np.int64)
    for cluster in sorted(sizes, key=lambda one: (-sizes[one], one)):
        place[cluster] = int(filled.argmin())
        filled[place[cluster]] += sizes[cluster]
    return np.array([place[cluster] for cluster in clusters])


def embedded(proteins: Dataset, strategy: str, options: argparse.Namespace) -> tuple[Features, dict[str, Any]]:
    """Embed proteins by a strategy, and say what it cost; seconds are those of the run that embedded them."""
    encoder = load_encoder(options.encoder, long=strategy, device=options.device)
    spec = EmbeddingSpec.of(encoder, "float16", ("mean", "chunk") if strategy == "chunk" else ("mean",))
    folder = options.work / "long" / spec.key()
    folder.parent.mkdir(parents=True, exist_ok=True)
    cache, kept = EmbeddingCache.open(folder, spec), folder.with_suffix(".json")
    report = embed_into(cache, encoder, proteins.sequences)
    if report.embedded == report.distinct:
        write_json(kept, {"seconds": round(report.seconds, 1), "unseen": report.unseen})
    seen = [parse_long(strategy).cut(len(sequence)) for sequence in dict.fromkeys(proteins.sequences)]
    cost = {"inputs": sum(map(len, seen)), "encoded": sum(p.stop - p.start for one in seen for c in one for p in c)}
    return Features.from_cache(cache, proteins), cost | (read_json(kept) if kept.exists() else {})


def in_folds(
    workspace: Workspace,
    proteins: Dataset,
    x: Features,
    folds: Any,
    head: str,
    settings: Mapping[str, Any],
    bits: Mapping[str, float],
    options: argparse.Namespace,
) -> Counts:
    """Fit on all folds but two, choose on the one after the fold that is measured; return all measured proteins."""
    assert workspace.ontology is not None
    found, order = list[Counts](), list[Any]()
    whole = workspace.term_sets(proteins)  # that fixes the aspects
    for fold in range(options.folds):
        test, held = np.flatnonzero(folds == fold), np.flatnonzero(folds == (fold + 1) % options.folds)
        train = np.setdiff1d(np.arange(len(proteins)), np.concatenate([test, held]))
        labels = workspace.term_sets(proteins.take(train.tolist()))
        terms = TermHierarchy(workspace.ontology, labels.classes)
        known: Callable[[Any], LabelSets] = lambda rows, to=labels: LabelSets.from_names(  # noqa: E731
            whole.take(rows).names(), to.classes, to.groups
        )
        head_class: Any = load_head(head, TERM_GROUP)
        one = head_class(parse_settings(head_class.Config, settings), options.device)
        one.fit(x.take(train), labels, (x.take(held), known(held)), options.seed)
        truth = with_unseen(whole.take(test), labels.classes, terms.groups)
        ia = np.array([bits.get(name, 0.0) for name in truth.classes])
        found.append(count(truth, terms.blocks(one, x.take(test)), ia))
        order.append(test)
    return join_counts(found).take(np.argsort(np.concatenate(order), kind="stable"))


# The command line


def common(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes."""
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take each N-th protein")
    parser.add_argument("--work", type=Path, default=Path("esmcls-work/go"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=10_000, help="of the paired bootstrap")
    parser.add_argument("--output", type=Path)


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for run in (heads, losses, long):
        one = commands.add_parser(run.__name__, help=run.__doc__)
        one.set_defaults(run=run)
        common(one)
        if run is heads:
            one.add_argument("--heads", help="with commas between; default all")
            one.add_argument("--set", nargs=3, action="append", default=[], metavar=("HEAD", "KNOB", "VALUE"))
            continue
        one.add_argument("--knob", nargs=2, action="append", default=[], metavar=("KNOB", "VALUE"), help="of the mlp")
        if run is losses:
            one.add_argument("--changes", nargs="*", default=list(CHANGES))
            one.add_argument("--no-ensembles", action="store_true")
            continue
        one.add_argument("--encoder", default="bundled")
        one.add_argument("--strategies", nargs="*", default=list(STRATEGIES), choices=STRATEGIES)
        one.add_argument("--least", type=int, default=CONTEXT, help="residues that a protein has more than")
        one.add_argument("--folds", type=int, default=5)
        one.add_argument("--clusters", type=Path, help="table of each id's cluster; default by MMseqs2 at 30 %%")
    options = parser.parse_args()
    options.knobs = dict(getattr(options, "knob", []))
    options.run(options)


if __name__ == "__main__":
    main()
