"""How commands speak: answers on stdout, what was met on the way on stderr."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any, Final, TextIO, cast

import click

from esmcls_cli.colours import paint, say, with_counts


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
