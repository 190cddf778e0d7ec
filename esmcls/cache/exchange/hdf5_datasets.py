"""Vectors in HDF5 as bio_embeddings, EAT and UniProt write it: a dataset a protein, at the top of the file.

bio_embeddings numbers them and keeps the id as the attribute `original_id`; UniProt and EAT name them by the id.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from esmcls.cache.exchange.imported import Imported, imported, unreadable
from esmcls.errors import DataError
from esmcls.files import refuse_what_is_no_file

_SIZES: Final = struct.Struct("<QQ")


def read_h5(path: Path, pooling: str) -> Iterator[Imported]:
    """Yield the vectors of an HDF5 file, in the order of their running numbers."""
    for key, id, array in _datasets_of(path):
        place = f"{path}:/{key}"
        yield imported(id, array, pooling, place)


_H5_READER: Final = """
import json, struct, sys
import h5py, numpy
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = int(sys.argv[3]) + int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
except (ImportError, ValueError, OSError):
    pass
out = sys.stdout.buffer
most = int(sys.argv[2])
def send(about, data=b""):
    head = json.dumps(about).encode()
    out.write(struct.pack("<QQ", len(head), len(data)) + head)
    out.write(data)
    out.flush()
try:
    with h5py.File(sys.argv[1], "r") as file:
        for key in sorted(file, key=lambda key: (len(key), key)):  # running numbers in their order
            if not isinstance(file.get(key, getlink=True), h5py.HardLink):
                send({"fault": "a link instead of a protein's dataset", "fix": "give the file that has it", "key": key})
                break
            dataset = file[key]
            if not isinstance(dataset, h5py.Dataset):
                send({"fault": "a group instead of a protein's dataset", "fix": "give a flat file", "key": key})
                break
            if dataset.is_virtual or dataset.external:
                send({"fault": "vectors that lie in another file", "fix": "copy them into this one", "key": key})
                break
            if dataset.dtype.kind not in "fiub" or dataset.nbytes > most:
                fault = f"an array of {dataset.dtype} {dataset.shape} instead of a vector or one a residue"
                send({"fault": fault, "fix": "give one vector a protein", "key": key})
                break
            raw = dataset.attrs.get("original_id", key)
            name = raw.decode() if isinstance(raw, bytes) else str(raw)
            array = numpy.ascontiguousarray(dataset[()])
            send({"key": key, "id": name, "dtype": array.dtype.str, "shape": dataset.shape}, array.tobytes())
        else:
            send({"end": True})
except Exception as error:
    send({"error": str(error)[:300] or type(error).__name__})
"""
"""Reads an HDF5 file in a process of its own: of a damaged one the library may never come back, or crash."""
H5_PATIENCE: Final = 60.0
"""Seconds that a single array may take to come, from a slow disk."""
H5_BYTES_A_SECOND: Final = 2 << 20
"""Bytes of a file that are read in a second of a processor's time, unpacked, at the very least."""
LARGEST_ARRAY: Final = 8 << 30
"""Bytes of a protein's vectors: forty times those of titin's residues by the largest ESM-2."""


def _datasets_of(path: Path) -> Iterator[tuple[str, str, npt.NDArray[Any]]]:
    """Give the key, id and array of each dataset of an HDF5 file, read by another process."""
    try:
        seconds = 5 + path.stat().st_size // H5_BYTES_A_SECOND
        refuse_what_is_no_file(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    command = [sys.executable, "-c", _H5_READER, str(path.absolute()), str(LARGEST_ARRAY), str(seconds)]
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing) as child:
        try:
            while (about := _next_dataset(path, child)) is not None:
                yield about
        finally:
            child.kill()


def _next_dataset(path: Path, child: subprocess.Popen[bytes]) -> tuple[str, str, npt.NDArray[Any]] | None:
    """Return what the reading process sends next, or None at the end; it is killed where nothing comes in time."""
    assert child.stdout is not None
    late = threading.Event()

    def give_up() -> None:
        late.set()
        child.kill()

    watch = threading.Timer(H5_PATIENCE, give_up)
    watch.daemon = True
    watch.start()
    try:
        sizes = child.stdout.read(_SIZES.size)
        head, data = _SIZES.unpack(sizes) if len(sizes) == _SIZES.size else (0, 0)
        text = child.stdout.read(head)
        array = child.stdout.read(data)
    finally:
        watch.cancel()
    if late.is_set():
        raise unreadable(path, OSError(f"nothing came of it in {H5_PATIENCE:g} s: it is damaged"))
    if not text or len(array) < data:
        raise unreadable(path, OSError("it is damaged: reading it does not end, or crashes"))
    about = json.loads(text)
    if "error" in about:
        raise unreadable(path, OSError(about["error"]))
    if "fault" in about:
        raise DataError(f"{path}:/{about['key']}", about["fault"], about["fix"])
    if "end" in about:
        return None
    return about["key"], about["id"], np.frombuffer(array, dtype=about["dtype"]).reshape(about["shape"])
