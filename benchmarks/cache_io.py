"""Speed of the cache beside that of the disk it lies on, in one run.

    python benchmarks/cache_io.py --rows 1000000 --width 1280

Appends rows, opens the cache, reads it whole and in random batches; a plain file of the same bytes is written (fsync
every 64 MiB, as the cache does) and read on the same disk. "cold" is after the system was told to forget the pages
of the files (posix_fadvise), "warm" straight after. Writes benchmarks/results/cache_io.json.

    python benchmarks/cache_io.py --keys 1000000,10000000

What many actors leave, but with random keys and vectors of eight numbers: so many rows, in segments of 7,000, which is
a block of 2.1 million residues. They are sealed, opened, asked for all keys and a tenth more, joined, and merged with a
tenth more, each step in a process of its own whose CPU time and memory are measured. Writes results/cache_keys.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from esmcls.cache.index import INDEX, Keys
from esmcls.cache.segments import Column, new_name, write_segment
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.cache.to_embed import BLOCK_SEQUENCES
from esmcls.encoders.encoder import Embedded

BLOCK = 64 << 20
BATCH = 2048
RESULTS = Path(__file__).with_name("results") / "cache_io.json"
KEYS_RESULTS = RESULTS.with_name("cache_keys.json")
SEGMENT = 7_000
NARROW = EmbeddingSpec("benchmark", "0", (33,), "balanced", "fp32", "float16", ("mean",), 8)


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


def keys_at(first: int, stop: int) -> Keys:
    """Return keys, of which each number has its own, as random as the digests of sequences are."""
    return np.random.default_rng(first).integers(0, 256, (stop - first, 32), dtype=np.uint8)


def parts(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Give the bounds of segments."""
    return ((first, min(first + SEGMENT, stop)) for first in range(start, stop, SEGMENT))


def seal_all(folder: Path, start: int, stop: int) -> int:
    """Seal rows as actors do: a segment a block, nobody looking at what is there."""
    EmbeddingCache.open(folder, NARROW).close()
    for first, last in parts(start, stop):
        ones = np.ones(last - first, dtype=np.int64)
        vectors = np.ones((last - first, NARROW.width), dtype=np.float16)
        columns = {"key": keys_at(first, last), "length": ones, "inputs": ones, "mean": vectors}
        write_segment(folder / new_name(), NARROW, {name: Column.of(array) for name, array in columns.items()})
    return len(list(folder.glob("*.h5")))


def count(folder: Path, indexed: bool) -> int:
    """Open a cache and count its rows, with or without the index beside the segments."""
    if not indexed:
        (folder / INDEX).unlink(missing_ok=True)
    with EmbeddingCache.open(folder) as cache:
        return len(cache)


def count_missing(folder: Path, start: int, stop: int) -> int:
    """Go through keys as `Missing` does through sequences, and count those that the cache lacks."""
    seen: set[bytes] = set()
    missing = 0
    with EmbeddingCache.open(folder) as cache:
        for first, last in parts(start, stop):
            keys = keys_at(first, last)
            for place in range(0, len(keys), BLOCK_SEQUENCES):
                block = keys[place : place + BLOCK_SEQUENCES]
                seen.update(key.tobytes()[:16] for key in block)
                missing += int((cache._keys().find(block) < 0).sum())
    return missing


def tidy(folder: Path) -> int:
    """Join the segments; return how many there are then."""
    with EmbeddingCache.open(folder) as cache:
        cache.tidy()
        return cache.segments


def merge(folder: Path, other: Path) -> int:
    """Take over what another cache has."""
    with EmbeddingCache.open(folder) as cache:
        return cache.merge([other])


def metered(step: Callable[..., int], *facts: object) -> tuple[int, float, float, float]:
    """Return what a step gives, its CPU and wall seconds, and the memory of its process in GB."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = step(*facts)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return result, time.process_time() - cpu, time.perf_counter() - wall, memory


def simulate(folder: Path, rows: int) -> dict[str, dict[str, float]]:
    """Measure every step for so many rows."""
    home, other, more = folder / "home", folder / "other", rows // 10
    steps: dict[str, tuple[Callable[..., int], tuple[object, ...]]] = {
        "seal": (seal_all, (home, 0, rows)),
        "open without index": (count, (home, False)),
        "open": (count, (home, True)),
        "missing set": (count_missing, (home, 0, rows + more)),
        "join": (tidy, (home,)),
        "seal the other": (seal_all, (other, rows, rows + more)),
        "merge": (merge, (home, other)),
        "open joined": (count, (home, True)),
    }
    results = {}
    for name, (step, facts) in steps.items():
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            result, cpu, wall, memory = process.submit(metered, step, *facts).result()
        results[name] = {"result": result, "cpu_s": round(cpu, 2), "wall_s": round(wall, 2), "GB": round(memory, 3)}
        print(f"{rows:12,} {name:20} {result:12,} {cpu:8.1f} s of CPU {wall:8.1f} s {memory:6.2f} GB", flush=True)
    results["bytes"] = {"joined": sum(path.stat().st_size for path in home.glob("*.h5"))}
    return results


def simulate_all(keys: str, folder: Path | None) -> None:
    """Measure for several numbers of rows, and write after each."""
    results = json.loads(KEYS_RESULTS.read_text()) if KEYS_RESULTS.exists() else {}
    for rows in map(int, keys.split(",")):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            results[str(rows)] = simulate(Path(name), rows)
        results["command"] = f"python benchmarks/cache_io.py --keys {keys}"
        KEYS_RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def main() -> None:
    """Parse the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; default the system's temporary folder")
    parser.add_argument("--keys", metavar="N,N,…", help="measure what is done with keys alone, for so many rows")
    options = parser.parse_args()
    if options.keys:
        simulate_all(options.keys, options.folder)
        return
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
