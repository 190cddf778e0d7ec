"""The command `esmcls`: finds the command's file, and turns what goes wrong into one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence

import click

from esmcls import __version__
from esmcls.errors import EsmclsError
from esmcls.files import is_device, raise_descriptor_limit, refuse_address, system_errno
from esmcls.text_files import check_readable
from esmcls_cli.colours import paint, say
from esmcls_cli.options.command_groups import Group, context_settings
from esmcls_cli.options.speech import note, safe_screen, visible

COMMANDS = {
    "demo": "demo",
    "data": "data",
    "embed": "embed",
    "fit": "fit",
    "compare": "compare",
    "finetune": "finetune",
    "evaluate": "evaluate",
    "predict": "predict",
    "fold": "fold",
    "explain": "explain",
    "fit-scan": "fit_scan",
    "scan": "scan",
    "annotate": "annotate",
    "reference": "reference",
    "map": "map",
    "app": "app",
    "cache": "cache",
    "export": "export",
    "import": "import_",
    "push": "push",
    "pretrain": "pretrain",
    "layers": "layers",
    "cut-encoder": "cut_encoder",
    "encoders": "encoders",
    "heads": "heads",
    "info": "info",
}
"""Command -> its module, in the order of the work."""
_OF_FOLDERS = ("--encoder", "--encoders", "--model", "--teacher", "--from", "-o", "--output")
"""Options of names that may be folders or files, which are not read at a URL."""


@click.command("esmcls", cls=Group, lazy=COMMANDS, context_settings=context_settings)
@click.version_option(__version__, message="esmcls %(version)s")
def esmcls() -> None:
    """Turn protein sequences into embeddings once, and classify them.

    Start with `esmcls demo`, or with your own labelled sequences:

    \b
      esmcls embed families.csv       a vector of every sequence, in ./esmcls-work
      esmcls fit --head linear        a classifier on those vectors
      esmcls evaluate                 how good it is on the test part
      esmcls predict unknown.fasta    a label for each new sequence
    """


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line.

    Parameters
    ----------
    args : sequence of str, optional
        Without the program's name; default those of the process.

    Returns
    -------
    int
        0; 1 data or run error; 2 usage; 3 finished, but some sequences were left out; 130 Ctrl-C; 143 SIGTERM.
    """
    if "_ESMCLS_COMPLETE" in os.environ:  # pragma: no cover - click answers the shell and exits
        esmcls.main()
    # read when torch loads: spinning threads cost ten times the time where other programs share the cores
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in given
    _open_standard_files()
    raise_descriptor_limit()
    try:
        with _ends_when_asked(), safe_screen():
            code = _run(given)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        return _fail(error, _usage(error), error.exit_code, debug)
    except EsmclsError as error:
        return _fail(error, str(error), error.exit_code, debug)
    except BrokenPipeError:  # the reader of our output (`head`, say) has all it wanted
        _give_up_output()
        return 0
    except OSError as error:
        _give_up_output()
        return _fail(error, _surroundings(error), 1, debug)
    except MemoryError as error:
        return _fail(error, "the memory is full; free some, or give smaller files or less at a time", 1, debug)
    except RuntimeError as error:
        if not _fills_a_device(error):
            raise
        line = "the memory of the device is full; see what else runs there (nvidia-smi), give less at a time"
        return _fail(error, f"{line} (finetune: --tokens), or --device cpu", 1, debug)
    except _AskedToEnd as error:
        return _fail(error, "asked to end", 143, debug)
    except (KeyboardInterrupt, click.Abort) as error:
        return _fail(error, "interrupted", 130, debug)
    return code


def _fills_a_device(error: RuntimeError) -> bool:
    """Tell whether torch, where it was needed, found no room on a device."""
    if "torch" not in sys.modules:
        return False
    from esmcls.encoders.devices import is_out_of_memory

    return is_out_of_memory(error)


class _Closed(io.TextIOBase):
    """Stands for a standard output or error that was closed before we began: what is written to it is an error."""

    def writable(self) -> bool:
        """Say that it can be tried."""
        return True

    def write(self, text: str) -> int:
        """Fail as the system does."""
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "<stdout>")


def _open_standard_files() -> None:
    """Take the places of standard files that are closed: else the next file that is opened would be one of them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (for as long as the process lives)


def _give_up_output() -> None:
    """Let what could not be written to standard output not fail once more when the process ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _AskedToEnd(BaseException):
    """SIGTERM, as schedulers send it; like Ctrl-C, it lets everything clean up on its way out."""


@contextlib.contextmanager
def _ends_when_asked() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which alone is told of signals
        yield
        return

    def end(number: int, frame: object) -> None:
        raise _AskedToEnd

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(args: list[str]) -> int:
    for before, word in zip(["", *args], args, strict=False):
        option, _, value = word.partition("=") if word.startswith("--") else (before, "", word)
        if option in _OF_FOLDERS:
            refuse_address(value)
        if option not in ("-o", "--output"):  # which may be written to a pipe or device
            with contextlib.suppress(OSError, ValueError):  # no path, or one that is told of where it is used
                if is_device(value):
                    check_readable(value)
    with esmcls.make_context("esmcls", args or ["--help"]) as context, _library_notes():
        return int(esmcls.invoke(context) or 0)


class _Notes(logging.Handler):
    """Says what the library logs, each line once a command."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Say it as any other note."""
        line = record.getMessage()
        if line not in self.said:
            self.said.add(line)
            note(line)


@contextlib.contextmanager
def _library_notes() -> Iterator[None]:
    log, notes = logging.getLogger("esmcls"), _Notes()
    level = log.level
    log.addHandler(notes)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(notes)
        log.setLevel(level)


def _fail(error: BaseException, message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    say(f"esmcls: {paint('error:', 'error', sys.stderr)} {visible(message)}", err=True)
    return code


def _usage(error: click.ClickException) -> str:
    """Put a usage error into our form; click's own differs from version to version."""
    if isinstance(error, click.NoSuchOption):
        near = f"; did you mean {error.possibilities[0]}?" if error.possibilities else ""
        message = f"no such option {error.option_name}{near}"
    else:
        message = " ".join(error.format_message().split()).rstrip(".")
        message = message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    return message + (f" (see: {context.command_path} --help)" if context is not None else "")


def _surroundings(error: OSError) -> str:
    place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    number = system_errno(error)
    problem = os.strerror(number) if number is not None else " ".join(str(error).split())
    fix = {
        errno.EMFILE: "raise the limit of open files (ulimit -n)",
        errno.ENFILE: "close other programs",
        errno.ENOSPC: "make room on the disk",
        errno.EDQUOT: "make room on the disk",
        errno.EBADF: "open standard output, or give -o FILE",
    }.get(number or 0, "check the path, its permissions and the free space")
    return f"{place}{problem}; {fix}"


if __name__ == "__main__":
    sys.exit(main())
