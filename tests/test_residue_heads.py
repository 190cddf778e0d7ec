"""Heads for residues: what all of them promise, masks, memory, and that a protein is answered by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import residues
import torch

from esmcls.cache.features import Features
from esmcls.cache.spec import EmbeddingSpec
from esmcls.errors import ModelError, UsageError, WidthMismatchError
from esmcls.heads.registry import RESIDUE_GROUP, list_heads, load_head
from esmcls.heads.residues.base import seen_positions
from esmcls.heads.residues.networks import ConvConfig, ResidueConvHead, ResidueLinearHead, ResidueMLPHead
from esmcls.heads.settings import parse_settings
from esmcls.labels.residue_labels import ResidueLabels, ResidueNumbers

LETTERS = "ALVIGSDK"
NAMES = list_heads(RESIDUE_GROUP)
FAST = {"linear": {"lr": 0.1}, "mlp": {"lr": 0.01}, "conv": {"lr": 0.01, "hidden": 16}, "letter": {}}


def features(sequences, noise=0.1):
    """Return proteins whose residues' vectors are their letters, with some noise."""
    random = np.random.default_rng(7)
    eye = np.eye(len(LETTERS), dtype=np.float32)
    vectors = [eye[[LETTERS.index(letter) for letter in sequence]] for sequence in sequences]
    vectors = [one + noise * random.standard_normal(one.shape).astype(np.float32) for one in vectors]
    means = np.stack([one.mean(0) for one in vectors])
    return Features.from_arrays(means, sequences=sequences, residues=vectors)


def targets(kind, sequences):
    texts = [(residues.states if kind == "labels" else residues.numbers)(sequence) for sequence in sequences]
    return ResidueLabels.from_texts(texts) if kind == "labels" else ResidueNumbers.from_texts(texts)


def fitted(name, kind, seed=0, **knobs):
    """Return a head that was fitted on twelve proteins, and chose on four others."""
    head_class = load_head(name, RESIDUE_GROUP)
    proteins = residues.sequences(16)
    train, held = proteins[:12], proteins[12:]
    given = {**(FAST[name] | knobs if name != "letter" else {})}
    head = head_class(parse_settings(head_class.Config, given))
    return head.fit(features(train), targets(kind, train), (features(held), targets(kind, held)), seed)


@pytest.fixture
def unknown():
    """Proteins that nothing was fitted on."""
    return features(residues.sequences(24)[20:])


@pytest.mark.parametrize("kind", ["labels", "numbers"])
@pytest.mark.parametrize("name", NAMES)
class TestEveryHead:
    def test_it_learns_what_a_letter_tells(self, name, kind):
        head = fitted(name, kind)
        assert head.scores["accuracy" if kind == "labels" else "spearman"] > 0.8

    def test_the_same_seed_gives_the_same_bits_fresh_and_reloaded(self, name, kind, unknown, tmp_path):
        first, second = fitted(name, kind), fitted(name, kind)
        expected = first.predict_proba(unknown)
        assert np.array_equal(second.predict_proba(unknown), expected)
        first.save(tmp_path)
        loaded = load_head(name, RESIDUE_GROUP).load(tmp_path, first.chosen, first.classes)
        assert np.array_equal(loaded.predict_proba(unknown), expected)

    def test_a_protein_is_answered_the_same_to_the_bit_beside_any_others(self, name, kind, unknown):
        head = fitted(name, kind)
        together = list(head.per_protein(unknown))
        for row, answers in enumerate(together):
            [alone] = head.per_protein(unknown.take([row]))
            assert np.array_equal(alone, answers)
            assert len(answers) == len(unknown.sequences[row])

    def test_what_was_chosen_is_kept_when_all_proteins_are_fitted(self, name, kind):
        head = fitted(name, kind)
        before = head.chosen, head.scores
        proteins = residues.sequences(16)
        head.refit(features(proteins), targets(kind, proteins))
        assert (head.chosen, head.scores) == before

    def test_proteins_without_any_label_are_told(self, name, kind):
        head_class = load_head(name, RESIDUE_GROUP)
        texts = ["????", "????"] if kind == "labels" else ["nan nan nan nan"] * 2
        nothing = ResidueLabels.from_texts(texts, "CH") if kind == "labels" else ResidueNumbers.from_texts(texts)
        with pytest.raises(UsageError, match="no residue has a label to fit on"):
            head_class().fit(features(["ALVI", "GSDK"]), nothing)


@pytest.mark.parametrize("name", ["linear", "conv"])
def test_labels_of_masked_residues_change_nothing(name):
    proteins = residues.sequences(16)
    head_class = load_head(name, RESIDUE_GROUP)

    def fit(sign):
        texts = ["".join(sign + residues.states(one)[1:]) for one in proteins]
        labels = ResidueLabels.from_texts(texts, "CEH")
        x = features(proteins)
        return head_class(parse_settings(head_class.Config, FAST[name])).fit(x, labels, (x, labels))

    unknown = fit("?"), fit("Z")  # Z is none of the classes
    x = features(proteins)
    assert np.array_equal(unknown[0].predict_proba(x), unknown[1].predict_proba(x))
    assert not np.array_equal(unknown[0].predict_proba(x), fit("H").predict_proba(x))


def test_a_convolution_sees_neighbours_and_no_other_protein():
    head = fitted("conv", "labels")
    [whole] = head.per_protein(features(["ALVIGSDKAL"], noise=0))
    [other] = head.per_protein(features(["ALVIGSDKAG"], noise=0))
    assert not np.array_equal(whole[-3], other[-3])  # reached by two layers of seven residues
    assert abs(whole[0] - other[0]).max() < 1e-6
    block = features(["ALVI", "GSDK"], noise=0)
    head.network.eval()
    vectors = torch.from_numpy(np.concatenate(list(block.residues())))
    packed = head.network(vectors, [4, 4])
    alone = torch.cat([head.network(vectors[:4], [4]), head.network(vectors[4:], [4])])
    assert torch.allclose(packed, alone, atol=1e-5)


def test_rare_classes_are_favoured_as_far_as_validation_says_so():
    head = fitted("linear", "labels")
    assert head.chosen.adjust in (0.0, 0.25, 0.5, 0.75, 1.0)
    plain = fitted("linear", "labels", adjust=0.0)
    assert plain.chosen.adjust == 0


def test_no_more_than_a_batch_of_proteins_is_read_at_a_time():
    proteins = residues.sequences(16)
    x = features(proteins)
    read = []

    class Watched:
        width, spec, of_residues = x.width, None, True

        def residues(self, places, sequences):
            read.append(len(places))
            return x.store.residues(places, sequences)

    watched = Features(x.ids, x.sequences, Watched(), x.places)
    labels = targets("labels", proteins)
    held = x.take([0, 1]), labels.take([0, 1])
    ResidueMLPHead(parse_settings(ResidueMLPHead.Config, {"batch": 3, "epochs": 1})).fit(watched, labels, held)
    assert max(read[1:]) == 3  # the first look, at their mean and deviation, is a stream, too


def test_a_cache_without_residues_is_refused_before_it_is_embedded_again_and_again():
    x = features(["ALVI", "GSDK"])
    spec = EmbeddingSpec("esm2", "c0ffee", (6,), "balanced", "fp32", "float32", ("mean",), x.width)
    x = replace(x, store=replace(x.store, spec=spec))
    with pytest.raises(UsageError, match="not kept in this cache; run: esmcls embed INPUT --residues"):
        ResidueLinearHead().fit(x, targets("labels", ["ALVI", "GSDK"]))


def test_residues_that_the_encoder_did_not_see_have_no_answer():
    spec = EmbeddingSpec("esm2", "c0ffee", (6,), "ends:6", "fp32", "float32", ("mean", "residue"), len(LETTERS))
    assert seen_positions(spec, 10).tolist() == [0, 1, 2, 7, 8, 9]
    head = fitted("linear", "labels")
    x = features(["ALVIGSDKAL"])
    [vectors] = x.residues()
    seen = Features.from_arrays(x.vectors(), sequences=x.sequences, residues=[vectors[[0, 1, 2, 7, 8, 9]]], spec=spec)
    [answers] = head.per_protein(seen)
    assert np.isnan(answers[:, 0]).tolist() == [False] * 3 + [True] * 4 + [False] * 3


def test_vectors_of_another_width_are_told():
    head = fitted("linear", "labels")
    with pytest.raises(WidthMismatchError):
        head.predict_proba(Features.from_arrays(np.zeros((1, 3)), sequences=["AL"], residues=[np.zeros((2, 3))]))


def test_a_window_without_a_middle_is_refused():
    with pytest.raises(UsageError, match="setting kernel: 4 is even"):
        ConvConfig(kernel=4)


def test_a_damaged_file_is_told(tmp_path):
    head = fitted("conv", "labels")
    head.save(tmp_path)
    with pytest.raises(ModelError, match="no network of these settings"):
        ResidueConvHead.load(tmp_path, replace(head.chosen, hidden=8), head.classes)
    with pytest.raises(ModelError, match="not of 2 outputs"):
        ResidueConvHead.load(tmp_path, head.chosen, head.classes[:2])
