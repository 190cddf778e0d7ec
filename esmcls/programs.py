"""Run other programs, so that none of them outlives us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence


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
    running: list[subprocess.Popen[str]] = []
    try:
        with _interrupts_later():
            running.append(
                subprocess.Popen(
                    line,
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
