"""What a report holds comes back from its JSON as it was, also from that of an older version."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from compared import a_comparison, a_timing

from esmcls.plain_values import from_plain
from esmcls.reporting.results import Report, Timing
from esmcls.tasks.go_terms.results import TermReport
from esmcls.tasks.one_label.results import OneLabelReport

RELEASE = Path(__file__).parent / "archives" / "release-0.1.0"


@dataclass(frozen=True)
class Inner:
    value: float


@dataclass(frozen=True)
class Outer:
    name: str
    maybe: Inner | None
    many: list[Inner | None]
    named: dict[str, dict[str, Inner]]
    later: int = 7


def test_dataclasses_are_made_wherever_the_annotations_name_them() -> None:
    values = {
        "name": "a",
        "maybe": {"value": 1.0},
        "many": [{"value": 2.0}, None],
        "named": {"x": {"y": {"value": 3.0}}},
    }
    assert from_plain(Outer, values) == Outer("a", Inner(1.0), [Inner(2.0), None], {"x": {"y": Inner(3.0)}})


def test_a_field_may_be_none_or_absent_and_what_is_no_field_is_left_out() -> None:
    values = {"name": "a", "maybe": None, "many": [], "named": {}, "of another version": 1}
    assert from_plain(Outer, values) == Outer("a", None, [], {}, later=7)


def test_a_field_without_a_default_must_be_there() -> None:
    with pytest.raises(ValueError, match="lacks 'value'"):
        from_plain(Inner, {})


def those_of(old: Any, new: Any) -> Any:
    """Return of plain values those that older ones have: fields that came later are left out."""
    if isinstance(old, dict):
        return {name: those_of(value, new[name]) for name, value in old.items()}
    if isinstance(old, list):
        return [those_of(*pair) for pair in zip(old, new, strict=True)]
    return new


@pytest.mark.parametrize(("kind", "report"), [("families", OneLabelReport), ("terms", TermReport)])
def test_the_report_of_an_older_version_is_read_and_written_as_it_was(kind: str, report: type[Report]) -> None:
    folder = RELEASE / kind / "reports" / "compare"
    values = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert those_of(values, report.from_json(values).to_json()) == values
    timing: Any = json.loads((folder / "timing.json").read_text(encoding="utf-8"))
    assert those_of(timing, Timing.from_json(timing).to_json()) == timing


def test_a_comparison_with_all_that_one_may_have_comes_back_from_its_json() -> None:
    comparison = a_comparison()
    assert OneLabelReport.from_json(comparison).to_json() == comparison
    assert Timing.from_json(a_timing(comparison)).to_json() == a_timing(comparison)
