"""How far a command is: a bar on a terminal or in a notebook, a line now and then in a log."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from esmcls_cli.options.speech import is_quiet, note

LOG_SECONDS = 30.0
"""How often progress is coloured in a line, where there is no terminal to show a bar on."""


class LogLines:
    """Lines of progress for a log (of Slurm, of a notebook): one every half minute, none on a terminal."""

    def __init__(self) -> None:
        self.wanted = not is_quiet() and not sys.stderr.isatty()
        self.last = time.monotonic()

    def tell(self, line: Callable[[], str]) -> None:
        """Write a line, if it is time for one."""
        if self.wanted and time.monotonic() - self.last >= LOG_SECONDS:
            self.last = time.monotonic()
            note(line())


@contextlib.contextmanager
def progress(residues: int | None) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with residues a second and the time left on stderr; in a log, a line every half minute."""
    from tqdm import tqdm

    disable = True if is_quiet() else None  # None: only on a terminal
    done, log = [0, 0], LogLines()
    whole = "" if residues is None else f" of {residues:,}"
    with tqdm(total=residues, unit="residue", unit_scale=True, disable=disable, dynamic_ncols=True) as bar:

        def advance(residues: int, sequences: int) -> None:
            bar.update(residues)
            done[:] = done[0] + residues, done[1] + sequences
            log.tell(lambda: f"{done[0]:,}{whole} residues, {done[1]:,} sequences")

        yield advance


def in_notebook() -> bool:
    """Return whether Python runs in a notebook, which shows bars though it has no terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def bar(unit: str = "sequence") -> Callable[[int, int], None]:
    """Return what shows a bar of what is done and how much there is: for `esmcls.embed(…, progress=bar())`.

    On a terminal and in a notebook it is a bar, in a log a line every half minute.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without widgets has a bar of signs
        from tqdm.auto import tqdm

    shown: list[Any] = []
    log = LogLines()
    log.wanted = log.wanted and not in_notebook()

    def advance(done: int, total: int) -> None:
        if not shown:
            shown.append(tqdm(total=total, unit=unit, disable=False if in_notebook() else None))
        shown[0].update(done - shown[0].n)
        log.tell(lambda: f"{done:,} of {total:,} {unit}s")
        if done >= total:
            shown.pop().close()

    return advance


_NOT_AVERAGED = ("step", "lr", "tokens", "sequences", "memory", "score", "scale", "skipped")
"""What an entry of training holds besides losses."""


class TrainingBar:
    """A bar of steps with the losses, running means of them, and tokens (or, where told, sequences) a second."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.done, self.begun = bar, 0.0, time.perf_counter()
        self.means: dict[str, float] = {}
        self.log, self.steps, self.skipped = LogLines(), 0, 0

    def start(self, steps: int) -> None:
        """Set how many steps there are to be."""
        self.bar.reset(total=steps)
        self.steps = steps
        self.begun = time.perf_counter()
        note(f"training for {steps:,} steps")

    def advance(self, entry: Mapping[str, float]) -> None:
        """Show a step's entry; the first of a resumed run says how many were done before."""
        if not self.means:
            self.bar.initial = self.bar.n = int(entry["step"]) - 1
        unit = "sequences" if "sequences" in entry else "tokens"
        self.done += entry.get(unit, 0.0)
        for name in (name for name in entry if name not in _NOT_AVERAGED):
            self.means[name] = 0.95 * self.means.get(name, entry[name]) + 0.05 * entry[name]
        shown = {name: f"{mean:.3f}" for name, mean in self.means.items()}
        self.skipped += int(entry.get("skipped", 0.0))
        if self.skipped:
            shown["skipped"] = f"{self.skipped:,}"
        speed = self.done / (time.perf_counter() - self.begun)
        self.bar.set_postfix(shown | {f"{unit}/s": f"{speed:,.0f}"}, refresh=False)
        self.bar.update()
        means = ", ".join(f"{name} {mean}" for name, mean in shown.items())
        self.log.tell(lambda: f"step {int(entry['step']):,} of {self.steps:,}: {means}")


@contextlib.contextmanager
def training_bar(*, shown: bool = True) -> Iterator[TrainingBar]:
    """Show a bar of training steps on stderr, where that is a terminal."""
    from tqdm import tqdm

    disable = True if is_quiet() or not shown else None
    with tqdm(unit="step", disable=disable, dynamic_ncols=True) as bar:
        yield TrainingBar(bar)
