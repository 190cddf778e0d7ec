"""Embedding on a Ray cluster of three raylets of this machine, beside `--shard` and one process.

    python benchmarks/ray_cluster.py DOMAINS.fasta --sequences 20000 --residues 32

The first residues of distinct sequences are embedded with each encoder four times, each into a workspace of its own: in
one process, in three shards one after the other, on three raylets, and on three raylets of which one is killed in the
middle. Vectors are compared bit for bit. CPU time is user and system of all that ran: for the shards their processes;
for Ray the command's process and the actors (`work`), and what the cluster's own processes took meanwhile (`cluster`).

    python benchmarks/ray_cluster.py DOMAINS.fasta --scaling

measures wall time with one actor and with two instead; it says something only where two cores are quiet.
Writes benchmarks/results/ray_cluster.json.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from esmcls.cache.store import EmbeddingCache
from esmcls.engines.ray_team import import_ray
from esmcls.reading.readers import read_records
from esmcls.workspace.workspace import Workspace

RESULTS = Path(__file__).with_name("results") / "ray_cluster.json"
MEMORY = 100 << 20
SAMPLE_SECONDS = 0.25
SETTINGS = {
    "RAY_worker_niceness": "0",  # else whatever else runs on this machine goes before
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_health_check_failure_threshold": "50",
}


def write_short(source: Path, target: Path, sequences: int, residues: int) -> None:
    """Write the first residues of as many proteins as asked for, each text once."""
    starts = (record.protein.sequence[:residues] for record in read_records([source]))
    distinct = itertools.islice(dict.fromkeys(start for start in starts if len(start) == residues), sequences)
    target.write_text("".join(f">p{number}\n{start}\n" for number, start in enumerate(distinct)))


@dataclass
class Meter:
    """Adds up the CPU seconds of all processes that this one began, those that end meanwhile included."""

    last: dict[tuple[int, float], tuple[str, float]] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Look at all of them now and then."""
        while not self.stop.wait(SAMPLE_SECONDS):
            self.look()

    def look(self) -> None:
        """Remember the seconds that each has had so far."""
        import psutil  # comes with Ray

        for process in psutil.process_iter(["pid", "create_time", "cpu_times", "cmdline", "environ"]):
            about = process.info
            if (about["environ"] or {}).get("ESMCLS_METER") == str(os.getpid()) and about["pid"] != os.getpid():
                name = " ".join(about["cmdline"] or [])
                seconds = about["cpu_times"].user + about["cpu_times"].system
                self.last[about["pid"], about["create_time"]] = name, seconds

    def seconds(self, counts: Callable[[str], bool]) -> float:
        """Return those of the processes whose command line counts."""
        return sum(seconds for name, seconds in self.last.values() if counts(name))


def is_work(name: str) -> bool:
    """Tell an actor's process."""
    return name.startswith("ray::Actor")


def is_cluster(name: str) -> bool:
    """Tell a process of the cluster's own."""
    return not is_work(name) and ("ray::" in name or "/ray/" in name)


def esmcls(*words: str | Path) -> tuple[float, float]:
    """Run a command; return its CPU seconds and those on the clock."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "esmcls_cli.main", *map(str, words), "--quiet"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - started


def vectors(workspace: Path, texts: list[str]) -> Any:
    """Return the vectors of a workspace's only cache."""
    [entry] = Workspace.open(workspace).caches
    with EmbeddingCache.open(entry.folder) as cache:
        return cache.read(texts)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]


class Nodes:
    """A cluster whose head does no work, and nodes of one CPU each."""

    def __init__(self, count: int) -> None:
        import_ray()
        os.environ.update(SETTINGS)
        from ray.cluster_utils import Cluster

        self.cluster = Cluster()
        self._added(num_cpus=0, include_dashboard=False)
        self.working = [self._added(num_cpus=1) for _ in range(count)]
        self.words = ["--engine", "ray", "--address", self.cluster.address]

    def _added(self, **options: Any) -> Any:
        """Begin a node, again where a loaded machine needs more than the half minute that Ray gives it.

        Its ports are named, since a raylet waits but seconds for its agents to say which they took.
        """
        names = ("dashboard_agent_listen_port", "metrics_export_port", "metrics_agent_port", "runtime_env_agent_port")
        for _ in range(5):
            ports = dict(zip(names, free_ports(len(names)), strict=True))
            try:
                return self.cluster.add_node(object_store_memory=MEMORY, **ports, **options)
            except Exception as error:  # Ray's own class for it is Exception
                print(f"again: {error}", file=sys.stderr)
        raise SystemExit("no node could be begun: the machine is too busy")

    def kill_one(self) -> None:
        """End a raylet with all its workers."""
        self.cluster.remove_node(self.working.pop(0), allow_graceful=False)


def on_ray(nodes: Nodes, folder: Path, embed: list[str | Path], kill_after: float | None) -> dict[str, Any]:
    """Embed on the cluster; in the middle of it one node may be killed, so many seconds after the first segment."""
    meter = Meter()
    meter.look()
    before = meter.seconds(is_cluster)
    watching = threading.Thread(target=meter.watch)
    watching.start()
    killed: list[int] = []

    def kill() -> None:
        while not list(folder.glob("cache/*/*.h5")):
            time.sleep(0.05)
        time.sleep(kill_after or 0.0)
        nodes.kill_one()
        killed.append(len(list(folder.glob("cache/*/*.h5"))))

    if kill_after is not None:
        threading.Thread(target=kill, daemon=True).start()
    command, wall = esmcls(*embed, "-w", folder, *nodes.words)
    meter.stop.set()
    watching.join()
    result = {"command_s": command, "actors_s": meter.seconds(is_work), "wall_s": wall}
    result["cluster_s"] = meter.seconds(is_cluster) - before
    result["work_s"] = result["command_s"] + result["actors_s"]
    result["segments"] = len(list(folder.glob("cache/*/*.h5")))
    return result | ({"segments_when_killed": killed[0]} if killed else {})


def measure(source: Path, encoder: str, sequences: int, residues: int, with_loss: bool) -> dict[str, Any]:
    """Embed in one process, in three shards, and on three raylets, and compare."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_short(source, folder / "short.fasta", sequences, residues)
        texts = [record.protein.sequence for record in read_records([folder / "short.fasta"])]
        embed: list[str | Path] = ["embed", folder / "short.fasta", "--encoder", encoder, "--device", "cpu"]
        result: dict[str, Any] = {"encoder": encoder, "sequences": len(texts), "residues": sum(map(len, texts))}
        result["one_process_s"] = esmcls(*embed, "-w", folder / "one")[0]
        shards = [esmcls(*embed, "-w", folder / "shards", "--shard", f"{part}/3")[0] for part in (1, 2, 3)]
        result["shards_s"] = sum(shards)
        nodes = Nodes(3)
        result["ray"] = on_ray(nodes, folder / "ray", embed, None)
        if with_loss:
            result["ray_one_killed"] = on_ray(nodes, folder / "killed", embed, 1.0)
        nodes.cluster.shutdown()
        reference = vectors(folder / "one", texts)
        result["same_vectors"] = bool(np.array_equal(reference, vectors(folder / "ray", texts)))
        if with_loss:
            result["same_vectors_one_killed"] = bool(np.array_equal(reference, vectors(folder / "killed", texts)))
        result["same_vectors_shards"] = bool(np.array_equal(reference, vectors(folder / "shards", texts)))
    result["overhead"] = result["ray"]["work_s"] / result["shards_s"] - 1
    result["overhead_with_cluster"] = (result["ray"]["work_s"] + result["ray"]["cluster_s"]) / result["shards_s"] - 1
    return result


def scaling(source: Path, encoder: str, sequences: int, residues: int) -> dict[str, Any]:
    """Embed with one actor and with two, on as many nodes; return the seconds on the clock."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_short(source, folder / "short.fasta", sequences, residues)
        nodes = Nodes(2)
        walls = {}
        for actors in (1, 2):
            embed = ["embed", folder / "short.fasta", "--encoder", encoder, "--device", "cpu"]
            words = [*nodes.words, "--actors", str(actors)]
            walls[actors] = esmcls(*embed, "-w", folder / str(actors), *words)[1]
        nodes.cluster.shutdown()
    return {"encoder": encoder, "one_actor_s": walls[1], "two_actors_s": walls[2], "ratio": walls[1] / walls[2]}


def main() -> None:
    """Parse the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--encoders", default="kmer,bundled")
    parser.add_argument("--sequences", type=int, default=20_000)
    parser.add_argument("--residues", type=int, default=32)
    parser.add_argument("--no-loss", action="store_true", help="without the run in which a node is killed")
    parser.add_argument("--scaling", action="store_true")
    options = parser.parse_args()
    os.environ["ESMCLS_METER"] = str(os.getpid())  # how the processes that are begun here are told
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for encoder in options.encoders.split(","):
        facts = options.source, encoder, options.sequences, options.residues
        result = scaling(*facts) if options.scaling else measure(*facts, with_loss=not options.no_loss)
        print(json.dumps(result, indent=1))
        kept[f"scaling {encoder}" if options.scaling else encoder] = result
        words = f"--encoders {encoder} --sequences {options.sequences} --residues {options.residues}"
        result["command"] = f"python benchmarks/ray_cluster.py {options.source.name} {words}"
        RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
