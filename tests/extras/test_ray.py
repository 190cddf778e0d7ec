"""A real Ray cluster of three raylets: the same vectors, answers and reports as without, nodes lost or not."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import done, run
from families import write_families, write_unknown
from ray_nodes import Nodes
from tiny import write_encoder, write_set

from esmcls.cache.store import EmbeddingCache
from esmcls.cache.to_embed import EmbedReport
from esmcls.engines import embed as ray_embedding
from esmcls.engines import ray_team
from esmcls.engines.on_nodes import ClusterError
from esmcls.engines.ray_team import Cluster
from esmcls.workspace.workspace import Workspace

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Return a cluster; workers find the test modules where this process does."""
    ray_team.import_ray().cloudpickle.register_pickle_by_value(sys.modules[__name__])
    made = Nodes()
    yield made
    made.cluster.shutdown()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Part even small inputs into blocks."""
    monkeypatch.setattr(ray_embedding, "LEAST_RESIDUES", 200)


def vectors(workspace: Path) -> Any:
    """Return the vectors of a workspace's data set, from its only cache."""
    place = Workspace.open(workspace)
    [entry] = place.caches
    with EmbeddingCache.open(entry.folder) as cache:
        cache.verify()
        return cache.read(place.dataset.sequences)


def engine(nodes: Nodes) -> list[str]:
    return ["--engine", "ray", "--address", nodes.address]


@dataclass(frozen=True)
class SlowBlocks:
    """Embeds a block after a pause, so that there is a middle in which a node can be lost."""

    opener: ray_embedding.BlockEncoder

    def __call__(self) -> Callable[[Any], EmbedReport]:
        return partial(_embed_late, self.opener())


def _embed_late(embed: Callable[[Any], EmbedReport], block: Any) -> EmbedReport:
    time.sleep(1.0)
    return embed(block)


def test_a_killed_raylet_loses_nothing_and_the_vectors_are_those_of_one_process(
    nodes: Nodes, tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, proteins = write_encoder(tmp_path / "tiny.safetensors"), write_set(tmp_path / "set.csv", 1500)
    told = done("embed", proteins, "--encoder", encoder, "-w", tmp_path / "one").out
    plain = ray_embedding.BlockEncoder
    monkeypatch.setattr(ray_embedding, "BlockEncoder", lambda *facts: SlowBlocks(plain(*facts)))
    finished = ray_team.Team._finished
    killers: list[threading.Timer] = []

    def finished_then_killed(team: Any, *facts: Any) -> Any:
        if not killers:  # soon after the first block is done, when every actor has another
            killers.append(threading.Timer(0.5, nodes.kill_one))
            killers[0].start()
        return finished(team, *facts)

    monkeypatch.setattr(ray_team.Team, "_finished", finished_then_killed)
    ran = run("embed", proteins, "--encoder", encoder, "-w", tmp_path / "many", *engine(nodes))
    killers[0].join()
    assert (ran.code, ran.out) == (0, told)
    assert "esmcls: an actor was lost (" in ran.err
    assert np.array_equal(vectors(tmp_path / "many"), vectors(tmp_path / "one"))
    assert Workspace.open(tmp_path / "many").caches[0].spec == Workspace.open(tmp_path / "one").caches[0].spec
    again = done("embed", proteins, "--encoder", encoder, "-w", tmp_path / "many", *engine(nodes)).out
    assert ": 0 embedded, " in again
    assert len(nodes.working) == 2


def name_of_the_node() -> Callable[[int], str]:
    import ray

    def answer(job: int) -> str:
        time.sleep(0.2)
        return str(ray.get_runtime_context().get_node_id())

    return answer


def test_a_node_that_joins_gets_its_share(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_team, "LOOK_SECONDS", 0.5)
    with Cluster(nodes.address).connected() as connection, connection.team(name_of_the_node) as team:
        results = team.run(range(10_000))
        before = {next(results)[2] for _ in range(30)}
        nodes.add_one()
        deadline = time.monotonic() + 120
        while len(before | {next(results)[2]}) <= len(before):
            assert time.monotonic() < deadline, "the node that joined was given nothing"
        assert len(before) <= 2


def test_a_job_that_kills_its_process_ends_the_work_in_one_line(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_team, "MOST_LOSSES", 2)

    def deadly() -> Callable[[int], int]:
        return lambda job: os._exit(9) if job == 3 else job

    with (
        pytest.raises(ClusterError, match="part 4 took 2 actors with it"),
        Cluster(nodes.address).connected() as connection,
        connection.team(deadly) as team,
    ):
        list(team.run(range(6)))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a workspace `w` of six families, a model in it, and proteins to ask it about."""
    folder = tmp_path_factory.mktemp("fitted")
    done("embed", write_families(folder / "families.csv"), "--encoder", "composition", "-w", folder / "w")
    done("fit", "--head", "knn", "-w", folder / "w")
    write_unknown(folder / "unknown.fasta")
    return folder


def test_answers_are_the_same_bytes_in_the_same_order(
    nodes: Nodes, fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmcls.engines.predict.BLOCK", 5)  # answers of vectors that are counts are of each alone
    asked = ["predict", fitted / "families.csv", fitted / "unknown.fasta", "-w", fitted / "w", "--top-k", "2"]
    assert done(*asked, *engine(nodes)).out == done(*asked).out


def test_a_comparison_of_folds_has_the_same_report(nodes: Nodes, fitted: Path, tmp_path: Path) -> None:
    tables = {}
    for name, words in (("here", []), ("there", engine(nodes))):
        workspace = tmp_path / name
        done("embed", fitted / "families.csv", "--encoder", "composition", "-w", workspace)
        compared = ["compare", "--heads", "knn,linear", "--folds", "3", "--set", "linear", "epochs", "2"]
        ran = done(*compared, "--no-baselines", "-w", workspace, *words)
        page = workspace / "reports" / "compare"
        tables[name] = {path.name: path.read_bytes() for path in page.glob("*.tsv") if "timing" not in path.name}
        assert ("knn.2: done" in ran.err) == bool(words)
    assert tables["here"]
    assert tables["here"] == tables["there"]


def test_an_address_where_no_cluster_is_is_one_line(fitted: Path) -> None:
    words = ["--engine", "ray", "--address", "127.0.0.1:1"]
    ran = run("predict", fitted / "unknown.fasta", "-w", fitted / "w", *words)
    assert ran.code == 1
    assert "error: no Ray cluster at 127.0.0.1:1 (" in ran.err
    assert ran.err.strip().endswith("begin one (ray start --head), or give its --address")
