"""What is told of the folds of a cross-validation together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def mean_facts(facts: Sequence[Any]) -> Any:
    """Return the mean of numbers, key by key where they stand in dicts; None where one is not known.

    A key that some folds lack, such as the Fmax of an aspect that no validation protein has, is of the others; one with
    a text, such as the digest of a fold's model, is of none.

    Examples
    --------
    >>> mean_facts([{"a": {"b": 1.0}, "c": None}, {"a": {"b": 2.0}, "c": 3, "d": 4.0, "e": "text"}])
    {'a': {'b': 1.5}, 'c': None, 'd': 4.0}
    """
    if isinstance(facts[0], dict):
        names = dict.fromkeys(name for fact in facts for name, value in fact.items() if not isinstance(value, str))
        return {name: mean_facts([fact[name] for fact in facts if name in fact]) for name in names}
    return None if None in facts else sum(facts) / len(facts)
