"""Keeps the numbers of a comparison: what `esmcls compare` reached on real data, without its curves.

    esmcls embed … -w WORKSPACE; esmcls compare -w WORKSPACE --encoders bundled
    python benchmarks/keep_comparison.py WORKSPACE cath_bundled --commit 0123abc --command "esmcls compare …"

Writes `benchmarks/results/compare_<name>.json` and prints the table. With `--against homology` it has the difference of
each model's accuracy from that one's, too, on the same proteins drawn again and again.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from esmcls.metrics.paired import accuracy_differences
from esmcls.plain_values import read_json, write_json
from esmcls.reporting.results import Timing
from esmcls.tasks.one_label.report import lines
from esmcls.tasks.one_label.results import OneLabelReport

RESULTS = Path(__file__).parent / "results"
CURVES = ("reliability", "retained", "confusions", "folds")


def differences(folder: Path, reference: str) -> dict[str, Any]:
    """Return how far the accuracy of each model is from a reference's, on the same proteins (paired bootstrap)."""
    right = {}
    for path in sorted((folder / "answers").glob("*.safetensors")):
        answers = load_file(path)
        right[path.stem] = answers["ranked"][:, 0] == answers["truth"]
    others = [name for name in right if name != reference]
    found = accuracy_differences(right[reference], [right[name] for name in others])
    return {name: asdict(difference) for name, difference in zip(others, found, strict=True)}


def main() -> None:
    """Copy one report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("name")
    parser.add_argument("--commit", required=True, help="what the models were fitted with")
    parser.add_argument("--command", required=True)
    parser.add_argument("--against", help="a model of it, such as homology")
    options = parser.parse_args()
    folder = options.workspace / "reports" / "compare"
    report, timing = read_json(folder / "report.json"), read_json(folder / "timing.json")
    print("\n".join(lines(OneLabelReport.from_json(report), Timing.from_json(timing))))
    for row in report["rows"]:
        for curve in CURVES:
            row.pop(curve)
        if row["open_set"]:
            row["open_set"].pop("roc")
    kept = {name: report[name] for name in ("dataset", "settings", "best", "chosen", "rows", "not_run")}
    about: dict[str, Any] = {"command": options.command, "commit": options.commit, "timing": timing["rows"]}
    if options.against:
        about["against"] = {options.against: differences(folder, options.against)}
        for name, gap in about["against"][options.against].items():
            spans = f"{100 * gap['value']:+.2f} ({100 * gap['low']:+.2f} to {100 * gap['high']:+.2f})"
            print(f"{name}, less {options.against}: {spans}, p {gap['p_holm']:.2g}")
    write_json(RESULTS / f"compare_{options.name}.json", about | kept)


if __name__ == "__main__":
    main()
