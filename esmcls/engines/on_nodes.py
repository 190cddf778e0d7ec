"""What runs on the nodes of a cluster: actors that do jobs, and answers to questions."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from esmcls.errors import EsmclsError
from esmcls.version import __version__

Job = TypeVar("Job")
Result = TypeVar("Result")


class ClusterError(EsmclsError):
    """A cluster that cannot be reached, or cannot do the work."""


@dataclass(frozen=True)
class Home:
    """What every node must have as this process has it: the folder we are in, and esmcls."""

    folder: Path = field(default_factory=Path.cwd)
    version: str = __version__

    def enter(self) -> None:
        """Go into the folder.

        Raises
        ------
        ClusterError
            If it is not there, or esmcls is another.
        """
        node = os.uname().nodename if hasattr(os, "uname") else "a node"
        if self.version != __version__:
            raise ClusterError(f"{node} has esmcls {__version__}, not {self.version}; install the same on every node")
        try:
            os.chdir(self.folder)
        except OSError:
            raise ClusterError(
                f"{node} has no folder {self.folder}; work in a folder that all nodes of the cluster share"
            ) from None


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What came of a job: its result, or the line that says what went wrong; errors of ours cannot travel."""

    result: Result | None = None
    problem: str = ""


def answer_here(home: Home, question: Callable[[], Result]) -> Outcome[Result]:
    """Answer a question; runs on a node."""
    try:
        home.enter()
        return Outcome(question())
    except EsmclsError as error:
        return Outcome(problem=str(error))


class Actor(Generic[Job, Result]):
    """Runs in a process of a node: opens what does the jobs when first asked, and then does one after another."""

    def __init__(self, home: Home, opener: Callable[[], Callable[[Job], Result]]) -> None:
        self.home = home
        self.opener = opener
        self.do: Callable[[Job], Result] | None = None

    def ready(self) -> Outcome[Result]:
        """Open."""
        try:
            self._opened()
        except EsmclsError as error:
            return Outcome(problem=str(error))
        return Outcome()

    def work(self, job: Job) -> Outcome[Result]:
        """Do a job; Ray may have started this process anew since it was ready."""
        try:
            return Outcome(self._opened()(job))
        except EsmclsError as error:
            return Outcome(problem=str(error))

    def _opened(self) -> Callable[[Job], Result]:
        if self.do is None:
            self.home.enter()
            self.do = self.opener()
        return self.do
