"""Options that most commands have: workspace, device, seed, and how much is said."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from esmcls.errors import UsageError
from esmcls.remote.addresses import address_of
from esmcls_cli.options.speech import note
from esmcls_cli.options.values import SOURCE

DEFAULT_WORKSPACE = "esmcls-work"


def common(
    *,
    workspace: bool = True,
    device: bool = False,
    devices: bool = False,
    seed: bool = False,
    precision: str | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options that it shares with others; `--quiet` and `--debug` always.

    The command gets a device that is there, one unless it takes several (`devices`); `precision` is what is computed
    in, where the command has no such option and does not go by that of a model.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if device or devices:
            function = _with_device(function, devices, precision)
        if workspace:
            function = _with_mirror(function)
        options = [
            (workspace, _WORKSPACE),
            (device or devices, _DEVICE),
            (seed, _SEED),
            (True, _QUIET),
            (True, _DEBUG),
        ]
        for wanted, option in reversed(options):
            function = option(function) if wanted else function
        return function

    return decorate


def _with_device(function: Callable[..., Any], several: bool, precision: str | None) -> Callable[..., Any]:
    @functools.wraps(function)
    def command(*args: Any, device: str, **options: Any) -> Any:
        from esmcls.encoders.encoder import resolve_device

        if "," in device and not several:
            raise UsageError(f"--device {device}: several devices are for embed, pretrain and finetune; give one")
        if options.get("engine") == "ray":  # whose nodes may have what this machine lacks
            return function(*args, device=device, **options)
        with _loaded_for_good("torch"):
            resolved = resolve_device(device)
        _tell_device(resolved, options.get("precision", precision))
        return function(*args, device=resolved, **options)

    return command


@contextlib.contextmanager
def _loaded_for_good(module: str) -> Iterator[None]:
    """Keep Python's collector from a module that is loaded in here, now and later.

    Of torch it would look through a million objects, none of them garbage: a fifth of a second while they are made,
    and twice that when the process ends. What else the process holds by then is frozen with it.
    """
    if module in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _tell_device(device: str, precision: str | None) -> None:
    """Say what a GPU is called and what is computed in; a processor is named when it computes (`note_processor`)."""
    if device == "cpu" or device.startswith("cpu,"):
        return
    import torch

    from esmcls.encoders.devices import choose_precision, device_name

    devices = [torch.device(part) for part in device.split(",")]
    names = ", ".join(map(device_name, devices))
    computed = "vectors in the precision of their model, heads in fp32"
    note(f"on {names}: {computed if precision is None else choose_precision(precision, devices[0])}")


def _with_mirror(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command work in the mirror of a workspace at a URL."""

    @functools.wraps(function)
    def command(*args: Any, workspace: Path, **options: Any) -> Any:
        address = address_of(workspace)
        if address is None:
            return function(*args, workspace=workspace, **options)
        from esmcls.remote.mirror import mirrored

        with mirrored(address) as folder:
            note(f"{address}: its mirror here is {folder}")
            return function(*args, workspace=folder, **options)

    return command


def _remember_quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta["esmcls.quiet"] = value
    if value:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when huggingface_hub is imported


_WORKSPACE = click.option(
    "-w",
    "--workspace",
    type=SOURCE,
    default=Path(DEFAULT_WORKSPACE),
    show_default=f"./{DEFAULT_WORKSPACE}",
    help="Folder of the dataset, caches, models and reports; or s3://… or gs://….",
)
_DEVICE = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, cuda:0,cuda:1 (a process each), mps, or auto."
)
_SEED = click.option("--seed", type=int, default=0, show_default=True, help="Decides every random choice.")
_QUIET = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_remember_quiet,
    help="Say nothing on stderr but errors and what was left out.",
)
_DEBUG = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
