"""Heads by name: the classifiers on embeddings; each is a plugin, the built-in ones too.

A head is registered under an entry-point group: `esmcls.heads` for one label a protein, `esmcls.term_heads` for many,
`esmcls.number_heads` for a number, `esmcls.residue_heads` for labels and numbers of residues, `esmcls.pair_heads` for
structures; the kin of a head has the same name. What heads promise is in `esmcls.heads.contract`; this
module does not import it, so that names can be listed without loading PyTorch.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar, overload

from esmcls.errors import MissingExtraError, PluginError, UnknownNameError
from esmcls.foreign.plugins import entry_points

if TYPE_CHECKING:
    from typing_extensions import Never

    from esmcls.heads.contract import FittableHead, Head, NumberHead, PairHead, ResidueHead, TermHead

H = TypeVar("H")
H_co = TypeVar("H_co", covariant=True)
EXTRAS: Final = {"pyfamsa": "profile", "pyhmmer": "homology"}
"""Optional package that a built-in head imports: the extra it comes with."""


class Group(str, Generic[H_co]):
    """A group of entry points, and to the type checker what its heads promise: `load_head` of it gives a `type[H]`.

    A kind of task names the group of its heads once and needs no cast: `Group[SomeHead]("a.group")`.
    """


AnyGroup: TypeAlias = "Group[FittableHead[Never]]"
"""A group of heads for whatever kind of labels."""
GROUP: Final[Group[Head]] = Group("esmcls.heads")
"""Of heads for one label a protein."""
TERM_GROUP: Final[Group[TermHead]] = Group("esmcls.term_heads")
"""Of heads for many labels a protein, Gene Ontology terms."""
NUMBER_GROUP: Final[Group[NumberHead]] = Group("esmcls.number_heads")
"""Of heads for a number a protein."""
RESIDUE_GROUP: Final[Group[ResidueHead]] = Group("esmcls.residue_heads")
"""Of heads for labels and numbers of residues."""
PAIR_GROUP: Final[Group[PairHead]] = Group("esmcls.pair_heads")
"""Of heads for the distances between the residues of a protein."""


def reads_vectors(head: FittableHead[Never] | type[FittableHead[Never]]) -> bool:
    """Return whether a head needs vectors, as all do that do not say otherwise; if not, no encoder is opened for it.

    Examples
    --------
    >>> reads_vectors(load_head("linear"))
    True
    """
    return bool(getattr(head, "reads_vectors", True))


def runs_unasked(head: type[FittableHead[Never]]) -> bool:
    """Return whether a comparison runs a head that nobody named, as all that do not say otherwise."""
    return bool(getattr(head, "runs_unasked", True))


def reads_residues(head: FittableHead[Never] | type[FittableHead[Never]]) -> bool:
    """Return whether a head reads the vectors of residues besides pooled ones.

    Examples
    --------
    >>> reads_residues(load_head("align")), reads_residues(load_head("linear"))
    (True, False)
    """
    return bool(getattr(head, "reads_residues", False))


def searches_sequences(config: object) -> bool:
    """Return whether a head that reads vectors searches sequences besides, as it is configured.

    Examples
    --------
    >>> knobs = load_head("align").Config
    >>> searches_sequences(knobs()), searches_sequences(knobs(homologs=5))
    (False, True)
    """
    return bool(getattr(config, "searches_sequences", False))


def list_heads(group: str = GROUP) -> list[str]:
    """Return the names of all registered heads, sorted; another group is that of heads for many labels a protein.

    Examples
    --------
    >>> {"linear", "knn"} <= set(list_heads())
    True
    """
    return sorted({entry.name for entry in entry_points(group=group)})


@overload
def load_head(name: str) -> type[Head]: ...
@overload
def load_head(name: str, group: Group[H]) -> type[H]: ...
def load_head(name: str, group: str = GROUP) -> object:
    """Import the head that is registered as `name`.

    Parameters
    ----------
    name : str
    group : Group, optional
        By default that of heads for one label a protein.

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
    for entry in entry_points(group=group):
        if entry.name == name:
            return _import(entry)
    raise UnknownNameError("head", name, list_heads(group))


def _import(entry: EntryPoint) -> object:
    try:
        head: object = entry.load()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in EXTRAS:
            raise MissingExtraError(f"head {entry.name}", package, EXTRAS[package]) from None
        raise PluginError(entry.group, entry.name, entry.value, error) from error
    except Exception as error:  # a plugin may fail in any way while it is imported
        raise PluginError(entry.group, entry.name, entry.value, error) from error
    return head
