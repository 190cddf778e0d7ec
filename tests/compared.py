"""A comparison as `esmcls compare` makes it, with numbers that follow from each model's accuracy: no draw, no data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from esmcls.reporting.results import Timing
from esmcls.tasks.one_label.results import OneLabelReport

ACCURACIES = {
    "ensemble": 0.801,
    "homology": 0.749,
    "mlp": 0.731,
    "lightgbm": 0.722,
    "linear": 0.694,
    "knn": 0.681,
    "kmer/linear": 0.423,
    "majority": 0.021,
}
BASELINES = ("kmer/linear", "majority")
TIERS = {"<5": (412, -0.22), "5-19": (1903, -0.06), "20-99": (2210, 0.07), "≥100": (0, 0.0)}
LENGTHS = {"<100": (733, -0.05), "100-199": (1801, 0.02), "200-399": (1500, 0.03), "≥400": (491, -0.03)}
N = 4525
LEFT_OUT = "of knn, linear it takes knn; on validation it is as good without linear"
NAMES = {"PF00001": "7tm_1", "PF00069": "Pkinase", "PF07714": "PK_Tyr_Ser-Thr", "PF13853": "7tm_4", "PF00076": "RRM_1"}


def a_comparison(
    names: Sequence[str] = tuple(ACCURACIES), *, open_set: bool = True, sets: bool = True, levels: bool = True
) -> dict[str, Any]:
    """Return report.json of these models, of `ACCURACIES` or between 50 and 60 %, the best first."""
    accuracies = {name: ACCURACIES.get(name, 0.6 - 0.1 * place / len(names)) for place, name in enumerate(names)}
    ordered = sorted(accuracies, key=lambda name: -accuracies[name])
    rows = [a_row(name, accuracies[name], accuracies[ordered[0]], open_set=open_set, sets=sets) for name in ordered]
    rows = [with_levels(row) for row in rows] if levels else rows
    return {
        "format": 1,
        "dataset": {
            "records": {"train": 36_200, "validation": 4530, "test": N},
            "classes": 813,
            "split_digest": "3f9a7c21e5d80b46" * 4,
            "seed": 0,
        },
        "settings": {
            "heads": ["linear", "knn", "mlp", "lightgbm", "homology", "ensemble"],
            "encoders": ["bundled"],
            "folds": 0,
            "hold_out_families": 0.1 if open_set else 0,
            "calibration": 0.1 if sets else 0,
            "coverage": 0.95,
            "false_acceptance": 0.05,
            "knobs": {},
        },
        "best": ordered[0],
        "chosen": ordered[0],
        "rows": rows,
        "not_run": [],
        "family_names": {},
        "origin": {
            "data": "families.csv",
            "date": "2026-11-29",
            "split": "drawn within each class: 80 % train, 10 % validation, 10 % test (seed 0)",
            "versions": {"esmcls": "0.2.0", "numpy": "2.0.0", "python": "3.11.7", "torch": "2.6.0"},
        },
        "leakage": {
            "measured_by": "By identity.",
            "bins": [
                {"name": "no alignment", "n": 500, "scores": {name: 0.5 * accuracies[name] for name in ordered}},
                {"name": "< 30 %", "n": 0, "scores": dict.fromkeys(ordered)},
                {"name": "≥ 90 %", "n": N - 500, "scores": {name: accuracies[name] for name in ordered}},
            ],
        },
    }


def read(report: dict[str, Any]) -> OneLabelReport:
    """Return what a report.json holds."""
    return OneLabelReport.from_json(report)


def read_timing(timing: dict[str, Any]) -> Timing:
    """Return what a timing.json holds."""
    return Timing.from_json(timing)


def a_row(name: str, accuracy: float, best: float, *, open_set: bool = True, sets: bool = True) -> dict[str, Any]:
    return {
        "name": name,
        "head": name.rpartition("/")[2],
        "encoder": name.rpartition("/")[0] or "bundled",
        "baseline": name in BASELINES,
        "validation": {"accuracy": accuracy - 0.01, "macro_f1": accuracy - 0.07},
        "metrics": {
            "accuracy": _interval(accuracy),
            "macro_f1": _interval(accuracy - 0.06),
            "macro_recall": _interval(accuracy - 0.05),
            "top_5": _interval(accuracy + 0.09),
        },
        "tiers": _places(TIERS, accuracy),
        "lengths": _places(LENGTHS, accuracy),
        "versus_best": None if accuracy == best else _versus(accuracy - best),
        "calibration_error": round(0.05 * accuracy, 4),
        "reliability": _reliability(accuracy),
        "retained": _retained(accuracy),
        "confusions": [_confusion(place) for place in range(20)],
        "open_set": _open_set(accuracy) if open_set else None,
        "sets": _sets(accuracy) if sets else None,
        "megabytes": round(20 * accuracy, 3),
        "explanation": LEFT_OUT if name == "ensemble" else "",
        "folds": [],
        "levels": [],
        "near_misses": None,
        "level_sets": None,
    }


def with_levels(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a model whose classes lie in clans."""
    accuracy = row["metrics"]["accuracy"]
    clan = {"name": "clan", "n": N, "right": N // 2, "accuracy": accuracy}
    nobody = {"name": "family", "n": 0, "right": 0, "accuracy": None}
    reached = {"coverage": 0.95, "held_half": 0.951, "test": 0.948, "calibration_rows": 900}
    shares = [{"name": name, "share": share} for name, share in (("family", 0.75), ("clan", 0.125), ("none", 0.125))]
    return row | {"levels": [clan, nobody], "near_misses": 7, "level_sets": reached | {"levels": shares}}


def a_timing(comparison: dict[str, Any], factor: float = 1.0) -> dict[str, Any]:
    """Return timing.json beside a comparison."""
    return {
        "format": 1,
        "machine": {"processor": "A Processor", "cores": 2},
        "rows": [
            {
                "name": row["name"],
                "fit_seconds": factor * 7.7 * 4**place,
                "proteins_per_second": 52_000 / 3**place / factor,
            }
            for place, row in enumerate(comparison["rows"])
        ],
    }


def _interval(value: float, half: float = 0.0125) -> dict[str, float]:
    value = min(max(value, 0.0), 1.0)
    return {"value": value, "low": max(value - half, 0.0), "high": min(value + half, 1.0)}


def _places(places: dict[str, tuple[int, float]], accuracy: float) -> list[dict[str, Any]]:
    return [
        {"name": name, "n": n, "accuracy": min(max(accuracy + more, 0.0), 1.0) if n else None}
        for name, (n, more) in places.items()
    ]


def _versus(difference: float) -> dict[str, Any]:
    p = 0.0 if difference < -0.03 else 0.002 if difference < -0.012 else 0.0404
    interval = {"value": difference, "low": difference - 0.011, "high": difference + 0.012}
    return {"difference": interval, "p": p, "p_holm": min(3 * p, 1.0)}


def _reliability(accuracy: float) -> dict[str, Any]:
    middles = (np.arange(15) + 0.5) / 15
    shares = np.exp(-(((middles - accuracy) / 0.3) ** 2))
    counts = np.floor(N * shares / shares.sum()).astype(int)
    counts[0] = 0
    there = [bool(count) for count in counts]
    right = middles - 0.05 * np.sin(np.pi * middles)
    known = [[float(v) if here else None for v, here in zip(vs, there, strict=True)] for vs in (middles, right)]
    return {"counts": counts.tolist(), "confidence": known[0], "accuracy": known[1], "low": [], "high": []}


def _retained(accuracy: float) -> dict[str, Any]:
    coverage = np.linspace(0, 1, 101)
    kept = 1 - (1 - accuracy) * coverage**1.7
    return {"coverage": coverage.tolist(), "accuracy": [None, *kept[1:].tolist()]}


def _confusion(place: int) -> dict[str, Any]:
    names = [*NAMES, *(f"PF{10_000 + 37 * n}" for n in range(30))]
    return {"true": names[place], "predicted": names[place + 1], "n": 30 - place, "of": 41 + 3 * place}


def _open_set(accuracy: float) -> dict[str, Any]:
    power = (1 - accuracy) / 2 + 0.02
    false = np.linspace(0, 1, 101)
    return {
        "score": "familiarity",
        "auroc": 1 / (1 + power),  # of false^power
        "wanted": 0.05,
        "reached": 0.048,
        "accepted": float(0.048**power),
        "known": N,
        "strangers": 502,
        "roc": {"false_acceptance": false.tolist(), "acceptance": (false**power).tolist()},
        "reached_low": 0.021,
        "reached_high": 0.097,
        "accepted_low": float(0.02**power),
        "accepted_high": float(0.1**power),
        "told_reached": 0.05,
        "told_accepted": float(0.05**power),
    }


def _sets(accuracy: float) -> dict[str, Any]:
    size = round(1 + 6 * (1 - accuracy), 2)
    reached = {"coverage": 0.95, "held_half": 0.953, "test": 0.944}
    return reached | {"mean_size": size, "median_size": 1.0, "calibration_rows": 1810}
