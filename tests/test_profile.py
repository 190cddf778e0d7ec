"""The profile head: models of families as HMMER builds them, honest E-values, what is reused, saved and refused."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from relatives import RESIDUES, ancestors, relatives
from safetensors.numpy import load_file, save_file

from esmcls.cache.features import Features
from esmcls.errors import EngineError, MissingExtraError, ModelError, UsageError
from esmcls.heads.alignment.profile import ProfileConfig, ProfileHead
from esmcls.heads.alignment.profiles import building
from esmcls.heads.alignment.profiles.building import Sizes, branches, build_families
from esmcls.heads.alignment.profiles.models import FILE, Filters, Profile, search_profiles
from esmcls.labels.labels import Labels

pytest.importorskip("pyhmmer")
pytest.importorskip("pyfamsa")

FAMILIES = 5
EVERYTHING = Filters(1e6, (1.0, 1.0, 1.0), bias=False)


def bare(sequences: Iterable[str], ids: list[str] | None = None) -> Features:
    """Return features of sequences alone."""
    texts = list(sequences)
    return Features.from_arrays(np.zeros((len(texts), 0), dtype=np.float32), texts, ids)


def family(code: int, n: int = 6, seed: int = 0) -> list[str]:
    """Return members of one of the families."""
    return relatives([code] * n, seed=seed + 100 * code)


def built(families: list[list[str]], threads: int = 1, subfamily: int = 0) -> list[Profile]:
    """Return all profiles of families."""
    made = build_families(families, {}, Sizes(100, subfamily), threads)
    return [profile for profiles in made for profile in profiles.values()]


def strangers(n: int, length: int = 80) -> list[str]:
    """Return random sequences."""
    rng = np.random.default_rng(3)
    return ["".join(rng.choice(RESIDUES, length)) for _ in range(n)]


def fitted(families: dict[str, list[str]], config: ProfileConfig | None = None) -> ProfileHead:
    """Fit families as they are, with nothing held out."""
    names = [name for name, members in families.items() for _ in members]
    rows = bare([member for members in families.values() for member in members])
    return ProfileHead(config).refit(rows, Labels.from_names(names))


# models


def test_a_profile_finds_what_hmmer_finds_with_its_own_model_at_the_same_bits() -> None:
    """The golden bits are those of `pyhmmer.hmmer.hmmsearch` with the model as its `Builder` returned it."""
    from pyhmmer import easel, hmmer

    members, queries = family(0), [*family(0, seed=7), *strangers(3)]
    shop = building._Workshop()
    alphabet = easel.Alphabet.amino()
    block = easel.DigitalSequenceBlock(alphabet)
    for row, query in enumerate(queries):
        block.append(easel.TextSequence(name=str(row).encode(), sequence=query).digitize(alphabet))
    [golden] = hmmer.hmmsearch(shop._of_several(members), block, Z=1, E=1e6, F1=1.0, F2=1.0, F3=1.0, bias_filter=False)
    bits = {int(hit.name): (hit.score, hit.evalue) for hit in golden.reported}
    hits = search_profiles(built([members], 1), queries, EVERYTHING, 1)
    told = {row: (hits.bits[row, 0], hits.evalues[row, 0]) for row in np.flatnonzero(hits.rows[:, 0] == 0).tolist()}
    assert told == bits
    assert min(score for row, (score, _) in bits.items() if row < 6) > 30


def test_a_family_of_one_sequence_has_the_model_of_that_sequence() -> None:
    [profile] = built([[ancestors(1)[0]]], 1)
    assert len(profile.match) == 81  # one a residue, and the begin state
    likeliest = ["ACDEFGHIKLMNPQRSTVWY"[best] for best in profile.match[1:].argmax(1)]
    same = [one == residue for one, residue in zip(likeliest, ancestors(1)[0], strict=True)]
    assert sum(same) >= 78  # BLOSUM62 takes a rare M for L


def test_profiles_do_not_depend_on_the_threads_or_on_what_is_built_beside() -> None:
    families = [family(code) for code in range(FAMILIES)]
    together = built(families, 3)
    alone = [built([members], 1)[0] for members in families]
    for one, other in zip(together, alone, strict=True):
        for name in ("match", "transitions", "statistics"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_residues_that_famsa_does_not_know_are_aligned_and_stay_what_they_are() -> None:
    members = ["MKTUYIAKQROISFVKX", "MKTUYIAKQRISFVKSX", "BZTUYIAKQROISFVKJ"]
    aligned = building._Workshop().align(members)
    assert [row.replace("-", "") for row in aligned] == members
    assert len({len(row) for row in aligned}) == 1
    assert {row[3] for row in aligned} == {"U"}


def test_members_without_a_common_column_have_the_model_of_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    members = family(0, 3)
    longest = members[1] + "MKTAY"
    monkeypatch.setattr(building._Workshop, "align", lambda self, members: ["-" * 80, "-" * 80, "-" * 80])
    [profile] = built([[members[0], longest, members[2]]], 1)
    np.testing.assert_array_equal(profile.match, built([[longest]], 1)[0].match)


def test_a_large_family_has_a_profile_of_each_branch_of_its_tree_besides_that_of_the_whole() -> None:
    members = [member for kin in zip(*(family(code, 4) for code in range(3)), strict=True) for member in kin]
    [whole, *parts] = built([members], subfamily=4)
    kin = [built([members[code::3]])[0] for code in range(3)]
    np.testing.assert_array_equal(whole.match, built([members])[0].match)
    for part, one in zip(parts, kin, strict=True):
        np.testing.assert_array_equal(part.match, one.match)
    assert len(built([members], subfamily=12)) == len(built([members], subfamily=0)) == 1


@pytest.mark.parametrize(
    ("most", "cut"),
    [
        (1, [[0], [1], [2], [3], [4]]),
        (2, [[0, 1], [2], [3, 4]]),
        (3, [[0, 1, 2], [3, 4]]),
        (4, [[0, 1, 2], [3, 4]]),
        (5, [[0, 1, 2, 3, 4]]),
    ],
)
def test_a_tree_is_cut_into_its_largest_branches_that_are_small_enough(most: int, cut: list[list[int]]) -> None:
    tree = "(((0:1.0,1:1.0):1.0,2:1.0):1.0,(3:1.0,4:1.0):1.0);"
    assert sorted(map(sorted, branches(tree, most))) == cut


# E-values


def test_random_sequences_have_as_many_hits_below_an_e_value_as_it_says() -> None:
    """Random as HMMER's background is; of 2,000, 20 are a hit at .01."""
    from pyhmmer import easel, plan7

    shares = np.asarray(plan7.Background(easel.Alphabet.amino()).residue_frequencies).astype(np.float64)
    rng = np.random.default_rng(3)
    letters = rng.choice(sorted(RESIDUES), (2000, 100), p=shares / shares.sum())
    drawn = ["".join(row) for row in letters]
    profiles = built([family(code) for code in range(FAMILIES)], 2)
    hits = search_profiles(profiles, drawn, EVERYTHING, FAMILIES, 2)
    below = {evalue: int((hits.evalues <= evalue).sum()) for evalue in (0.1, 0.05, 0.01)}
    assert below == {evalue: pytest.approx(2000 * evalue, rel=0.5) for evalue in below}


def test_an_e_value_is_of_as_many_comparisons_as_there_are_families() -> None:
    few = built([family(code) for code in range(2)], 1)
    many = few + built([family(code) for code in range(2, 6)], 1)
    query = family(0, 1, seed=5)
    two, six = (search_profiles(profiles, query, EVERYTHING, 1) for profiles in (few, many))
    assert two.bits[0, 0] == six.bits[0, 0]
    assert six.evalues[0, 0] == pytest.approx(3 * two.evalues[0, 0])


def test_filters_of_hmmer_lose_hits_that_the_e_value_asks_for() -> None:
    families = {str(code): family(code) for code in range(FAMILIES)}
    x = bare(strangers(100))
    counts = {
        filters: int((fitted(families, ProfileConfig(filters=filters)).hits(x).rows >= 0).sum())
        for filters in ("hmmer", "evalue", "off")
    }
    assert counts["hmmer"] < 5
    assert counts["evalue"] >= 0.7 * counts["off"] > 100


def test_hits_are_ranked_by_e_value_and_a_place_without_one_is_empty() -> None:
    profiles = built([family(0), family(1), family(0, seed=3)], 1)
    [query, stranger] = family(0, 1, seed=9) + strangers(1)
    hits = search_profiles(profiles, [query, stranger, query], Filters(1e-3, (0.02, 1e-3, 1e-5)), 4)
    assert sorted(hits.rows[0, :2].tolist()) == [0, 2]
    assert hits.evalues[0, 0] <= hits.evalues[0, 1]
    assert hits.rows[0, 2:].tolist() == [-1, -1]
    assert hits.rows[1].tolist() == [-1] * 4
    assert np.isinf(hits.evalues[1]).all()
    np.testing.assert_array_equal(hits.bits[0], hits.bits[2])


# fitting


def test_a_large_family_is_sampled_evenly_and_the_head_says_so() -> None:
    families = {"large": family(0, 30), "small": family(1, 4), "single": family(2, 1)}
    head = fitted(families, ProfileConfig(max_members=10, subfamily=0))
    assert head.explanation == (
        "3 profiles of 3 families, 1 a single sequence; of 1 with more members, up to 30, 10 each were aligned whole"
    )
    [sampled] = built([families["large"][::3]], 1)
    [large] = [
        profile for profile, code in zip(head.profiles, head.families, strict=True) if head.classes[code] == "large"
    ]
    np.testing.assert_array_equal(large.match, sampled.match)


def test_a_member_that_stands_twice_counts_once() -> None:
    members = family(0, 4)
    once, twice = fitted({"a": members}), fitted({"a": members + members[:2]})
    np.testing.assert_array_equal(once.profiles[0].match, twice.profiles[0].match)


def test_the_temperature_with_the_least_log_loss_is_chosen() -> None:
    codes = [row % FAMILIES for row in range(40)]
    labels = Labels(tuple("abcde"), np.array(codes))
    held = bare(relatives(codes[:20], seed=8)), labels.take(slice(20))
    losses = []
    for temperature in (2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0):
        head = ProfileHead(ProfileConfig(temperature=temperature)).fit(bare(relatives(codes, seed=1)), labels, held)
        answers = head.predict_proba(held[0])[np.arange(20), codes[:20]]
        losses.append((float(-np.log(answers.astype(np.float64)).mean()), temperature))
    chosen = ProfileHead().fit(bare(relatives(codes, seed=1)), labels, held).chosen.temperature
    assert chosen == min(losses)[1]


@pytest.mark.parametrize("reload", [False, True])
def test_a_refit_builds_only_profiles_whose_members_changed(
    reload: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    families = {str(code): family(code) for code in range(FAMILIES)}
    families["4"] += relatives([7] * 8, seed=5)  # of two branches, the one of which has one member more below
    head = fitted(families)
    if reload:
        head.save(tmp_path)
        head = ProfileHead.load(tmp_path, head.chosen, head.classes)
    changed = {**families, "1": family(1, 7), "3": [], "4": [*families["4"], *family(4, 1, seed=9)]}
    whole = fitted(changed)
    seen: list[list[str]] = []
    build: Callable[[building._Workshop, list[str]], Profile] = building._Workshop.build
    monkeypatch.setattr(building._Workshop, "build", lambda self, members: seen.append(members) or build(self, members))
    again = copy.copy(head)
    names = [name for name, members in changed.items() for _ in members]
    again.refit(bare(m for members in changed.values() for m in members), Labels.from_names(names))
    assert seen == [changed["1"], changed["4"], [*families["4"][:6], changed["4"][-1]]]
    x = bare(relatives(range(FAMILIES), seed=4))
    np.testing.assert_array_equal(again.predict_proba(x), whole.predict_proba(x))
    assert len(head.profiles) == FAMILIES + 2


def test_a_family_of_unknown_residues_has_no_profile_and_the_rest_is_none_the_worse(tmp_path: Path) -> None:
    head = fitted({"a": family(0), "b": ["X" * 40], "c": ["X" * 30, "X" * 31]})
    assert head.explanation.endswith("; 2 without a profile: no known residue, or over 100,000")
    head.save(tmp_path)
    for one in (head, ProfileHead.load(tmp_path, head.chosen, head.classes)):
        [known, unknown] = one.predict_proba(bare([family(0, 1, seed=4)[0], "X" * 40]))
        assert known.argmax() == 0
        np.testing.assert_allclose(unknown, [6 / 9, 1 / 9, 2 / 9], rtol=1e-6)  # shares of the training rows


# answers


def test_the_nearest_is_the_member_of_the_best_family_that_shares_most_words() -> None:
    members = family(0, 5)
    rows = bare([*members, *family(1, 5)], [f"protein {row}" for row in range(10)])
    head = ProfileHead().refit(rows, Labels.from_names(["a"] * 5 + ["b"] * 5))
    queries = [members[3][:40] + "W" + members[3][41:], "G" * 50]
    evalues, ids = head.nearest(bare(queries))
    assert ids == ["protein 3", None]
    assert evalues[0] < 1e-10
    assert np.isinf(evalues[1])
    assert head.familiarity(bare(queries))[0] > 30
    assert head.familiarity(bare(queries))[1] == 0


def test_rows_without_a_sequence_are_an_error_that_names_the_head() -> None:
    vectors = Features.from_arrays(np.zeros((2, 3), dtype=np.float32))
    with pytest.raises(UsageError, match="head profile reads sequences, but 2 of 2 rows are vectors without"):
        ProfileHead().refit(vectors, Labels.from_names("ab"))


def test_a_sequence_that_hmmer_cannot_take_is_one_line() -> None:
    head = fitted({"a": family(0)})
    with pytest.raises(EngineError, match=r"^engine hmmer: failed \(.*; leave the sequence out"):
        head.predict_proba(bare(["ACDEFGHIKL" * 10_001]))


@pytest.mark.parametrize("package", ["pyfamsa", "pyhmmer"])
def test_a_package_that_is_not_installed_is_one_line(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head = fitted({"a": family(0)})
    monkeypatch.setitem(sys.modules, package, None)
    line = rf"^head profile needs the package {package}; run: pip install 'esmcls\[profile\]'$"
    for use in (lambda: fitted({"a": family(0)}), lambda: head.predict_proba(bare(family(1)))):
        with pytest.raises(MissingExtraError, match=line):
            use()


# model folders


def damaged(head: ProfileHead, folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Save a head, with some of its numbers changed."""
    head.save(folder)
    state = load_file(folder / FILE)
    change(state)
    save_file(state, folder / FILE)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda state: state["lengths"].__setitem__(0, 1), "a profile without a position"),
        (lambda state: state["lengths"].__setitem__(0, 1 << 40), "more than 100,000"),
        (lambda state: state["lengths"].__setitem__(0, 20), r"positions instead of"),
        (lambda state: state["match"].__setitem__((3, 3), -0.5), "a probability below 0"),
        (lambda state: state["match"].__setitem__((3, 3), 5), "probabilities of residues that do not add up to 1"),
        (lambda state: state["transitions"].__setitem__((3, 0), 5), "probabilities of match that do not"),
        (lambda state: state["transitions"].__setitem__((3, 4), 5), "probabilities of insertion that do not"),
        (lambda state: state["transitions"].__setitem__((3, 6), 5), "probabilities of deletion that do not"),
        (lambda state: state["match"].__setitem__((3, 3), np.nan), "NaN"),
        (lambda state: state["statistics"].__setitem__((0, 1), 0), "scores of random sequences that cannot be"),
        (lambda state: state["statistics"].__setitem__((0, 0), 1e30), "scores of random sequences that cannot be"),
        (lambda state: state["codes"].__setitem__(0, 7), "a profile of a class without members"),
        (lambda state: state.update(match=state["match"][:, :19].copy()), "'match' has 19 for residues instead of 20"),
        (lambda state: state.update(keys=state["keys"][:, :20].copy()), "'keys' has 20 for digest instead of 32"),
        (lambda state: state.pop("statistics"), "lacks 'statistics'"),
    ],
)
def test_a_profile_that_cannot_be_is_refused_before_hmmer_sees_it(
    change: Callable[[dict[str, np.ndarray]], None], line: str, tmp_path: Path
) -> None:
    head = fitted({"a": family(0, 2), "b": family(1, 2)})
    damaged(head, tmp_path, change)
    with pytest.raises(ModelError, match=line):
        ProfileHead.load(tmp_path, head.chosen, head.classes)


def test_a_folder_whose_files_are_of_two_models_is_refused(tmp_path: Path) -> None:
    head = fitted({"a": family(0, 2), "b": family(1, 2)})
    head.save(tmp_path)
    (tmp_path / "ids.json").write_text('["one"]', encoding="utf-8")
    with pytest.raises(ModelError, match="1 rows instead of 4"):
        ProfileHead.load(tmp_path, head.chosen, head.classes)


def test_searching_takes_as_many_threads_as_torch_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyhmmer import hmmer

    asked: list[int] = []
    search = hmmer.hmmsearch
    monkeypatch.setattr(
        hmmer, "hmmsearch", lambda *given, **named: asked.append(named["cpus"]) or search(*given, **named)
    )
    head = fitted({"a": family(0)})
    head.predict_proba(bare(family(0, 2, seed=2)))
    assert asked == [torch.get_num_threads()]
