"""A Ray cluster of several raylets on this machine, which may be a loaded one."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from esmcls.engines.ray_team import import_ray

MEMORY = 80 << 20
"""Bytes of each node's object store."""
PATIENCE_SECONDS = 200.0
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
        import ray._private.services as services
        from ray.cluster_utils import Cluster

        services.get_node = patient(services.get_node)  # of which Ray asks for half a minute
        self.cluster = Cluster()
        self._add(num_cpus=0, include_dashboard=False)
        self.working = [self._add(num_cpus=1) for _ in range(3)]
        self.address = self.cluster.address

    def _add(self, **options: Any) -> Any:
        """Begin a node, with ports that are named: a raylet waits but seconds for agents to say which they took."""
        names = ("dashboard_agent_listen_port", "metrics_export_port", "metrics_agent_port", "runtime_env_agent_port")
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        return self.cluster.add_node(object_store_memory=MEMORY, **ports, **options)

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


def patient(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Return what waits until a node is there."""

    def get(*facts: Any, **more: Any) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return get_node(*facts, **more)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    return get
