"""The ranker of terms corrects what a weighed mean cannot tell, is honest of held rows, and left out where idle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from esmcls.cache.features import Features
from esmcls.errors import ModelError
from esmcls.heads.base import AnswersOutOfFold
from esmcls.heads.ensemble import term_ensemble
from esmcls.heads.ensemble.members import TermMember
from esmcls.heads.ensemble.term_ensemble import TermEnsembleConfig, TermEnsembleHead
from esmcls.heads.ensemble.term_mixing import Mix, Mixes, Pairs
from esmcls.heads.ensemble.term_ranking import COUNTS, ENOUGH, About, Learnt, Ranker, features_of, mix_of
from esmcls.heads.neighbours.term_knn import TermKNNConfig
from esmcls.labels.labels import LabelSets

CLASSES = tuple(f"t{number:02}" for number in range(20))
GROUPS = tuple("C" * 10 + "F" * 10)


class Fixed:
    """A head that was fitted elsewhere, and says what each row is told to."""

    classes = CLASSES
    chosen = TermKNNConfig()
    reads_vectors = True

    def __init__(self, said: Any = None) -> None:
        self.said = said

    def predict_proba(self, x: Features) -> Any:
        return self.said[[int(name) for name in x.ids]]


def drawn(n: int, seed: int = 0) -> tuple[LabelSets, Any]:
    """Proteins with a term of each group, and a member that names it first, surer of some proteins than others."""
    random = np.random.default_rng(seed)
    said = random.uniform(0, 0.6, (n, 20))
    true = [(random.integers(10), 10 + random.integers(10)) for _ in range(n)]
    for row, codes in enumerate(true):
        said[row, list(codes)] = 0.9
    said *= np.exp(random.uniform(np.log(0.05), 0, (n, 1)))
    names = [[CLASSES[code] for code in codes] for codes in true]
    return LabelSets.from_names(names, CLASSES, GROUPS), said.astype(np.float32)


def blocks(said: Any) -> Iterator[Any]:
    for start in range(0, len(said), 64):
        rows = slice(start, min(start + 64, len(said)))
        yield rows, [said[rows]]


def ensemble(n: int = 300, *, ranked: bool = True, seed: int = 0) -> tuple[TermEnsembleHead, LabelSets, Any]:
    truth, said = drawn(n, seed)
    members = [TermMember("one", "knn", Fixed(said))]
    about = About(np.arange(20), None)
    return TermEnsembleHead.of(members, truth, lambda: blocks(said), about=about, ranked=ranked), truth, said


def rows_of(n: int) -> Features:
    return Features.from_arrays(np.zeros((n, 1), np.float32), ids=[str(row) for row in range(n)])


def together(found: Any) -> Any:
    return np.concatenate([block for _, block in found])


def test_the_features_of_a_pair_are_its_probability_its_rank_and_the_best_of_its_protein_and_group() -> None:
    given = np.array([[0.5], [0.9], [0.2], [0.7]], np.float32)
    cells = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0])
    pairs = Pairs(np.array([0, 0, 1, 0]), given, np.zeros(4, bool), 2, cells)
    found = features_of(pairs, given[:, 0].astype(np.float64), About(np.array([0, 1, 3]), np.array([0.1, np.inf])))
    logits, ranks, highest, frequency, group, distance, mix = found.T
    assert logits[0] == pytest.approx(0, abs=1e-6)
    assert np.array_equal(logits, mix)
    assert ranks == pytest.approx(np.log1p([1, 0, 0, 0]))
    assert highest == pytest.approx([0.9, 0.9, 0.2, 0.7])
    assert frequency == pytest.approx(np.log1p([0, 1, 3, 0]))
    assert group.tolist() == [0, 0, 1, 0]
    assert distance == pytest.approx([-1, -1, -1, 3])


def test_a_mix_of_pairs_is_that_of_their_cell() -> None:
    given = np.full((2, 1), 0.5, np.float32)
    pairs = Pairs(np.array([0, 1]), given, np.zeros(2, bool), 2, (np.array([0, 1]), np.array([0, 1])))
    plain, shifted = Mix((1.0,), (0.0,), (1.0,)), Mix((1.0,), (5.0,), (1.0,))
    assert mix_of(pairs, ((plain, shifted),), None).round(2).tolist() == [0.5, 0.99]
    related = np.array([True, False])
    assert mix_of(pairs, ((plain, plain), (shifted, plain)), related).round(2).tolist() == [0.99, 0.5]


def test_it_tells_what_is_first_of_a_protein_where_a_mean_sees_how_sure_a_member_is() -> None:
    ranked, _, _ = ensemble()
    plain, _, _ = ensemble(ranked=False)
    assert ranked.ranker is not None
    assert plain.ranker is None
    assert ranked.scores["fmax"] > plain.scores["fmax"] + 0.05
    truth, said = drawn(100, seed=7)
    ranked.members[0].head.said = said
    best = ranked.predict_proba(rows_of(100)).reshape(100, 2, 10).argmax(2) + [0, 10]
    assert np.mean(best == truth.codes.reshape(100, 2)) > 0.95


def test_probabilities_keep_to_what_is_right_as_often() -> None:
    ranked, _, _ = ensemble()
    truth, said = drawn(400, seed=7)
    ranked.members[0].head.said = said
    scores = ranked.predict_proba(rows_of(400))
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores.sum() == pytest.approx(len(truth.codes), rel=0.1)


def test_held_rows_are_answered_out_of_fold_until_the_ensemble_is_fitted_again() -> None:
    head, truth, _ = ensemble()
    assert isinstance(head, AnswersOutOfFold)
    out_of_fold, in_fold = (together(answers(rows_of(300))) for answers in (head.held_blocks, head.blocks))
    assert not np.array_equal(out_of_fold, in_fold)
    truly = truth.dense()
    assert out_of_fold[truly].mean() < in_fold[truly].mean()  # trees are surer of what they have seen
    head._learnt = None
    assert np.array_equal(together(head.held_blocks(rows_of(300))), in_fold)


def test_where_the_mix_is_right_already_or_proteins_are_few_it_stands() -> None:
    truth, _ = drawn(300)
    said = np.where(truth.dense(), 0.9, 0.1).astype(np.float32)
    members = [TermMember("one", "knn", Fixed(said))]
    assert TermEnsembleHead.of(members, truth, lambda: blocks(said), ranked=True).ranker is None
    assert ensemble(ENOUGH - 1)[0].ranker is None


def test_the_same_is_learnt_twice_and_comes_back_from_a_folder(tmp_path: Path) -> None:
    one, again = ensemble()[0].ranker, ensemble()[0].ranker
    assert one is not None
    assert again is not None
    assert one.trees.text == again.trees.text
    one.save(tmp_path)
    back = Ranker.load(tmp_path, 1, 20)
    assert back is not None
    _, said = drawn(50, seed=3)
    place = np.repeat([0, 1], 10)
    assert np.array_equal(back.correct(said, [said], place, None), one.correct(said, [said], place, None))
    with pytest.raises(ModelError, match="20 counts of 19 classes"):
        Ranker.load(tmp_path, 1, 19)
    with pytest.raises(ModelError, match="trees on 7 features instead of 10"):
        Ranker.load(tmp_path, 2, 20)
    save_file({"counts": np.full(20, -1)}, tmp_path / COUNTS)
    with pytest.raises(ModelError, match="fit again"):
        Ranker.load(tmp_path, 1, 20)


def learn_anyway(
    pairs: Pairs, truth: LabelSets, mixes: Mixes, related: Any, about: About, seed: int = 0
) -> Learnt | None:
    """Learn a ranker whether it brings something or not."""
    mix = mix_of(pairs, mixes, related)
    ranker = Ranker.fit(pairs, mix, about, seed)
    return None if ranker is None else Learnt(ranker, pairs, mix, 0.5)


def test_a_fitted_ensemble_with_a_ranker_says_the_same_bits_when_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(term_ensemble, "learn", learn_anyway)
    random = np.random.default_rng(1)
    kinds = random.integers(0, 20, 700)
    centres = random.normal(size=(20, 8))
    spread = random.uniform(0.3, 2.5, 700)[:, None]
    vectors = (centres[kinds] + spread * random.normal(size=(700, 8))).astype(np.float32)
    labels = LabelSets.from_names([[CLASSES[kind], CLASSES[kind // 4]] for kind in kinds], CLASSES, GROUPS)
    x = Features.from_arrays(vectors)
    head = TermEnsembleHead(TermEnsembleConfig("naive,knn", ranked=True))
    head.fit(x.take(slice(400)), labels.take(slice(400)), (x.take(slice(400, 700)), labels.take(slice(400, 700))))
    assert head.ranker is not None
    head.save(tmp_path)
    loaded = TermEnsembleHead.load(tmp_path, head.chosen, head.classes, head.groups)
    assert np.array_equal(loaded.predict_proba(x), head.predict_proba(x))
    head.refit(x, labels)
    assert head.ranker is not None
