"""Heads: the classifiers that are trained on embeddings; each is a plugin, the built-in ones too.

A head is registered under the entry point group `esmcls.heads`. What it promises stands in `Head`; one protocol suite
(`tests/test_heads_protocol.py`) checks it for every registered head, fresh and reloaded.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from esmcls.cache.features import Features
from esmcls.errors import MissingExtraError, PluginError, UnknownNameError, UsageError
from esmcls.labels.labels import Labels
from esmcls.types import Indices, Probabilities

if TYPE_CHECKING:
    from typing_extensions import Self

GROUP = "esmcls.heads"
EXTRAS = {"pyhmmer": "homology"}
"""Optional package that a built-in head imports: the extra it comes with."""

Log = Callable[[dict[str, float]], None]
"""Told what a fit does: one entry of numbers a training step or choice."""


class Head(Protocol):
    """A classifier on embeddings.

    `fit(…)` makes every choice (epochs, k, regularisation) on `validation`; where that is None, on rows it holds out
    of `x`, and then fits once more on all of `x` with what it chose. It keeps what it chose in `chosen` and what the
    choice reached in `scores` (accuracy, macro_f1). A head that reads sequences alone says so: `reads_vectors = False`.
    """

    Config: ClassVar[type]
    classes: tuple[str, ...]
    config: Any
    chosen: Any
    scores: dict[str, float]

    def __init__(self, config: Any = None, device: str = "cpu") -> None: ...

    def fit(
        self,
        x: Features,
        labels: Labels,
        validation: tuple[Features, Labels] | None = None,
        seed: int = 0,
        log: Log | None = None,
    ) -> Self:
        """Fit on the rows of `x`; the same seed gives the same bits."""
        ...

    def refit(self, x: Features, labels: Labels, seed: int = 0, log: Log | None = None) -> Self:
        """Fit all rows with what an earlier `fit` chose; nothing is chosen, `scores` stay what they were."""
        ...

    def predict_proba(self, x: Features) -> Probabilities:
        """Return probabilities, float32 (n, classes); the rows sum to 1."""
        ...

    def top_k(self, x: Features, k: int) -> tuple[Indices, Probabilities]:
        """Return the k best class codes a row and their probabilities, both (n, k), in blocks of rows."""
        ...

    def familiarity(self, x: Features) -> npt.NDArray[np.float64]:
        """Return how near each row is to families that the head knows, (n,): higher is nearer, the scale its own."""
        ...

    def save(self, folder: Path) -> None:
        """Write all that `load` needs besides config and classes into an existing folder; no pickle."""
        ...

    @classmethod
    def load(cls, folder: Path, config: Any, classes: tuple[str, ...], device: str = "cpu") -> Self:
        """Read what `save` wrote; the result predicts the same bits."""
        ...


def reads_vectors(head: Head | type[Head]) -> bool:
    """Return whether a head needs vectors, as all do that do not say otherwise; if not, no encoder is opened for it.

    Examples
    --------
    >>> reads_vectors(load_head("linear"))
    True
    """
    return bool(getattr(head, "reads_vectors", True))


def list_heads(group: str = GROUP) -> list[str]:
    """Return the names of all registered heads, sorted; another group is that of heads for many labels a protein.

    Examples
    --------
    >>> {"linear", "knn"} <= set(list_heads())
    True
    """
    return sorted({entry.name for entry in entry_points(group=group)})


def load_head(name: str, group: str = GROUP) -> type[Head]:
    """Import the head that is registered as `name`.

    Parameters
    ----------
    name : str
    group : str
        Of entry points; see `list_heads`.

    Raises
    ------
    UnknownNameError
        If there is none; it says which is near.
    MissingExtraError
        If it needs an optional package that is not installed.
    PluginError
        If it cannot be imported for any other reason.

    Examples
    --------
    >>> load_head("linear").__name__
    'LinearHead'
    """
    found = [entry for entry in entry_points(group=group) if entry.name == name]
    if not found:
        raise UnknownNameError("head", name, list_heads(group))
    return _import(found[0])


def _import(entry: EntryPoint) -> type[Head]:
    try:
        head: type[Head] = entry.load()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in EXTRAS:
            raise MissingExtraError(f"head {entry.name}", package, EXTRAS[package]) from None
        raise PluginError(entry.group, entry.name, entry.value, error) from error
    except Exception as error:  # a plugin may fail in any way while it is imported
        raise PluginError(entry.group, entry.name, entry.value, error) from error
    return head


def parse_settings(config: type, settings: Mapping[str, Any]) -> Any:
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
