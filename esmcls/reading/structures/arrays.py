"""Chains from an .npz of arrays, all residues of all chains one after another.

id                        S or U, (chains,)
length                    whole numbers, (chains,)
sequence                  uint8 or S1, (residues,): letters
ca_delta_tenth_angstrom   int8, (3, residues): from each CA atom to the next of its chain in 0.1 Å, the first 0
ss8, rsa_percent          uint8, (residues,), if they are there: DSSP letters, relative accessibility
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from esmcls.errors import DataError
from esmcls.foreign.npz import Npz, open_npz
from esmcls.reading.structures.chain import Chain
from esmcls.reading.structures.notes import StructureNotes

NEEDED: Final = ("id", "length", "sequence", "ca_delta_tenth_angstrom")
_STEP: Final = 0.1
"""Å."""
_FIX: Final = "give an .npz of chains as docs/structure.md describes it"


def read_arrays(path: str, notes: StructureNotes) -> Iterator[Chain]:
    """Give the chains of a file.

    Raises
    ------
    DataError
        If the file is damaged, lacks an array, or its arrays do not fit one another.
    """
    try:
        with open_npz(Path(path)) as file:
            arrays = _arrays(file, path)
    except (OSError, ValueError) as error:
        raise DataError(path, f"no .npz of chains that can be read ({error})", "fetch or make it again") from None
    notes.files["arrays"] += 1
    lengths = arrays["length"].astype(np.int64)
    ends = np.cumsum(lengths)
    for name, end, length in zip(arrays["id"].tolist(), ends.tolist(), lengths.tolist(), strict=True):
        part = slice(end - length, end)
        steps = arrays["ca_delta_tenth_angstrom"][:, part].astype(np.int64)
        notes.chains += 1
        yield Chain(
            id=name.decode("latin-1") if isinstance(name, bytes) else str(name),
            sequence=_letters(arrays["sequence"][part]),
            trace=(np.cumsum(steps, axis=1).T * _STEP).astype(np.float32),
            ss8=_letters(arrays["ss8"][part]) if "ss8" in arrays else None,
            accessibility=arrays["rsa_percent"][part].astype(np.float64) if "rsa_percent" in arrays else None,
        )


def _letters(codes: npt.NDArray[Any]) -> str:
    return codes.tobytes().decode("latin-1")


def _arrays(file: Npz, path: str) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays, having made sure that they fit one another."""
    if missing := [name for name in NEEDED if name not in file.members]:
        there = ", ".join(sorted(file.members)[:8]) or "nothing"
        raise DataError(path, f"no chains: it lacks the array {missing[0]!r}, and holds {there}", _FIX)
    arrays: dict[str, npt.NDArray[Any]] = {
        name: file.read(name) for name in (*NEEDED, "ss8", "rsa_percent") if name in file.members
    }
    total = int(arrays["length"].sum()) if arrays["length"].dtype.kind in "iu" else -1
    shapes: dict[str, tuple[int, ...]] = {
        "id": arrays["length"].shape,
        "ca_delta_tenth_angstrom": (3, total),
        **{name: (total,) for name in ("sequence", "ss8", "rsa_percent") if name in arrays},
    }
    kinds = {"id": "SU", "ca_delta_tenth_angstrom": "i", "rsa_percent": "uif"}
    for name, shape in shapes.items():
        array = arrays[name]
        wrong_kind = array.dtype.kind not in kinds.get(name, "uS") or (
            name in ("sequence", "ss8") and array.dtype.itemsize != 1
        )
        if arrays["length"].ndim != 1 or array.shape != shape or wrong_kind:
            problem = f"array {name!r} is {array.dtype} {array.shape}, where the lengths ask for {shape}"
            raise DataError(path, problem, _FIX)
    return arrays
