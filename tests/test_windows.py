from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmcls.encoders.windows import (
    CONTEXT,
    Balanced,
    Chunk,
    Ends,
    Full,
    Start,
    Strategy,
    Window,
    glue,
    parse_long,
    positions_of,
)
from esmcls.errors import UnknownNameError, UsageError

limits = st.integers(2, 40)
windows = limits.flatmap(lambda window: st.builds(Window, st.just(window), st.integers(1, window)))
strategies = st.one_of(*(st.builds(kind, limits) for kind in (Start, Balanced, Ends, Chunk)), windows, st.just(Full()))
covering = st.one_of(windows, st.builds(Chunk, limits), st.just(Full()))
lengths = st.integers(1, 200)


def identity_parts(strategy: Strategy, length: int) -> list[np.ndarray]:
    """Vectors that say which residue they are of."""
    return [positions_of(cut)[:, None] * np.ones((1, 3), dtype=np.float32) for cut in strategy.cut(length)]


@given(strategies, lengths)
def test_joining_what_was_cut_gives_each_residue_its_own_vector(strategy: Strategy, length: int) -> None:
    cuts = strategy.cut(length)
    residues, positions = strategy.join(identity_parts(strategy, length), cuts)
    assert positions.tolist() == sorted(set(positions.tolist()))
    np.testing.assert_array_equal(residues, np.repeat(positions[:, None], 3, axis=1))


@given(covering, lengths)
def test_window_chunk_and_full_see_every_residue(strategy: Strategy, length: int) -> None:
    _, positions = strategy.join(identity_parts(strategy, length), strategy.cut(length))
    assert positions.tolist() == list(range(length))


@given(st.one_of(st.builds(Balanced, limits), st.builds(Ends, limits)), lengths)
def test_balanced_and_ends_see_both_termini_up_to_the_limit(strategy: Balanced | Ends, length: int) -> None:
    seen = {position for cut in strategy.cut(length) for position in positions_of(cut).tolist()}
    assert len(seen) == min(length, strategy.limit)
    assert {0, length - 1} <= seen


@given(strategies, lengths)
def test_no_input_is_longer_than_the_limit_or_empty(strategy: Strategy, length: int) -> None:
    sizes = [len(positions_of(cut)) for cut in strategy.cut(length)]
    assert min(sizes) > 0
    assert max(sizes) <= (strategy.longest or length)


@given(strategies, lengths)
def test_a_sequence_that_fits_is_one_identity_input(strategy: Strategy, length: int) -> None:
    if strategy.longest is None or length <= strategy.longest:
        assert strategy.cut(length) == [(slice(0, length),)]


@given(windows, lengths)
def test_the_last_window_is_whole_and_ends_at_the_last_residue(strategy: Window, length: int) -> None:
    cuts = strategy.cut(length)
    assert cuts[-1][0].stop == length
    assert {cut[0].stop - cut[0].start for cut in cuts} == {min(length, strategy.window)}
    assert len(set(map(str, cuts))) == len(cuts), "a window occurs twice"


@given(st.builds(Chunk, limits), lengths)
def test_chunks_are_near_equal_and_none_is_shorter_than_half_a_window(strategy: Chunk, length: int) -> None:
    sizes = [cut[0].stop - cut[0].start for cut in strategy.cut(length)]
    assert sum(sizes) == length
    assert max(sizes) - min(sizes) <= 1
    if len(sizes) > 1:
        assert min(sizes) >= strategy.limit // 2


@given(strategies)
def test_the_text_of_a_strategy_names_it(strategy: Strategy) -> None:
    assert parse_long(str(strategy)) == strategy
    assert str(parse_long(str(strategy))) == str(strategy)


@pytest.mark.parametrize(
    ("strategy", "length", "cuts"),
    [
        (Start(), 1024, [(slice(0, 1022),)]),
        (Balanced(), 1023, [(slice(0, 511), slice(512, 1023))]),
        (Balanced(5), 9, [(slice(0, 3), slice(7, 9))]),
        (Ends(), 2000, [(slice(0, 511),), (slice(1489, 2000),)]),
        (Window(), 1533, [(slice(0, 1022),), (slice(511, 1533),)]),
        (Window(), 1534, [(slice(0, 1022),), (slice(511, 1533),), (slice(512, 1534),)]),
        (Chunk(), 1023, [(slice(0, 511),), (slice(511, 1023),)]),
        (Full(), 40_000, [(slice(0, 40_000),)]),
        (Balanced(), CONTEXT, [(slice(0, CONTEXT),)]),
    ],
)
def test_cuts_of_known_lengths(strategy: Strategy, length: int, cuts: list[tuple[slice, ...]]) -> None:
    assert strategy.cut(length) == cuts


def test_a_residue_in_two_windows_counts_once_with_the_mean_of_both() -> None:
    parts = [np.full((4, 1), 1.0, np.float32), np.full((4, 1), 3.0, np.float32), np.full((4, 1), 5.0, np.float32)]
    strategy = Window(4, 2)
    residues, positions = strategy.join(parts, strategy.cut(7))
    # residues 0-3 lie in the first window, 2-5 in the second, 3-6 in the third
    assert residues[:, 0].tolist() == [1.0, 1.0, 2.0, 3.0, 4.0, 4.0, 5.0]
    assert residues.dtype == np.float32
    assert positions.tolist() == list(range(7))


def test_joining_refuses_parts_that_are_not_those_of_the_cuts() -> None:
    part = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match=re.escape("parts of [3] residues, cuts of [3, 2]")):
        Ends(5).join([part], Ends(5).cut(9))
    with pytest.raises(ValueError, match=re.escape("parts of [3, 3] residues, cuts of [3, 2]")):
        Ends(5).join([part, part], Ends(5).cut(9))


@pytest.mark.parametrize(
    ("text", "options", "canonical"),
    [
        ("start", {}, "start"),
        ("balanced", {"window": 500}, "balanced:500"),
        ("balanced:1022", {}, "balanced"),
        ("window", {"stride": 100}, "window:1022:100"),
        ("window:100", {}, "window:100:50"),
        ("window:1022:200", {"window": 400}, "window:400:200"),
        ("window:64", {"stride": 8, "limit": None}, "window:64:8"),
        ("chunk", {"limit": 300}, "chunk:300"),
        ("full", {"window": None, "stride": None}, "full"),
    ],
)
def test_text_and_options_give_one_canonical_text(text: str, options: dict[str, int | None], canonical: str) -> None:
    assert str(parse_long(text, **options)) == canonical


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("window:10:0", {}, "stride 0 leaves residues out; choose 1 to the window, 10"),
        ("window:10:11", {}, "stride 11 leaves residues out; choose 1 to the window, 10"),
        ("window:1023:5", {}, "inputs of 1023 residues; choose 2 to 1022"),
        ("chunk:1", {}, "inputs of 1 residues; choose 2 to 1022"),
        ("full", {"window": 10}, "long-sequence strategy 'full' takes no numbers; got 'full', window=10"),
        ("start:1:2", {}, "long-sequence strategy 'start' takes limit; got 'start:1:2'"),
        ("window:ten", {}, "takes window and stride; got 'window:ten'"),
        ("start", {"stride": 3}, "takes limit; got 'start', stride=3"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(text: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_long(text, **options)


def test_an_unknown_strategy_is_told_with_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'window'"):
        parse_long("windows")


def test_glued_residues_are_those_of_the_slices() -> None:
    assert glue("ABCDEFGHI", Balanced(5).cut(9)[0]) == "ABCHI"
