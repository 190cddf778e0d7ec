"""Measures by what was known of proteins, against the evaluators of CAFA: cafaeval and its fork for partial knowledge.

    python -m venv oracle && oracle/bin/pip install cafaeval-protea==0.1.0
    python benchmarks/cafa_parity.py --oracle oracle/bin/python
    python benchmarks/cafa_parity.py --oracle oracle/bin/python --real WORKSPACE --answers MEMBER.npz --obo go.obo

The fork is a package of the same name as cafaeval 1.3.0, which the tests use, so it has an environment of its own.
Random ontologies, truths and predictions are drawn as the tests draw them; `--real` takes the validation part of a
workspace, what a member said of it (`benchmarks/term_ranker.py` leaves that), and of each second protein half of its
terms as known. Targets are proteins with a new term, as in CAFA's own truth: of others the fork counts what is wrong.
Each term weighs something: a protein whose terms all weigh nothing is left out by the fork, where cafaeval 1.3.0 and
esmcls count it.

Written to `benchmarks/results/cafa_parity.json`, or `--output`: the largest difference of each measure.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, load_npz

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from test_term_metrics import random_ontology, write_obo

from esmcls.labels.labels import LabelSets
from esmcls.labels.ontology import ASPECTS, Ontology, raise_parents, read_obo
from esmcls.plain_values import write_json
from esmcls.tasks.go_terms.known.knowledge import measure_by_knowledge
from esmcls.tasks.go_terms.known.known_terms import KnownTerms

RESULTS = Path(__file__).parent / "results"
ORACLE = """
import json, sys, warnings
warnings.simplefilter("ignore")
from cafaeval.evaluation import cafa_eval
obo, predictions, truth, ia, exclude = sys.argv[1:]
more = {} if exclude == "-" else {"exclude": exclude}
how = {"no_orphans": True, "norm": "cafa", "prop": "max", "th_step": 0.01, "n_cpu": 1}
_, best = cafa_eval(obo, predictions, truth, ia=ia, **how, **more)
out = {}
for measure in ("f", "f_w", "f_micro_w"):
    frame = best[measure].reset_index()
    out[measure] = {row["ns"]: [row[measure], row["tau"]] for _, row in frame.iterrows()}
print(json.dumps(out))
"""
NAMES = {"f": "fmax", "f_w": "wfmax", "f_micro_w": "f_micro_w"}


def main() -> None:
    """Compare and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", required=True, help="python with cafaeval-protea")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--real", type=Path, help="workspace")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--answers", type=Path)
    parser.add_argument("--obo", type=Path)
    parser.add_argument("--output", type=Path, default=RESULTS / "cafa_parity.json")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for seed in range(options.seeds):
        found[f"random {seed}"] = compared(*drawn(seed), options.oracle)
        print(seed, found[f"random {seed}"]["largest"], flush=True)
    if options.real is not None:
        found["real"] = compared(*real(options), options.oracle)
    worst = max(case["largest"] for case in found.values())
    print(f"largest difference: {worst:.2g}")
    about = {"command": shlex.join(["python", "benchmarks/cafa_parity.py"]), "oracle": "cafaeval-protea 0.1.0"}
    write_json(options.output, about | {"largest": worst, "cases": found})


def drawn(seed: int, n: int = 60) -> tuple[Ontology, list[list[str]], dict[int, list[str]], Any, Any, list[str]]:
    """Return an ontology, direct terms, known terms of some, probabilities, information accretion, classes."""
    random = np.random.default_rng(seed)
    tree = random_ontology(random)
    own = [term for term in tree.terms if term not in tree.roots]
    direct = [random.choice(own, 6).tolist() for _ in range(n)]
    raw = (random.random((n, len(own))) ** 3).round(3)
    raw[random.random(raw.shape) < 0.4] = 0
    raise_parents(raw, tree.edges(own))
    ia = 0.01 + random.random(len(own)) * 6
    known = {row: direct[row][: int(random.integers(1, 4))] for row in range(0, n, 2)}
    return tree, direct, known, csr_matrix(raw), ia, own


def real(options: argparse.Namespace) -> tuple[Ontology, list[list[str]], dict[int, list[str]], Any, Any, list[str]]:
    """Return the same of a validation part."""
    from term_ranker import embedded

    from esmcls.cache.store import EmbeddingCache
    from esmcls.labels.information_accretion import information_accretion
    from esmcls.tasks.kinds import task_of
    from esmcls.workspace.workspace import Workspace

    workspace = Workspace.open(options.real)
    cache = workspace.latest_cache() if options.cache is None else EmbeddingCache.open(options.cache)
    train, held = (embedded(workspace.dataset.part(part), cache) for part in ("train", "validation"))
    task = task_of(workspace)
    tree = read_obo(options.obo)
    labels = task.labels(train)
    scores = np.asarray(load_npz(options.answers).toarray(), dtype=np.float64)
    scores = np.where(scores >= 0.005, scores, 0).round(3)
    raise_parents(scores, tree.edges(labels.classes))
    place = {term: code for code, term in enumerate(labels.classes)}
    direct = [[term for term in label.split() if term in place] for label in held.labels]
    rows = [row for row, terms in enumerate(direct) if terms]
    direct = [direct[row] for row in rows]
    known = {row: direct[row][: max(1, len(direct[row]) // 2)] for row in range(0, len(rows), 2)}
    ia = np.maximum(0.01, information_accretion(labels, tree))
    return tree, direct, known, csr_matrix(scores[rows]), ia, list(labels.classes)


def compared(
    tree: Ontology,
    direct: list[list[str]],
    known: dict[int, list[str]],
    scores: csr_matrix,
    ia: Any,
    classes: list[str],
    oracle: str,
) -> dict[str, Any]:
    """Return the largest difference, and ours of each kind of target."""
    groups = [tree.aspects[tree.place[term]] for term in classes]
    truth = LabelSets.from_names(tree.propagate(direct).names(), classes, groups)
    ids = [f"p{row}" for row in range(len(direct))]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        table = home / "known.tsv"
        table.write_text("".join(f"p{row}\t{term}\n" for row, terms in known.items() for term in terms))
        knows = KnownTerms.read(table, tree)
        ours = measure_by_knowledge(truth, [(slice(0, len(ids)), scores)], knows, ids, ia, folds=2)
        write_obo(tree, home / "go.obo")
        (home / "ia.tsv").write_text("".join(f"{t}\t{v!r}\n" for t, v in zip(classes, ia.tolist(), strict=True)))
        (home / "said").mkdir()
        coo = scores.tocoo()
        lines = zip(coo.row.tolist(), coo.col.tolist(), coo.data.tolist(), strict=True)
        (home / "said" / "ours.tsv").write_text("".join(f"p{r}\t{classes[c]}\t{v!r}\n" for r, c, v in lines))
        largest, told = 0.0, dict[str, Any]()
        for kind, each in ours.kinds.items():
            theirs = oracle_of(home, tree, direct, known, knows, kind, oracle)
            for letter, reached in each.items():
                for name, mine in NAMES.items():
                    value, tau = theirs[name][ASPECTS[letter]]
                    gap = abs(value - reached.metrics[mine].value)
                    largest = max(largest, gap)
                    assert gap > 1e-9 or abs(tau - reached.thresholds[mine]) < 1e-9, (kind, letter, name)
                told[f"{kind} {letter}"] = {name: reached.metrics[name].value for name in NAMES.values()}
                told[f"{kind} {letter}"]["proteins"] = reached.proteins
    return {"largest": largest, "ours": told}


def roots_of(tree: Ontology) -> set[int]:
    """Return the places of the roots."""
    return {tree.place[root] for root in tree.roots}


def oracle_of(
    home: Path,
    tree: Ontology,
    direct: list[list[str]],
    known: dict[int, list[str]],
    knows: KnownTerms,
    kind: str,
    oracle: str,
) -> dict[str, dict[str, list[float]]]:
    """Return what the fork says of the targets of a kind in each aspect: the truth is theirs alone."""
    targets = []
    for row, terms in enumerate(direct):
        aspects = knows.aspects_of(f"p{row}")
        above = {int(place) for term in terms for place in tree.ancestors[tree.place[term]]}
        news = {tree.aspects[place] for place in above - set(knows.of(f"p{row}")[0].tolist()) - roots_of(tree)}
        for letter in news:  # the fork counts what is wrong of proteins without news, too
            is_kind = {
                "no_knowledge": not aspects,
                "limited_knowledge": bool(aspects) and letter not in aspects,
                "partial_knowledge": letter in aspects,
            }[kind]
            targets += [(row, letter)] if is_kind else []
    truth, exclude = home / "truth.tsv", home / "exclude.tsv"
    rows = sorted({row for row, _ in targets})
    own = ((row, term) for row, letter in targets for term in direct[row] if tree.aspects[tree.place[term]] == letter)
    truth.write_text("".join(f"p{row}\t{term}\n" for row, term in own))
    partial = kind == "partial_knowledge"
    exclude.write_text("".join(f"p{row}\t{term}\n" for row in rows for term in known.get(row, ())))
    command = [oracle, "-c", ORACLE, *map(str, (home / "go.obo", home / "said", truth, home / "ia.tsv"))]
    ran = subprocess.run([*command, str(exclude) if partial else "-"], capture_output=True, text=True, check=True)
    out: dict[str, dict[str, list[float]]] = json.loads(ran.stdout.splitlines()[-1])
    return out


if __name__ == "__main__":
    main()
