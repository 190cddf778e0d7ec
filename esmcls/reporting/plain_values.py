"""From the plain values of JSON back to the dataclasses that `dataclasses.asdict` made them of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Made = TypeVar("Made")


def from_plain(kind: type[Made], values: Mapping[str, Any]) -> Made:
    """Return a dataclass of the values, and what lies in it, as its annotations say.

    Parameters
    ----------
    kind : dataclass
        Of numbers, texts, dataclasses, lists and dicts of these, each of which may be None.
    values : mapping
        By the names of the fields; what is no field is left out, a field with a default may be absent.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Point:
    ...     name: str
    ...     at: "list[float] | None" = None
    >>> from_plain(Point, {"name": "a", "at": [1.0], "color": "red"}), from_plain(Point, {"name": "b"})
    (Point(name='a', at=[1.0]), Point(name='b', at=None))
    """
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind) if field.name in values]  # type: ignore[arg-type]
    return kind(**{name: _of_hint(hints[name], values[name]) for name in names})


def _of_hint(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    inner = get_args(hint)
    if value is None:
        return None
    if origin in (Union, UnionType):
        [known] = (kind for kind in inner if kind is not NoneType)
        return _of_hint(known, value)
    if origin is list:
        return [_of_hint(inner[0], item) for item in value]
    if origin is dict:
        return {key: _of_hint(inner[1], item) for key, item in value.items()}
    return from_plain(hint, value) if isinstance(hint, type) and is_dataclass(hint) else value
