"""Cluster tables: which cluster each id belongs to, as MMseqs2 and others write it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from esmcls.errors import DataError


def read_clusters(path: str | Path, ids: Iterable[str]) -> dict[str, str]:
    """Read a cluster table of two tab-separated columns: MMseqs2's (representative, member), or id and cluster.

    A first line with the words "id" and "cluster" names the columns; without it the ids are the column that knows all
    of `ids`, the second (as in MMseqs2's tables) if both do.

    Parameters
    ----------
    path : str or Path
    ids : iterable of str
        The ids that need a cluster.

    Returns
    -------
    dict of str to str
        The cluster of each id in the table.

    Raises
    ------
    DataError
        If the file cannot be read, a line has not two columns, an id stands in two clusters, or an id lacks a cluster.
    """
    rows = _table(path)
    wanted = set(ids)
    header = [word.strip().lower() for word in rows[0][1]] if rows else []
    if "cluster" in header and header[0] != header[1] and not wanted.issuperset(rows[0][1]):
        rows, id_column = rows[1:], 1 - header.index("cluster")
    else:
        missed = [len(wanted - {columns[column] for _, columns in rows}) for column in (0, 1)]
        id_column = 0 if missed[0] < missed[1] else 1
    found: dict[str, str] = {}
    for line, columns in rows:
        name, cluster = columns[id_column], columns[1 - id_column]
        if found.setdefault(name, cluster) != cluster:
            fix = "give each id one cluster"
            raise DataError(path, f"in cluster {cluster!r}, but in {found[name]!r} before", fix, line=line, record=name)
    missing = sorted(wanted - found.keys())
    if missing:
        some = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise DataError(path, f"no cluster for {len(missing):,} of {len(wanted):,} ids ({some})", "add lines for them")
    return found


def _table(path: str | Path) -> list[tuple[int, list[str]]]:
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read ({error})", "give a text of two tab-separated columns") from error
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
    for number, columns in rows:
        if len(columns) != 2:
            found = f"{len(columns)} column{'' if len(columns) == 1 else 's'}"
            raise DataError(path, found, "give two tab-separated columns, cluster and id", line=number)
    return rows
