"""What a set is like: counts by hand, Gini and power law against closed forms, and the folder they are written to."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import rc_context
from scipy.special import zeta

from esmcls.datasets import statistics_page as overview
from esmcls.datasets.power_law import PowerLaw, fit_power_law
from esmcls.datasets.statistics import Statistics, describe_records, gini, size_tiers
from esmcls.datasets.statistics_page import draw_rank_size, overview_page, write_overview
from esmcls.errors import DataError, UnknownNameError
from esmcls.metrics.classification import tier_accuracy
from esmcls.reading.records import Protein, Record


def records(*rows: tuple[str, str | None, str | None]) -> list[Record]:
    """Return records of sequence, label and part."""
    return [Record(Protein(str(row), sequence), *rest, "in", row) for row, (sequence, *rest) in enumerate(rows)]


def families(*sizes: int) -> list[Record]:
    return records(*(("M" * (1 + n), f"f{family}", None) for family, size in enumerate(sizes) for n in range(size)))


def quantiles(exponent: float, x_min: int, n: int = 20_000) -> np.ndarray:
    """Return n sizes that follow a power law as nearly as n whole numbers can."""
    values = np.arange(x_min, 200_000)
    below = 1 - zeta(exponent, values + 1) / zeta(exponent, x_min)
    return values[np.searchsorted(below, (np.arange(n) + 0.5) / n)]


# Gini


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([5], 0.0),
        ([3, 3, 3], 0.0),
        ([0, 0, 0, 8], 3 / 4),
        ([1, 2, 3, 4], 1 / 4),
        ([1, 3], 1 / 4),
        ([9, 1], 2 / 5),
        (list(range(1, 101)), 99 / 300),  # of 1 to n: (n - 1) / 3n
    ],
)
def test_the_gini_coefficient_is_that_of_the_closed_form_in_any_order(sizes: list[int], expected: float) -> None:
    for ordered in (sizes, sizes[::-1]):
        assert gini(np.array(ordered)) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any))
def test_the_gini_coefficient_is_half_the_mean_difference_over_the_mean(sizes):
    differences = [abs(a - b) for a in sizes for b in sizes]
    expected = sum(differences) / len(differences) / 2 / (sum(sizes) / len(sizes))
    assert gini(np.array(sizes)) == pytest.approx(expected, abs=1e-9)


# Tiers


def test_tiers_are_those_of_evaluation() -> None:
    sizes = np.array([100, 99, 20, 19, 5, 4, 1])
    tiers = size_tiers(sizes)
    assert [(tier.name, tier.families, tier.sequences) for tier in tiers] == [
        ("<5", 2, 5),
        ("5-19", 2, 24),
        ("20-99", 2, 119),
        ("≥100", 1, 100),
    ]
    codes = np.repeat(np.arange(len(sizes)), sizes)
    evaluated = tier_accuracy(codes, np.ones(len(codes), bool), sizes)
    assert [(tier.name, tier.n) for tier in evaluated] == [(tier.name, tier.sequences) for tier in tiers]


# Power law


@pytest.mark.parametrize(("exponent", "x_min"), [(2.0, 1), (2.5, 1), (3.0, 4)])
def test_the_exponent_of_a_power_law_is_found_where_it_holds_from_is_stated(exponent: float, x_min: int) -> None:
    law = fit_power_law(quantiles(exponent, x_min), x_min)
    assert law is not None
    assert law.exponent == pytest.approx(exponent, abs=1e-3)
    assert (law.x_min, law.families) == (x_min, 20_000)
    assert law.distance < 1e-3


def test_the_estimate_solves_the_likelihood_equation_and_its_error_is_the_curvatures() -> None:
    # -zeta'(a, x_min) / zeta(a, x_min) = mean log size, the left side by sums over two million sizes
    sizes = np.repeat([3, 4, 5, 8, 20, 100], [40, 25, 18, 9, 5, 3])
    law = fit_power_law(sizes, 3)
    assert law is not None
    logs = np.log(np.arange(3, 2_000_000))
    weights = np.exp(-law.exponent * logs)
    weights /= weights.sum()
    assert weights @ logs == pytest.approx(np.log(sizes).mean(), rel=1e-4)
    variance = weights @ logs**2 - (weights @ logs) ** 2
    assert law.error == pytest.approx(1 / math.sqrt(len(sizes) * variance), rel=1e-3)


def test_sizes_below_those_that_follow_the_law_are_left_out_by_themselves() -> None:
    sizes = np.concatenate([quantiles(2.5, 12, 3000), np.repeat(np.arange(1, 12), 200)])
    law = fit_power_law(sizes)
    assert law is not None
    assert law.x_min == 12
    assert law.exponent == pytest.approx(2.5, abs=0.01)


def test_the_distance_is_over_all_sizes_and_not_those_found_alone() -> None:
    # all families have 1 or 1000: the law is far off just below 1000
    law = fit_power_law(np.repeat([1, 1000], [90, 10]), 1)
    assert law is not None
    at = 1 - zeta(law.exponent, 2) / zeta(law.exponent, 1)
    below = 1 - zeta(law.exponent, 1000) / zeta(law.exponent, 1)
    assert law.distance == pytest.approx(max(abs(0.9 - at), abs(0.9 - below)))


@pytest.mark.parametrize("sizes", [[1] * 49, [7] * 100, [1, 2] * 24, [10**6] * 1000 + [10**6 + 1], []])
def test_too_few_families_or_all_but_equal_ones_have_no_power_law(sizes: list[int]) -> None:
    assert fit_power_law(np.array(sizes, np.int64)) is None


def test_the_ranks_of_a_law_begin_with_all_its_families() -> None:
    law = PowerLaw(2.0, 0.1, 5, 300, 0.01)
    assert law.ranks(np.array([5, 6])) == pytest.approx([300, 300 * (1 - 5**-2 / zeta(2, 5))])


# Statistics


def test_a_small_set_is_counted_as_by_hand() -> None:
    found = describe_records(
        records(
            ("M" * 10, "a", None),
            ("M" * 10, "a", None),
            ("M" * 10, "b", None),
            ("MKV", "b", None),
            ("M" * 7, None, None),
        ),
        limit=8,
    )
    assert (found.sequences, found.distinct, found.residues) == (5, 3, 40)
    assert (found.cut, found.unseen) == (3, 6)
    assert (found.families, found.sizes.tolist(), found.unlabelled, found.ambiguous) == (2, [2, 2], 1, 1)
    assert found.parts == {}


def test_a_percentile_is_the_smallest_length_that_so_many_do_not_exceed() -> None:
    found = describe_records(records(*(("M" * n, None, None) for n in range(1, 101))))
    assert found.lengths == {
        "shortest": 1, "5 %": 5, "25 %": 25, "median": 50, "75 %": 75, "95 %": 95, "99 %": 99, "longest": 100
    }  # fmt: skip
    assert found.to_json()["lengths"]["p95"] == 95


def test_a_part_is_described_alone_and_records_without_one_are_train() -> None:
    rows = records(("MA", "a", "train"), ("MC", "a", None), ("MD", "b", "test"), ("MEE", "a", "test"))
    whole, test = describe_records(rows), describe_records(rows, part="test")
    assert whole.parts == {"train": (2, 1), "test": (2, 2)}
    assert (test.sequences, test.residues, test.sizes.tolist()) == (2, 5, [1, 1])
    assert test.parts == {"test": (2, 2)}


def test_what_cannot_be_described_is_told() -> None:
    with pytest.raises(DataError, match="input: no records; give at least one sequence"):
        describe_records([])
    for rows in (records(("MA", "a", None)), records(("MA", "a", "train"))):
        with pytest.raises(DataError) as caught:
            describe_records(rows, part="test")
        assert str(caught.value) == "input: no record of the part test; give records with a split, or leave --part out"
    with pytest.raises(UnknownNameError):
        describe_records(records(("MA", "a", None)), part="dev")


def test_the_tables_say_what_was_counted() -> None:
    found = describe_records(families(*range(1, 61)), limit=50)
    counts, lengths, beyond, tiers, sizes = found.sections()
    assert counts[1:] == [
        ("sequences", "1,830"), ("distinct", "60"), ("residues", "37,820"), ("families", "60"),
        ("in more than one family", "59"),
    ]  # fmt: skip
    assert lengths[-1] == ("mean", "21")
    assert beyond == [
        ("beyond 50 residues", "number", "percent"),
        ("sequences", "55", "3.01"),
        ("residues", "220", "0.58"),
    ]
    assert tiers[1] == ("<5", "4", "6.67", "10", "0.55")
    assert sizes[1:4] == [("largest", "60"), ("median", "30.5"), ("Gini coefficient", "0.328")]
    assert found.power_law is not None
    assert sizes[4:] == [
        ("power-law exponent", f"{found.power_law.exponent:.2f} ± {found.power_law.error:.2f}"),
        ("  of sizes from x_min", f"{found.power_law.x_min} ({found.power_law.families} families)"),
        ("  Kolmogorov-Smirnov distance", f"{found.power_law.distance:.3f}"),
    ]


def test_without_labels_nothing_is_said_of_families() -> None:
    found = describe_records(records(("MA", None, None)))
    assert len(found.sections()) == 3
    assert found.to_json()["gini"] is None
    assert found.to_json()["tiers"] == []


# The folder


@pytest.fixture(scope="module")
def found() -> Statistics:
    return describe_records(families(*range(1, 61)))


def test_the_folder_holds_numbers_page_and_figure_and_the_same_bytes_twice(tmp_path: Path, found: Statistics) -> None:
    written = write_overview(found, tmp_path / "new" / "one", "A & <B>")
    assert [path.name for path in written] == ["stats.json", "stats.html", "rank-size.svg"]
    with rc_context({"font.size": 30, "svg.hashsalt": None}):
        again = write_overview(found, tmp_path / "two", "A & <B>")
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]
    assert json.loads(written[0].read_text()) == found.to_json()


def test_the_page_is_whole_in_itself(tmp_path: Path, found: Statistics) -> None:
    text = write_overview(found, tmp_path, "A & <B>")[1].read_text()
    assert "<h1>A &amp; &lt;B&gt;</h1>" in text
    assert text.count("<svg") == text.count("</svg>") == 1
    assert "<?xml" not in text
    assert "<!DOCTYPE svg" not in text
    assert not any(word in text for word in ("<script", "<link", "<img", "@import", 'src="'))
    assert "<tr><td>&lt;5</td><td>4</td><td>6.67</td>" in text


def test_without_families_there_is_no_figure(tmp_path: Path) -> None:
    written = write_overview(describe_records(records(("MA", None, None))), tmp_path, "x")
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert [path.name for path in written] == ["stats.json", "stats.html"]
    assert "<svg" not in written[1].read_text()
    assert "power law" not in overview_page([], "x")


def test_the_figure_has_logarithmic_axes_the_families_and_the_law(found: Statistics) -> None:
    [axes] = overview._figure(found.sizes, found.power_law).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rank of the family", "size of the family (sequences)")
    *bounds, line, law = axes.lines
    assert [bound.get_ydata()[0] for bound in bounds] == [5, 20, 100]
    assert list(line.get_xdata()) == list(range(1, 61))
    assert list(line.get_ydata()) == list(range(60, 0, -1))
    assert law.get_xdata()[0] == pytest.approx(found.power_law.families)


def test_a_line_keeps_the_first_and_last_family_of_each_size() -> None:
    ranks, sizes = overview._corners(np.array([9, 4, 4, 4, 4, 1, 1]))
    assert list(zip(ranks, sizes, strict=True)) == [(1, 9), (2, 4), (5, 4), (6, 1), (7, 1)]


@pytest.mark.parametrize("sizes", [[1], [7, 7, 7], [3, 1], [10**6] + [1] * 1000])
def test_odd_sizes_are_drawn_without_a_warning(tmp_path: Path, sizes: list[int]) -> None:
    draw_rank_size(np.array(sizes), tmp_path / "a.svg")
    texts = [
        "".join(one.itertext()) for one in ElementTree.parse(tmp_path / "a.svg").iter() if one.tag.endswith("}text")
    ]
    assert {"rank of the family", "families"} <= set(texts)


def test_counting_loads_neither_torch_nor_matplotlib() -> None:
    code = "import sys, esmcls.datasets.statistics_page, esmcls.datasets.sampling\n"
    code += "import esmcls.datasets.clusters, esmcls.reading.readers\n"
    code += "print([name for name in ('torch', 'h5py', 'matplotlib', 'scipy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
