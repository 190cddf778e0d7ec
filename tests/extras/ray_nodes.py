"""A Ray cluster of several raylets on this machine, which may be a loaded one."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

from esmcls.engines.ray_team import import_ray

MEMORY = 80 << 20
"""Bytes of each node's object store."""
TRIES = 20
SETTINGS = {
    "RAY_worker_niceness": "0",  # else whatever else runs on this machine goes before
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_health_check_failure_threshold": "50",
}


class Nodes:
    """A cluster whose head works at nothing, and three nodes of one CPU each."""

    def __init__(self) -> None:
        import_ray()
        os.environ.update(SETTINGS)
        from ray.cluster_utils import Cluster

        self.cluster = Cluster()
        self._add(num_cpus=0, include_dashboard=False)
        self.working = [self._add(num_cpus=1) for _ in range(3)]
        self.address = self.cluster.address

    def _add(self, **options: Any) -> Any:
        """Begin a node, again where a loaded machine needs more than the seconds that Ray gives it.

        Ports are named, since a raylet waits but seconds for its agents to say which they took.
        """
        names = ("dashboard_agent_listen_port", "metrics_export_port", "metrics_agent_port", "runtime_env_agent_port")
        for left in reversed(range(TRIES)):
            ports = dict(zip(names, free_ports(len(names)), strict=True))
            try:
                return self.cluster.add_node(object_store_memory=MEMORY, **ports, **options)
            except Exception as error:  # Ray's own class for it is Exception
                if not left or "timed out during startup" not in str(error):
                    raise
        raise AssertionError("the last try returns or raises")

    def kill_one(self) -> None:
        """End a raylet and all its workers at once, as when a machine loses power."""
        self.cluster.remove_node(self.working.pop(0), allow_graceful=False)

    def add_one(self) -> None:
        """Begin another node."""
        self.working.append(self._add(num_cpus=1))


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]
