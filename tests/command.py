"""Run `esmcls` inside the test's process."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

from esmcls_cli.main import main


@dataclass(frozen=True)
class Ran:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


def run(*args: str | Path) -> Ran:
    """Run a command line; its words may be paths."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(arg) for arg in args])
    return Ran(code, out.getvalue(), err.getvalue())


def done(*args: str | Path) -> Ran:
    """Run a command line that must succeed."""
    ran = run(*args)
    assert ran.code == 0, ran.err
    return ran
