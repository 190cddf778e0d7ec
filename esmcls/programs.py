"""Running other programs, so that none of them outlives us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import Any


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
    options: dict[str, Any] = {"text": True, "errors": "replace", "start_new_session": True}
    running: list[subprocess.Popen[str]] = []
    try:
        with _interrupts_later():
            running.append(subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options))
        out, err = running[0].communicate()
    except BaseException:  # Ctrl-C among them; in a session of its own, the program has not heard of it
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        raise
    return running[0].returncode, out, err


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM back until the block has ended: a program that just starts could not be ended."""
    if threading.current_thread() is not threading.main_thread():  # which alone is told of signals
        yield
        return
    kept: list[int] = []
    asked = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(one, lambda number, _: kept.append(number)) for one in asked]
    try:
        yield
    finally:
        for one, handler in zip(asked, before, strict=True):
            signal.signal(one, handler or signal.SIG_DFL)
    if kept:
        signal.raise_signal(kept[0])
