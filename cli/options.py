"""Options that commands share, and how commands speak: answers on stdout, what was met on the way on stderr."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO, cast

import click
from click.core import ParameterSource

from esmcls.errors import FolderError, UnknownNameError, UsageError
from esmcls.files import refuse_address
from esmcls.remote.addresses import address_of
from esmcls_cli.colours import paint, say, with_counts

context_settings: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
DEFAULT_WORKSPACE = "esmcls-work"


class _LocalPath(click.Path):
    """A path of this machine."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; a URL is refused."""
        refuse_address(value)
        return super().convert(value, param, ctx)


class _Source(click.Path):
    """A path, or a URL, which stays a text: a path would take a slash from it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path or the text."""
        return address_of(value) or super().convert(value, param, ctx)


PATH = _LocalPath(path_type=Path)
SOURCE = _Source(path_type=Path)
"""Of what is read from its beginning to its end, a line after the other."""


def share(value: Any) -> float:
    """Return a share, given as 10% or .1, as a number from 0 to 1."""
    text = str(value)
    try:
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise click.BadParameter(f"{text!r} is no share; give one such as 10% or 0.1")
    return number


class Grouped(click.Command):
    """A command whose help lists its options in groups, those that most people want first.

    Parameters
    ----------
    groups : mapping
        Title -> names of the parameters; what is in none comes under the last title.
    """

    def __init__(self, *args: Any, groups: Mapping[str, Sequence[str]], **options: Any) -> None:
        super().__init__(*args, **options)
        self.groups = dict(groups)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options a group after the other."""
        title_of = {name: title for title, names in self.groups.items() for name in names}
        last = list(self.groups)[-1]
        records: dict[str, list[tuple[str, str]]] = {title: [] for title in self.groups}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                records[title_of.get(param.name or "", last)].append(record)
        for title, group in records.items():
            if group:
                with formatter.section(title):
                    formatter.write_dl(group)


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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the whole first sentence of each, over several lines if need be."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        shown = [(name, command.get_short_help_str(limit=1000)) for name, command in commands if command is not None]
        with formatter.section("Commands"):
            formatter.write_dl(shown)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name."""
        if not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            raise UnknownNameError("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)


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
    and twice that when the process ends.
    """
    if module in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _tell_device(device: str, precision: str | None) -> None:
    """Say what a GPU is called and what is computed in; of the processor there is nothing to say."""
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
label_column_option = click.option(
    "--label-column", metavar="NAME", help="Column of a table that holds the labels.  [default: label, class, … ]"
)
mask_column_option = click.option(
    "--mask-column", metavar="NAME", help="Column that says with 1 and 0 of which residues the label is known."
)
split_column_option = click.option(
    "--split-column", metavar="NAME", help="Column of a table that says train, validation or test."
)
on_bad_option = click.option(
    "--on-bad-record",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="Stop at a record that cannot be used, or leave it out, list it and exit with 3.",
)
evidence_option = click.option(
    "--evidence",
    multiple=True,
    metavar="CODES",
    help="Terms: evidence codes that count in a GAF, with commas between, or all.  "
    "[default: those of experiments, TAS and IC, as in CAFA]",
)


def complete_heads(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a head, the last of several with commas between, in a shell."""
    from esmcls.heads.registry import GROUP, NUMBER_GROUP, PAIR_GROUP, RESIDUE_GROUP, TERM_GROUP, list_heads

    groups = (GROUP, TERM_GROUP, NUMBER_GROUP, RESIDUE_GROUP, PAIR_GROUP)
    return _completed(incomplete, {name for group in groups for name in list_heads(group)})


def complete_encoders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of an encoder in a shell."""
    from esmcls.encoders.encoder import encoder_names

    return _completed(incomplete, encoder_names())


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a model of the workspace that is named before it, or of the default one, in a shell."""
    workspace = Path(ctx.params.get("workspace") or DEFAULT_WORKSPACE)
    return _completed(incomplete, {path.parent.name for path in (workspace / "models").glob("*/manifest.json")})


model_option = click.option(
    "--model",
    metavar="NAME_OR_FOLDER",
    shell_complete=complete_models,
    help="Or hf:OWNER/NAME, of the Hugging Face Hub.  [default: the workspace's best, by its score on validation]",
)
weights_option = click.option(
    "--encoder", metavar="PATH", help="Weights of the model's encoder, where they lie elsewhere now."
)


def _completed(incomplete: str, names: Iterable[str]) -> list[str]:
    before, comma, begun = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in sorted(names) if name.startswith(begun)]


def is_quiet() -> bool:
    """Return whether the running command was given `--quiet`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get("esmcls.quiet"))


_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What a terminal would obey instead of show: escape sequences, its own 8-bit ones, and turns of the direction."""
_COLOUR: Final = re.compile(r"(\x1b\[[0-9;]{0,19}m)")


def visible(text: str) -> str:
    """Return a text with each sign that a terminal would obey written as Python writes it.

    Ids and labels are from files of strangers, and stand in messages and tables.

    Examples
    --------
    >>> print(visible("id \x1b]0;title\x07"))
    id \\x1b]0;title\\x07
    """
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


class Screen:
    """Standard output where it is a terminal: shows what `visible` makes of a text, and colours as they are."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text as it can be shown."""
        parts = _COLOUR.split(text)
        self.stream.write("".join(part if place % 2 else visible(part) for place, part in enumerate(parts)))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def safe_screen() -> Iterator[None]:
    """Let nothing that is written to standard output be obeyed by a terminal; what goes elsewhere is verbatim."""
    before = sys.stdout
    if before is None or not before.isatty():
        yield
        return
    sys.stdout = cast(TextIO, Screen(before))
    try:
        yield
    finally:
        sys.stdout = before


def note(*lines: str) -> None:
    """Say what was met on the way, on stderr, unless `--quiet`."""
    if not is_quiet():
        warn(*lines)


def warn(*lines: str) -> None:
    """Say on stderr what the user must know even with `--quiet`."""
    for line in lines:
        warning, colon, rest = visible(line).partition("warning:")
        coloured = paint(colon, "warning", sys.stderr) + rest if colon and not warning else visible(line)
        say(f"esmcls: {with_counts(coloured, sys.stderr)}", err=True)


LOG_SECONDS = 30.0
"""How often progress is coloured in a line, where there is no terminal to show a bar on."""


class LogLines:
    """Lines of progress for a log (of Slurm, of a notebook): one every half minute, none on a terminal."""

    def __init__(self) -> None:
        self.wanted = not is_quiet() and not sys.stderr.isatty()
        self.last = time.monotonic()

    def tell(self, line: Callable[[], str]) -> None:
        """Write a line, if it is time for one."""
        if self.wanted and time.monotonic() - self.last >= LOG_SECONDS:
            self.last = time.monotonic()
            note(line())


@contextlib.contextmanager
def progress(residues: int | None) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with residues a second and the time left on stderr; in a log, a line every half minute."""
    from tqdm import tqdm

    disable = True if is_quiet() else None  # None: only on a terminal
    done, log = [0, 0], LogLines()
    whole = "" if residues is None else f" of {residues:,}"
    with tqdm(total=residues, unit="residue", unit_scale=True, disable=disable, dynamic_ncols=True) as bar:

        def advance(residues: int, sequences: int) -> None:
            bar.update(residues)
            done[:] = done[0] + residues, done[1] + sequences
            log.tell(lambda: f"{done[0]:,}{whole} residues, {done[1]:,} sequences")

        yield advance


def in_notebook() -> bool:
    """Return whether Python runs in a notebook, which shows bars though it has no terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def bar(unit: str = "sequence") -> Callable[[int, int], None]:
    """Return what shows a bar of what is done and how much there is: for `esmcls.embed(…, progress=bar())`.

    On a terminal and in a notebook it is a bar, in a log a line every half minute.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without widgets has a bar of signs
        from tqdm.auto import tqdm

    shown: list[Any] = []
    log = LogLines()
    log.wanted = log.wanted and not in_notebook()

    def advance(done: int, total: int) -> None:
        if not shown:
            shown.append(tqdm(total=total, unit=unit, disable=False if in_notebook() else None))
        shown[0].update(done - shown[0].n)
        log.tell(lambda: f"{done:,} of {total:,} {unit}s")
        if done >= total:
            shown.pop().close()

    return advance


_NOT_AVERAGED = ("step", "lr", "tokens", "sequences", "memory", "score", "scale", "skipped")
"""What an entry of training holds besides losses."""


class TrainingBar:
    """A bar of steps with the losses, running means of them, and tokens (or, where told, sequences) a second."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.done, self.begun = bar, 0.0, time.perf_counter()
        self.means: dict[str, float] = {}
        self.log, self.steps, self.skipped = LogLines(), 0, 0

    def start(self, steps: int) -> None:
        """Set how many steps there are to be."""
        self.bar.reset(total=steps)
        self.steps = steps
        self.begun = time.perf_counter()
        note(f"training for {steps:,} steps")

    def advance(self, entry: Mapping[str, float]) -> None:
        """Show a step's entry; the first of a resumed run says how many were done before."""
        if not self.means:
            self.bar.initial = self.bar.n = int(entry["step"]) - 1
        unit = "sequences" if "sequences" in entry else "tokens"
        self.done += entry.get(unit, 0.0)
        for name in (name for name in entry if name not in _NOT_AVERAGED):
            self.means[name] = 0.95 * self.means.get(name, entry[name]) + 0.05 * entry[name]
        shown = {name: f"{mean:.3f}" for name, mean in self.means.items()}
        self.skipped += int(entry.get("skipped", 0.0))
        if self.skipped:
            shown["skipped"] = f"{self.skipped:,}"
        speed = self.done / (time.perf_counter() - self.begun)
        self.bar.set_postfix(shown | {f"{unit}/s": f"{speed:,.0f}"}, refresh=False)
        self.bar.update()
        means = ", ".join(f"{name} {mean}" for name, mean in shown.items())
        self.log.tell(lambda: f"step {int(entry['step']):,} of {self.steps:,}: {means}")


@contextlib.contextmanager
def training_bar(*, shown: bool = True) -> Iterator[TrainingBar]:
    """Show a bar of training steps on stderr, where that is a terminal."""
    from tqdm import tqdm

    disable = True if is_quiet() or not shown else None
    with tqdm(unit="step", disable=disable, dynamic_ncols=True) as bar:
        yield TrainingBar(bar)


def fetch_encoder(name: str) -> None:
    """Fetch a checkpoint of ESM-2 that is not here, and see what another model of the hub is, before all else.

    What else takes time need not have been done to learn that there is no such model.
    """
    from esmcls.encoders.sources.checkpoints import checkpoint_of
    from esmcls.encoders.sources.places import config_of, have_weights, is_published

    if checkpoint_of(name) is not None:
        have_weights(name)
    elif is_published(name):
        config_of(name)


def output_file(path: Path) -> Path:
    """Return `path`, having made sure that a file can appear there."""
    if not path.parent.is_dir():
        raise FolderError(path, "its folder does not exist", "make the folder, or write elsewhere")
    if path.is_dir():
        raise FolderError(path, "is a folder", "name a file")
    return path


@contextlib.contextmanager
def text_output(path: Path | None) -> Iterator[TextIO]:
    """Give what is written to: stdout where no file is named, else a file that is there when it is whole."""
    if path is None:
        yield sys.stdout
        return
    from esmcls.files import atomic_text

    with atomic_text(output_file(path)) as handle:
        yield handle


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


def set_aside_options(held_out: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the shares of what is set aside, and where to draw the line between known and strangers.

    Parameters
    ----------
    held_out : str
        Help of --hold-out-families: what it does with them.
    """
    line = "Reject so that"
    options = [
        click.option("--hold-out-families", type=share, metavar="SHARE", help=held_out),
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
            metavar="SHARE",
            help=f"{line} at most this share of strangers, proteins of no known family, is accepted.  [default: 5%]",
        ),
        click.option(
            "--accept-known",
            type=share,
            metavar="SHARE",
            help=f"{line} this share of proteins of known families is accepted, whatever strangers are.",
        ),
    ]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def shares_of(
    hold_out_families: float | None,
    calibration: float,
    false_acceptance: float | None,
    accept_known: float | None,
    by_default: float | None = None,
) -> Any:
    """Return the `Shares` of `set_aside_options`.

    Parameters
    ----------
    hold_out_families, calibration, false_acceptance, accept_known
        As given.
    by_default : float, optional
        Share of the families that is held out where only a line is given; None where one must be given.

    Raises
    ------
    UsageError
        If both lines are given, or one without families held out.
    """
    from esmcls.datasets.held_out import NOTHING, Shares

    lines = {"--false-acceptance": false_acceptance, "--accept-known": accept_known}
    given = [option for option, value in lines.items() if value is not None]
    if len(given) > 1:
        raise UsageError("--false-acceptance and --accept-known are two ways to draw one line; give one of them")
    if given and not hold_out_families:
        if by_default is None or hold_out_families is not None:
            raise UsageError(f"{given[0]} needs strangers to draw the line by; give --hold-out-families 10%, too")
        hold_out_families = by_default
    strangers = NOTHING.false_acceptance if false_acceptance is None else false_acceptance
    folds = 0 if by_default is None else NOTHING.folds
    return Shares(hold_out_families or 0.0, calibration, strangers, accept_known, folds)


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
