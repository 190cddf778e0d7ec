"""What is set aside is nobody's else, whole, and the same whatever the order of rows."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from esmcls.datasets.dataset import Dataset
from esmcls.datasets.held_out import MOST_OF_FAMILY, Shares, set_aside, stranger_folds
from esmcls.errors import UsageError

SHARES = Shares(families=0.2, calibration=0.1, folds=0)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """20 families of 2 to 21 sequences in train, two in validation, three in test."""
    rows = []
    for family in range(20):
        parts = ["train"] * (family + 2) + ["validation"] * 2 + ["test"] * 3
        rows += [(f"{family}-{n}", f"F{family}N{n}", f"PF{family:02d}", part) for n, part in enumerate(parts)]
    return Dataset(*map(list, zip(*rows, strict=True)))


def pieces(dataset: Dataset, shares: Shares = SHARES, seed: int = 0) -> dict[str, Dataset]:
    return vars(set_aside(dataset, shares, seed))


def test_every_row_is_in_one_piece_but_the_test_rows_of_families_that_set_the_threshold(dataset: Dataset) -> None:
    found = pieces(dataset)
    ids = Counter(name for piece in found.values() for name in piece.ids)
    left = [row for row, name in enumerate(dataset.ids) if name not in ids]
    assert set(ids.values()) == {1}
    assert {dataset.parts[row] for row in left} == {"test"}
    assert {dataset.labels[row] for row in left} == set(found["strangers"].labels)


def test_held_out_families_are_whole_and_in_two_halves(dataset: Dataset) -> None:
    found = pieces(dataset)
    strangers, checks, kept = (set(found[name].labels) for name in ("strangers", "checks", "kept"))
    assert len(strangers) == len(checks) == 2
    assert not strangers & checks
    assert len(kept) == 16
    assert not kept & (strangers | checks)
    assert set(found["unseen"].labels) == checks
    assert set(found["unseen"].parts) == {"test"}
    assert "test" not in {*found["strangers"].parts, *found["checks"].parts}


def test_calibration_rows_are_train_rows_and_every_kept_family_keeps_one(dataset: Dataset) -> None:
    found = pieces(dataset, Shares(calibration=0.5))
    assert set(found["calibration"].parts) == {"train"}
    assert set(found["kept"].part("train").labels) == set(dataset.labels)
    assert len(found["calibration"]) == round(0.5 * len(dataset.part("train")))
    assert found["kept"].part("test").ids == dataset.part("test").ids


def test_the_order_of_rows_changes_nothing_and_the_seed_does(dataset: Dataset) -> None:
    rows = list(range(len(dataset)))
    random.Random(1).shuffle(rows)
    once, again = pieces(dataset), pieces(dataset.take(rows))
    other = pieces(dataset, seed=1)
    for name in once:
        assert sorted(once[name].ids) == sorted(again[name].ids)
    assert set(once["strangers"].labels) != set(other["strangers"].labels)
    assert set(once["calibration"].ids) != set(other["calibration"].ids)


def test_equal_sequences_stay_together_and_one_that_a_kept_family_has_is_no_stranger(dataset: Dataset) -> None:
    twice = Dataset(*(getattr(dataset, name) * 2 for name in ("ids", "sequences", "labels", "parts")))
    calibration = pieces(twice, Shares(calibration=0.3))["calibration"]
    assert set(Counter(calibration.sequences).values()) == {2}
    held = pieces(dataset)["strangers"]
    shared = Dataset(
        [*dataset.ids, "double"],
        [*dataset.sequences, held.sequences[0]],
        [*dataset.labels, pieces(dataset)["kept"].labels[0]],
        [*dataset.parts, "train"],
    )
    assert held.sequences[0] not in pieces(shared)["strangers"].sequences


def test_nothing_is_set_aside_unless_asked_for(dataset: Dataset) -> None:
    found = set_aside(dataset)
    assert found.kept == dataset
    assert not any(map(len, (found.calibration, found.strangers, found.checks, found.unseen)))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"families": 0.6, "folds": 0}, "--hold-out-families 60%: give a share from 0% to 50%"),
        ({"families": 1.1}, "--hold-out-families 110%: give a share from 0% to 100%"),
        ({"accept_known": 0.0}, "--accept-known 0%: give a share from above 0% to 100%"),
        ({"families": 0.5, "folds": 1}, "1 folds of families: give at least 2, or 0 to take families away for good"),
        ({"calibration": 0.51}, "--calibration 51%: give a share from 0% to 50%"),
        ({"false_acceptance": 1.0}, "--false-acceptance 100%: give a share from 0% to below 100%"),
    ],
)
def test_a_share_out_of_range_is_named_as_the_option_it_is(shares: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError) as error:
        Shares(**shares)
    assert str(error.value) == message


def test_too_few_families_to_hold_out_is_an_error(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="--hold-out-families 5% of 20 families is 1; hold out at least 2"):
        set_aside(dataset, Shares(families=0.05, folds=0))
    with pytest.raises(UsageError, match="--hold-out-families 5% of 20 families is 1; hold out at least 2"):
        stranger_folds(dataset, Shares(families=0.05))
    two = dataset.take([row for row, label in enumerate(dataset.labels) if label in ("PF00", "PF01")])
    with pytest.raises(
        UsageError, match="--hold-out-families 100%: 2 families are too few to hold any out; it takes 3"
    ):
        stranger_folds(two, Shares(families=1.0))


# folds


def test_each_family_is_a_stranger_once_and_in_no_head_of_its_fold(dataset: Dataset) -> None:
    folds = stranger_folds(dataset, Shares(families=1.0))
    assert len(folds) == 5
    strangers = [set(fold.strangers.labels) for fold in folds]
    assert sum(map(len, strangers)) == len(set.union(*strangers)) == 20
    for fold, families in zip(folds, strangers, strict=True):
        assert not families & {*fold.train.labels, *fold.known.labels}
        assert {*fold.train.labels} == {*dataset.labels} - families
        assert set(fold.train.parts) == {"train"}
        assert "test" not in fold.strangers.parts


def test_a_validation_protein_is_known_in_one_fold_and_never_fitted_on(dataset: Dataset) -> None:
    folds = stranger_folds(dataset, Shares(families=1.0))
    known = Counter(name for fold in folds for name in fold.known.ids)
    assert known == Counter(dataset.part("validation").ids)


def test_without_a_validation_part_known_proteins_are_of_train_and_their_families_stay(dataset: Dataset) -> None:
    train = dataset.part("train")
    folds = stranger_folds(train, Shares(families=0.5))
    assert any(len(fold.known) for fold in folds)
    for fold in folds:
        assert not {*fold.known.sequences} & {*fold.train.sequences}
        assert {*fold.known.labels} <= {*fold.train.labels}
    assert len({label for fold in folds for label in fold.strangers.labels}) == 10


def test_no_large_family_outweighs_the_others_among_strangers(dataset: Dataset) -> None:
    counts = Counter(label for fold in stranger_folds(dataset, Shares(families=1.0)) for label in fold.strangers.labels)
    assert max(counts.values()) == MOST_OF_FAMILY
    assert min(counts.values()) == 4  # two of train, two of validation


def test_folds_do_not_depend_on_the_order_of_rows_but_on_the_seed(dataset: Dataset) -> None:
    rows = list(range(len(dataset)))
    random.Random(1).shuffle(rows)
    shares = Shares(families=0.5)
    once, again = stranger_folds(dataset, shares), stranger_folds(dataset.take(rows), shares)
    other = stranger_folds(dataset, shares, seed=1)
    for one, two in zip(once, again, strict=True):
        for name in vars(one):
            assert sorted(vars(one)[name].ids) == sorted(vars(two)[name].ids)
    assert [set(fold.strangers.labels) for fold in once] != [set(fold.strangers.labels) for fold in other]


def test_what_esmcls_0_1_0_held_out_was_taken_away_for_good() -> None:
    assert Shares.of_setup({"families": 0.2, "calibration": 0.1, "false_acceptance": 0.1}).away == 0.2
    assert Shares.of_setup({"families": 0.0, "refit": True}) == Shares()
    assert Shares.of_setup(vars(Shares(0.2))).away == 0.0
