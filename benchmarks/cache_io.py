"""Speed of the cache beside that of the disk it lies on, in one run.

    python benchmarks/cache_io.py --rows 1000000 --width 1280

Appends rows, opens the cache, reads it whole and in random batches; a plain file of the same bytes is written (fsync
every 64 MiB, as the cache does) and read on the same disk. "cold" is after the system was told to forget the pages
of the files (posix_fadvise), "warm" straight after. Writes benchmarks/results/cache_io.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.encoders.encoder import Embedded

BLOCK = 64 << 20
BATCH = 2048
RESULTS = Path(__file__).with_name("results") / "cache_io.json"


def sequence(number: int) -> str:
    """Return a sequence of its own for each number."""
    return "M" + f"{number:07d}".translate(str.maketrans("0123456789", "ACDEFGHIKL")) * 8


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def forget(paths: Iterable[Path]) -> None:
    """Have the system drop the pages of files from its cache."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def append(folder: Path, spec: EmbeddingSpec, rows: int) -> None:
    """Fill a cache, a batch after the other, from float32 vectors as an encoder gives them."""
    vectors = np.random.default_rng(0).standard_normal((BATCH, spec.width)).astype(np.float32)
    with EmbeddingCache.open(folder, spec) as cache:
        for start in range(0, rows, BATCH):
            names = [sequence(number) for number in range(start, min(start + BATCH, rows))]
            ones = np.ones(len(names), dtype=np.int64)
            cache.append(names, Embedded({"mean": vectors[: len(names)]}, ones, ones))


def write_plain(path: Path, nbytes: int) -> None:
    """Write a file of random bytes, on the disk after every block."""
    block = np.random.default_rng(0).bytes(BLOCK)
    with open(path, "wb", buffering=0) as file:
        for start in range(0, nbytes, BLOCK):
            file.write(block[: min(BLOCK, nbytes - start)])
            os.fsync(file.fileno())


def read_plain(path: Path) -> None:
    """Read a file into memory that is touched for the first time, as the cache's reader does."""
    out = np.empty(path.stat().st_size, dtype=np.uint8)
    with open(path, "rb", buffering=0) as file:
        view = memoryview(out)
        while view:
            view = view[file.readinto(view[:BLOCK]) :]


def measure(folder: Path, rows: int, width: int) -> dict[str, float]:
    """Measure everything; keys end in their unit."""
    spec = EmbeddingSpec("benchmark", "0", (33,), "balanced", "fp32", "float16", ("mean",), width)
    nbytes, plain, home = rows * width * 2, folder / "plain", folder / "cache"
    result: dict[str, float] = {"rows": rows, "width": width, "bytes": nbytes}
    result["disk_write_MB_s"] = nbytes / 1e6 / timed(lambda: write_plain(plain, nbytes))
    forget([plain])
    result["disk_read_cold_MB_s"] = nbytes / 1e6 / timed(lambda: read_plain(plain))
    result["disk_read_warm_MB_s"] = nbytes / 1e6 / timed(lambda: read_plain(plain))
    plain.unlink()
    result["append_MB_s"] = nbytes / 1e6 / timed(lambda: append(home, spec, rows))
    names = [sequence(number) for number in range(rows)]
    for state in ("cold", "warm"):
        if state == "cold":
            forget(home.glob("*.h5"))
        started = time.perf_counter()
        with EmbeddingCache.open(home, in_memory=False) as cache:
            result[f"open_{state}_s"] = time.perf_counter() - started
            result[f"count_{state}_s"] = timed(lambda cache=cache: len(cache))  # sorts the keys, too
            result["segments"] = cache.segments
            result[f"find_all_{state}_s"] = timed(lambda cache=cache: cache.rows(names))
            places = cache.rows(names)
            whole = timed(lambda cache=cache, places=places: cache._read("mean", places))
            result[f"read_whole_{state}_MB_s"] = nbytes / 1e6 / whole
    chance = np.random.default_rng(1)
    with EmbeddingCache.open(home, in_memory=False) as cache:
        batches = [[names[row] for row in chance.integers(0, rows, 256)] for _ in range(20)]
        seconds = timed(lambda: [cache.read(batch) for batch in batches])
        result["random_batch_of_256_from_disk_ms"] = seconds / len(batches) * 1e3
    with EmbeddingCache.open(home, in_memory=True) as cache:
        result["load_into_memory_s"] = timed(lambda: cache.read(batches[0]))
        seconds = timed(lambda: [cache.read(batch) for batch in batches])
        result["random_batch_of_256_in_memory_ms"] = seconds / len(batches) * 1e3
    return result


def main() -> None:
    """Parse the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; default the system's temporary folder")
    options = parser.parse_args()
    needed = int(options.rows * options.width * 2 * 1.2)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if shutil.disk_usage(folder).free < needed:
            sys.exit(f"{needed / 1e9:.1f} GB are needed in {folder}; give another --folder, or fewer --rows")
        result = measure(Path(folder), options.rows, options.width)
    for name, value in result.items():
        print(f"{name:36} {value:14,.3f}" if value < 1e4 else f"{name:36} {value:14,.0f}")
    RESULTS.parent.mkdir(exist_ok=True)
    command = f"python benchmarks/cache_io.py --rows {options.rows} --width {options.width}"
    RESULTS.write_text(json.dumps({"command": command, **result}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
