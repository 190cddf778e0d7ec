"""Clusters of similar sequences: read from a table, as MMseqs2 and others write it, or made by MMseqs2."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from esmcls.errors import DataError, EsmclsError
from esmcls.programs import run_program

MMSEQS: Final = "mmseqs"
CLUSTER_METHODS: Final = ("easy-cluster", "easy-linclust")
"""MMseqs2's sensitive way, and the one whose time grows with the number of sequences alone."""


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
        rows = rows[1:]
        id_column = 1 - header.index("cluster")
    else:
        missed = [len(wanted - {columns[column] for _, columns in rows}) for column in (0, 1)]
        id_column = 0 if missed[0] < missed[1] else 1
    cluster_of: dict[str, str] = {}
    for line, columns in rows:
        name = columns[id_column]
        cluster = columns[1 - id_column]
        if cluster_of.setdefault(name, cluster) != cluster:
            problem = f"in cluster {cluster!r}, but in {cluster_of[name]!r} before"
            raise DataError(path, problem, "give each id one cluster", line=line, record=name)
    missing = sorted(wanted - cluster_of.keys())
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise DataError(path, f"no cluster for {len(missing):,} of {len(wanted):,} ids ({shown})", "add lines for them")
    return cluster_of


def _table(path: str | Path) -> list[tuple[int, list[str]]]:
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read ({error})", "give a text of two tab-separated columns") from error
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
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
    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder, "in.fasta")
        output = Path(folder, "out")
        with open(fasta, "w", encoding="ascii") as handle:
            handle.writelines(f">{number}\n{sequence}\n" for sequence, number in numbers.items())
        _run_mmseqs(
            [program, method, str(fasta), str(output), str(Path(folder, "tmp")), "--min-seq-id", f"{identity:g}"]
        )
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
