"""Keeps the numbers of a comparison: what `esmcls compare` reached on real data, without its curves.

    esmcls embed … -w WORKSPACE; esmcls compare -w WORKSPACE --encoders bundled
    python benchmarks/keep_comparison.py WORKSPACE cath_bundled --commit 0123abc --command "esmcls compare …"

Writes `benchmarks/results/compare_<name>.json` and prints the table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from esmcls.files import read_json, write_json
from esmcls.reporting.results import Timing
from esmcls.tasks.one_label.report import lines
from esmcls.tasks.one_label.results import OneLabelReport

RESULTS = Path(__file__).parent / "results"
CURVES = ("reliability", "retained", "confusions", "folds")


def main() -> None:
    """Copy one report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("name")
    parser.add_argument("--commit", required=True, help="what the models were fitted with")
    parser.add_argument("--command", required=True)
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
    about = {"command": options.command, "commit": options.commit, "timing": timing["rows"]}
    write_json(RESULTS / f"compare_{options.name}.json", about | kept)


if __name__ == "__main__":
    main()
