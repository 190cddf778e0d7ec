"""Scanners of format 1, two linear heads: what was written is read, and finds what it found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from letter_encoder import LetterEncoder

from esmcls.cache.features import residues_by
from esmcls.errors import ModelError
from esmcls.scanning.folder import load_scanner
from esmcls.scanning.heads.grid import Lengths, best_windows, means, moved, running_means, sums_from_start

ARCHIVE = Path(__file__).with_name("archives") / "scanner-format-1"


def lengths_of(tried: list[int], families: int) -> Lengths:
    """Return lengths of windows, and families of 24 residues."""
    return Lengths(np.array(tried), np.full(families, np.log(24.0)), np.full(families, 0.2))


# sums and windows


@given(st.integers(1, 40), st.integers(0, 9))
def test_a_windows_mean_is_a_difference_of_sums(residues: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(residues, 3))
    starts = draw.integers(0, residues, size=5)
    ends = np.array([draw.integers(start + 1, residues + 1) for start in starts])
    direct = [rows[start:end].mean(0) for start, end in zip(starts, ends, strict=True)]
    np.testing.assert_allclose(means(sums_from_start(rows), starts, ends), direct, atol=1e-9)


def test_running_means_are_of_fewer_residues_at_the_ends() -> None:
    rows = np.array([[0.0], [3.0], [6.0], [30.0]])
    assert running_means(rows, 3).ravel().tolist() == [1.5, 3.0, 13.0, 18.0]


def test_windows_end_where_the_log_odds_turn() -> None:
    odds = np.full((60, 2), -1.0)
    odds[13:37, 1] = 1.0
    lengths = lengths_of([20, 24, 28], 2)
    sums = sums_from_start(odds)
    near = best_windows(lambda starts, ends: sums[ends] - sums[starts], 60, lengths, stride=4)
    windows = moved(sums, near, stride=4)
    assert (13, 37, 1) in set(zip(windows.starts.tolist(), windows.ends.tolist(), windows.codes.tolist(), strict=True))


@pytest.mark.parametrize("residues", [0, 1, 2, 5])
def test_proteins_shorter_than_any_domain_have_windows_within_them(residues: int) -> None:
    lengths = lengths_of([20, 30], 1)
    windows = best_windows(lambda starts, ends: np.full((len(starts), 1), 900.0), residues, lengths, stride=4)
    assert (windows.starts >= 0).all()
    assert (windows.ends <= residues).all()
    assert len(windows) == bool(residues)


# folders


def test_a_scanner_of_format_1_finds_what_it_found() -> None:
    scanner = load_scanner(ARCHIVE)
    sequence = (
        "TSSYTVVYTYYYYWTSWSSTYFDDCAFACAEEACCECEAACACEAECADADFFCAEEWVT"
        "VTVVWSWVYVTWWTWWTYNNNMRPNRPPMPQMQNNQRPNPQQRRRMMNPMPQNP"
    )
    [vectors] = residues_by(LetterEncoder(width=16), [sequence], None)
    domains = scanner.domains(vectors)
    assert [(domain.start, domain.end, domain.family) for domain in domains] == [(21, 57, "zinc"), (79, 114, "death")]
    assert [domain.probability for domain in domains] == pytest.approx([0.9792312812869475, 0.9565337215014584])
    assert [domain.by_chance for domain in domains] == pytest.approx([1.2709329993445976e-07, 9.745900032049672e-07])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"tried": []}, "a length or spread that is not above 0"),
        ({"tried": [0]}, "a length or spread that is not above 0"),
        ({"sizes": [3]}, "not one length for each of 3 families"),
        ({"none": "zinc"}, "none of these is 'zinc'"),
        ({"config": None}, "is damaged"),
    ],
)
def test_a_damaged_scanner_of_format_1_is_told(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    folder = tmp_path / "scan"
    shutil.copytree(ARCHIVE, folder)
    flat = json.loads((folder / "scanner.json").read_text())
    (folder / "scanner.json").write_text(json.dumps(flat | change))
    with pytest.raises(ModelError, match=problem):
        load_scanner(folder)
