"""Options that commands share, and how commands speak: answers on stdout, what was met on the way on stderr."""

from __future__ import annotations

import contextlib
import functools
import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from esmcls.errors import FolderError, UnknownNameError, UsageError

context_settings: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
DEFAULT_WORKSPACE = "esmcls-work"
PATH = click.Path(path_type=Path)


def share(value: Any) -> float:
    """Return a share, given as 10% or .1, as a number from 0 to 1."""
    text = str(value)
    try:
        found = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise click.BadParameter(f"{text!r} is no share; give one such as 10% or 0.1")
    return found


class Group(click.Group):
    """Commands in the order given, each imported when it is wanted, with a hint where a name is unknown."""

    def __init__(self, *args: Any, lazy: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(*args, **{"no_args_is_help": False, **options})
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the work."""
        return [*self.lazy, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing its file."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        command: click.Command = importlib.import_module(f"esmcls_cli.{self.lazy[cmd_name]}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name."""
        if not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            raise UnknownNameError("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


def common(
    *, workspace: bool = True, device: bool = False, devices: bool = False, seed: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options that it shares with others; `--quiet` and `--debug` always.

    The command gets a device that is there, one unless it takes several (`devices`).
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if device or devices:
            function = _with_device(function, devices)
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


def _with_device(function: Callable[..., Any], several: bool) -> Callable[..., Any]:
    @functools.wraps(function)
    def command(*args: Any, device: str, **options: Any) -> Any:
        from esmcls.encoders.encoder import resolve_device

        if "," in device and not several:
            raise UsageError(f"--device {device}: several devices are for embed, pretrain and finetune; give one")
        return function(*args, device=resolve_device(device), **options)

    return command


def _remember_quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta["esmcls.quiet"] = value


_WORKSPACE = click.option(
    "-w",
    "--workspace",
    type=PATH,
    default=Path(DEFAULT_WORKSPACE),
    show_default=f"./{DEFAULT_WORKSPACE}",
    help="Folder of the dataset, caches, models and reports.",
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
on_bad_option = click.option(
    "--on-bad-record",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="Stop at a record that cannot be used, or leave it out, list it and exit with 3.",
)


def is_quiet() -> bool:
    """Return whether the running command was given `--quiet`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get("esmcls.quiet"))


def note(*lines: str) -> None:
    """Say what was met on the way, on stderr, unless `--quiet`."""
    if not is_quiet():
        warn(*lines)


def warn(*lines: str) -> None:
    """Say on stderr what the user must know even with `--quiet`."""
    for line in lines:
        click.echo(f"esmcls: {line}", err=True)


@contextlib.contextmanager
def progress(residues: int | None) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with residues a second and the time left on stderr, where that is a terminal; give its update."""
    from tqdm import tqdm

    disable = True if is_quiet() else None  # None: only on a terminal
    with tqdm(total=residues, unit="residue", unit_scale=True, disable=disable, dynamic_ncols=True) as bar:

        def advance(residues: int, sequences: int) -> None:
            bar.update(residues)

        yield advance


class TrainingBar:
    """A bar of steps with the losses, running means of them, and tokens (or, where told, sequences) a second."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.done, self.begun = bar, 0.0, time.perf_counter()
        self.means: dict[str, float] = {}

    def start(self, steps: int) -> None:
        """Set how many steps there are to be."""
        self.bar.reset(total=steps)
        self.begun = time.perf_counter()
        note(f"training for {steps:,} steps")

    def advance(self, entry: Mapping[str, float]) -> None:
        """Show a step's entry; the first of a resumed run says how many were done before."""
        if not self.means:
            self.bar.initial = self.bar.n = int(entry["step"]) - 1
        unit = "sequences" if "sequences" in entry else "tokens"
        self.done += entry.get(unit, 0.0)
        for name in (name for name in entry if name not in ("step", "lr", "tokens", "sequences", "memory", "score")):
            self.means[name] = 0.95 * self.means.get(name, entry[name]) + 0.05 * entry[name]
        shown = {name: f"{mean:.3f}" for name, mean in self.means.items()}
        speed = self.done / (time.perf_counter() - self.begun)
        self.bar.set_postfix(shown | {f"{unit}/s": f"{speed:,.0f}"}, refresh=False)
        self.bar.update()


@contextlib.contextmanager
def training_bar(*, shown: bool = True) -> Iterator[TrainingBar]:
    """Show a bar of training steps on stderr, where that is a terminal."""
    from tqdm import tqdm

    disable = True if is_quiet() or not shown else None
    with tqdm(unit="step", disable=disable, dynamic_ncols=True) as bar:
        yield TrainingBar(bar)


def fetch_encoder(name: str) -> None:
    """Fetch a published checkpoint that is not on this machine, with a bar of its bytes on stderr."""
    from tqdm import tqdm

    from esmcls.encoders.download import CHECKPOINTS, fetch

    if name not in CHECKPOINTS:
        return
    with tqdm(desc=name, unit="B", unit_scale=True, disable=True if is_quiet() else None, leave=False) as bar:

        def told(there: int, total: int | None) -> None:
            bar.total = total
            bar.update(there - bar.n)

        fetch(name, progress=told)


def output_file(path: Path) -> Path:
    """Return `path`, having made sure that a file can appear there."""
    if not path.parent.is_dir():
        raise FolderError(path, "its folder does not exist", "make the folder, or write elsewhere")
    if path.is_dir():
        raise FolderError(path, "is a folder", "name a file")
    return path


def integers(text: str | None, option: str) -> tuple[int, ...] | None:
    """Read `3,4,5`.

    Examples
    --------
    >>> integers("3,4,5", "--layers")
    (3, 4, 5)
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text}: not whole numbers with commas between, such as 3,4,5") from None


def set_aside_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the shares of what is set aside before anything is fitted."""
    for option in reversed(
        [
            click.option(
                "--hold-out-families",
                type=share,
                default=0.0,
                metavar="SHARE",
                help="Keep families out of training, such as 10%, to set and measure a threshold for proteins of none.",
            ),
            click.option(
                "--calibration",
                type=share,
                default=0.0,
                metavar="SHARE",
                help="Keep training sequences, such as 10%, for sets with a stated coverage (predict --coverage).",
            ),
            click.option(
                "--false-acceptance",
                type=share,
                default=0.05,
                show_default=True,
                help="Share of proteins of families held out that may be accepted.",
            ),
        ]
    ):
        function = option(function)
    return function


def given_options(names: Mapping[str, str]) -> dict[str, object]:
    """Return the options of the running command that stand on its command line, by the names that the user writes.

    Parameters
    ----------
    names : mapping
        Parameter of the command -> option as the user writes it.
    """
    context = click.get_current_context()
    explicit = {name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    return {option: context.params[name] for name, option in names.items() if name in explicit}
