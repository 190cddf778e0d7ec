"""LightGBM's text of a model, checked in full before the library sees it.

Its parser trusts what it reads: a count that is too large is read past the end of an array, a child that is its own
parent is followed for ever, and either ends the process. The file may be damaged, or by a stranger who has put fitting
digests beside it. So every line is read here, and what the library gets is written anew from what was checked: the
trees alone, without parameters, objective and sizes of texts, which raw scores do not ask for.

    tree
    num_class=2 …               header
    Tree=0                      then for each tree: counts, and arrays with a value a split, or a leaf
    num_leaves=3
    left_child=1 -1             a split's children: a split by its number, leaf n as -1 - n
    …
    end of trees                what follows is not read
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

_INTEGER: Final = r"-?\d{1,10}"
_NUMBER: Final = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?"
_INTEGERS: Final = re.compile(rf"(?:{_INTEGER}(?: {_INTEGER})*)?", re.ASCII)
_NUMBERS: Final = re.compile(rf"(?:{_NUMBER}(?: {_NUMBER})*)?", re.ASCII)
_COUNT: Final = re.compile(r"\d{1,9}", re.ASCII)
_OF_SPLITS: Final = {
    "split_feature": _INTEGERS,
    "split_gain": _NUMBERS,
    "threshold": _NUMBERS,
    "decision_type": _INTEGERS,
    "left_child": _INTEGERS,
    "right_child": _INTEGERS,
    "internal_value": _NUMBERS,
    "internal_weight": _NUMBERS,
    "internal_count": _INTEGERS,
}
"""Arrays with a value a split, and what their values look like."""
_OF_LEAVES: Final = {"leaf_value": _NUMBERS, "leaf_weight": _NUMBERS, "leaf_count": _INTEGERS}
_MAY_LACK: Final = frozenset({"leaf_weight", "leaf_count"})
"""Arrays that a tree of a single leaf is written without."""
_NUMERICAL: Final = frozenset(default | missing for default in (0, 2) for missing in (0, 4, 8))
"""Kinds of decision: bit 0 is of categories, bit 1 says where missing values go, bits 2 and 3 what counts as that."""
_MOST_LEAVES: Final = 1 << 17
"""LightGBM's own limit on a tree."""
_VERSION: Final = re.compile(r"v\d{1,3}", re.ASCII)


def checked_text(text: str, features: int, classes: int) -> str:
    """Return the text of a model with nothing in it but trees that can be walked.

    Parameters
    ----------
    text : str
        As LightGBM wrote it, in any of its versions from 3 on.
    features : int
        Numbers in a row that the model is to be asked about.
    classes : int
        Trees a round.

    Raises
    ------
    ValueError
        If a count, the length of an array, a feature, a child or a number is not what it must be.
    """
    lines = iter(text.split("\n"))
    header = _header(lines)
    if header["max_feature_idx"] != features - 1:
        raise ValueError(f"trees on {header['max_feature_idx'] + 1} features instead of {features}")
    if not header["num_class"] == header["num_tree_per_iteration"] == classes:
        problem = f"{header['num_class']} classes and {header['num_tree_per_iteration']} trees a round"
        raise ValueError(f"{problem} instead of {classes}")
    trees = [_checked_tree(number, tree, features) for number, tree in enumerate(_trees(lines))]
    if len(trees) % classes or not trees:
        raise ValueError(f"{len(trees)} trees, which are no rounds of {classes}")
    names = " ".join(f"Column_{number}" for number in range(features))
    head = (
        f"tree\nversion=v4\nnum_class={classes}\nnum_tree_per_iteration={classes}\nlabel_index=0\n"
        f"max_feature_idx={features - 1}\nfeature_names={names}\nfeature_infos={' '.join(['none'] * features)}\n"
    )
    sizes = " ".join(str(len(tree)) for tree in trees)
    return f"{head}tree_sizes={sizes}\n\n{''.join(trees)}end of trees\n"


def _header(lines: Iterator[str]) -> dict[str, int]:
    """Return the counts of a model's first lines."""
    if next(lines, None) != "tree":
        raise ValueError("no text of a LightGBM model")
    entries = _entries(lines)
    if not _VERSION.fullmatch(entries.get("version", "")):
        raise ValueError("no version")
    return {name: _count(entries, name) for name in ("num_class", "num_tree_per_iteration", "max_feature_idx")}


def _entries(lines: Iterator[str]) -> dict[str, str]:
    """Return the lines `name=value` up to the first blank one."""
    entries: dict[str, str] = {}
    for line in lines:
        if not line:
            return entries
        name, _, value = line.partition("=")
        if name in entries:
            raise ValueError(f"{name[:40]!r} stands twice")
        entries[name] = value
    raise ValueError("cut off")


def _trees(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Give the lines of each tree by their names."""
    number = 0
    for line in lines:
        if not line:
            continue
        if line == "end of trees":
            return
        if line != f"Tree={number}":
            raise ValueError(f"{line[:40]!r} where tree {number} begins")
        yield _entries(lines)
        number += 1
    raise ValueError("cut off before the end of its trees")


def _count(entries: Mapping[str, str], name: str) -> int:
    text = entries.get(name, "")
    if not _COUNT.fullmatch(text):
        raise ValueError(f"{name} is {text[:40]!r}, no count")
    return int(text)


def _checked_tree(number: int, entries: Mapping[str, str], features: int) -> str:
    """Return the text of a tree, written anew."""
    try:
        leaves = _count(entries, "num_leaves")
        if not 1 <= leaves <= _MOST_LEAVES:
            raise ValueError(f"{leaves} leaves")
        if entries.get("num_cat", "0") != "0" or entries.get("is_linear", "0") != "0":
            raise ValueError("splits on categories or models in leaves, which esmcls does not make")
        arrays = {name: _array(entries, name, kind, leaves - 1, leaves) for name, kind in _OF_SPLITS.items()}
        arrays |= {name: _array(entries, name, kind, leaves, leaves) for name, kind in _OF_LEAVES.items()}
        _check_splits(arrays, leaves, features)
    except ValueError as error:
        raise ValueError(f"tree {number}: {error}") from None
    lines = [f"Tree={number}", f"num_leaves={leaves}", "num_cat=0"]
    lines += [f"{name}={' '.join(values)}" for name, values in arrays.items()]
    return "\n".join([*lines, "is_linear=0", "shrinkage=1", "", "", ""])


def _array(entries: Mapping[str, str], name: str, kind: re.Pattern[str], size: int, leaves: int) -> list[str]:
    """Return the words of an array, each a number that 64 bits hold."""
    text = entries.get(name, "")
    if not kind.fullmatch(text):
        raise ValueError(f"{name} holds what is no number")
    words = text.split(" ") if text else []
    if leaves == 1 and name in _MAY_LACK and not words:
        return words
    if len(words) != size:
        raise ValueError(f"{name} has {len(words)} values instead of {size}")
    if kind is _NUMBERS and any(number in (float("inf"), float("-inf")) for number in map(float, words)):
        raise ValueError(f"{name} holds a number beyond all bounds")
    return words


def _check_splits(arrays: Mapping[str, list[str]], leaves: int, features: int) -> None:
    """Check that splits are on features that there are, and that each split and leaf is the child of one before it."""
    if any(not 0 <= feature < features for feature in map(int, arrays["split_feature"])):
        raise ValueError(f"a split on a feature beyond the {features}")
    if not _NUMERICAL.issuperset(map(int, arrays["decision_type"])):
        raise ValueError("a kind of split that esmcls does not make")
    left, right = (list(map(int, arrays[name])) for name in ("left_child", "right_child"))
    below = [(parent, child) for children in (left, right) for parent, child in enumerate(children)]
    if any(0 <= child <= parent for parent, child in below):  # a new split is numbered after all that were there
        raise ValueError("a split above itself")
    expected = set(range(-leaves, 0)) | set(range(1, leaves - 1))
    if leaves > 1 and (len(below) != len(expected) or {child for _, child in below} != expected):
        raise ValueError("a child that is not there, or has two parents")
