"""The log of a run: a line a step, and no step twice, however often it was interrupted."""

from __future__ import annotations

import json
import time
from pathlib import Path

from esmcls.files import atomic_path

Entry = dict[str, float]
"""What is logged of a step."""


class LogFile:
    """A log that appends each step's entry and the seconds so far, one JSON object a line.

    A resumed run's first entry cuts off what the interrupted one had logged from there on, so no step stands twice.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.begun, self.fresh = path, time.perf_counter(), True

    def __call__(self, entry: Entry) -> None:
        if self.fresh:
            self._cut(int(entry["step"]))
            self.fresh = False
        timed = entry | {"seconds": round(time.perf_counter() - self.begun, 3)}
        with self.path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(timed) + "\n")

    def _cut(self, step: int) -> None:
        old = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(old[: step - 1]), encoding="utf-8")
