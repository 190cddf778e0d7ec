"""Measures numbers a protein: layers chosen on validation, every head fitted, the best of validation asked about test.

    python benchmarks/number_sets.py gb1 gb1/gb1.tsv.gz --split-column three_vs_rest
    python benchmarks/number_sets.py melting melting/clustered.tsv.gz --label-column tm_celsius
    python benchmarks/number_sets.py solubility solubility/train.tsv.gz --test solubility/test.tsv.gz \\
        --label-column solubility

A workspace under `--work` is resumed. All layers are embedded, those that serve a ridge regression best on the
validation part are taken (`esmcls embed --layers auto`), and each of `--heads` is fitted with its defaults. The one
with the highest Spearman on validation is asked about the test part, once; no other is. Writes
`benchmarks/results/numbers_<set>_<encoder>.json`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from esmcls.evaluation.assess import evaluate
from esmcls.layer_choice.embed import embed_choosing_layers
from esmcls.models.fit import fit
from esmcls.plain_values import write_json
from esmcls.reading.inputs import Inputs
from esmcls.workspace.embed_in_workspace import EmbeddingRecipe
from esmcls.workspace.intake import take_in
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).parent / "results"
HEADS = ("ridge", "knn", "mlp", "lightgbm", "ensemble")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("table", type=Path)
    parser.add_argument("--test", type=Path, nargs="*", default=[])
    parser.add_argument("--label-column")
    parser.add_argument("--split-column")
    parser.add_argument("--encoder", default="bundled")
    parser.add_argument("--heads", nargs="*", default=list(HEADS))
    parser.add_argument("--work", type=Path, default=Path("esmcls-work/numbers"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--choose-only", action="store_true", help="leave the test part unasked, and write nothing")
    return parser.parse_args()


def commit() -> str:
    """Return the commit of the checkout; nothing where there is none."""
    ran = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=RESULTS, capture_output=True, text=True, check=False
    )
    return ran.stdout.strip()


def fitted(place: Workspace, heads: list[str], seed: int) -> dict[str, Any]:
    """Fit each head and return what it reaches on validation, with its seconds of the processor."""
    reached: dict[str, Any] = {}
    for head in heads:
        began = time.process_time()
        model = fit(place, head, seed=seed, refit=False)
        reached[head] = model.manifest.validation | {"seconds": round(time.process_time() - began, 1)}
        print(head, reached[head], flush=True)
    return reached


def main() -> None:
    """Measure one set with one encoder."""
    options = read_options()
    short = Path(options.encoder).name
    place = Workspace.open(options.work / f"{options.name}-{short}", create=True)
    columns = {"label_column": options.label_column, "split_column": options.split_column}
    intake = take_in(Inputs((options.table,), test=tuple(options.test), **columns), seed=options.seed)
    print("\n".join(intake.lines()), flush=True)
    chosen = embed_choosing_layers(place, intake, EmbeddingRecipe(options.encoder), keep_all=True)
    print("\n".join(chosen.lines()), flush=True)
    validation = fitted(place, options.heads, options.seed)
    best = max(validation, key=lambda head: validation[head]["spearman"])
    if options.choose_only:
        return
    assessment = evaluate(place.folder / "models" / best, workspace=place)
    print("\n".join(assessment.lines()))
    body = assessment.evaluation.to_json()
    write_json(
        RESULTS / f"numbers_{options.name}_{short}.json",
        {
            "command": " ".join(
                ["python", "benchmarks/number_sets.py", options.name, options.table.name, *sys.argv[3:]]
            ),
            "commit": commit(),
            "encoder": short,
            "layers": asdict(chosen.choice),
            "validation": validation,
            "chosen": best,
            "test": {name: body[name] for name in ("n", "metrics")},
        },
    )


if __name__ == "__main__":
    main()
