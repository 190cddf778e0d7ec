"""Heads for structures: what all of them promise, and how the trained one learns, is masked, cropped and resumed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from esmcls.cache.features import Features
from esmcls.errors import ModelError, UsageError, WidthMismatchError
from esmcls.heads.pairs.config import PairsConfig
from esmcls.heads.pairs.crops import crop_of
from esmcls.heads.pairs.head import PairsHead
from esmcls.heads.pairs.losses import Pairs, folded_error, in_frames, known_pairs, lddt_of_pairs, scaled
from esmcls.heads.pairs.measures import measured
from esmcls.heads.pairs.network import PairNetwork, PairShape
from esmcls.heads.pairs.separation import SeparationHead
from esmcls.heads.registry import PAIR_GROUP, list_heads, load_head
from esmcls.labels.structure_labels import Structures
from esmcls.metrics.structures.distances import lddt_of_distances
from esmcls.structures.distogram import BINS, PairAnswer, binned, distances, expected_distances

NAMES = list_heads(PAIR_GROUP)
SMALL = PairsConfig(
    hidden=16, depth=1, rank=8, channels=16, blocks=1, crop=16, batch=4, epochs=2, average=0.0, lr=0.01, noise=0.0,
    dropout=0.0, precision="fp32",
)  # fmt: skip
"""A network that is trained in a second."""


def chain(number, length=24):
    """Return the sequence, vectors and trace of a chain: helices where the vectors say so, strands elsewhere."""
    random = np.random.default_rng(number)
    helical = np.repeat(random.random(length // 6 + 1) < 0.5, 6)[:length]
    turn, rise = np.where(helical, 1.745, 3.1), np.where(helical, 1.5, 3.3)
    angle, along = np.cumsum(turn), np.cumsum(rise)
    radius = np.where(helical, 2.3, 0.9)
    trace = np.stack([radius * np.cos(angle), radius * np.sin(angle), along], axis=1).astype(np.float32)
    vectors = random.standard_normal((length, 6)).astype(np.float32) * 0.3
    vectors[:, 0] += 2.0 * helical
    return "".join("AG"[place] for place in helical.astype(int)), vectors, trace


def proteins(numbers, length=24):
    """Return chains as features and structures."""
    sequences, vectors, traces = zip(*(chain(number, length) for number in numbers), strict=True)
    means = np.stack([vector.mean(0) for vector in vectors])
    ids = [f"c{number}" for number in numbers]
    return Features.from_arrays(means, list(sequences), ids, residues=list(vectors)), Structures.from_traces(traces)


def fitted(name, seed=0, config=SMALL):
    """Return a head that was fitted on twelve chains, and chose on four others."""
    head_class = load_head(name, PAIR_GROUP)
    head = head_class(config if name == "pairs" else head_class.Config())
    return head.fit(*proteins(range(12)), proteins(range(12, 16)), seed)


@pytest.fixture(scope="module")
def heads():
    """Each head, fitted once."""
    return {name: fitted(name) for name in NAMES}


@pytest.fixture
def unknown():
    """Chains that nothing was fitted on, of several lengths."""
    parts = [proteins([number], length)[0] for number, length in ((30, 9), (31, 40), (32, 2))]
    vectors = [vector for part in parts for vector in part.residues()]
    sequences = [part.sequences[0] for part in parts]
    return Features.from_arrays(np.stack([vector.mean(0) for vector in vectors]), sequences, residues=vectors)


def same(one: PairAnswer, other: PairAnswer) -> bool:
    pairs = zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True)
    return all(np.array_equal(left, right) for left, right in pairs)


@pytest.mark.parametrize("name", NAMES)
class TestEveryHead:
    def test_it_gives_a_symmetric_distribution_a_pair_and_a_confidence_a_residue(self, name, heads, unknown):
        for sequence, answer in zip(unknown.sequences, heads[name].per_protein(unknown), strict=True):
            n = len(sequence)
            assert answer.distogram.shape == (n, n, BINS)
            assert answer.confidence.shape == (n,)
            assert answer.length == n
            assert answer.positions.tolist() == list(range(n))
            assert np.array_equal(answer.distogram, answer.distogram.transpose(1, 0, 2))
            assert abs(answer.distogram.sum(-1) - 1).max() < 1e-5
            assert ((answer.confidence >= 0) & (answer.confidence <= 1)).all()
            assert answer.distogram.dtype == answer.confidence.dtype == np.float32

    def test_the_same_seed_gives_the_same_bits_fresh_and_reloaded(self, name, heads, unknown, tmp_path):
        first, second = heads[name], fitted(name)
        first.save(tmp_path)
        loaded = load_head(name, PAIR_GROUP).load(tmp_path, first.chosen, ())
        for answer, other, read in zip(*(one.per_protein(unknown) for one in (first, second, loaded)), strict=True):
            assert same(answer, other)
            assert same(answer, read)

    def test_a_chain_is_answered_the_same_to_the_bit_beside_any_others(self, name, heads, unknown):
        together = list(heads[name].per_protein(unknown))
        for row, answer in enumerate(together):
            [alone] = heads[name].per_protein(unknown.take([row]))
            assert same(alone, answer)

    def test_its_scores_are_those_of_the_validation_chains(self, name, heads):
        x, labels = proteins(range(12, 16))
        rows = [measured(answer, labels.row(row)) for row, answer in enumerate(heads[name].per_protein(x))]
        assert heads[name].scores["loss"] == pytest.approx(np.mean([row[3] for row in rows]))
        assert heads[name].scores["lddt"] == pytest.approx(np.mean([row[2] for row in rows]))
        assert heads[name].scores["n"] == 4

    def test_what_was_chosen_is_kept_when_all_chains_are_fitted(self, name, heads):
        head = fitted(name)
        before = head.chosen, head.scores
        head.refit(*proteins(range(16)))
        assert (head.chosen, head.scores) == before

    def test_chains_without_two_residues_of_known_place_are_told(self, name, heads):
        x, labels = proteins(range(3))
        nothing = Structures(labels.offsets, np.full_like(labels.places, np.nan))
        with pytest.raises(UsageError, match="no protein has two residues of known place to fit on"):
            type(heads[name])().fit(x, nothing)
        with pytest.raises(UsageError, match="no protein of the validation part has two residues of known place"):
            type(heads[name])().fit(x, labels, (x, nothing))

    def test_a_structure_of_another_length_than_its_sequence_is_refused(self, name, heads):
        x, labels = proteins(range(3))
        x.sequences[1] = x.sequences[1][:-1]
        with pytest.raises(ValueError, match="a structure of 24 residues for the 23 of protein 'c1'"):
            type(heads[name])().fit(x, labels)

    def test_residues_that_were_not_resolved_are_neither_learnt_from_nor_counted(self, name, heads):
        x, labels = proteins(range(12))
        moved = labels.places.copy()
        moved[5::24] = np.nan
        masked = Structures(labels.offsets, moved)
        head = type(heads[name])(dataclasses.replace(SMALL, epochs=1) if name == "pairs" else None)
        head.fit(x, masked, (x, masked))
        assert all(np.isfinite(list(head.scores.values())))
        [answer] = head.per_protein(x.take([0]))
        without = answer.positions != 5
        part = PairAnswer(
            answer.positions[without], answer.distogram[without][:, without], answer.confidence[without], 24
        )
        assert measured(answer, masked.row(0)) == pytest.approx(measured(part, masked.row(0)), nan_ok=True)

    def test_a_damaged_file_is_told_in_one_line(self, name, heads, tmp_path):
        heads[name].save(tmp_path)
        [file] = tmp_path.iterdir()
        file.write_bytes(file.read_bytes()[:-7])
        with pytest.raises(ModelError, match=r"cannot be read .*fit again"):
            type(heads[name]).load(tmp_path, heads[name].chosen, ())


def test_the_network_learns_what_vectors_tell_of_distances_and_how_sure_it_is():
    train, held = proteins(range(60)), proteins(range(60, 72))
    head = PairsHead(dataclasses.replace(SMALL, epochs=12, crop=24)).fit(*train, held)
    baseline = SeparationHead().fit(*train, held)
    assert head.scores["loss"] < baseline.scores["loss"] - 0.3
    assert head.scores["lddt"] > baseline.scores["lddt"] + 0.05
    reached = [
        lddt_of_distances(expected_distances(answer.distogram), distances(held[1].row(row))).mean
        for row, answer in enumerate(head.per_protein(held[0]))
    ]
    said = [answer.confidence.mean() for answer in head.per_protein(held[0])]
    assert abs(np.mean(said) - np.mean(reached)) < 0.1


def test_letters_are_read_without_any_vector():
    x, labels = proteins(range(40))
    bare = Features.from_arrays(np.zeros((40, 0), np.float32), x.sequences)
    head = PairsHead(dataclasses.replace(SMALL, letters=True, epochs=4))
    head.fit(bare.take(range(30)), labels.take(range(30)), (bare.take(range(30, 40)), labels.take(range(30, 40))))
    baseline = SeparationHead().fit(bare, labels, (bare.take(range(30, 40)), labels.take(range(30, 40))))
    assert head.scores["loss"] < baseline.scores["loss"] - 0.1


class TestResume:
    def test_a_fit_that_was_killed_goes_on_to_the_bits_of_one_that_was_not(self, tmp_path, unknown, monkeypatch):
        config = dataclasses.replace(SMALL, noise=0.1, dropout=0.1, average=0.9)
        monkeypatch.setattr("esmcls.heads.pairs.head.CHECKPOINT_EVERY", 2)
        whole = fitted("pairs", config=config)

        def kill(entry):
            if entry.get("step") == 5:
                raise KeyboardInterrupt

        killed = PairsHead(config)
        killed.checkpoints = tmp_path / "checkpoints"
        with pytest.raises(KeyboardInterrupt):
            killed.fit(*proteins(range(12)), proteins(range(12, 16)), log=kill)
        assert len(list(killed.checkpoints.iterdir())) == 1
        steps = []
        resumed = PairsHead(config)
        resumed.checkpoints = tmp_path / "checkpoints"
        resumed.fit(*proteins(range(12)), proteins(range(12, 16)), log=steps.append)
        assert [entry["step"] for entry in steps if "step" in entry] == [5, 6]
        assert (resumed.chosen, resumed.scores) == (whole.chosen, whole.scores)
        for answer, other in zip(whole.per_protein(unknown), resumed.per_protein(unknown), strict=True):
            assert same(answer, other)

    @pytest.mark.parametrize("changed", ["knob", "data", "seed"])
    def test_a_checkpoint_of_another_fit_is_left_alone(self, tmp_path, changed):
        head = PairsHead(SMALL)
        head.checkpoints = tmp_path
        head.fit(*proteins(range(12)), proteins(range(12, 16)))
        other = PairsHead(dataclasses.replace(SMALL, lr=0.02) if changed == "knob" else SMALL)
        other.checkpoints = tmp_path
        steps = []
        chains = range(1, 13) if changed == "data" else range(12)
        other.fit(*proteins(chains), proteins(range(12, 16)), seed=int(changed == "seed"), log=steps.append)
        assert sum("step" in entry for entry in steps) == 6
        assert len(list(tmp_path.iterdir())) == 2


def test_a_fit_to_a_known_epoch_keeps_the_running_mean_of_the_weights_as_one_that_chose_it(unknown):
    config = dataclasses.replace(SMALL, average=0.9, epochs=3)
    chose = fitted("pairs", config=config)
    assert chose.chosen.stop in (1, 2, 3)
    told = PairsHead(dataclasses.replace(config, stop=chose.chosen.stop)).fit(*proteins(range(12)))
    again = PairsHead(chose.chosen).refit(*proteins(range(12)))
    for answer, other, third in zip(*(one.per_protein(unknown) for one in (chose, told, again)), strict=True):
        assert same(answer, other)
        assert same(answer, third)


def test_a_chain_without_any_place_is_passed_over():
    x, labels = proteins(range(8))
    places = labels.places.copy()
    places[: 3 * 24] = np.nan
    some = Structures(labels.offsets, places)
    head = PairsHead(dataclasses.replace(SMALL, epochs=1)).fit(x, some, (x, some))
    assert head.scores["n"] == 5
    assert all(torch.isfinite(value).all() for value in head.network.state_dict().values())


class TestCrops:
    def test_two_stretches_are_in_order_and_do_not_overlap(self):
        random = np.random.default_rng(0)
        for _ in range(200):
            places = crop_of(40, 16, 1.0, random)
            assert len(places) == 16
            assert (np.diff(places) > 0).all()
            assert 0 <= places[0] <= places[-1] < 40

    def test_all_places_are_seen_in_the_end(self):
        random = np.random.default_rng(0)
        seen = np.concatenate([crop_of(40, 16, two, random) for two in (0.0, 1.0) for _ in range(200)])
        assert set(seen.tolist()) == set(range(40))


class TestLosses:
    def test_the_lddt_of_distances_that_are_right_is_1_and_of_far_off_ones_0(self):
        trace = torch.from_numpy(chain(1)[2])
        pairs = known_pairs(trace)
        assert lddt_of_pairs(pairs.distance, pairs, 24).tolist() == [1.0] * 24
        assert lddt_of_pairs(pairs.distance + 5, pairs, 24).tolist() == [0.0] * 24
        assert lddt_of_pairs(pairs.distance + 0.75, pairs, 24).tolist() == [0.75] * 24

    def test_places_of_exact_distances_are_those_of_the_trace_but_for_turn_and_mirror(self):
        trace = torch.from_numpy(chain(2)[2])
        square = (trace[:, None] - trace).square().sum(-1)
        folded = scaled(square)
        assert torch.allclose((folded[:, None] - folded).square().sum(-1), square, atol=1e-2)

    def test_a_frame_sees_the_same_wherever_the_trace_lies(self):
        trace = torch.from_numpy(chain(3)[2])
        turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
        turn = turn * torch.det(turn)  # no mirror
        middle = torch.arange(1, 23)
        assert torch.allclose(in_frames(trace, middle), in_frames(trace @ turn + 5, middle), atol=1e-3)

    def test_the_frame_aligned_error_is_0_of_true_distances_and_falls_by_descent(self):
        trace = 8 * torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
        trace[3] = torch.nan
        pairs, positions = known_pairs(trace), torch.arange(24)
        assert folded_error(pairs.distance, pairs, trace, positions) < 0.01
        distance = pairs.distance + torch.randn(len(pairs.distance), generator=torch.Generator().manual_seed(0))
        distance = distance.abs().requires_grad_()
        descent = torch.optim.Adam([distance], lr=0.1)
        before = folded_error(distance, pairs, trace, positions).item()
        for _ in range(60):
            descent.zero_grad()
            folded_error(distance, pairs, trace, positions).backward()
            descent.step()
        assert folded_error(distance, pairs, trace, positions).item() < 0.6 * before

    def test_training_by_frames_is_an_option(self):
        head = fitted("pairs", config=dataclasses.replace(SMALL, fape=0.5, epochs=1))
        plain = fitted("pairs", config=dataclasses.replace(SMALL, epochs=1))
        assert np.isfinite(head.scores["loss"])
        assert head.scores != plain.scores


class TestNetwork:
    def test_an_answer_does_not_depend_on_what_is_beyond_its_reach(self):
        network = PairNetwork.drawn(6, PairShape(8, 0, 4, 8, 2), seed=0).eval()
        torch.nn.init.normal_(network.out.weight)
        vectors, positions = torch.from_numpy(chain(5, 40)[1]), torch.arange(40)

        def features(x):
            return network.pairs(network.residues(network.standardised(x)), positions, 40)

        other = vectors.clone()
        other[39] += 1
        with torch.no_grad():
            before, after = features(vectors), features(other)
        assert torch.allclose(before[:36, :36], after[:36, :36], atol=1e-6)  # two layers reach 1 + 2
        assert not torch.allclose(before[36:, 36:], after[36:, 36:], atol=1e-6)

    def test_it_begins_at_the_mean_distribution_by_separation(self):
        head = PairsHead(SMALL)
        x, labels = proteins(range(12))
        head._draw(x, labels, 0)
        baseline = SeparationHead().fit(x, labels, (x, labels))
        [answer], [mean] = head.per_protein(x.take([0])), baseline.per_protein(x.take([0]))
        assert np.allclose(answer.distogram, mean.distogram, atol=1e-5)

    def test_vectors_of_another_width_are_refused(self, heads):
        wide = Features.from_arrays(np.zeros((1, 7), np.float32), ["AG"], residues=[np.zeros((2, 7), np.float32)])
        with pytest.raises(WidthMismatchError):
            next(heads["pairs"].per_protein(wide))


def test_pairs_that_no_encoder_input_held_are_not_counted_and_the_others_at_their_places():
    positions = np.r_[0:10, 30:40]
    trace = (8 * np.random.default_rng(0).standard_normal((40, 3))).astype(np.float32)
    bins = binned(distances(trace[positions]))
    answer = PairAnswer(positions, np.eye(BINS, dtype=np.float32)[bins], np.ones(20, np.float32), 40)
    precision, _, lddt, loss = measured(answer, trace)
    far = distances(trace)[:10, 30:]
    assert loss == 0
    assert lddt > 0.9
    assert precision == pytest.approx((far < 8).sum() / 20)  # of twenty residues, all pairs of long range at hand


def test_pairs_are_a_named_tuple_of_places_and_distances():
    trace = torch.tensor([[0.0, 0, 0], [torch.nan] * 3, [3.0, 4.0, 0.0]])
    pairs = known_pairs(trace)
    assert isinstance(pairs, Pairs)
    assert [part.tolist() for part in pairs] == [[0], [2], [5.0]]
