"""What `esmcls annotate` tells of 500 proteins of other clusters, beside MMseqs2's transfer from the same reference.

    python benchmarks/annotate.py SHARED_DATA [--vectors WORKSPACE]

SHARED_DATA holds `go/test_{sequences.fasta,terms.tsv}.gz`, of other 30 % clusters than the reference. The transfer
gives a protein all terms of the best hit, of the search that `annotate` makes, too, of an E-value of .001 or less. With
`--vectors` the proteins' vectors are those of a workspace, which is only read.

Coverage is the share of the proteins that are told anything; precision the share of what is told that is known, a mean
over these; recall the share of what is known that is told, a mean over all proteins, 0 of those that nothing is told
of; F that of the latter two over all. Each aspect is measured by the proteins of which any term of it is known. The
same proteins are drawn again 10,000 times for 95 % intervals and for differences. Shuffled proteins tell how often
something is said of what is like nothing. Writes `benchmarks/results/annotate.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.heads.alignment.term_homology import TermHomologyHead
from esmcls.heads.ensemble.term_ensemble import TermEnsembleHead
from esmcls.labels.ontology import Ontology
from esmcls.models.manifest import versions
from esmcls.plain_values import write_json
from esmcls.reading.inputs import Inputs
from esmcls.reading.records import Protein
from esmcls.reference.annotate import Reference, open_reference
from esmcls.tasks.go_terms.task import GoTerms
from esmcls.workspace.intake import take_in
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).parent / "results" / "annotate.json"
DRAWS = 10_000
EVALUE = 1e-3
SHUFFLED = 100
LONGEST = 500
Told = Mapping[str, set[str]]
"""Id -> terms with all that contain them; an id without any is told nothing."""


def chosen(shared: Path, n: int) -> tuple[list[Protein], dict[str, set[str]], Ontology]:
    """Draw proteins of the test part, with the terms that are known of each."""
    folder = shared / "go"
    given = ((folder / "test_sequences.fasta.gz",), (), (), (folder / "test_terms.tsv.gz",))
    intake = take_in(Inputs(*given, obo=folder / "go-201401.obo.gz"))
    dataset, ontology = intake.dataset, intake.ontology
    assert ontology is not None
    rows = sorted(random.Random(0).sample(range(len(dataset.ids)), n))
    part = dataset.take(rows)
    truth = GoTerms(ontology).labels(part)
    proteins = [Protein(name, sequence) for name, sequence in zip(part.ids, part.sequences, strict=True)]
    return proteins, dict(zip(part.ids, map(set, truth.names()), strict=True)), ontology


def features(reference: Reference, proteins: Sequence[Protein], vectors: Path | None) -> Features:
    """Return the vectors of proteins: those that the latest cache of a workspace has, or made now."""
    sequences = [protein.sequence for protein in proteins]
    if vectors is None:
        return reference.model.features(sequences)
    with Workspace.open(vectors).latest_cache() as cache:
        same = dataclasses.replace(cache.spec, poolings=reference.model.spec.poolings)
        assert same == reference.model.spec
        table = {"mean": np.asarray(cache.read(sequences, "mean"))}
    return Features.from_arrays(table, sequences=sequences, spec=reference.model.spec)


def of_reference(
    reference: Reference, proteins: Sequence[Protein], x: Features
) -> tuple[dict[str, set[str]], dict[str, str]]:
    """Return the terms that are predicted of each protein, and its status."""
    told, status = dict[str, set[str]](), dict[str, str]()
    classes = reference.model.classes
    for protein, answer in zip(proteins, reference.ask(x), strict=True):
        status[protein.id] = answer.nearest.status
        codes = answer.answer.codes[answer.answer.predicted] if answer.nearest.near else []
        told[protein.id] = {classes[code] for code in codes}
    return told, status


def of_transfer(reference: Reference, proteins: Sequence[Protein], x: Features) -> dict[str, set[str]]:
    """Return all terms of the protein of the reference that aligns best, where one does well enough."""
    ensemble = reference.model.head
    assert isinstance(ensemble, TermEnsembleHead)
    head = next(member.head for member in ensemble.members if isinstance(member.head, TermHomologyHead))
    known, hits = head.known.labels.names(), head.finder.hits(x, 1)
    best = zip(proteins, hits.rows[:, 0].tolist(), hits.evalues[:, 0].tolist(), strict=True)
    return {protein.id: set(known[row]) if row >= 0 and evalue <= EVALUE else set() for protein, row, evalue in best}


def rows_of(told: Told, truth: Told, aspect_of: Mapping[str, str], aspect: str) -> npt.NDArray[np.float64]:
    """Return whether anything is told, precision (NaN where nothing is) and recall of each protein, (n, 3)."""
    rows = []
    for name, known in truth.items():
        wanted = {term for term in known if aspect_of[term] == aspect}
        if wanted:
            said = {term for term in told[name] if aspect_of[term] == aspect}
            right = len(said & wanted)
            rows.append((bool(said), right / len(said) if said else np.nan, right / len(wanted)))
    return np.array(rows, dtype=np.float64)


def measures(rows: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return coverage, precision, recall and F."""
    precision = float(np.nanmean(rows[:, 1])) if rows[:, 0].any() else 0.0
    coverage, recall = float(rows[:, 0].mean()), float(rows[:, 2].mean())
    f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"coverage": coverage, "precision": precision, "recall": recall, "f": f}


def compared(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64], draws: int) -> dict[str, Any]:
    """Return the measures of both and of what differs, with 95 % intervals of the same proteins drawn again."""
    generator = np.random.default_rng(0)
    found = {"annotate": measures(ours), "transfer": measures(theirs)}
    drawn: dict[str, list[list[float]]] = {"annotate": [], "transfer": [], "difference": []}
    for _ in range(draws):
        rows = generator.integers(0, len(ours), len(ours))
        one, other = (list(measures(part[rows]).values()) for part in (ours, theirs))
        drawn["annotate"].append(one)
        drawn["transfer"].append(other)
        drawn["difference"].append([a - b for a, b in zip(one, other, strict=True)])
    found["difference"] = {name: found["annotate"][name] - found["transfer"][name] for name in found["annotate"]}
    low, high = ({who: np.quantile(values, q, 0) for who, values in drawn.items()} for q in (0.025, 0.975))
    return {
        who: {
            name: [round(float(number), 4) for number in (value, low[who][place], high[who][place])]
            for place, (name, value) in enumerate(values.items())
        }
        for who, values in found.items()
    } | {"proteins": len(ours)}


def of_shuffled(reference: Reference, proteins: Sequence[Protein]) -> dict[str, int]:
    """Return how many shuffled proteins have which status."""
    generator = random.Random(1)
    short = [protein for protein in proteins if len(protein.sequence) <= LONGEST][:SHUFFLED]
    shuffled = [Protein(one.id, "".join(generator.sample(one.sequence, len(one.sequence)))) for one in short]
    status = list(of_reference(reference, shuffled, features(reference, shuffled, None))[1].values())
    return {name: status.count(name) for name in sorted(set(status))}


def main() -> None:
    """Ask both about the same proteins, once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    proteins, truth, ontology = chosen(options.shared, options.n)
    aspect_of = dict(zip(ontology.terms, ontology.aspects, strict=True))
    with open_reference(options.reference) as reference:
        x = features(reference, proteins, options.vectors)
        told, status = of_reference(reference, proteins, x)
        transferred = of_transfer(reference, proteins, x)
        shuffled = of_shuffled(reference, proteins)
        scope = str(reference.scope)
    aspects = {
        a: compared(*(rows_of(one, truth, aspect_of, a) for one in (told, transferred)), options.draws) for a in "CFP"
    }
    lacking = {name: known for name, known in truth.items() if not transferred[name]}
    alone = {a: {k: round(v, 4) for k, v in measures(rows_of(told, lacking, aspect_of, a)).items()} for a in "CFP"}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    found = {
        "command": shlex.join(["python", "benchmarks/annotate.py", *sys.argv[1:]]),
        "commit": commit,
        "versions": versions(),
        "reference": scope,
        "proteins": len(proteins),
        "status": {name: list(status.values()).count(name) for name in sorted(set(status.values()))},
        "aspects": aspects,
        "without_a_hit": {"proteins": len(lacking), **alone},
        "shuffled": shuffled,
    }
    write_json(options.output, found)
    for aspect, one in aspects.items():
        print(aspect, one)
    print(found["status"], found["without_a_hit"], shuffled)


if __name__ == "__main__":
    main()
