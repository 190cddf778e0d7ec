"""The command `esmcls`: finds the command's file, and turns what goes wrong into one line and an exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence

import click

from esmcls import __version__
from esmcls.errors import EsmclsError
from esmcls_cli.options import Group, context_settings

COMMANDS = {
    "demo": "demo",
    "data": "data",
    "embed": "embed",
    "fit": "fit",
    "compare": "compare",
    "finetune": "finetune",
    "evaluate": "evaluate",
    "predict": "predict",
    "cache": "cache",
    "export": "export",
    "import": "import_",
    "pretrain": "pretrain",
    "encoders": "encoders",
    "heads": "heads",
    "info": "info",
}
"""Command -> its module, in the order of the work."""


@click.command("esmcls", cls=Group, lazy=COMMANDS, context_settings=context_settings)
@click.version_option(__version__, message="esmcls %(version)s")
def esmcls() -> None:
    """Turn protein sequences into embeddings once, and classify them.

    Start with `esmcls demo`, or with your own labelled sequences:

    \b
      esmcls embed families.csv       vectors of every sequence, kept in ./esmcls-work
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
    try:
        with _ends_when_asked():
            code = _run(given)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        return _fail(error, _usage(error), error.exit_code, debug)
    except EsmclsError as error:
        return _fail(error, str(error), error.exit_code, debug)
    except BrokenPipeError:  # the reader of our output (`head`, say) has all it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        return _fail(error, _surroundings(error), 1, debug)
    except _AskedToEnd as error:
        return _fail(error, "asked to end", 143, debug)
    except (KeyboardInterrupt, click.Abort) as error:
        return _fail(error, "interrupted", 130, debug)
    return code


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
    with esmcls.make_context("esmcls", args or ["--help"]) as context:
        return int(esmcls.invoke(context) or 0)


def _fail(error: BaseException, message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    click.echo(f"esmcls: error: {message}", err=True)
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
    place = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
    return f"{place}{error.strerror or error}; check the path, its permissions and the free space"


if __name__ == "__main__":
    sys.exit(main())
