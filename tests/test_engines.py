"""The work of a cluster without one: who is given what, what is done again, what is refused; a fake plays Ray."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from command import done, run
from families import write_families
from tiny import sequences as tiny_sequences
from tiny import write_encoder
from toy_encoder import ToyEncoder, letters, stacked

from esmcls.cache.embed import embed_apart, embed_into
from esmcls.cache.spec import RAGGED, EmbeddingSpec
from esmcls.cache.store import MOST_SEGMENTS, EmbeddingCache
from esmcls.cache.to_embed import plan_batches
from esmcls.encoders.encoder import load_encoder
from esmcls.engines import embed as ray_embedding
from esmcls.engines import ray_team
from esmcls.engines.embed import RayEmbedding, RayPlan, block_residues, blocks
from esmcls.engines.on_nodes import Actor, ClusterError, Home, Outcome
from esmcls.engines.ray_team import Cluster, Connection
from esmcls.errors import CacheError, MissingExtraError, UsageError
from esmcls.remote.mirror import LEDGER, mirror_folder
from esmcls.workspace.embed_in_workspace import EmbeddingRecipe
from esmcls.workspace.workspace import Workspace

SPEC = EmbeddingSpec.of(ToyEncoder())


class Lost(Exception):
    """Stands for Ray's error of an actor that ended."""


class Bug(Lost):
    """Stands for Ray's error of a method that raised."""


@dataclass
class FakeRay:
    """Runs actors in this process when their results are waited for; `ends` says which calls take the actor with them.

    Parameters
    ----------
    ends : callable
        From the number of an actor, a method and its arguments to whether the actor ends.
    cpus : float
        Of the cluster.
    """

    ends: Callable[[int, str, tuple[Any, ...]], bool] = lambda actor, method, args: False
    cpus: float = 3.0
    killed: list[int] = field(default_factory=list)
    made: int = 0
    exceptions: Any = field(default_factory=lambda: SimpleNamespace(RayError=Lost, RayTaskError=Bug))

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cpus}

    def remote(self, **_: float) -> Callable[[type], Any]:
        return lambda actor_class: SimpleNamespace(remote=lambda *args: self._actor(actor_class(*args)))

    def _actor(self, actor: Any) -> Any:
        self.made += 1
        number = self.made

        def method(name: str) -> Any:
            return SimpleNamespace(remote=lambda *args: _Call(number, name, args, getattr(actor, name)))

        return SimpleNamespace(number=number, ready=method("ready"), work=method("work"))

    def wait(self, references: list[Any], **_: float) -> tuple[list[Any], list[Any]]:
        return references[-1:], references[:-1]  # the last comes first, so that results are out of order

    def get(self, reference: Any) -> Any:
        if self.ends(reference.actor, reference.name, reference.args):
            raise Lost("it ended")
        return reference.method(*reference.args)

    def kill(self, actor: Any) -> None:
        self.killed.append(actor.number)


@dataclass(frozen=True, eq=False)
class _Call:
    actor: int
    name: str
    args: tuple[Any, ...]
    method: Callable[..., Any]


@dataclass
class AskedRay:
    """Stands for a Ray that is asked one question, which it answers when it was waited for so many times.

    Parameters
    ----------
    waits : int
        How often no node has room.
    error : Exception, optional
        What comes in place of the answer.
    """

    waits: int = 0
    error: Exception | None = None
    patience: list[float] = field(default_factory=list)
    exceptions: Any = field(default_factory=lambda: SimpleNamespace(RayError=Lost, RayTaskError=Bug))

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0, "GPU": 0.0}

    def remote(self, **_: float) -> Callable[..., Any]:
        return lambda answer: SimpleNamespace(remote=lambda *args: lambda: answer(*args))

    def wait(self, references: list[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        self.patience.append(timeout)
        return ([], references) if len(self.patience) <= self.waits else (references, [])

    def get(self, answer: Callable[[], Any]) -> Any:
        if self.error is not None:
            raise self.error
        return answer()


def doubling() -> Callable[[int], int]:
    return lambda job: 2 * job


def connection(ray: FakeRay, **options: Any) -> Connection:
    return Connection(cast(Any, ray), Cluster(device="cpu", **options))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_team.time, "sleep", lambda seconds: None)


# the team


def test_every_job_is_done_once_and_results_come_in_order_where_that_is_asked() -> None:
    ray = FakeRay()
    with connection(ray).team(doubling) as team:
        assert sorted(team.run(range(40))) == [(number, number, 2 * number) for number in range(40)]
    with connection(ray).team(doubling) as team:
        assert list(team.in_order(range(40))) == [(number, 2 * number) for number in range(40)]
    assert sorted(ray.killed) == [1, 2, 3, 4, 5, 6]


def test_a_job_is_not_begun_far_before_the_oldest_that_is_unfinished() -> None:
    read: list[int] = []

    def jobs() -> Any:
        for number in range(100):
            read.append(number)
            yield number

    with connection(FakeRay(), actors=2).team(doubling) as team:
        next(team.in_order(jobs()))
    assert len(read) <= ray_team.AHEAD * 2 + 5


def test_a_job_that_was_lost_is_done_by_another_actor(caplog: pytest.LogCaptureFixture) -> None:
    lost: set[int] = set()

    def ends(actor: int, method: str, args: tuple[Any, ...]) -> bool:
        if method == "work" and args[0] % 5 == 0 and args[0] not in lost:
            lost.add(args[0])
            return True
        return False

    with connection(FakeRay(ends)).team(doubling) as team:
        assert sorted(team.run(range(12))) == [(number, number, 2 * number) for number in range(12)]
    assert lost == {0, 5, 10}
    assert "an actor was lost (Lost); its part 6 is done again by another" in caplog.messages


def test_a_job_that_takes_every_actor_with_it_is_told() -> None:
    ray = FakeRay(lambda actor, method, args: method == "work" and args[0] == 7)
    with (
        pytest.raises(ClusterError, match=r"part 8 took 4 actors with it \(Lost\); .*run again: what is done stays"),
        connection(ray).team(doubling) as team,
    ):
        list(team.run(range(12)))


def test_an_actor_that_ends_before_it_is_ready_is_begun_anew() -> None:
    ray = FakeRay(lambda actor, method, args: method == "ready" and actor < 4)
    with connection(ray).team(doubling) as team:
        assert len(list(team.run(range(5)))) == 5
    assert ray.made == 4  # it does all jobs while two others are still to be ready


def test_actors_that_never_become_ready_are_told() -> None:
    ray = FakeRay(lambda actor, method, args: method == "ready")
    with (
        pytest.raises(ClusterError, match=r"21 actors in a row ended before they were ready"),
        connection(ray).team(doubling) as team,
    ):
        list(team.run(range(5)))


def test_nodes_that_join_are_used_unless_a_number_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_team, "LOOK_SECONDS", -1.0)
    for actors, expected in ((None, 5), (2, 2)):
        ray = FakeRay(cpus=2)
        with connection(ray, actors=actors).team(doubling) as team:
            results = team.run(range(50))
            next(results)
            ray.cpus = 5
            list(results)
        assert ray.made == expected


def test_a_cluster_without_room_is_waited_for_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ray = FakeRay(cpus=0)
    monkeypatch.setattr(ray, "wait", lambda references, **_: ([], references))
    monkeypatch.setattr(ray_team, "LOOK_SECONDS", -1.0)
    monkeypatch.setattr(ray_team, "PATIENCE_SECONDS", -1.0)
    with connection(ray, cpus=4).team(doubling) as team:
        list(team._results())
    assert caplog.messages == ["waiting: the cluster has no room yet for an actor of 4 CPUs and 0 GPUs"]


def test_a_question_for_which_no_node_has_room_waits_and_tells_it(caplog: pytest.LogCaptureFixture) -> None:
    ray = AskedRay(waits=2)
    assert Connection(cast(Any, ray), Cluster(device="cuda")).ask_there(lambda: 42) == 42
    assert ray.patience == [ray_team.PATIENCE_SECONDS] * 3
    assert caplog.messages == ["waiting: the cluster has no room yet for an actor of 1 CPUs and 1 GPUs"] * 2


def test_a_question_whose_node_is_lost_ends_in_one_line_and_a_bug_in_its_traceback() -> None:
    for error, seen, message in (
        (Lost("gone"), ClusterError, r"^no node of the cluster answered \(Lost\); look at the memory of the nodes"),
        (Bug("a traceback"), Bug, "a traceback"),
    ):
        with pytest.raises(seen, match=message):
            Connection(cast(Any, AskedRay(error=error)), Cluster(device="cpu")).ask_there(lambda: 42)


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A module in place of Ray, for `connected`."""
    ray = SimpleNamespace(
        exceptions=SimpleNamespace(RayError=Lost, RayTaskError=Bug),
        is_initialized=lambda: False,
        init=lambda **options: None,
        shutdown=lambda: None,
    )
    monkeypatch.setattr(ray_team, "import_ray", lambda: ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return ray


def test_a_cluster_that_does_not_let_us_in_is_one_line(fake_ray: SimpleNamespace) -> None:
    def refuse(**_: Any) -> None:
        raise Lost("no token\n  of this cluster")

    fake_ray.init = refuse
    with (
        pytest.raises(
            ClusterError, match=r"at auto gives no connection \(Lost: no token of this cluster\); .*its token"
        ),
        Cluster("auto").connected(),
    ):
        pytest.fail("it was entered")


def test_a_cluster_that_fails_in_the_middle_is_one_line_and_a_bug_its_traceback(fake_ray: SimpleNamespace) -> None:
    message = r"^the Ray cluster failed \(Lost\); .*what is done stays$"
    with pytest.raises(ClusterError, match=message), Cluster().connected():
        raise Lost("the head is gone")
    with pytest.raises(Bug), Cluster().connected():
        raise Bug("a traceback")


def test_what_an_actor_says_is_wrong_ends_the_work_in_one_line() -> None:
    def refusing() -> Callable[[int], int]:
        raise CacheError("w/cache", "the disk is full", "make room")

    with (
        pytest.raises(ClusterError, match=r"^w/cache: the disk is full; make room$"),
        connection(FakeRay()).team(refusing) as team,
    ):
        list(team.run(range(3)))


def test_a_bug_is_no_loss() -> None:
    def broken(reference: Any) -> Any:
        raise Bug("a traceback")

    ray = FakeRay()
    cast(Any, ray).get = broken
    with pytest.raises(Bug), connection(ray).team(doubling) as team:
        list(team.run(range(3)))


def test_an_actor_opens_once_in_the_folder_of_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened: list[Path] = []

    def opener() -> Callable[[int], int]:
        opened.append(Path.cwd())
        return lambda job: job + 1

    (tmp_path / "here").mkdir()
    actor = Actor(Home(tmp_path / "here"), opener)
    assert (actor.ready(), actor.work(1), actor.work(2)) == (Outcome(), Outcome(2), Outcome(3))
    assert opened == [tmp_path / "here"]


def test_a_node_without_the_folder_or_with_another_esmcls_says_so(tmp_path: Path) -> None:
    missing = Actor(Home(tmp_path / "absent"), doubling).ready().problem
    assert missing.endswith(
        f"has no folder {tmp_path / 'absent'}; work in a folder that all nodes of the cluster share"
    )
    older = Actor(replace(Home(), version="0.0.1"), doubling).work(1).problem
    assert "not 0.0.1; install the same on every node" in older


# blocks and segments


@pytest.mark.parametrize("residues", [1, 7, 20, 1000])
def test_blocks_begin_and_end_where_batches_of_one_process_do(residues: int) -> None:
    items = list(enumerate(letters(number) for number in range(100)))
    batches = list(plan_batches(ToyEncoder(), items))
    parts = list(blocks(batches, SPEC, residues))
    assert [item for part in parts for item in part] == items
    again = [batch for part in parts for batch in plan_batches(ToyEncoder(), part)]
    assert again == batches


def test_eight_bits_are_begun_where_the_actors_have_them_whatever_the_machine_that_asks(tmp_path: Path) -> None:
    recipe = EmbeddingRecipe(encoder=str(write_encoder(tmp_path / "tiny.safetensors")), precision="fp8")
    workspace = Workspace.open(tmp_path / "w", create=True)

    def engine(answer: str | None) -> RayEmbedding:
        return RayEmbedding(cast("Connection", SimpleNamespace(device="cuda", ask_there=lambda question: answer)))

    encoder, _ = engine(None).open(recipe, workspace)
    assert encoder.precision == "fp8"
    with pytest.raises(UsageError, match="no fast products of fp8"):
        engine("this GPU has no fast products of fp8").open(recipe, workspace)


def test_a_block_of_residue_vectors_is_bound_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmcls.engines.embed.MOST_BYTES", 8 * (1 + 10))  # of a sequence of ten, in four numbers each
    batches = [[(number, "A" * 10)] for number in range(3)]
    of_residues = replace(SPEC, poolings=("mean", "residue"))
    assert [len(part) for part in blocks(batches, of_residues, 10_000)] == [1, 1, 1]
    assert [len(part) for part in blocks(batches, SPEC, 10_000)] == [3]


def test_vectors_of_residues_in_int8_bind_a_block_too_by_the_bytes_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    int8 = replace(SPEC, poolings=("mean", "residue_int8"), width=32)
    batches = [[(number, "A" * 10)] for number in range(4)]
    of_one = 64 + 10 * (32 + 2)  # the mean in float16; of each residue 32 numbers of a byte and their scale
    for limit, expected in ((of_one, [1, 1, 1, 1]), (2 * of_one, [2, 2])):
        monkeypatch.setattr("esmcls.engines.embed.MOST_BYTES", limit)
        assert [len(part) for part in blocks(batches, int8, 10_000)] == expected


@pytest.mark.parametrize("ragged", ["", *RAGGED])
def test_what_is_embedded_apart_is_what_one_process_embeds_whatever_is_kept(tmp_path: Path, ragged: str) -> None:
    encoder = load_encoder(str(write_encoder(tmp_path / "tiny.safetensors")))
    spec = EmbeddingSpec.of(encoder, poolings=("mean", ragged) if ragged else ("mean",))
    texts = tiny_sequences(6)
    with (
        EmbeddingCache.open(tmp_path / "together", spec) as together,
        EmbeddingCache.open(tmp_path / "apart", spec) as apart,
    ):
        report = embed_into(together, encoder, texts)
        done_apart = embed_apart(apart.folder, spec, encoder, list(enumerate(texts)))
        apart.refresh()
        assert (done_apart.embedded, done_apart.residues) == (report.embedded, report.residues)
        assert np.array_equal(apart.read(texts), together.read(texts))
        if ragged:
            read = EmbeddingCache.read_chunks if ragged == "chunk" else EmbeddingCache.read_residues
            for vectors_apart, vectors in zip(read(apart, texts), read(together, texts), strict=True):
                assert len(vectors) > 0
                assert np.array_equal(vectors_apart, vectors)


def test_what_processes_embed_apart_is_one_cache_and_a_block_done_twice_counts_once(tmp_path: Path) -> None:
    sequences = [letters(number) for number in range(30)]
    items = list(enumerate(sequences))
    with EmbeddingCache.open(tmp_path / "cache", SPEC) as cache:
        for part in (items[:12], items[12:], items[:12]):
            report = embed_apart(tmp_path / "cache", SPEC, ToyEncoder(), part)
            assert (report.embedded, report.residues) == (len(part), sum(len(text) for _, text in part))
        cache.refresh()
        assert (cache.segments, len(cache)) == (3, 30)
        assert np.array_equal(cache.read(sequences), stacked(sequences))


def test_an_encoder_of_other_weights_is_refused_where_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"the encoder is of another spec here .*; use the same weights everywhere"):
        embed_apart(tmp_path, SPEC, ToyEncoder(digest="71"), [(0, "MKT")])


@pytest.mark.parametrize("segments", [MOST_SEGMENTS, MOST_SEGMENTS + 40])
def test_many_segments_are_joined_to_half_as_many_as_there_may_be(tmp_path: Path, segments: int) -> None:
    sequences = [letters(number) for number in range(2 * segments)]
    EmbeddingCache.open(tmp_path, SPEC).close()
    for number in range(segments):
        embed_apart(tmp_path, SPEC, ToyEncoder(), [(0, text) for text in sequences[2 * number : 2 * number + 2]])
    with EmbeddingCache.open(tmp_path) as cache:
        assert cache.tidy() == segments
        assert cache.segments == (segments if segments == MOST_SEGMENTS else MOST_SEGMENTS // 2)
        assert np.array_equal(cache.read(sequences), stacked(sequences))
        assert embed_into(cache, ToyEncoder(), sequences).embedded == 0


# what is planned, and what is refused


@pytest.mark.parametrize(
    ("options", "there", "device", "expected"),
    [
        ({}, {"CPU": 8.0}, "cpu", 8),
        ({"cpus": 3}, {"CPU": 8.0}, "cpu", 2),
        ({"cpus": 0.1}, {"CPU": 0.3}, "cpu", 3),
        ({}, {"CPU": 8.0, "GPU": 2.0}, "cuda", 2),
        ({"gpus": 0.25}, {"CPU": 5.0, "GPU": 2.0}, "cuda", 5),
        ({"gpus": 0}, {"CPU": 5.0}, "cuda", 5),
        ({}, {"CPU": 8.0}, "cuda", 0),
    ],
)
def test_there_are_as_many_actors_as_there_is_room_for(
    options: dict[str, float], there: dict[str, float], device: str, expected: int
) -> None:
    assert Cluster(**cast(Any, options)).room(there, device) == expected


@pytest.mark.parametrize(
    ("blocks_", "actors", "seconds"), [(1, 1, 60.0), (4, 4, 15.0), (5, 4, 24.0), (3, 40, 20.0), (0, 4, 0.0)]
)
def test_the_time_is_that_of_the_actor_with_most_blocks(blocks_: int, actors: int, seconds: float) -> None:
    plan = cast(Any, SimpleNamespace(seconds=60.0))
    assert RayPlan(plan, blocks_, actors).seconds == pytest.approx(seconds)


def test_a_dry_run_says_blocks_actors_and_time_and_asks_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmcls.engines.ray_team.import_ray", lambda: pytest.fail("Ray was asked"))
    families = write_families(tmp_path / "families.csv")
    words = ["embed", families, "--encoder", "composition", "-w", tmp_path / "w", "--dry-run", "--engine", "ray"]
    lines = done(*words, "--actors", "3").out.splitlines()
    assert lines[2].startswith("Ray: about 1 block for 3 actors, about ")
    assert lines[-1] == "nothing was written (--dry-run)"
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("device", "gpus", "measured_on"),
    [("cuda", 1, "cuda"), ("cuda", 0, "cpu"), ("auto", 1, "cuda"), ("auto", 0, "cpu"), ("cpu", 1, "cpu")],
)
def test_a_dry_run_measures_on_the_device_of_the_actors_where_this_machine_has_it(
    device: str, gpus: int, measured_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpus))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    devices: list[str] = []

    def plan(*_: Any, device: str, **__: Any) -> Any:
        devices.append(device)
        return SimpleNamespace(residues=10, nbytes=10)

    monkeypatch.setattr(ray_embedding, "plan_in_workspace", plan)
    intake, recipe = cast(Any, SimpleNamespace(again=False)), cast(Any, None)
    assert ray_embedding.plan_on_ray(None, intake, recipe, Cluster(actors=2, device=device)).actors == 2
    assert devices == [measured_on]


def test_an_actor_gets_about_sixteen_blocks_of_a_size_that_is_neither_small_nor_large() -> None:
    assert block_residues(16 * 4 * 100_000, 4) == 100_000
    assert (block_residues(10, 4), block_residues(10**12, 4)) == (1 << 16, 1 << 21)


@pytest.mark.parametrize("command", [["embed", "x.fasta"], ["predict", "x.fasta"], ["compare"]])
def test_without_ray_the_engine_is_refused_in_one_line_before_anything_is_read(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_team.importlib.util, "find_spec", lambda name: None)
    ran = run(*command, "--engine", "ray")
    assert ran.err == "esmcls: error: --engine ray needs the package ray; run: pip install 'esmcls[ray]'\n"
    assert ran.code == 1
    with pytest.raises(MissingExtraError):
        ray_team.import_ray()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--actors", "2"], "--actors belongs to --engine ray; give that, too"),
        (["--address", "head:6379"], "--address belongs to --engine ray; give that, too"),
        (["--engine", "ray", "--device", "mps"], "--device mps: with --engine ray choose from auto, cpu, cuda"),
        (["--engine", "ray", "--actor-cpus", "nan"], "--actor-cpus nan: give a number of at least 0.0001"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: list[str], message: str) -> None:
    ran = run("embed", "x.fasta", *words)
    assert (ran.code, ran.err) == (2, f"esmcls: error: {message}\n")


def test_layers_are_not_chosen_on_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmcls.engines.ray_team.require_ray", lambda: None)
    families = write_families(tmp_path / "families.csv")
    ran = run("embed", families, "--layers", "auto", "--engine", "ray", "-w", tmp_path / "w")
    assert "--layers auto looks at all sequences; embed them with --engine ray with all layers named" in ran.err


def test_one_device_of_a_node_and_the_address_of_a_client_are_refused() -> None:
    with pytest.raises(UsageError, match="--device cuda:1: with --engine ray choose from auto, cpu, cuda"):
        Cluster(device="cuda:1")
    with pytest.raises(UsageError, match="--address ray://head:10001: give HOST:PORT, on a machine of the cluster"):
        Cluster("ray://head:10001")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpus": 1.5}, "--actor-gpus 1.5: Ray gives whole GPUs or a share of one; give such a number"),
        ({"gpus": math.nan}, "--actor-gpus nan: give a number of at least 0.0001"),
        ({"gpus": 0.00001}, "--actor-gpus 1e-05: give a number of at least 0.0001"),
        ({"cpus": 0.00001}, "--actor-cpus 1e-05: give a number of at least 0.0001"),
        ({"cpus": math.inf}, "--actor-cpus inf: give a number of at least 0.0001"),
        ({"cpus": 0}, "--actor-cpus 0: give a number of at least 0.0001"),
    ],
)
def test_an_actor_that_ray_could_not_place_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        Cluster(**cast(Any, options))
    assert str(raised.value) == message


@pytest.mark.parametrize("options", [{"gpus": 2}, {"gpus": 0}, {"gpus": 0.0001}, {"cpus": 1.5}, {"cpus": 0.0001}])
def test_whole_gpus_and_shares_of_one_are_taken(options: dict[str, float]) -> None:
    Cluster(**cast(Any, options))


@pytest.mark.parametrize("address", [None, "auto"])
def test_a_client_in_the_environment_is_refused_where_ray_would_take_it(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(UsageError, match=r"^RAY_ADDRESS ray://head:10001: give HOST:PORT, on a machine of the cluster"):
        Cluster(address)
    assert Cluster("head:6379").head == "head:6379"


@pytest.mark.parametrize(
    ("address", "environment", "local"),
    [(None, "", True), (None, "h:1", False), (None, "local", True), ("auto", "", False), ("h:1", "local", False)],
)
def test_a_cluster_is_of_this_machine_alone_where_no_address_names_another(
    address: str | None, environment: str, local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", environment)
    assert Cluster(address).local == local


@pytest.mark.parametrize("command", [["embed", "x.fasta"], ["embed", "x.fasta", "--dry-run"], ["predict", "x.fasta"]])
def test_a_workspace_in_a_bucket_is_refused_on_other_machines_whose_mirrors_are_others(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESMCLS_MIRRORS", str(tmp_path))

    @contextlib.contextmanager
    def mirrored(address: str) -> Iterator[Path]:
        folder = mirror_folder(address)
        folder.mkdir()
        (folder / LEDGER).write_text(json.dumps({"address": address, "files": {}}))
        yield folder

    monkeypatch.setattr("esmcls.remote.mirror.mirrored", mirrored)
    ran = run(*command, "-w", "s3://bucket/w", "--engine", "ray", "--address", "head:6379", "--quiet")
    assert (ran.code, ran.err) == (
        2,
        "esmcls: error: --engine ray -w s3://bucket/w: the nodes of a cluster need a folder that all share; give one, "
        "or embed with --shard on each machine\n",
    )


def test_where_there_is_nothing_to_do_no_actor_is_waited_for() -> None:
    ray = FakeRay(lambda actor, method, args: pytest.fail(f"{method} was waited for"))
    with connection(ray).team(doubling) as team:
        assert list(team.run([])) == []
