"""Run other programs, so that none of them outlives us: not an error, not Ctrl-C, not our own death by SIGKILL."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Final

_GUARD: Final = """exec 3<&0 </dev/null
(read _ <&3; kill -KILL 0) >/dev/null 2>&1 &
exec "$@" 3<&-"""
"""What `sh` does in a session of its own: a watcher waits for the end of a pipe that we alone hold, for the system
closes it however we end, and then ends the session; the program takes the shell's place."""


def run_program(line: Sequence[str]) -> tuple[int, str, str]:
    """Run a program to its end; if we are interrupted, it ends at once, and so does all that it started.

    Returns
    -------
    int, str, str
        Its exit code, what it printed, and what it printed to standard error.

    Examples
    --------
    >>> run_program(["sh", "-c", "printf found; printf lost >&2; exit 3"])
    (3, 'found', 'lost')
    """
    if shutil.which(line[0]) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), line[0])
    running: list[subprocess.Popen[str]] = []
    with _lifeline() as (watched, guard):
        try:
            with _interrupts_later():
                running.append(
                    subprocess.Popen(
                        [*guard, *line],
                        stdin=watched,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                        errors="replace",
                        start_new_session=True,
                    )
                )
            output, errors = running[0].communicate()
        except BaseException:  # Ctrl-C among them; in a session of its own, the program has not heard of it
            for process in running:
                _end(process)
                process.communicate()
            raise
    return running[0].returncode, output, errors


@contextlib.contextmanager
def _lifeline() -> Iterator[tuple[int, list[str]]]:
    """Give the standard input of a program, and the words before its own, that end it when we have ended."""
    if sys.platform == "win32":
        yield subprocess.DEVNULL, []
        return
    watched, held = os.pipe()
    try:
        yield watched, ["/bin/sh", "-c", _GUARD, "sh"]
    finally:
        os.close(held)
        os.close(watched)


def _end(process: subprocess.Popen[str]) -> None:
    """End a program and all that it started; on Windows the program alone."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM back until the block has ended: a program that just starts could not be ended."""
    if threading.current_thread() is not threading.main_thread():  # which alone is told of signals
        yield
        return
    received: list[int] = []
    delayed = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: received.append(number)) for number in delayed]
    try:
        yield
    finally:
        for number, handler in zip(delayed, before, strict=True):
            signal.signal(number, handler or signal.SIG_DFL)
    if received:
        signal.raise_signal(received[0])
