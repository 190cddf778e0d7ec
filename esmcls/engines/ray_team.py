"""Actors of a Ray cluster that share a stream of jobs: each opens what it needs once, and whichever is free works on.

    jobs, read here one by one  →  an actor that is free  →  results, as they come or in order
                    ↑                      ↓ its node is lost
                    └──────── the job, for another actor; Ray starts the actor again where there is room

Ray places actors, starts lost ones again and takes in nodes that join. A lost job goes to the next free actor: Ray's
own retry waits for its actor, for which a cluster that lost a node may have no room until others end.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias

from esmcls.cache.prefetch import prefetch
from esmcls.encoders.devices import LOG
from esmcls.engines.on_nodes import Actor, ClusterError, Home, Job, Outcome, Result, answer_here
from esmcls.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from types import ModuleType

    ActorHandle: TypeAlias = Any  # ray publishes none for the actors of a class that is made remote at run time
    Reference: TypeAlias = Any


MOST_LOSSES: Final = 4
"""Actors that one job may take with it."""
MOST_FAILED_STARTS: Final = 20
"""Actors in a row that end before they are ready."""
LOOK_SECONDS: Final = 5.0
"""How often it is seen whether nodes have joined."""
PATIENCE_SECONDS: Final = 60.0
"""How long nothing may be ready before that is told."""
LEAST_SHARE: Final = 0.0001
"""Of a CPU or a GPU, below which Ray knows none."""
KNOCK_SECONDS: Final = 20.0
"""How long the head of a cluster may take to answer at all."""
AHEAD: Final = 4
"""Jobs an actor that may be done, or in work, before an earlier one is: what bounds the memory of ordered results."""
DEVICES: Final = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and what of it is used.

    Parameters
    ----------
    address : str, optional
        HOST:PORT of its head, or `auto` for the one that this machine is of; default what RAY_ADDRESS says, else a
        cluster of this machine alone, which ends with the work.
    actors : int, optional
        Processes that work; default as many as there is room for, more when nodes join.
    cpus : float
        CPUs of each.
    gpus : float, optional
        GPUs of each, or a share of one; default one where the device is cuda, else none.
    device : {"auto", "cpu", "cuda"}
        Of the actors; auto is cuda where the cluster has GPUs.

    Raises
    ------
    UsageError
        If it is another device, the address is that of a Ray client, or an actor is to take what Ray cannot give.
    """

    address: str | None = None
    actors: int | None = None
    cpus: float = 1.0
    gpus: float | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise UsageError(f"--device {self.device}: with --engine ray choose from {', '.join(DEVICES)}")
        if "://" in self.head:
            option = "--address" if self.head == self.address else "RAY_ADDRESS"
            raise UsageError(
                f"{option} {self.head}: give HOST:PORT, on a machine of the cluster; Ray's client is not used"
            )
        _check_share("--actor-cpus", self.cpus)
        if self.gpus:
            _check_share("--actor-gpus", self.gpus)
            if self.gpus > 1 and self.gpus != int(self.gpus):
                raise UsageError(
                    f"--actor-gpus {self.gpus:g}: Ray gives whole GPUs or a share of one; give such a number"
                )

    @property
    def head(self) -> str:
        """The address that counts, as Ray chooses it: RAY_ADDRESS where none or `auto` was given; empty if none is."""
        if self.address and self.address != "auto":
            return self.address
        return os.environ.get("RAY_ADDRESS") or self.address or ""

    @property
    def local(self) -> bool:
        """Whether it is one that is started on this machine for the work."""
        return self.head in ("", "local")

    def device_among(self, there: dict[str, float]) -> str:
        """Return the device of the actors in a cluster of these resources."""
        if self.device != "auto":
            return self.device
        return "cuda" if there.get("GPU") else "cpu"

    def actors_among(self, there: dict[str, float]) -> int:
        """Return how many actors there are to be: as told, else those that these resources have room for."""
        return self.actors or self.room(there, self.device_among(there))

    def demands(self, device: str) -> dict[str, float]:
        """Return what an actor takes: CPUs, and GPUs for that device."""
        gpus = self.gpus if self.gpus is not None else float(device == "cuda")
        return {"num_cpus": self.cpus, "num_gpus": gpus}

    def room(self, there: dict[str, float], device: str) -> int:
        """Return how many actors a cluster of these resources has room for.

        Examples
        --------
        >>> Cluster(cpus=4).room({"CPU": 10.0, "GPU": 2.0}, "cpu")
        2
        >>> Cluster().room({"CPU": 64.0, "GPU": 4.0}, "cuda"), Cluster(gpus=0.5).room({"CPU": 64.0, "GPU": 4.0}, "cuda")
        (4, 8)
        """
        named = {"CPU": self.demands(device)["num_cpus"], "GPU": self.demands(device)["num_gpus"]}
        return min((int(there.get(name, 0.0) / each + 1e-9) for name, each in named.items() if each), default=0)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Connection]:
        """Connect to the cluster, or begin one here, for the time of a block.

        Raises
        ------
        MissingExtraError
            If Ray is not installed.
        ClusterError
            If there is no such cluster, or it fails meanwhile.
        """
        ray = import_ray()
        begun = not ray.is_initialized()
        if begun:
            with _signals_kept():
                _connect(ray, self)
        try:
            yield Connection(ray, self)
        except ray.exceptions.RayTaskError:  # a bug, with its traceback
            raise
        except ray.exceptions.RayError as error:
            raise ClusterError(
                f"the Ray cluster failed ({_in_short(error)}); look at its head, and run again: what is done stays"
            ) from error
        finally:
            if begun:
                ray.shutdown()


def _check_share(option: str, share: float) -> None:
    """Refuse a number of CPUs or GPUs that Ray does not take."""
    if not (math.isfinite(share) and share >= LEAST_SHARE):
        raise UsageError(f"{option} {share:g}: give a number of at least {LEAST_SHARE:g}")


def require_ray() -> None:
    """Refuse to go on where Ray is not installed.

    Raises
    ------
    MissingExtraError
        If it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("--engine ray", "ray", "ray")


def import_ray() -> ModuleType:
    """Import Ray, told to report nothing home and to print nothing into our output."""
    require_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # what it says of lost nodes goes to stdout else
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    module: ModuleType = ray
    return module


def _connect(ray: ModuleType, cluster: Cluster) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if cluster.local:
        options["include_dashboard"] = False
    where = "this machine" if cluster.local else cluster.head
    try:
        if not cluster.local:
            _knock(where)
        ray.init(address="local" if cluster.local else cluster.head, **options)
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:200]
        raise ClusterError(
            f"the Ray cluster at {where} gives no connection ({_in_short(error)}: {reason}); see that it runs, and "
            "that this machine has its token (RAY_AUTH_TOKEN)"
        ) from error
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ClusterError(
            f"no Ray cluster at {where} ({reason}); begin one (ray start --head), or give its --address"
        ) from error


def _knock(address: str) -> None:
    """Connect to HOST:PORT once, where Ray would try for minutes.

    Raises
    ------
    OSError
        If nobody answers.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Put back what SIGTERM does, which Ray takes for itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class Connection:
    """A cluster that is there.

    Parameters
    ----------
    ray : module
    cluster : Cluster
    """

    ray: ModuleType
    cluster: Cluster

    @property
    def resources(self) -> dict[str, float]:
        """What all its nodes have together, as it is now."""
        return dict(self.ray.cluster_resources())

    @property
    def device(self) -> str:
        """The device of the actors."""
        return self.cluster.device_among(self.resources)

    @property
    def actors(self) -> int:
        """How many actors there are to be: as told, else those that there is room for now."""
        return self.cluster.actors_among(self.resources)

    def ask_there(self, question: Callable[[], Result]) -> Result:
        """Return what a question is answered on some node, with the resources of an actor; wait until there is room.

        Raises
        ------
        ClusterError
            If the node lacks what it needs, or is lost again and again.
        """
        asked = self.ray.remote(**self.cluster.demands(self.device))(answer_here).remote(Home(), question)
        try:
            while not self.ray.wait([asked], num_returns=1, timeout=PATIENCE_SECONDS)[0]:
                self.tell_no_room(self.device)
            outcome: Outcome[Result] = self.ray.get(asked)
        except self.ray.exceptions.RayTaskError:  # a bug, with its traceback
            raise
        except self.ray.exceptions.RayError as error:
            raise ClusterError(
                f"no node of the cluster answered ({_in_short(error)}); look at the memory of the nodes, and run again"
            ) from error
        if outcome.problem:
            raise ClusterError(outcome.problem)
        assert outcome.result is not None
        return outcome.result

    def tell_no_room(self, device: str) -> None:
        """Warn that no actor could begin yet."""
        wanted = self.cluster.demands(device)
        LOG.warning(
            "waiting: the cluster has no room yet for an actor of %g CPUs and %g GPUs",
            wanted["num_cpus"],
            wanted["num_gpus"],
        )

    @contextlib.contextmanager
    def team(self, opener: Callable[[], Callable[[Job], Result]]) -> Iterator[Team[Job, Result]]:
        """Have actors ready for jobs, for the time of a block.

        Parameters
        ----------
        opener : callable
            Is sent to each actor, and opens there what does a job.
        """
        team = Team(self, opener)
        try:
            yield team
        finally:
            team.end()


class Team(Generic[Job, Result]):
    """The actors, what each of them does, and the jobs that were lost; made by `Connection.team`."""

    def __init__(self, connection: Connection, opener: Callable[[], Callable[[Job], Result]]) -> None:
        self.connection = connection
        self.ray = connection.ray
        self.device = connection.device
        home = Home()
        options = {**connection.cluster.demands(self.device), "max_restarts": -1, "max_task_retries": 0}
        made = self.ray.remote(**options)(Actor)
        self.begin: Callable[[], ActorHandle] = lambda: made.remote(home, opener)
        self.actors: list[ActorHandle] = []
        self.idle: list[ActorHandle] = []
        self.starting: dict[Reference, ActorHandle] = {}
        self.busy: dict[Reference, tuple[ActorHandle, int, Job]] = {}
        self.lost: deque[tuple[int, Job]] = deque()
        self.losses: dict[int, int] = {}
        self.failed_starts = 0
        self.last_ready = self.last_look = time.monotonic()
        self.ending = False
        self.limit = sys.maxsize
        self._grow()

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Job, Result]]:
        """Have all jobs done; give the number of each, itself and its result, as they come.

        Parameters
        ----------
        jobs : iterable
            Read as actors become free.

        Raises
        ------
        ClusterError
            If an actor says that a job cannot be done, or a job took several actors with it.
        """
        with contextlib.closing(prefetch(enumerate(jobs), depth=2)) as coming:
            waiting: deque[tuple[int, Job]] = deque()  # one at most, read but not begun
            ended = False
            while True:
                while self.lost or not ended:
                    if not self.lost and not waiting:
                        following = next(coming, None)
                        ended = following is None
                        waiting.extend([] if following is None else [following])
                        continue
                    if not self.idle or (not self.lost and waiting[0][0] >= self.limit):
                        break
                    self._give(*(self.lost or waiting).popleft())
                if ended and not self.lost and not waiting:
                    if not self.busy:
                        return
                    self._release()
                yield from self._results()

    def in_order(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result]]:
        """Have all jobs done; give each with its result, in their order."""
        done: dict[int, tuple[Job, Result]] = {}
        number = 0
        self.limit = AHEAD * len(self.actors)
        for place, job, result in self.run(jobs):
            done[place] = job, result
            while number in done:
                yield done.pop(number)
                number += 1
            self.limit = number + AHEAD * max(1, len(self.actors))

    def end(self) -> None:
        """End all actors."""
        for actor in self.actors:
            self.ray.kill(actor)
        self.actors.clear()

    def _grow(self) -> None:
        """Begin the actors that are lacking: one for which there is no room yet waits for it."""
        for _ in range(max(1, self.connection.actors) - len(self.actors)):
            self._begin()

    def _begin(self) -> None:
        actor = self.begin()
        self.actors.append(actor)
        self.starting[actor.ready.remote()] = actor

    def _give(self, number: int, job: Job) -> None:
        actor = self.idle.pop()
        self.busy[actor.work.remote(job)] = actor, number, job

    def _release(self) -> None:
        """End the actors that nothing is left for: one that Ray starts again may have waited for their room."""
        self.ending = True
        for actor in self.idle:
            self.ray.kill(actor)
            self.actors.remove(actor)
        self.idle.clear()

    def _results(self) -> Iterator[tuple[int, Job, Result]]:
        """Wait a while for whatever happens first; give what was done."""
        done, _ = self.ray.wait([*self.starting, *self.busy], num_returns=1, timeout=LOOK_SECONDS)
        for reference in done:
            if reference in self.starting:
                self._started(self.starting.pop(reference), reference)
            else:
                yield from self._finished(*self.busy.pop(reference), reference)
        if time.monotonic() - self.last_look > LOOK_SECONDS:
            self._look_around()

    def _look_around(self) -> None:
        """Take in nodes that have joined, and say if there is no room for any actor."""
        self.last_look = time.monotonic()
        if self.connection.cluster.actors is None and not self.ending:
            self._grow()
        if not self.idle and not self.busy and time.monotonic() - self.last_ready > PATIENCE_SECONDS:
            self.last_ready = time.monotonic()
            self.connection.tell_no_room(self.device)

    def _started(self, actor: ActorHandle, reference: Reference) -> None:
        """Take in an actor that is ready; begin another in place of one that ended meanwhile."""
        try:
            outcome: Outcome[Result] = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError:
            raise
        except self.ray.exceptions.RayError as error:
            self.failed_starts += 1
            if self.failed_starts > MOST_FAILED_STARTS:
                raise ClusterError(
                    f"{self.failed_starts} actors in a row ended before they were ready ({_in_short(error)}); look at "
                    "the memory of the nodes, or give --actor-cpus so that fewer share one"
                ) from error
            self.ray.kill(actor)
            self.actors.remove(actor)
            time.sleep(1.0)
            self._begin()
            return
        if outcome.problem:
            raise ClusterError(outcome.problem)
        self.failed_starts = 0
        self.last_ready = time.monotonic()
        self.idle.append(actor)

    def _finished(
        self, actor: ActorHandle, number: int, job: Job, reference: Reference
    ) -> Iterator[tuple[int, Job, Result]]:
        """Give the result of a job; one whose actor was lost waits for another."""
        try:
            outcome: Outcome[Result] = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError:  # a bug, with its traceback
            raise
        except self.ray.exceptions.RayError as error:
            self._lose(number, job, error)
            self.starting[actor.ready.remote()] = actor
            return
        if outcome.problem:
            raise ClusterError(outcome.problem)
        self.last_ready = time.monotonic()
        self.idle.append(actor)
        assert outcome.result is not None
        yield number, job, outcome.result

    def _lose(self, number: int, job: Job, error: Exception) -> None:
        self.losses[number] = self.losses.get(number, 0) + 1
        if self.losses[number] >= MOST_LOSSES:
            raise ClusterError(
                f"part {number + 1} took {MOST_LOSSES} actors with it ({_in_short(error)}); look at the memory of the "
                "nodes, and run again: what is done stays"
            ) from error
        LOG.warning("an actor was lost (%s); its part %d is done again by another", _in_short(error), number + 1)
        self.lost.append((number, job))


def _in_short(error: Exception) -> str:
    return type(error).__name__
