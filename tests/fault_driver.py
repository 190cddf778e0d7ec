"""Runs that die: at each single file operation in turn, or by SIGKILL at a random moment. Prints JSON counts.

    python tests/fault_driver.py crash FOLDER        a child a file operation, each with a folder of its own
    python tests/fault_driver.py first FOLDER        a first `esmcls embed` each, and a second that mends what it left
    python tests/fault_driver.py kill FOLDER 100     so many children killed, each going on where the last one died

A process of its own, because a fork must not inherit the threads of a test runner.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from toy_encoder import ToyEncoder, letters, stacked

import esmcls.cache.steady_file as steady_module
import esmcls.cache.store as cache_module
from esmcls.cache.embed import embed_into
from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.workspace.workspace import Workspace
from esmcls_cli.main import main

SPEC = EmbeddingSpec.of(ToyEncoder(), poolings=("mean", "chunk"))
CRASHED = 9


def run(folder: Path, sequences: list[str], seconds: float = 0.0) -> None:
    """Embed, a segment a batch, compacting beyond 3 segments."""
    cache_module.SEAL_BYTES, cache_module.MOST_SEGMENTS = 1, 3  # type: ignore[misc]
    with EmbeddingCache.open(folder, SPEC) as cache:
        embed_into(cache, ToyEncoder(seconds=seconds), sequences)


class Bomb:
    """Counts file operations and ends the process at one of them, half done where it is a write."""

    def __init__(self, at: int, log: Path) -> None:
        self.at, self.count, self.log = at, 0, log

    def tick(self, half: Callable[[], object] = lambda: None) -> None:
        """Count one operation; at the chosen one do half of it and die."""
        self.count += 1
        if self.count == self.at:
            half()
            os._exit(CRASHED)

    def plant(self) -> None:
        """Wrap every operation on files that the cache uses."""
        bomb = self

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                view = memoryview(data).cast("B")
                bomb.tick(lambda: io.FileIO.write(self, view[: len(view) // 2]))
                return super().write(data)

            def truncate(self, size: int | None = None) -> int:
                bomb.tick()
                return super().truncate(size)

        def opened(path: Path, mode: str, buffering: int = -1) -> Any:
            if mode == "rb":
                return open(path, mode)
            bomb.tick()
            return Raw(path, "x+")

        steady_module.open = opened  # type: ignore[attr-defined]
        for owner, name in ((os, "replace"), (os, "fsync"), (Path, "unlink"), (Path, "mkdir"), (Path, "write_text")):
            setattr(owner, name, self.wrapped(getattr(owner, name)))
        flush = EmbeddingCache.flush

        def logged(cache: EmbeddingCache) -> None:
            flush(cache)
            os.write(log, b"%d\n" % len(cache))  # so many rows are sealed now

        log = os.open(self.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        EmbeddingCache.flush = logged  # type: ignore[method-assign]

    def wrapped(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        """Count an operation before it is done."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            return operation(*args, **kwargs)

        return counted


def in_child(work: Callable[[], object]) -> int:
    """Do something in a child; return its exit code, 1 after an exception."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def crash_everywhere(root: Path, work: Callable[[Path], object]) -> int:
    """Crash at operation 1, 2, 3 … until a run comes through; return how many crashed."""
    at = 0
    while True:
        at += 1
        folder = root / f"{at:04d}"
        folder.mkdir()
        bomb = Bomb(at, folder / "sealed.log")
        code = in_child(lambda bomb=bomb, folder=folder: (bomb.plant(), work(folder)))  # type: ignore[misc]
        if code == 0:
            return at - 1
        assert code == CRASHED, code


def embed_command(folder: Path, table: Path) -> None:
    """Run `esmcls embed`, as a first time."""
    words = ["embed", str(table), "--encoder", "composition", "-w", str(folder / "w"), "--quiet"]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        assert main(words) == 0


def mended(folder: Path, table: Path) -> None:
    """Embed once more, and look whether everything is there and nothing besides."""
    embed_command(folder, table)
    workspace = Workspace.open(folder / "w")
    assert len(workspace.dataset.ids) == 12
    with workspace.latest_cache() as cache:
        assert cache.missing(workspace.dataset.sequences) == []
    left = [path.name for path in (folder / "w").rglob(".*")]
    assert left == [], left


def first_embeds(root: Path) -> dict[str, int]:
    """Crash a first embed everywhere; count those that a second one did not mend."""
    for module in ("torch", "polars", "esmcls.workspace.embed_in_workspace", "esmcls_cli.embed"):
        importlib.import_module(module)  # once for all children; none of them has a thread yet
    table = root.parent / "set.csv"
    rows = [f"p{number},{letters(number)}ACDEFGHIKL,{'ab'[number % 2]}" for number in range(12)]
    table.write_text("\n".join(["id,sequence,label", *rows]) + "\n")
    operations = crash_everywhere(root, lambda folder: embed_command(folder, table))
    broken = sum(in_child(lambda folder=folder: mended(folder, table)) for folder in sorted(root.iterdir()))  # type: ignore[misc]
    return {"operations": operations, "broken": broken}


def kill_at_random(root: Path, kills: int, sequences: list[str], seed: int = 0) -> dict[str, int]:
    """Kill and go on; after each kill nothing that was sealed may be lost or changed."""
    chance, sealed, folder, runs = random.Random(seed), set[str](), root / "0", 0
    counts = {"kills": 0, "rows_sealed": 0, "lost": 0, "changed": 0, "finished": 0}
    while counts["kills"] < kills:
        child = os.fork()
        if child == 0:
            try:
                run(folder, sequences, seconds=0.001)
            finally:
                os._exit(0 if sys.exc_info()[0] is None else 1)
        time.sleep(chance.random() * 0.2)
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        counts["kills"] += status != 0
        if not (folder / "spec.json").exists():
            continue
        with EmbeddingCache.open(folder) as cache:
            absent = set(cache.missing(sequences))
            there = [sequence for row, sequence in enumerate(sequences) if row not in absent]
            counts["lost"] += len(sealed - set(there))
            counts["changed"] += int((cache.read(there) != stacked(there)).any(axis=1).sum())
            chunks = cache.read_chunks(there)
            counts["changed"] += sum(not np.array_equal(a[0], b) for a, b in zip(chunks, stacked(there), strict=True))
            counts["rows_sealed"] += len(there)
            cache.verify()
        sealed = set(there)
        if not absent:
            counts["finished"] += 1
            runs, sealed = runs + 1, set()
            folder = root / str(runs)
    return counts


if __name__ == "__main__":
    mode, root = sys.argv[1], Path(sys.argv[2])
    if mode == "crash":
        names = [letters(number) for number in range(12)]
        print(json.dumps({"operations": crash_everywhere(root, lambda folder: run(folder / "cache", names))}))
    elif mode == "first":
        print(json.dumps(first_embeds(root)))
    else:
        print(json.dumps(kill_at_random(root, int(sys.argv[3]), [letters(number) for number in range(240)])))
