"""Embedding on several devices: a process each, every one writing its own segments into the same cache."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import signal
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

from esmcls.cache.embed import embed_into, embed_items
from esmcls.cache.features import open_encoder
from esmcls.cache.prefetch import prefetch
from esmcls.cache.spec import EmbeddingSpec, sequence_key
from esmcls.cache.store import EmbeddingCache
from esmcls.cache.to_embed import EmbedProgress, EmbedReport, Item, Missing, Shard, Teller
from esmcls.errors import EsmclsError

PARCEL: Final = 64
"""Sequences that are sent to a process at once."""
WAIT_SECONDS: Final = 0.2


class DeviceError(EsmclsError):
    """A process of one device that failed."""

    def __init__(self, device: str, problem: str) -> None:
        self.device = device
        self.problem = problem
        super().__init__(f"device {device}: {problem}")


def embed_on_devices(
    cache: EmbeddingCache,
    encoder: str,
    sequences: Iterable[str],
    devices: Sequence[str],
    *,
    progress: EmbedProgress | None = None,
    shard: Shard = (1, 1),
) -> EmbedReport:
    """Embed what the cache does not hold yet, on one or more devices; see `embed_into`.

    Sequences are dealt by key, so that the same input and number of devices give the same batches.

    Parameters
    ----------
    cache : EmbeddingCache
        Its spec gives layers, precision and the strategy for long sequences.
    encoder : str
        Name or path, as `load_encoder` takes it.
    sequences : iterable of str
    devices : sequence of str
        Such as "cuda:0", "cuda:1".
    progress, shard
        As for `embed_into`.

    Raises
    ------
    DeviceError
        If a process fails; what the others have finished is sealed.
    """
    if len(devices) == 1:
        opened = open_encoder(cache.spec, encoder, devices[0])
        return embed_into(cache, opened, sequences, progress=progress, shard=shard)
    started = time.monotonic()
    items = Missing(cache, sequences, shard)
    with _Team(cache, encoder, devices, items.report, progress) as team:
        missing = prefetch(items, depth=2 * PARCEL * len(devices))
        with contextlib.closing(missing):
            for item in missing:
                team.deal(item)
            team.finish()
    cache.refresh()
    items.report.seconds = time.monotonic() - started
    return items.report


class _Team:
    """The processes, the parcels on their way to each, and the results that come back."""

    def __init__(
        self,
        cache: EmbeddingCache,
        encoder: str,
        devices: Sequence[str],
        report: EmbedReport,
        progress: EmbedProgress | None,
    ) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share the state of CUDA and HDF5
        self.devices = devices
        self.report = report
        self.tell = Teller(progress, report)
        self.tasks = [context.Queue(4) for _ in devices]
        self.results = context.Queue()
        self.stop = context.Event()
        self.parcels: list[list[Item]] = [[] for _ in devices]
        self.working = set(range(len(devices)))
        self.processes: list[BaseProcess] = [
            context.Process(
                target=_work,
                args=(number, device, encoder, cache.folder, cache.spec, self.tasks[number], self.results, self.stop),
                daemon=True,
            )
            for number, device in enumerate(devices)
        ]

    def __enter__(self) -> _Team:
        for process in self.processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()  # of no account for those that have finished; the others seal what they have
        for process, tasks in zip(self.processes, self.tasks, strict=True):
            process.join()
            tasks.cancel_join_thread()

    def deal(self, item: Item) -> None:
        """Give an item to the process that its key says."""
        number = int.from_bytes(sequence_key(item[1])[16:24], "big") % len(self.devices)  # other bits than shards use
        self.parcels[number].append(item)
        if len(self.parcels[number]) == PARCEL:
            self._send(number)

    def finish(self) -> None:
        """Send the rest and wait until all processes are done."""
        for number in range(len(self.devices)):
            self._send(number)
            self._send(number)  # an empty parcel is the end
        while self.working:
            self._listen(WAIT_SECONDS)
        self.tell(0, 0)

    def _send(self, number: int) -> None:
        while True:
            try:
                self.tasks[number].put(self.parcels[number], timeout=WAIT_SECONDS)
                break
            except queue.Full:
                self._listen(0.0)
        self.parcels[number] = []

    def _listen(self, seconds: float) -> None:
        """Take in what the processes say for a while."""
        try:
            number, kind, content = self.results.get(timeout=seconds) if seconds else self.results.get_nowait()
        except queue.Empty:
            return self._check_alive()
        if kind == "failed":
            raise DeviceError(self.devices[number], content)
        if kind == "bug":
            raise RuntimeError(f"in the process of device {self.devices[number]}:\n{content}")
        if kind == "done":
            self.working.discard(number)
            self.report.add(content)
        else:
            self.tell(*content)

    def _check_alive(self) -> None:
        for number in self.working:
            code = self.processes[number].exitcode
            if code is not None and self.results.empty():
                problem = f"its process ended with code {code}; run again, what is sealed stays"
                raise DeviceError(self.devices[number], problem)


def _work(
    number: int, device: str, encoder: str, folder: Path, spec: EmbeddingSpec, tasks: Any, results: Any, stop: Any
) -> None:
    """Embed the parcels that come, up to an empty one; runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the first process tells us

    def tell(residues: int, sequences: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        results.put((number, "progress", (residues, sequences)))

    try:
        with EmbeddingCache.open(folder, spec) as cache:
            opened = open_encoder(spec, encoder, device)
            report = embed_items(cache, opened, _received(tasks, stop), EmbedReport(), tell)
        results.put((number, "done", report))
    except KeyboardInterrupt:
        return
    except EsmclsError as error:
        results.put((number, "failed", str(error)))
    except BaseException:
        results.put((number, "bug", traceback.format_exc()))


def _received(tasks: Any, stop: Any) -> Iterator[Item]:
    """Yield what is sent, until an empty parcel or the sender has gone."""
    parent = multiprocessing.parent_process()
    while not stop.is_set() and (parent is None or parent.is_alive()):
        try:
            parcel = tasks.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            continue
        if not parcel:
            return
        yield from parcel
