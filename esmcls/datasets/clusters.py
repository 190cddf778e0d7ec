"""Clusters of similar sequences: read from a table, as MMseqs2 and others write it, or made by MMseqs2."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from esmcls.errors import DataError, EsmclsError
from esmcls.files import temporary_folder
from esmcls.programs import run_program
from esmcls.reading.ids import IdJoin
from esmcls.reading.joined.label_tables import cells
from esmcls.reading.records import Tally, refuse_text
from esmcls.reading.rows import column_name
from esmcls.text_files import open_lines, shown

MMSEQS: Final = "mmseqs"
CLUSTER_METHODS: Final = ("easy-cluster", "easy-linclust")
"""MMseqs2's sensitive way, and the one whose time grows with the number of sequences alone."""


def read_clusters(path: str | Path, ids: Iterable[str], tally: Tally | None = None) -> dict[str, str]:
    """Read a cluster table of two columns: MMseqs2's (representative, member), or id and cluster.

    A first line with the words "id" and "cluster" names the columns; without it the ids are the column that knows more
    of `ids`, the second (as in MMseqs2's tables) if both know as many. Ids are joined as `IdJoin` does: MMseqs2 writes
    the accession of `sp|P69905|HBA_HUMAN`.

    Parameters
    ----------
    path : str or Path
    ids : iterable of str
        The ids that need a cluster.
    tally : Tally, optional
        Gets how many ids were joined by which rule.

    Returns
    -------
    dict of str to str
        The cluster of each of `ids`.

    Raises
    ------
    DataError
        If the file cannot be read, a line has not two columns, an id stands in two clusters, or an id lacks a cluster.
    """
    rows = _table(path)
    wanted = list(dict.fromkeys(refuse_text(ids, "ids")))
    header = [column_name(cell) for cell in rows[0][1]] if rows else []
    if "cluster" in header and header[0] != header[1] and not set(wanted).issuperset(rows[0][1]):
        names = rows[0][1]
        rows = [row for row in rows if row[1] != names]
        column = 1 - header.index("cluster")
        joined = _joined(rows, column, wanted)
    else:
        both = [_joined(rows, column, wanted) for column in (0, 1)]
        column = 0 if len(both[0][0]) > len(both[1][0]) else 1
        joined = both[column]
    name_of, join = joined
    cluster_of = _cluster_of(path, rows, column)
    missing = sorted(set(wanted) - name_of.keys())
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise DataError(path, f"no cluster for {len(missing):,} of {len(wanted):,} ids ({shown})", "add lines for them")
    if tally is not None:
        tally.count_joined("clusters", join.matched)
    return {id_: cluster_of[name] for id_, name in name_of.items()}


def _joined(rows: Iterable[tuple[int, list[str]]], column: int, wanted: Iterable[str]) -> tuple[dict[str, str], IdJoin]:
    """Return the table's name of each wanted id that a column has, and the join."""
    join = IdJoin(columns[column] for _, columns in rows)
    names = ((id_, join.find(id_)) for id_ in wanted)
    return {id_: name for id_, name in names if name is not None}, join


def _cluster_of(path: str | Path, rows: Iterable[tuple[int, list[str]]], column: int) -> dict[str, str]:
    """Return the cluster of each name in a column."""
    cluster_of: dict[str, str] = {}
    for line, columns in rows:
        name = columns[column]
        cluster = columns[1 - column]
        if cluster_of.setdefault(name, cluster) != cluster:
            problem = f"in cluster {cluster!r}, but in {cluster_of[name]!r} before"
            raise DataError(path, problem, "give each id one cluster", line=line, record=name)
    return cluster_of


def _table(path: str | Path) -> list[tuple[int, list[str]]]:
    with open_lines(str(path)) as lines:
        rows = list(cells(lines, shown(str(path)), (2,)))
    for number, columns in rows:
        if len(columns) != 2:
            problem = f"{len(columns)} column{'' if len(columns) == 1 else 's'}"
            raise DataError(path, problem, "give two tab-separated columns, cluster and id", line=number)
    return rows


def cluster_sequences(
    sequences: Sequence[str], *, identity: float = 0.3, method: str = CLUSTER_METHODS[0]
) -> list[str]:
    """Cluster sequences: each is at least so identical to the representative of its cluster, over 80 % of both.

    MMseqs2 gets the distinct sequences in an order of their own, so that clusters do not depend on that of the input.

    Parameters
    ----------
    sequences : sequence of str, (n,)
    identity : float
        Share of identical residues, 0 to 1.
    method : str
        One of `CLUSTER_METHODS`.

    Returns
    -------
    list of str, (n,)
        The name of each one's cluster.

    Raises
    ------
    EsmclsError
        If MMseqs2 is not installed, or fails; the line says with what.
    """
    program = find_mmseqs()
    numbers = {sequence: str(number) for number, sequence in enumerate(sorted(set(sequences)))}
    with temporary_folder("clusters") as folder:
        fasta = folder / "in.fasta"
        output = folder / "out"
        with open(fasta, "w", encoding="ascii") as handle:
            handle.writelines(f">{number}\n{sequence}\n" for sequence, number in numbers.items())
        _run_mmseqs([program, method, str(fasta), str(output), str(folder / "tmp"), "--min-seq-id", f"{identity:g}"])
        cluster_of = read_clusters(f"{output}_cluster.tsv", numbers.values())
    return [cluster_of[numbers[sequence]] for sequence in sequences]


def find_mmseqs() -> str:
    """Return where MMseqs2 lies.

    Raises
    ------
    EsmclsError
        If it is not on the PATH.
    """
    program = shutil.which(MMSEQS)
    if program is None:
        fix = "install MMseqs2, or give a table of the cluster of each id (--clusters FILE)"
        raise EsmclsError(f"clusters need the program {MMSEQS}, which is not on the PATH; {fix}")
    return program


def _run_mmseqs(words: list[str]) -> None:
    # -c 0.8 is MMseqs2's default; said here, so that another default of another version changes nothing
    code, output, errors = run_program([*words, "-c", "0.8", "-v", "1"])
    if code:
        reason = " ".join((errors + output).split())[-300:] or f"exit code {code}"
        fix = "run it by itself and give its table (--clusters FILE)"
        raise EsmclsError(f"{MMSEQS} {words[1]} failed ({reason}); {fix}")
