"""Work beside the main thread: what comes next is read, and what is done is written, while it computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

_WAIT_SECONDS = 0.1
"""How often a waiting reader looks whether anybody still wants its items."""


def prefetch(items: Iterable[T], depth: int = 4) -> Generator[T, None, None]:
    """Yield `items`, read by a thread that is at most `depth` items ahead; its exception is raised here.

    Examples
    --------
    >>> list(prefetch(iter("abc")))
    ['a', 'b', 'c']
    """
    ready: queue.Queue[tuple[list[T], BaseException | None]] = queue.Queue(depth)
    left = threading.Event()

    def hand_over(parcel: tuple[list[T], BaseException | None]) -> bool:
        while not left.is_set():
            try:
                ready.put(parcel, timeout=_WAIT_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for item in items:
                if not hand_over(([item], None)):
                    return
            hand_over(([], None))
        except BaseException as error:
            hand_over(([], error))

    threading.Thread(target=read, name="esmcls-reader", daemon=True).start()  # may wait for standard input for ever
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if not item:
                return
            yield item[0]
    finally:
        left.set()


class BackgroundWriter(Generic[T]):
    """Passes items to a function in a thread, in order; leaving the block waits until all are passed.

    After an exception of the function, later items are dropped, and the next `put` or the end of the block raises it.

    Parameters
    ----------
    write : callable
        Takes one item.
    depth : int
        Items that may wait; `put` waits beyond.

    Examples
    --------
    >>> there = []
    >>> with BackgroundWriter(there.append) as writer:
    ...     writer.put(1)
    ...     writer.put(2)
    >>> there
    [1, 2]
    """

    def __init__(self, write: Callable[[T], object], depth: int = 4) -> None:
        self.write = write
        self.error: BaseException | None = None
        self.waiting: queue.Queue[list[T]] = queue.Queue(depth)
        self.thread = threading.Thread(target=self._run, name="esmcls-writer", daemon=True)

    def _run(self) -> None:
        while item := self.waiting.get():
            try:
                if self.error is None:
                    self.write(item[0])
            except BaseException as error:
                self.error = error

    def put(self, item: T) -> None:
        """Hand over an item; wait if too many are waiting."""
        if self.error is not None:
            raise self.error
        self.waiting.put([item])

    def __enter__(self) -> BackgroundWriter[T]:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.waiting.put([])
        self.thread.join()
        if self.error is not None and kind is None:
            raise self.error
