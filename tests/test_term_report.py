"""The report of a comparison on terms holds its numbers as they are, and asks for nothing else."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_report import COST, EVIL, Outline
from test_term_metrics import in_blocks, random_case

from esmcls.reporting.results import Timing
from esmcls.tasks.go_terms import report
from esmcls.tasks.go_terms.answers import TermAnswers
from esmcls.tasks.go_terms.comparison import compare_terms
from esmcls.tasks.go_terms.results import TermReport
from esmcls.tasks.label_sets.evaluation import evaluate_terms

NAMES = ("ensemble", "homology", EVIL, "naive")


def versus(answers: dict[str, TermAnswers], reference: str) -> dict[str, Any]:
    """Return how far each other model is from one, as plain values; nothing where that was not run."""
    if reference not in answers:
        return {}
    others = [name for name in answers if name != reference]
    counts = [answers[name].counts for name in others]
    differences = compare_terms(answers[reference].counts, counts, folds=20)
    return {
        name: {
            aspect: {measure: asdict(difference) for measure, difference in measures.items()}
            for aspect, measures in aspects.items()
        }
        for name, aspects in zip(others, differences, strict=True)
    }


def a_comparison(names: tuple[str, ...] = NAMES, *, ia: bool = True) -> dict[str, Any]:
    """Return models that were asked about the same proteins, each with more noise than the one before."""
    labels, scores, bits = random_case(1, 60)
    random, found = np.random.default_rng(0), dict[str, TermAnswers]()
    train, lengths = random.integers(0, 700, labels.n_classes), random.integers(30, 1500, len(labels))
    for place, name in enumerate(names):
        noise = random.normal(0, 0.02 + 0.2 * place, scores.shape)
        said = (0.7 * scores + 0.3 * labels.dense() + noise).clip(0, 1).astype(np.float32)
        one = evaluate_terms(labels, in_blocks(said), train, bits if ia else None, folds=5, lengths=lengths)
        found[name] = TermAnswers(one.counts, one.to_json(), (None, 0.1), {}, lengths)
    against = {key: versus(found, name) for key, name in (("best", names[0]), ("homology", "homology"))}
    return {
        "format": 1,
        "dataset": {
            "records": {"train": 1000, "validation": 100, "test": 60},
            "terms": {"trained": 40, "tested": 30, "unseen": 2},
            "split_digest": "3f9a7c21e5d80b46" * 4,
            "seed": 0,
        },
        "settings": {"heads": ["homology", "naive", EVIL], "encoders": ["bundled"], "knobs": {}},
        "best": names[0],
        "chosen": names[0],
        "rows": [
            {
                "name": name,
                "head": name,
                "encoder": "",
                "baseline": name == "naive",
                "validation": {"fmax": 0.5},
                "mean_fmax": one.mean_fmax,
                "aspects": one.evaluation["aspects"],
                "versus_best": against["best"].get(name),
                "versus_homology": against["homology"].get(name),
                "megabytes": 1.5,
                "explanation": "",
            }
            for name, one in found.items()
        ],
        "not_run": [{"name": "lightgbm", "reason": EVIL}],
        "origin": {
            "data": f"terms.tsv, {EVIL}",
            "date": "2026-11-29",
            "split": "at random",
            "versions": {"numpy": "2"},
        },
        "leakage": {
            "measured_by": "By identity.",
            "bins": [{"name": "< 30 %", "n": 60, "scores": {name: one.mean_fmax for name, one in found.items()}}],
        },
        "weighed_by": "the training terms",
    }


def a_timing(comparison: dict[str, Any], seconds: float = 7.71) -> dict[str, Any]:
    names = [row["name"] for row in comparison["rows"]]
    return {
        "format": 1,
        "machine": {"processor": "A Processor", "cores": 1},
        "rows": [{"name": name, "fit_seconds": seconds, "proteins_per_second": 1200} for name in names],
    }


def write_term_report(folder: Path, comparison: dict[str, Any], timing: dict[str, Any]) -> Path:
    return report.write_term_report(folder, TermReport.from_json(comparison), Timing.from_json(timing))


def page(comparison: dict[str, Any], timing: dict[str, Any], figures: dict[str, str]) -> str:
    return report.page(TermReport.from_json(comparison), Timing.from_json(timing), figures)


def lines(comparison: dict[str, Any], timing: dict[str, Any]) -> list[str]:
    return report.lines(TermReport.from_json(comparison), Timing.from_json(timing))


def tables(comparison: dict[str, Any], timing: dict[str, Any]) -> dict[str, Any]:
    return report.tables(TermReport.from_json(comparison), Timing.from_json(timing))


def summary(comparison: dict[str, Any]) -> list[str]:
    return report.summary(TermReport.from_json(comparison))


@pytest.fixture(scope="module")
def comparison() -> dict[str, Any]:
    return json.loads(json.dumps(a_comparison()))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def made(comparison: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, all_formats: None) -> Path:
    folder = tmp_path_factory.mktemp("report") / "compare"
    assert write_term_report(folder, comparison, a_timing(comparison)) == folder / "report.html"
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))


def test_page_tables_and_figures_lie_side_by_side(made: Path, comparison: dict[str, Any]) -> None:
    left = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    names = {"table", "differences", "buckets", "lengths", "leakage", "timing"}
    figures = {"precision_recall", "buckets", "term_lengths"}
    assert left == {"report.html", "report.json", "timing.json"} | {f"{name}.tsv" for name in names} | {
        f"figures/{name}.{kind}" for name in figures for kind in ("svg", "png", "pdf")
    }
    assert json.loads((made / "report.json").read_text()) == comparison


def test_the_page_is_whole_asks_for_nothing_and_takes_no_name_for_markup(made: Path) -> None:
    text = (made / "report.html").read_text()
    outline = Outline(text)
    assert outline.open == []
    assert outline.references <= set(outline.ids)
    assert len(outline.ids) == len(set(outline.ids))
    assert "script" not in outline.tags
    assert text.count("<svg") == 3
    assert not re.search(r"(?:src|href)=\"http", text)


def test_the_page_shows_each_measure_with_its_interval(made: Path, comparison: dict[str, Any]) -> None:
    text = (made / "report.html").read_text()
    for row in comparison["rows"]:
        for found in row["aspects"].values():
            for name, one in found["metrics"].items():
                shown = "{:.2f}" if name == "smin" else "{:.3f}"
                value, low, high = (shown.format(one[key]) for key in ("value", "low", "high"))
                assert f'<td>{value} <span class="span">{low}–{high}</span></td>' in text


def test_a_line_of_the_table_is_a_model_in_an_aspect(made: Path, comparison: dict[str, Any]) -> None:
    found = rows_of(made / "table.tsv")
    assert [(one["model"], one["aspect"]) for one in found][:4] == [
        (NAMES[0], "C"),
        (NAMES[0], "F"),
        (NAMES[0], "P"),
        (NAMES[1], "C"),
    ]
    told = comparison["rows"][0]["aspects"]["C"]
    assert float(found[0]["smin_high"]) == told["metrics"]["smin"]["high"]
    assert float(found[0]["fmax_threshold"]) == told["thresholds"]["fmax"]
    assert float(found[0]["aupr_macro"]) == told["aupr"]["macro"]
    assert len(rows_of(made / "buckets.tsv")) == 4 * 3 * 6
    assert {one["reference"] for one in rows_of(made / "differences.tsv")} == {"best", "homology"}
    assert len(rows_of(made / "differences.tsv")) == 2 * 3 * 3 * 4


def test_what_was_timed_changes_the_last_section_of_the_page_and_not_a_byte_more(
    made: Path, comparison: dict[str, Any]
) -> None:
    figures = {path.stem: path.read_text() for path in (made / "figures").glob("*.svg")}
    times = [page(comparison, a_timing(comparison, seconds), figures).split(COST) for seconds in (7.71, 9.0)]
    assert times[0][0] == times[1][0] == (made / "report.html").read_text().split(COST)[0]
    assert times[0][1] != times[1][1]


def test_the_summary_says_how_the_best_stands_to_homology_and_to_the_baseline(comparison: dict[str, Any]) -> None:
    first, homology, naive = summary(comparison)
    fmax = comparison["rows"][0]["aspects"]["C"]["metrics"]["fmax"]["value"]
    assert first.startswith("The best of 3 models and 1 baseline on the test part (60 proteins)")
    assert f"is ensemble: cellular component {fmax:.3f} (" in first
    ahead = comparison["rows"][0]["versus_homology"]["C"]["fmax"]["value"]
    assert f"its Fmax is +{ahead:.3f} in cellular component (p = 0." in homology
    assert naive.startswith("Against naive, a baseline, it is +0.")


def test_what_was_measured_in_folds_is_said_so_with_how_far_they_differ(
    comparison: dict[str, Any], tmp_path: Path
) -> None:
    comparison["settings"]["folds"] = 2
    for row in comparison["rows"]:
        row["folds"] = [0.5, 0.6]
    write_term_report(tmp_path, comparison, a_timing(comparison))
    text = (tmp_path / "report.html").read_text()
    assert "in 2 folds of train and validation (1,100 proteins; the test part was not read)" in summary(comparison)[0]
    assert " on the test part" not in text
    assert "<td>0.550 ± 0.071</td>" in text  # the deviation by n - 1
    first = {"model": NAMES[0], "fold": "1", "mean_fmax": "0.5"}
    assert rows_of(tmp_path / "folds.tsv")[0] == first


def test_the_terminal_has_a_table_for_each_aspect_and_first_what_was_left_out(comparison: dict[str, Any]) -> None:
    before, empty, *told = lines(comparison, a_timing(comparison))
    assert (before, empty) == (f"left out: lightgbm: {EVIL}", "")
    assert told[0].split() == ["model", "C", "Fmax", "F", "Fmax", "P", "Fmax", "mean", "fit", "proteins/s", "MB"]
    assert told[1].split()[:2] == [
        "ensemble",
        f"{comparison['rows'][0]['aspects']['C']['metrics']['fmax']['value']:.3f}",
    ]
    assert "molecular function (F)" in told
    best = next(line for line in told[told.index("molecular function (F)") :] if line.startswith("ensemble"))
    assert best.split()[-2] == "–"  # of the best itself there is no p


def test_what_is_not_known_is_a_dash() -> None:
    found = a_comparison(("ensemble",), ia=False)
    timing = a_timing(found) | {"rows": [{"name": "ensemble", "fit_seconds": None, "proteins_per_second": None}]}
    assert tables(found, timing)["differences.tsv"] == []
    assert "homology" not in " ".join(summary(found))
    assert lines(found, timing)[3].split()[-3:] == ["–", "–", "1.5"]
    weighted = "</span></td><td>–</td><td>–</td>"  # Fmax and Smin, after the Fmax that is known
    assert page(found, timing, {}).count(weighted) == 3
