"""Clusters of similar sequences, by MMseqs2 where it is installed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from esmcls.datasets.clusters import read_clusters
from esmcls.errors import EsmclsError
from esmcls.programs import run_program

PROGRAM: Final = "mmseqs"
METHODS: Final = ("easy-cluster", "easy-linclust")
"""MMseqs2's sensitive way, and the one whose time grows with the number of sequences alone."""


def cluster_sequences(sequences: Sequence[str], *, identity: float = 0.3, method: str = METHODS[0]) -> list[str]:
    """Cluster sequences: each is at least so identical to the representative of its cluster, over 80 % of both.

    MMseqs2 gets the distinct sequences in an order of their own, so that clusters do not depend on that of the input.

    Parameters
    ----------
    sequences : sequence of str, (n,)
    identity : float
        Share of identical residues, 0 to 1.
    method : str
        One of `METHODS`.

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
        fasta, output = Path(folder, "in.fasta"), Path(folder, "out")
        with open(fasta, "w", encoding="ascii") as handle:
            handle.writelines(f">{number}\n{sequence}\n" for sequence, number in numbers.items())
        _run([program, method, str(fasta), str(output), str(Path(folder, "tmp")), "--min-seq-id", f"{identity:g}"])
        found = read_clusters(f"{output}_cluster.tsv", numbers.values())
    return [found[numbers[sequence]] for sequence in sequences]


def find_mmseqs() -> str:
    """Return where MMseqs2 lies.

    Raises
    ------
    EsmclsError
        If it is not on the PATH.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        fix = "install MMseqs2, or give a table of the cluster of each id (--clusters FILE)"
        raise EsmclsError(f"clusters need the program {PROGRAM}, which is not on the PATH; {fix}")
    return program


def _run(words: list[str]) -> None:
    # -c 0.8 is MMseqs2's default; said here, so that another default of another version changes nothing
    code, out, err = run_program([*words, "-c", "0.8", "-v", "1"])
    if code:
        said = " ".join((err + out).split())[-300:] or f"exit code {code}"
        fix = "run it by itself and give its table (--clusters FILE)"
        raise EsmclsError(f"{PROGRAM} {words[1]} failed ({said}); {fix}")
