"""Measures what a hierarchy of the classes brings: accuracy at every level, answers at a level, and ways that lost.

    esmcls embed cath.csv --hierarchy cath -w cath      # labelled, with a test part
    esmcls fit --head knn --calibration 10% -w cath     # and linear, align
    python benchmarks/hierarchy.py choose cath --name cath
    python benchmarks/hierarchy.py measure cath --name cath --of knn,linear,align
    python benchmarks/hierarchy.py kept pfam --name pfam --of knn,linear --report 1 --table clans.tsv.gz

`choose` reads what models said of validation rows, the 20 likeliest classes of each: of half of them, drawn 200 times,
it sets the threshold of answers at a level, of the other half it counts how many answers hold the true class and how
narrow they are, for three ways to make nested sets; and it tries to rank classes by what they lie under, too. `measure`
asks the test part, once. `kept` asks nothing: it reads what models of a comparison, reports/compare-<report>, said of
the test part, and counts at the levels of a table. Writes `benchmarks/results/hierarchy_<what>_<name>.json`.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from families import RESULTS
from safetensors.numpy import load_file

from esmcls.cache.features import Features
from esmcls.evaluation.assess import assess
from esmcls.labels.hierarchy import ClassTree
from esmcls.labels.labels import Labels
from esmcls.metrics.calibration import conformal_threshold
from esmcls.metrics.tree_answers import answered_levels, least_thresholds, node_masses, path_masses, tree_threshold
from esmcls.models.folder import load_model, read_manifest
from esmcls.plain_values import write_json
from esmcls.tasks.one_label.findings import LabelFindings
from esmcls.tasks.one_label.levels.scores import level_scores, near_misses
from esmcls.workspace.read_hierarchy import LabelPlaces, read_hierarchy
from esmcls.workspace.workspace import Workspace

DRAWS = 200
COVERAGES = (0.9, 0.95)
EXPONENTS = (0.25, 0.5, 1.0, 2.0, 4.0)
Numbers: TypeAlias = npt.NDArray[np.float64]
Codes: TypeAlias = npt.NDArray[np.int64]
Way: TypeAlias = Callable[[Codes, Codes, float], tuple[Codes, Codes]]
"""From rows to set a threshold by, others to answer and a coverage to their levels and how far those are right."""


def dense(codes: Codes, probabilities: npt.NDArray[np.float32], classes: int) -> npt.NDArray[np.float32]:
    """Return the likeliest classes of rows as a table of all, (n, classes)."""
    table = np.zeros((len(codes), classes), np.float32)
    np.put_along_axis(table, codes, probabilities, axis=1)
    return table


def by_path(masses: Numbers, agreement: Codes, depths: Codes) -> Way:
    """Climb from the likeliest class: what esmcls does."""
    scores = least_thresholds(masses, agreement, depths)

    def answer(one: Codes, other: Codes, coverage: float) -> tuple[Codes, Codes]:
        return answered_levels(masses[other], tree_threshold(scores[one], coverage)), agreement[other]

    return answer


def from_above(table: npt.NDArray[np.float32], truth: Codes, tree: ClassTree) -> tuple[Numbers, Codes]:
    """Descend from the top to the likeliest node below; return the masses, and down to which level that is right."""
    masses = np.zeros((len(table), tree.hierarchy.depth))
    agreement, open_rows = np.zeros(len(table), np.int64), np.ones(len(table), dtype=bool)
    inside = np.ones(table.shape, dtype=bool)
    for level in range(tree.hierarchy.depth):
        sums = np.zeros((len(table), len(tree.nodes)))
        for row in range(len(table)):
            np.add.at(sums[row], tree.paths[:, level], table[row] * inside[row])
        best = sums.argmax(axis=1)
        masses[:, level] = sums[np.arange(len(table)), best]
        inside &= tree.paths[:, level][None, :] == best[:, None]
        open_rows &= tree.paths[truth, level] == best
        agreement += open_rows
    return masses, agreement


def by_set(table: npt.NDArray[np.float32], truth: Codes, tree: ClassTree) -> Way:
    """Answer the node above all classes of today's conformal set."""
    likeliest = table.argmax(axis=1)
    agreement = tree.agreement(truth, likeliest)
    of_truth = table[np.arange(len(table)), truth]
    outside = np.stack(
        [np.where(nodes[None, :] == nodes[likeliest][:, None], 0, table).max(axis=1) for nodes in tree.paths.T], axis=1
    )  # (n, levels): the likeliest class that does not lie there

    def answer(one: Codes, other: Codes, coverage: float) -> tuple[Codes, Codes]:
        least = conformal_threshold(of_truth[one], coverage)
        return (outside[other] < least).sum(axis=1), agreement[other]

    return answer


def halves(way: Way, rows: int, coverage: float, depth: int) -> dict[str, Any]:
    """Return what a way reaches on one half of the rows with the threshold of the other, over draws."""
    random, reached = np.random.default_rng(0), []
    for _ in range(DRAWS):
        one, other = np.array_split(random.permutation(rows), 2)
        levels, right_to = way(one, other, coverage)
        shares = [float((levels == level).mean()) for level in range(depth + 1)]
        reached.append([float((levels <= right_to).mean()), float(levels.mean()), *shares])
    held, level, *shares = np.mean(reached, axis=0).round(4).tolist()
    return {"coverage": coverage, "holds": held, "mean_level": level, "answered_at": shares}


def rescored(table: npt.NDArray[np.float32], truth: Codes, tree: ClassTree) -> Iterator[dict[str, Any]]:
    """Rank classes by their probability times a power of that of the node above, and count what that changes."""
    first = table.argmax(axis=1)
    masses = node_masses(table, tree)
    for level in range(tree.hierarchy.depth - 1):
        for exponent in EXPONENTS:
            above = masses[:, tree.paths[:, level]]
            best = (np.log(table + 1e-12) + exponent * np.log(above + 1e-12)).argmax(axis=1)
            yield {
                "level": tree.hierarchy.levels[level],
                "exponent": exponent,
                "right": float((best == truth).mean()),
                "gained": int(((best == truth) & (first != truth)).sum()),
                "lost": int(((best != truth) & (first == truth)).sum()),
                "right_at_level": float((tree.agreement(truth, best) > level).mean()),
                "right_at_level_before": float((tree.agreement(truth, first) > level).mean()),
            }


def near_misses_in_ridge(workspace: Workspace) -> list[dict[str, Any]]:
    """Fit a ridge on training rows to classes and to what they lie under, and rank by both on validation rows.

    With squared loss the two are one model: what a node's column predicts is the sum of those of its classes. So a loss
    that counts near misses, too, comes to adding the node's score.
    """
    hierarchy, cache = workspace.hierarchy, workspace.latest_cache()
    assert hierarchy is not None, "embed with --hierarchy first"
    train, held = workspace.dataset.part("train"), workspace.dataset.part("validation")
    labels = Labels.from_names(train.labels)
    tree, truth = ClassTree.of(hierarchy, labels.classes), Labels.from_names(held.labels, labels.classes).codes
    x, y = (Features.from_cache(cache, part).vectors().astype(np.float64) for part in (train, held))
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    x, y = (x - mean) / scale, (y - mean) / scale
    targets = np.zeros((len(x), labels.n_classes))
    targets[np.arange(len(x)), labels.codes] = 1
    gram, moments = x.T @ x, x.T @ targets
    rows = []
    for penalty in (0.1, 1.0, 10.0, 100.0, 1000.0):
        scores = y @ np.linalg.solve(gram + penalty * np.eye(len(gram)), moments)
        masses = node_masses(scores, tree)
        for level in range(hierarchy.depth - 1):
            for weight in (0.0, 0.1, 0.25, 0.5, 1.0):
                best = (scores + weight * masses[:, tree.paths[:, level]]).argmax(axis=1)
                right = tree.agreement(truth, best)
                reached = [float((right > at).mean()) for at in range(hierarchy.depth)]
                rows.append(
                    {"penalty": penalty, "level": hierarchy.levels[level], "weight": weight, "right_at": reached}
                )
    best_rows = sorted(rows, key=lambda row: -row["right_at"][-1])[:3]
    print("ridge", *(f"  {row}" for row in best_rows), sep="\n", flush=True)
    return rows


def choose(workspace: Workspace, names: list[str]) -> list[dict[str, Any]]:
    """Return what ways reach on validation rows, for each model."""
    hierarchy = workspace.hierarchy
    assert hierarchy is not None, "embed with --hierarchy first"
    rows = []
    for name in names:
        folder = workspace.find_model(name)
        classes, held = read_manifest(folder).classes, LabelFindings.load(folder).held
        assert held is not None
        tree, truth = ClassTree.of(hierarchy, classes), held.truth
        table = dense(held.codes, held.probabilities, len(classes))
        likeliest, masses = path_masses(table, tree)
        agreement = tree.agreement(truth, likeliest)
        masses_below, right_below = from_above(table, truth, tree)
        lowest = np.full(len(table), hierarchy.depth)
        ways = {
            "from the likeliest class up": by_path(masses, agreement, tree.depths[likeliest]),
            "from the top down": by_path(masses_below, right_below, lowest),
            "above the conformal set": by_set(table, truth, tree),
        }
        reached = {
            way: [halves(answer, len(truth), coverage, hierarchy.depth) for coverage in COVERAGES]
            for way, answer in ways.items()
        }
        scores = [asdict(score) for score in level_scores(tree, truth, likeliest)]
        rows.append({"model": name, "n": len(truth), "levels": scores, "ways": reached})
        rows[-1]["right_from_the_top_down"] = [float((right_below > level).mean()) for level in range(hierarchy.depth)]
        rows[-1]["rescored"] = list(rescored(table, truth, tree))
        print(name, *(f"  {way}: {of_way[-1]}" for way, of_way in reached.items()), sep="\n", flush=True)
    return rows


def measure(workspace: Workspace, names: list[str]) -> list[dict[str, Any]]:
    """Return what models reach on the test part."""
    rows = []
    for name in names:
        model = load_model(workspace.find_model(name))
        assessment = assess(model, workspace)
        print(name, *assessment.lines(), sep="\n", flush=True)
        body = assessment.evaluation.to_json()
        for beside in assessment.beside:
            body |= beside.to_json()
        kept = ("n", "metrics", "levels", "near_misses", "answers_at_a_level")
        chosen = {key: body[key] for key in kept if key in body}
        rows.append({"model": name, "config": model.manifest.config, "validation": model.manifest.validation} | chosen)
    return rows


def kept(workspace: Workspace, names: list[str], report: str, table: Path) -> list[dict[str, Any]]:
    """Return what models of a comparison reach at the levels of a table, by the answers that it kept."""
    labels = LabelPlaces()
    for _ in labels.watch(workspace.dataset.records()):
        pass
    hierarchy, lines = read_hierarchy(table, labels)
    print(*lines, sep="\n")
    tree = ClassTree.of(hierarchy, sorted(set(workspace.dataset.labels)))
    rows = []
    for name in names:
        arrays = load_file(workspace.reports / f"compare-{report}" / "answers" / f"{name}.safetensors")
        truth, first = arrays["truth"], arrays["ranked"][:, 0]
        scores = [asdict(score) for score in level_scores(tree, truth, first)]
        rows.append({"model": name, "levels": scores, "near_misses": int(near_misses(tree, truth, first).sum())})
        print(name, *(f"  {score['name']} {100 * score['right'] / score['n']:.2f}" for score in scores))
        print(f"  wrong {int((truth != first).sum())}, near misses {rows[-1]['near_misses']}")
    return rows


def main() -> None:
    """Choose or measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("choose", "measure", "kept"))
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--of", default="knn,linear,align", help="models")
    parser.add_argument("--report", default="1", help="of `kept`: the name of the comparison")
    parser.add_argument("--table", type=Path, help="of `kept`: child and parent")
    options = parser.parse_args()
    workspace, names = Workspace.open(options.workspace), options.of.split(",")
    if options.what == "kept":
        rows = kept(workspace, names, options.report, options.table)
    else:
        rows = (choose if options.what == "choose" else measure)(workspace, names)
    of_table = f" --report {options.report} --table {options.table.name}" if options.what == "kept" else ""
    more = {"ridge": near_misses_in_ridge(workspace)} if options.what == "choose" else {}
    ran = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    about = {
        "command": f"python benchmarks/hierarchy.py {options.what} {options.name.upper()} --of {options.of}{of_table}",
        "commit": ran.stdout.strip() or None,
        "encoder": workspace.latest_cache().spec.short_name,
        "hierarchy": options.table.name if options.what == "kept" else str(workspace.hierarchy),
    }
    write_json(RESULTS / f"hierarchy_{options.what}_{options.name}.json", about | {"rows": rows} | more)


if __name__ == "__main__":
    main()
