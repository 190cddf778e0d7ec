"""Settings of a head: from text or values to its `Config`, and the ranges that its knobs must lie in."""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from esmcls.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from dataclasses import Field

MOST: Final = sys.float_info.max
"""The upper end of a range that has none: every finite number is below."""
ABOVE_0: Final = (math.ulp(0.0), MOST)
AT_LEAST_0: Final = (0, MOST)
AT_LEAST_1: Final = (1, MOST)
AT_LEAST_2: Final = (2, MOST)
FROM_0_TO_1: Final = (0, 1)

Config = TypeVar("Config", bound="Settings")

Ranges: TypeAlias = Mapping[str, tuple[float, float]]
"""Name of a knob to the least and the largest number that it may be."""


class Settings(Protocol):
    """Any frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


@dataclasses.dataclass(frozen=True)
class PooledConfig:
    """The knob of every head that reads pooled vectors.

    Parameters
    ----------
    pooling : str
        The pooled vectors to take. When to change: the cache was embedded with another --pool, such as cls or
        max, and validation says that it is better.
    """

    pooling: str = "mean"


def check_ranges(config: Settings, ranges: Ranges) -> None:
    """Check that knobs lie in their ranges; None, which is yet to be chosen, is in every range, NaN in none.

    Raises
    ------
    UsageError
        If one does not.

    Examples
    --------
    >>> @dataclasses.dataclass(frozen=True)
    ... class Config:
    ...     rate: float = 0.5
    >>> check_ranges(Config(), {"rate": FROM_0_TO_1})
    >>> check_ranges(Config(-2), {"rate": FROM_0_TO_1})
    Traceback (most recent call last):
    esmcls.errors.UsageError: setting rate: -2 is not from 0 to 1
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            finite = "" if isinstance(value, int) or math.isfinite(value) or high < MOST else " and finite"
            raise UsageError(f"setting {name}: {str(value)[:40]} is not {_in_words(low, high)}{finite}")


def _in_words(low: float, high: float) -> str:
    """Say where a number of a range lies.

    Examples
    --------
    >>> [_in_words(*ends) for ends in (ABOVE_0, AT_LEAST_1, (0, 0.999))]
    ['above 0', 'at least 1', 'from 0 to 0.999']
    """
    if high < MOST:
        return f"from {low:g} to {high:g}"
    return "above 0" if low == ABOVE_0[0] else f"at least {low:g}"


def parse_settings(config: type[Config], settings: Mapping[str, Any]) -> Config:
    """Turn settings, as text or as values, into a `Config`; what is not named keeps its default.

    Parameters
    ----------
    config : type
        A head's `Config`: a frozen dataclass.
    settings : mapping
        Name of a knob to its value; "auto" and "none" stand for None where the knob may be None.

    Raises
    ------
    UnknownNameError
        If there is no such knob.
    UsageError
        If a value is not of the knob's type or out of its range.

    Examples
    --------
    >>> from esmcls.heads.registry import load_head
    >>> parse_settings(load_head("linear").Config, {"epochs": "3"}).epochs
    3
    """
    hints = typing.get_type_hints(config)
    known = [field.name for field in dataclasses.fields(config)]
    for name in settings:
        if name not in known:
            raise UnknownNameError("setting", name, known)
    return config(**{name: _parse(name, value, hints[name]) for name, value in settings.items()})


def _parse(name: str, value: Any, hint: Any) -> Any:
    choices = _choices(hint)
    if type(None) in choices and (value is None or (value in ("auto", "none") and value not in choices)):
        return None
    for choice in choices:
        parsed = _as(choice, value)
        if parsed is not None:
            return parsed
    wanted = " or ".join(_describe(choice) for choice in choices)
    raise UsageError(f"setting {name}: {value!r} is not {wanted}; give --set {name} VALUE")


def _choices(hint: Any) -> list[Any]:
    """Return the alternatives of an annotation: the members of a union, the values of a Literal, or the type itself."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [choice for member in typing.get_args(hint) for choice in _choices(member)]
    return list(typing.get_args(hint)) if typing.get_origin(hint) is Literal else [hint]


def _as(choice: Any, value: Any) -> Any:
    """Return `value` as the type or literal `choice`, or None where it is not one."""
    if not isinstance(choice, type):
        return choice if str(value) == str(choice) else None
    if choice is bool:
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(str(value).lower())
    if choice is int and (isinstance(value, bool) or (isinstance(value, float) and value != int(value))):
        return None
    try:
        return None if choice is type(None) else choice(value)
    except (TypeError, ValueError):
        return None


def _describe(choice: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "auto"}
    return names.get(choice, repr(choice)) if isinstance(choice, type) else repr(choice)


class Knob(NamedTuple):
    """A knob of a head, as its `Config` documents it.

    Parameters
    ----------
    name : str
    values : str
        What it may be.
    default : object
        None is chosen on validation.
    what : str
        What it does.
    when : str
        When to change it.
    """

    name: str
    values: str
    default: object
    what: str
    when: str


_WHEN: Final = "When to change: "
"""What parts the two in a docstring."""


def knobs_of(config: type[Settings]) -> list[Knob]:
    """Return the knobs of a `Config` with what its docstring, and those of the classes it builds on, say of each.

    Those that it documents itself come first.

    Examples
    --------
    >>> from esmcls.heads.registry import load_head
    >>> knob = next(knob for knob in knobs_of(load_head("knn").Config) if knob.name == "k")
    >>> knob  # doctest: +ELLIPSIS
    Knob(name='k', values='int, or auto', default=None, what='Neighbours that vote.', when='there is no validation ...
    """
    documented: dict[str, tuple[str, str]] = {}
    for parent in filter(dataclasses.is_dataclass, config.__mro__):
        for name, text in _parameters(inspect.cleandoc(parent.__doc__ or "")).items():
            documented.setdefault(name, text)
    places = {name: place for place, name in enumerate(documented)}
    fields = sorted(dataclasses.fields(config), key=lambda field: places.get(field.name, len(places)))
    return [_knob(field, *documented.get(field.name, ("", ""))) for field in fields]


def _knob(field: Field[Any], values: str, text: str) -> Knob:
    what, _, when = text.partition(_WHEN)
    values = values.replace(", optional", ", or auto").replace('"', "")
    return Knob(field.name, values, field.default, what.strip(), when)


def _parameters(docstring: str) -> dict[str, tuple[str, str]]:
    """Return the type and the text of each parameter of a numpydoc docstring; those of one line share them."""
    documented: dict[str, tuple[str, str]] = {}
    section = docstring.partition("Parameters\n----------\n")[2]
    names: list[str] = []
    for line in section.splitlines():
        if line.startswith("---") or (line and not line.startswith(" ") and " : " not in line):
            break  # the next section, or its heading
        if line and not line.startswith(" "):
            text, _, values = line.partition(" : ")
            names = text.split(", ")
            documented |= dict.fromkeys(names, (values, ""))
        for name in names if line.startswith(" ") else []:
            values, text = documented[name]
            documented[name] = values, f"{text} {line.strip()}".strip()
    return documented
