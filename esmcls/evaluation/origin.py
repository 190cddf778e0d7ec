"""Where the numbers of a report are from: the data set, its date and split, versions, the machine. No clock is read."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from esmcls.encoders.devices import processor_name
from esmcls.errors import UsageError
from esmcls.heads.alignment import search as engines
from esmcls.labels.kinds import NUMBER
from esmcls.models.manifest import versions
from esmcls.programs import run_program
from esmcls.reporting.phrases import counted
from esmcls.reporting.results import Machine, Origin
from esmcls.workspace.workspace import Workspace

SHOWN: Final = 3
"""Files of a data set that are named."""
_SPLITS: Final = {
    "given": "as the data set has it",
    "stratified": "drawn within each class",
    "random": "drawn at random",
    "cluster": "drawn by clusters, none of which is in two parts",
}


def check_date(text: str) -> str:
    """Return a date as it is given, YYYY-MM-DD.

    Raises
    ------
    UsageError
        If it is no such date.
    """
    try:
        return datetime.date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        raise UsageError(f"date {text!r}: give year, month and day, as 2026-11-29") from None


def origin(workspace: Workspace | None, date: str = "", folds: int = 0) -> Origin:
    """Return what is known of where the numbers are from.

    Parameters
    ----------
    workspace : Workspace or None
        Whose data set it is.
    date : str
        Of the report; default that of the data set's files, if they are as they were when they were read.
    folds : int
        Of a cross-validation; 0 without one.
    """
    state: Mapping[str, Any] = {} if workspace is None else workspace.state()
    files = [Path(file["path"]) for file in (state.get("dataset") or {}).get("files", []) if _unchanged(file)]
    named = [Path(file["path"]).name for file in (state.get("dataset") or {}).get("files", [])]
    return Origin(
        data=_named(named),
        date=check_date(date) or (_date_of(files) if len(files) == len(named) else ""),
        split=_split(state.get("split"), folds, (state.get("dataset") or {}).get("task") == NUMBER),
        versions=versions() | _engine(),
    )


def _unchanged(file: Mapping[str, Any]) -> bool:
    path = Path(str(file.get("path", "")))
    return path.is_file() and path.stat().st_size == file.get("bytes")


def _named(names: list[str]) -> str:
    more = f" and {counted(len(names) - SHOWN, 'more file')}" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _date_of(files: list[Path]) -> str:
    """Return the day on which the last of some files was changed, in UTC; nothing without files."""
    latest = max((path.stat().st_mtime for path in files), default=None)
    return "" if latest is None else datetime.datetime.fromtimestamp(latest, datetime.timezone.utc).date().isoformat()


def _split(split: Mapping[str, Any] | None, folds: int, numbers: bool = False) -> str:
    """Say how the parts came about; of numbers, families stand for tenths of them."""
    if not split:
        return ""
    how = _SPLITS.get(str(split["kind"]), str(split["kind"]))
    how = how.replace("each class", "each tenth of the numbers") if numbers else how
    if split.get("fractions"):
        train, validation, test = (f"{100 * share:g} %" for share in split["fractions"])
        how += f": {train} train, {validation} validation, {test} test (seed {split['seed']})"
    elif split.get("drawn_validation"):
        how += f"; the validation part was drawn from train (seed {split['seed']})"
    return how + (f"; train and validation were then divided into {folds} folds" if folds else "")


def _engine() -> dict[str, str]:
    """Return the version of MMseqs2, where it is installed."""
    program = shutil.which(engines.PROGRAM)
    if program is None:
        return {}
    code, output, _ = run_program([program, "version"])
    return {} if code else {"MMseqs2": output.strip()}


def machine() -> Machine:
    """Return the processor and its cores."""
    if hasattr(os, "sched_getaffinity"):
        return Machine(processor_name(), len(os.sched_getaffinity(0)))
    return Machine(processor_name(), os.cpu_count() or 1)
