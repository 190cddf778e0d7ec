"""What is given to options: paths, sources, shares and whole numbers; and which options were given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from esmcls.errors import UsageError
from esmcls.files import refuse_address
from esmcls.remote.addresses import address_of


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
