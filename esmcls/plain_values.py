"""JSON files, and their plain values as what an annotation says: the one way in which what we wrote is read back."""

from __future__ import annotations

import contextlib
import json
import math
from collections import abc
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from esmcls.errors import EsmclsError
from esmcls.files import atomic_path, refuse_what_is_no_file

Made = TypeVar("Made")


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as sorted, indented JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    ValueError
        If it is no file or no JSON, is nested deeper than anything we write, or has NaN, Infinity or a number beyond
        all bounds.
    """
    refuse_what_is_no_file(path)
    return parse_json(Path(path).read_bytes())


def parse_json(text: str | bytes) -> Any:
    """Read a JSON text; errors are those of `read_json`.

    Examples
    --------
    >>> parse_json('{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    >>> parse_json("[" * 10_000)
    Traceback (most recent call last):
    ValueError: nested too deep
    """
    try:
        return json.loads(text, parse_constant=_refused, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refused(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refused(text)


def read_as(
    path: str | Path, kind: type[Made], error: Callable[[str | Path, str, str], EsmclsError], fix: str, **options: bool
) -> Made:
    """Read a JSON file that holds what an annotation says: the one way in which we read what we wrote.

    Parameters
    ----------
    path : str or Path
    kind : type
        A dataclass, or any annotation that `from_plain` knows.
    error : FolderError, or a child
        What is raised where the file does not hold it.
    fix : str
        The remedy, as an order.
    **options
        Of `from_plain`.

    Raises
    ------
    error
        If the file is no JSON or holds something else; the message names it, the place in it, and the remedy.
    """
    try:
        return from_plain(kind, read_json(path), **options)
    except ValueError as reason:
        raise error(path, f"is damaged ({reason})", fix) from None


def from_plain(kind: type[Made], values: object, *, strict: bool = False) -> Made:
    """Return what an annotation says, made of the plain values of JSON; what does not fit is refused.

    Parameters
    ----------
    kind : type
        A dataclass, of numbers, texts, dataclasses, lists, tuples and mappings of these; or any of those themselves.
    values : object
        Of JSON. Of a dataclass, a mapping by the names of the fields; one with a default may be absent.
    strict : bool
        Whether a key that is no field is refused; default it is left out, as what a later version may have added.

    Raises
    ------
    ValueError
        If a value is of another kind, is missing, not finite or beyond 64 bits; the message says where it stands.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Point:
    ...     name: str
    ...     at: "list[float] | None" = None
    >>> from_plain(Point, {"name": "a", "at": [1.0], "color": "red"}), from_plain(Point, {"name": "b"})
    (Point(name='a', at=[1.0]), Point(name='b', at=None))
    >>> from_plain(Point, {"name": "a", "at": [1.0, "2"]})
    Traceback (most recent call last):
    ValueError: at[1]: '2' instead of a number
    """
    made: Made = _Reading(strict).of(kind, values, "")
    return made


_NAMES: Final[dict[object, str]] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    NoneType: "null",
    list: "a list",
    tuple: "a list",
    dict: "an object",
}
_CONTAINERS: Final = {abc.Sequence: list, abc.Mapping: dict, abc.Iterable: list}
_BITS: Final = 64


class _Reading:
    """Plain values on their way into annotations; each method gets the place where they stand, for the message."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict

    def of(self, hint: Any, value: Any, place: str) -> Any:
        """Return the value as the annotation says."""
        origin = _CONTAINERS.get(get_origin(hint), get_origin(hint))
        if hint is Any or hint is object or isinstance(hint, TypeVar):
            return value
        if origin in (Union, UnionType):
            return self._union(get_args(hint), value, place)
        if origin is Literal:
            if any(value == choice and type(value) is type(choice) for choice in get_args(hint)):
                return value
            raise _unlike(place, value, " or ".join(map(repr, get_args(hint))))
        if origin is list or origin is tuple:
            return self._items(origin, get_args(hint), value, place)
        if origin is dict:
            self._expect(dict, value, place)
            return {key: self.of(get_args(hint)[1], item, _below(place, key)) for key, item in value.items()}
        if isinstance(hint, type) and is_dataclass(hint):
            return self._dataclass(hint, value, place)
        return self._plain(hint, value, place)

    def _union(self, choices: tuple[Any, ...], value: Any, place: str) -> Any:
        if value is None and NoneType in choices:
            return None
        kinds = [choice for choice in choices if choice is not NoneType]
        for kind in kinds[:-1]:
            with contextlib.suppress(ValueError):
                return self.of(kind, value, place)
        return self.of(kinds[-1], value, place)

    def _items(self, kind: type, inner: tuple[Any, ...], value: Any, place: str) -> Any:
        self._expect(tuple if type(value) is tuple else list, value, place)
        open_ended = kind is list or inner[1:] == (...,)
        if not open_ended and len(value) != len(inner):
            raise ValueError(f"{place or 'it'}: {len(value)} values instead of {len(inner)}")
        hints = [inner[0]] * len(value) if open_ended else inner
        if open_ended and inner[0] is str and all(type(item) is str for item in value):
            return kind(value)  # many, as ids are
        return kind(
            self.of(hint, item, f"{place}[{n}]") for n, (hint, item) in enumerate(zip(hints, value, strict=True))
        )

    def _dataclass(self, kind: Any, value: Any, place: str) -> Any:
        self._expect(dict, value, place)
        hints = get_type_hints(kind)
        known = {field.name: field for field in fields(kind) if field.init}
        missing = [
            name
            for name, field in known.items()
            if name not in value and field.default is MISSING and field.default_factory is MISSING
        ]
        unknown = sorted(map(str, value.keys() - known.keys())) if self.strict else []
        if missing or unknown:
            problem = f"lacks {missing[0]!r}" if missing else f"{unknown[0]!r} is nothing that is known"
            raise ValueError(f"{place}: {problem}" if place else problem)
        entries = {name: self.of(hints[name], value[name], _below(place, name)) for name in known if name in value}
        return kind(**entries)

    def _plain(self, hint: Any, value: Any, place: str) -> Any:
        hint = _CONTAINERS.get(hint, hint)
        if hint is float and type(value) is int and abs(value) < 1 << _BITS:
            return value  # as it was written: 1.0 and 1 are not told apart by JSON's other writers
        self._expect(hint, value, place)
        if (hint is int and value.bit_length() >= _BITS) or (hint is float and not math.isfinite(value)):
            raise _unlike(place, value, "a number in bounds")
        return value

    def _expect(self, kind: Any, value: Any, place: str) -> None:
        if type(value) is not kind:
            raise _unlike(place, value, _NAMES.get(kind, str(kind)))


def _below(place: str, name: str) -> str:
    return f"{place}.{name[:40]}" if place else name[:40]


def _unlike(place: str, value: Any, wanted: str) -> ValueError:
    if isinstance(value, (list, dict)):
        shown = f"{_NAMES[type(value)]} of {len(value)}"
    elif isinstance(value, int) and value.bit_length() >= _BITS:
        shown = "a number beyond 64 bits"
    else:
        shown = repr(value if not isinstance(value, str) else value[:40])
    return ValueError(f"{place or 'it'}: {shown} instead of {wanted}")
