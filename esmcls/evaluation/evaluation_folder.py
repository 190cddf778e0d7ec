"""Where evaluations lie: a folder each, called by its model unless the user says otherwise.

reports/evaluate-<name>/evaluation.json     what was measured: a report is replaced by one of the same alone
reports/evaluate-<name>/metrics.json        the numbers; beside them the page, its tables and figures
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from esmcls.evaluation.comparison_folder import read_state, refuse_another
from esmcls.plain_values import write_json
from esmcls.workspace.workspace import Workspace

PREFIX: Final = "evaluate-"
STATE: Final = "evaluation.json"


def open_evaluation(workspace: Workspace, settings: str, default: str, name: str = "", replace: bool = False) -> Path:
    """Return the folder of an evaluation, made and called by what it is of.

    Parameters
    ----------
    workspace : Workspace
    settings : str
        What identifies the model and what it is measured on.
    default : str
        The name where the user gives none; where it stands for another evaluation, a number is put behind.
    name : str
        As its user calls it.
    replace : bool
        Take the folder of that name, whatever it holds.

    Raises
    ------
    UsageError
        If the name is no plain one, or that of another evaluation.
    """
    states = {
        path.name.removeprefix(PREFIX): read_state(path / STATE)
        for path in sorted(workspace.reports.glob(f"{PREFIX}*"))
        if path.is_dir()
    }
    if name:
        workspace.model_folder(name)  # which refuses what is no plain name
        if not replace:
            refuse_another("an evaluation", name, states, settings)
        chosen = name
    else:
        names = [default, *(f"{default}-{number}" for number in range(2, len(states) + 3))]
        chosen = next(
            candidate
            for candidate in names
            if replace or candidate not in states or states[candidate].get("settings") == settings
        )
    folder = workspace.reports / f"{PREFIX}{chosen}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / STATE, {"format": 1, "name": chosen, "settings": settings})
    return folder
