"""The options that send a command's work to a Ray cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from esmcls.errors import UsageError
from esmcls.remote.mirror import address_above

ENGINE_OPTIONS = ("engine", "address", "actors", "actor_cpus", "actor_gpus")
"""Their names, for a group of a command's help."""


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a cluster; it gets `cluster`, which is None where the work stays here."""

    @functools.wraps(function)
    def command(
        *args: Any,
        engine: str,
        address: str | None,
        actors: int | None,
        actor_cpus: float | None,
        actor_gpus: float | None,
        device: str,
        **options: Any,
    ) -> Any:
        given = {"--address": address, "--actors": actors, "--actor-cpus": actor_cpus, "--actor-gpus": actor_gpus}
        if engine == "local":
            for name, value in given.items():
                if value is not None:
                    raise UsageError(f"{name} belongs to --engine ray; give that, too")
            return function(*args, device=device, cluster=None, **options)
        from esmcls.engines.ray_team import Cluster, require_ray

        cluster = Cluster(address, actors, 1.0 if actor_cpus is None else actor_cpus, actor_gpus, device)
        if not cluster.local and (place := address_above(options["workspace"])):  # where a mirror is of this machine
            raise UsageError(
                f"--engine ray -w {place}: the nodes of a cluster need a folder that all share; give one, or embed "
                "with --shard on each machine"
            )
        if not options.get("dry_run"):
            require_ray()
        return function(*args, device="cpu", cluster=cluster, **options)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = [
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="ray: on the machines of a Ray cluster, with the extra `ray`.",
    ),
    click.option(
        "--address",
        metavar="HOST:PORT",
        help="Ray: the cluster's head, or auto.  [default: RAY_ADDRESS, else this machine alone]",
    ),
    click.option(
        "--actors",
        type=click.IntRange(1),
        help="Ray: processes that work at once.  [default: as many as the cluster has room for]",
    ),
    click.option(
        "--actor-cpus", type=click.FloatRange(0, min_open=True), metavar="N", help="Ray: CPUs of each.  [default: 1]"
    ),
    click.option(
        "--actor-gpus",
        type=click.FloatRange(0),
        metavar="N",
        help="Ray: GPUs of each, or a share of one.  [default: 1 where the cluster has any]",
    ),
]
