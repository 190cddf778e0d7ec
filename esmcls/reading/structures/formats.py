"""PDB, mmCIF and BinaryCIF: recognised by name or first line, and parsed by biotite."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from esmcls.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from biotite.structure import AtomArray

Format: TypeAlias = Literal["pdb", "cif", "bcif", "arrays"]
NAMES: Final[dict[Format, str]] = {"pdb": "PDB", "cif": "mmCIF", "bcif": "BinaryCIF", "arrays": "arrays"}
SUFFIXES: Final[dict[str, Format]] = {
    ".pdb": "pdb",
    ".ent": "pdb",
    ".cif": "cif",
    ".mmcif": "cif",
    ".bcif": "bcif",
    ".npz": "arrays",
}
_PACKED: Final = (".gz", ".xz", ".zst", ".bz2")
_PDB_LINE: Final = re.compile(
    r"(?:HEADER|OBSLTE|TITLE|CAVEAT|COMPND|SOURCE|KEYWDS|EXPDTA|AUTHOR|REVDAT|CRYST1|ORIGX1|SCALE1|MODEL|ATOM|HETATM"
    r"|SEQRES|DBREF|PARENT)(?:\s|$)|REMARK\s+\d"
)
"""The line that a PDB file begins with."""


def format_by_name(path: str | Path) -> Format | None:
    """Return the format that the end of a name says, of which .gz and the like are no part.

    Examples
    --------
    >>> format_by_name("1abc.cif.gz"), format_by_name("pdb1abc.ent"), format_by_name("set.csv")
    ('cif', 'pdb', None)
    """
    path = Path(path)
    name = path.stem if path.suffix.lower() in _PACKED else path.name
    return SUFFIXES.get(Path(name).suffix.lower())


def format_by_line(first: str, path: str) -> Format | None:
    """Return the format of a text by its first line that is not blank; a comment says nothing, the name then does.

    Examples
    --------
    >>> format_by_line("data_1ABC", "x"), format_by_line("ATOM      1  N   MET A", "x"), format_by_line(">a", "a.pdb")
    ('cif', 'pdb', None)
    """
    if first.startswith("data_"):
        return "cif"
    if first.startswith("#") and not first.startswith("# STOCKHOLM"):
        return "cif" if format_by_name(path) == "cif" else None
    return "pdb" if _PDB_LINE.match(first) else None


def chain_id(path: str, chain: str) -> str:
    """Return the id of a chain of a file: its name without its end, and the chain.

    Examples
    --------
    >>> chain_id("folder/1abc.cif.gz", "A"), chain_id("my model.pdb", ""), chain_id("<stdin>", "A")
    ('1abc_A', 'my_model', 'stdin_A')
    """
    name = Path(path).name.strip("<>")  # of standard input, too
    while Path(name).suffix.lower() in (*_PACKED, *SUFFIXES):
        name = Path(name).stem
    return "_".join(part for part in (*name.split(), *chain.split()) if part)


def require_biotite(feature: str = "--structure") -> None:
    """Make sure that structures can be read, before anything takes time; MissingExtraError if not."""
    try:
        import biotite.structure  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError(feature, "biotite", "structure") from None


def parse(path: str | Path, content: str | bytes, kind: Format) -> Any:
    """Return biotite's file of a PDB (text), mmCIF (text) or BinaryCIF (bytes).

    Raises
    ------
    DataError
        If it cannot be read.
    """
    from biotite.structure.io import pdb, pdbx

    try:
        if isinstance(content, bytes):
            return pdbx.BinaryCIFFile.read(io.BytesIO(content))
        return (pdb.PDBFile if kind == "pdb" else pdbx.CIFFile).read(io.StringIO(content))
    except Exception as error:  # a parser of foreign text may fail in any way
        raise unreadable(path, error) from None


def first_model(path: str | Path, file: Any, altloc: str = "first", extra_fields: Sequence[str] = ()) -> AtomArray:
    """Return the atoms of the first model of biotite's file; DataError if there are none that can be read."""
    from biotite.structure.io import pdb, pdbx

    reader = pdb if isinstance(file, pdb.PDBFile) else pdbx
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of columns that another stands in for
            return reader.get_structure(file, model=1, altloc=altloc, extra_fields=list(extra_fields))
    except Exception as error:  # as above
        raise unreadable(path, error) from None


def unreadable(path: str | Path, error: Exception) -> DataError:
    """Return the error of a file that biotite cannot make sense of."""
    words = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
    return DataError(path, f"no structure that can be read ({words})", "check the file")
