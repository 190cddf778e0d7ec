"""A Ray cluster of several raylets on this machine, which may be a loaded one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from esmcls.engines.ray_team import import_ray

MEMORY = 80 << 20
"""Bytes of each node's object store."""
PATIENCE_SECONDS = 600.0
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
        self.cluster.add_node(num_cpus=0, object_store_memory=MEMORY, include_dashboard=False)
        self.working = [self.cluster.add_node(num_cpus=1, object_store_memory=MEMORY) for _ in range(3)]
        self.address = self.cluster.address

    def kill_one(self) -> None:
        """End a raylet and all its workers at once, as when a machine loses power."""
        self.cluster.remove_node(self.working.pop(0), allow_graceful=False)

    def add_one(self) -> None:
        """Begin another node."""
        self.working.append(self.cluster.add_node(num_cpus=1, object_store_memory=MEMORY))


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
