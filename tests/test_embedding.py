"""From sequences to the cache: each once, resumed with the same batches, in bounded memory, by one process or more."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_encoder import ToyEncoder, letters, stacked

import esmcls.cache.embed as embed_module
import esmcls.cache.store as cache_module
from esmcls.cache.embed import embed, embed_into, plan_run
from esmcls.cache.parallel import DeviceError, embed_on_devices
from esmcls.cache.prefetch import BackgroundWriter, prefetch
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.cache.to_embed import EmbedReport, Missing
from esmcls.encoders.encoder import load_encoder
from esmcls.errors import CacheError, NonFiniteError, SequenceError, SequenceTooLargeError, UsageError

SPEC = EmbeddingSpec.of(ToyEncoder())
SEQUENCES = [letters(number) for number in range(20)]


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[EmbeddingCache]:
    """Return an empty cache."""
    with EmbeddingCache.open(tmp_path / "cache", SPEC) as cache:
        yield cache


def test_every_sequence_is_embedded_the_last_partial_batch_too(cache: EmbeddingCache) -> None:
    report = embed_into(cache, ToyEncoder(batch=3), SEQUENCES)
    assert np.array_equal(cache.read(SEQUENCES[::-1]), stacked(SEQUENCES[::-1]))
    assert (report.read, report.distinct, report.cached, report.embedded) == (20, 20, 0, 20)
    assert report.residues == sum(map(len, SEQUENCES))


def test_equal_sequences_are_embedded_once(cache: EmbeddingCache) -> None:
    encoder = ToyEncoder()
    report = embed_into(cache, encoder, ["A", "C", "A", "D", "C", "A"])
    assert encoder.batches_seen == [["A", "C", "D"]]
    assert (report.read, report.distinct, report.embedded) == (6, 3, 3)


def test_a_second_run_embeds_only_what_is_new(cache: EmbeddingCache) -> None:
    embed_into(cache, ToyEncoder(), SEQUENCES[:7])
    encoder = ToyEncoder(batch=2)
    report = embed_into(cache, encoder, [*SEQUENCES[5:10], "AAAA"])
    assert encoder.batches_seen == [SEQUENCES[7:9], [SEQUENCES[9], "AAAA"]]
    assert (report.cached, report.embedded) == (2, 4)
    assert embed_into(cache, ToyEncoder(nan_at=SEQUENCES[0]), SEQUENCES[:10]).embedded == 0


@pytest.mark.parametrize("stop", [1, 2, 5])
def test_an_interrupted_run_seals_what_is_finished_and_a_resumed_one_plans_the_same_batches(
    tmp_path: Path, stop: int
) -> None:
    whole = ToyEncoder()
    with EmbeddingCache.open(tmp_path / "whole", SPEC) as cache:
        embed_into(cache, whole, SEQUENCES)

    def interrupt(residues: int, sequences: int) -> None:
        if len(first.batches_seen) == stop:
            raise KeyboardInterrupt

    first, second = ToyEncoder(), ToyEncoder()
    with EmbeddingCache.open(tmp_path / "cut", SPEC) as cache:
        with pytest.raises(KeyboardInterrupt):
            embed_into(cache, first, SEQUENCES, progress=interrupt)
        assert len(cache) == 3 * stop
        embed_into(cache, second, SEQUENCES)
        assert np.array_equal(cache.read(SEQUENCES), stacked(SEQUENCES))
    assert first.batches_seen + second.batches_seen == whole.batches_seen


def test_an_error_while_reading_keeps_what_came_before(cache: EmbeddingCache) -> None:
    def broken() -> Iterator[str]:
        yield from SEQUENCES[:4]
        raise UsageError("line 5 is no record")

    with pytest.raises(UsageError, match="line 5"):
        embed_into(cache, ToyEncoder(batch=1), itertools.chain(letters_until(600), broken()))
    assert len(cache) >= 511, "two whole blocks were read before; the last one waits for its batch to be full"


def letters_until(count: int) -> Iterator[str]:
    """Yield sequences from the 1,000th on."""
    return (letters(number) for number in range(1000, 1000 + count))


def test_a_vector_that_is_not_finite_ends_the_run_and_keeps_earlier_batches(cache: EmbeddingCache) -> None:
    with pytest.raises(NonFiniteError, match="not finite"):
        embed_into(cache, ToyEncoder(nan_at=SEQUENCES[7]), SEQUENCES)
    assert cache.missing(SEQUENCES)[0] == 6
    assert np.array_equal(cache.read(SEQUENCES[:6]), stacked(SEQUENCES[:6]))


def test_sequences_that_do_not_fit_are_reported_by_their_place_and_the_rest_kept(cache: EmbeddingCache) -> None:
    report = embed_into(cache, ToyEncoder(too_large=("D", "E", "F")), ["A", "C", "D", "C", "E", "F", "D"])
    assert report.too_large == [2, 4, 5]
    assert cache.missing(["A", "C", "D", "E"]) == [2, 3]
    assert report.lines() == [
        "7 sequences, 5 distinct: 2 embedded, 0 were cached",
        "3 left out, too large for the memory: number 3, 5, 6",
    ]


def test_the_report_says_how_many_were_cut_and_what_was_not_seen(cache: EmbeddingCache) -> None:
    report = embed_into(cache, ToyEncoder(long="ends:4"), ["ACD", "ACDE", "ACDEF", "ACDEFGHIKL"])
    assert (report.cut, report.unseen) == (2, 1 + 6)
    assert report.lines()[1] == "2 sequences were cut, 7 residues were not seen"


def test_progress_adds_up_to_the_input_whatever_was_passed_over(cache: EmbeddingCache) -> None:
    embed_into(cache, ToyEncoder(), SEQUENCES[3:5])
    told: list[tuple[int, int]] = []
    given = [*SEQUENCES, *SEQUENCES[:4]]
    embed_into(cache, ToyEncoder(), given, progress=lambda *done: told.append(done), shard=(1, 2))
    assert sum(residues for residues, _ in told) == sum(map(len, given))
    assert sum(sequences for _, sequences in told) == len(given)


def test_shards_are_disjoint_and_complete_and_equal_sequences_share_one(tmp_path: Path) -> None:
    given, parts = [*SEQUENCES, *SEQUENCES[::-1]], []
    for part in (1, 2, 3):
        with EmbeddingCache.open(tmp_path / str(part), SPEC) as cache:
            parts.append([sequence for _, sequence in Missing(cache, given, (part, 3))])
    assert sorted(itertools.chain(*parts)) == sorted(SEQUENCES)
    assert all(parts)


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (1, 0)])
def test_a_shard_that_is_not_there_is_refused(cache: EmbeddingCache, shard: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=f"there is no shard {shard[0]}/{shard[1]}"):
        embed_into(cache, ToyEncoder(), SEQUENCES, shard=shard)


def test_an_encoder_of_another_spec_is_refused(cache: EmbeddingCache) -> None:
    with pytest.raises(CacheError, match=r"another spec \(precision fp32 against bf16\)"):
        embed_into(cache, ToyEncoder(precision="bf16"), SEQUENCES)


def test_an_endless_input_is_read_no_further_than_the_queues_are_long(cache: EmbeddingCache) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for read in itertools.count(1):
            yield letters(read)

    def stop(residues: int, sequences: int) -> None:
        if len(encoder.batches_seen) == 400:
            raise KeyboardInterrupt

    encoder = ToyEncoder(batch=1)
    with pytest.raises(KeyboardInterrupt):
        embed_into(cache, encoder, endless(), progress=stop)
    assert len(cache) == 400
    assert read <= 400 + 2 * 256


def test_segments_end_where_batches_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "SEAL_BYTES", 200)  # 56 a row
    with EmbeddingCache.open(tmp_path, SPEC) as cache:
        embed_into(cache, ToyEncoder(batch=3), SEQUENCES)
        assert [len(segment) for segment in cache._segments] == [6, 6, 6, 2]


def test_all_poolings_and_residues_of_the_spec_are_stored(tmp_path: Path) -> None:
    spec = EmbeddingSpec.of(ToyEncoder(), poolings=("mean", "max", "residue"))
    with EmbeddingCache.open(tmp_path, spec) as cache:
        embed_into(cache, ToyEncoder(), SEQUENCES)
        assert np.array_equal(cache.read(SEQUENCES, "max"), 3 * stacked(SEQUENCES))
        assert [len(part) for part in cache.read_residues(SEQUENCES)] == list(map(len, SEQUENCES))


def test_a_plan_counts_bytes_and_writes_nothing(tmp_path: Path) -> None:
    spec = EmbeddingSpec.of(ToyEncoder(), poolings=("mean", "chunk"))
    with EmbeddingCache.open(tmp_path, spec) as cache:
        embed_into(cache, ToyEncoder(), ["ACD"])
        encoder = ToyEncoder(seconds=0.001)
        given = ["ACD", "A", "A", "ACDACDACD", *(letters(number) for number in range(1024, 1124))]
        plan = plan_run(cache, encoder, given)
        assert (plan.distinct, plan.cached, plan.missing) == (103, 1, 102)
        assert plan.residues == 1 + 9 + 100 * 7
        assert plan.nbytes == 102 * (56 + 8) + 8 * (1 + 2 + 100 * 2)
        assert plan.seconds > 0
        assert len(encoder.batches_seen) == 1 + 16, "one to warm up, and the sample"
        assert len(cache) == 1
        assert plan_run(cache, encoder, ["ACD"]).seconds == 0


def test_73_million_residues_at_960_numbers_are_planned_to_the_byte_and_second_without_being_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = ToyEncoder(width=960, long="window", batch=8)
    clock = itertools.count(step=6)  # each pair of calls is 6 s apart, in which the sample is encoded
    monkeypatch.setattr(embed_module.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(ToyEncoder, "encode", lambda self, sequences, *_: encoded.extend(sequences))
    encoded = list[str]()
    proteins = (letters(number) + "M" * (14_600 - len(letters(number))) for number in range(5_000))
    with EmbeddingCache.open(tmp_path, EmbeddingSpec.of(encoder, poolings=("mean", "residue"))) as cache:
        plan = plan_run(cache, encoder, proteins)
    assert (plan.missing, plan.residues) == (5_000, 73_000_000)
    assert plan.nbytes == 2 * 960 * (73_000_000 + 5_000) + 5_000 * (32 + 8 + 8 + 8)  # key, length, inputs, offset
    assert plan.seconds == pytest.approx(6 * 5_000 / 48)
    assert len(encoded) == 1 + 48


def test_the_bytes_that_were_planned_of_residues_are_those_that_are_written(tmp_path: Path) -> None:
    encoder = ToyEncoder(long="chunk:16", batch=64)
    spec = EmbeddingSpec.of(encoder, poolings=("mean", "residue"))
    given = [letters(number) + "M" * (number % 150) for number in range(1024)]
    with EmbeddingCache.open(tmp_path, spec) as cache:
        plan = plan_run(cache, encoder, given)
        embed_into(cache, encoder, given)
        assert plan.nbytes <= cache.nbytes < 1.02 * plan.nbytes  # what HDF5 says of the columns


# the public call


def test_embed_answers_every_sequence_in_its_order() -> None:
    encoder = ToyEncoder(batch=2)
    assert np.array_equal(embed(["A", "cd*", "A", "CD"], encoder), stacked(["A", "CD", "A", "CD"]))
    assert encoder.batches_seen == [["A", "CD"]]
    assert embed([], encoder).shape == (0, 4)
    assert np.array_equal(embed(["A"], encoder, pooling="cls"), 2 * stacked(["A"]))


def test_embed_with_a_cache_embeds_once(tmp_path: Path) -> None:
    encoder = ToyEncoder()
    for _ in range(2):
        vectors = embed(["A", "CD", "A"], encoder, cache=tmp_path)
        assert vectors.dtype == np.float32
        assert np.array_equal(vectors, stacked(["A", "CD", "A"]))
    assert encoder.batches_seen == [["A", "CD"]]
    assert (tmp_path / SPEC.key() / "spec.json").is_file()


@pytest.mark.parametrize("cached", [False, True])
def test_embed_names_what_is_too_large(tmp_path: Path, cached: bool) -> None:
    with pytest.raises(SequenceTooLargeError, match="sequence number 3 "):
        embed(["A", "C", "D"], ToyEncoder(too_large=("D",)), cache=tmp_path if cached else None)


def test_embed_refuses_what_is_no_sequence() -> None:
    with pytest.raises(SequenceError, match=r"^sequence 2, residue 2: gap sign '-'"):
        embed(["A", "A-C"], ToyEncoder())
    with pytest.raises(SequenceError, match=r"^sequence 1: no residues"):
        embed([""], ToyEncoder())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("MKTAYIAKQRQ", "embed takes a list of sequences, not one text; put it into a list"),
        (b"MKTAYIAKQRQ", "embed takes a list of sequences, not one text; put it into a list"),
        (None, "embed takes a list of sequences, not None"),
        (7, "embed takes a list of sequences, not of type int"),
        (["MK", None], "embed: sequence 2 is None, not a text"),
        ([["MK"]], "embed: sequence 1 is of type list, not a text"),
    ],
)
def test_embed_takes_a_list_of_texts_and_says_what_it_got(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}$"):
        embed(given, ToyEncoder())


@pytest.mark.parametrize("cached", [False, True])
def test_embed_tells_how_many_are_done_and_how_many_there_are(tmp_path: Path, cached: bool) -> None:
    told: list[tuple[int, int]] = []
    options = {"cache": tmp_path} if cached else {}
    embed(["A", "CD", "A", "EF"], ToyEncoder(batch=2), progress=lambda *done: told.append(done), **options)
    assert told[-1] == (3, 3)
    assert told == sorted(told)


# threads


def test_prefetch_hands_on_items_in_order_and_the_exception_after_them() -> None:
    def broken() -> Iterator[int]:
        yield from range(10)
        raise UsageError("broken")

    got = []
    with pytest.raises(UsageError, match="broken"):
        got.extend(prefetch(broken(), depth=2))
    assert got == list(range(10))


def test_prefetch_stops_reading_when_nobody_listens() -> None:
    items = iter(range(1000))
    ahead = prefetch(items, depth=3)
    assert next(ahead) == 0
    ahead.close()
    for thread in threading.enumerate():
        if thread.name == "esmcls-reader":
            thread.join(5)
    assert next(items) <= 6


def test_a_writer_passes_on_its_error_and_drops_the_rest() -> None:
    there: list[int] = []

    def write(item: int) -> None:
        if item == 2:
            raise UsageError("full")
        there.append(item)

    def put_all(items: range) -> None:
        with BackgroundWriter(write, depth=1) as writer:
            for item in items:
                writer.put(item)

    with pytest.raises(UsageError, match="full"):
        put_all(range(100))
    assert there == [0, 1]
    with pytest.raises(UsageError, match="full"):
        put_all(range(2, 3))


# several devices


def test_two_devices_give_what_one_gives(tmp_path: Path) -> None:
    encoder, given = load_encoder("composition"), [letters(number) for number in range(300)]
    with EmbeddingCache.open(tmp_path / "one", EmbeddingSpec.of(encoder)) as one:
        single = embed_on_devices(one, "composition", given, ["cpu"])
        told: list[tuple[int, int]] = []
        with EmbeddingCache.open(tmp_path / "two", EmbeddingSpec.of(encoder)) as two:
            embed_into(two, encoder, given[:50])
            report = embed_on_devices(
                two, "composition", given, ["cpu", "cpu"], progress=lambda *done: told.append(done)
            )
            assert np.array_equal(two.read(given), one.read(given))
            assert two.segments == 3, "each process wrote its own"
    assert (report.read, report.distinct, report.cached, report.embedded) == (300, 300, 50, 250)
    assert single.residues == sum(map(len, given)) == sum(residues for residues, _ in told)


def test_a_device_that_fails_is_named(tmp_path: Path) -> None:
    spec = EmbeddingSpec.of(load_encoder("composition"))
    with (
        EmbeddingCache.open(tmp_path, spec) as cache,
        pytest.raises(DeviceError, match=r"^device cpu: unknown encoder 'compositoin'; did you mean"),
    ):
        embed_on_devices(cache, "compositoin", SEQUENCES, ["cpu", "cpu"])


def test_reports_of_processes_add_up() -> None:
    report = EmbedReport(read=5, distinct=4, too_large=[1], passed=(7, 1), seconds=1.0)
    report.add(EmbedReport(embedded=3, residues=9, too_large=[3], seconds=9.0))
    assert report == EmbedReport(5, 4, 0, 3, 9, 0, 0, [1, 3], 1.0, (7, 1))
