"""Where comparisons lie: a folder each, which names the models that are its own, and one that is the latest.

reports/compare-<name>/comparison.json      what was compared, and the models that this comparison made
reports/compare-<name>/answers/             what each model said
reports/compare                             a link to the latest that has a report; a copy where there are no links
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from esmcls.errors import FolderError, UsageError
from esmcls.files import remove_left_overs, temporary_beside
from esmcls.models.recipe import model_digest
from esmcls.plain_values import read_json, write_json
from esmcls.tasks.comparing import Answers
from esmcls.tasks.task import AnyTask
from esmcls.workspace.workspace import Workspace

LATEST: Final = "compare"
STATE: Final = "comparison.json"
COPY: Final = "copy_of"
"""What the state of a copy holds: there are file systems without links."""


@dataclass(frozen=True)
class ComparisonFolder:
    """The folder of one comparison.

    Parameters
    ----------
    workspace : Workspace
    name : str
    named : bool
        Whether its user chose the name: then that of each of its models ends in it.
    replace : bool
        Whether models are replaced that came from elsewhere.
    models : dict
        Name of a model that it made -> the digest of its folder; empty of one that it is about to make.
    reserved : frozenset of str
        Names that its models cannot have.
    kept_elsewhere : bool
        Whether another process writes what is known of it.
    """

    workspace: Workspace
    name: str
    settings: str
    named: bool = False
    replace: bool = False
    models: dict[str, str] = field(default_factory=dict)
    reserved: frozenset[str] = frozenset()
    kept_elsewhere: bool = False

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.workspace.reports / f"{LATEST}-{self.name}"

    @property
    def answers(self) -> Path:
        """The folder of what models said."""
        return self.folder / "answers"

    def model_name(
        self, head: str, key: Callable[[str], str], task: AnyTask, alike: Callable[[Path], bool] = lambda folder: False
    ) -> str:
        """Return the name of the model to be made of a head: one that nothing has, or the same settings made.

        Parameters
        ----------
        head : str
            As the model is called where nothing stands in the way.
        key : callable
            From the name of a model to what identifies all that makes it.
        task : Task
        alike : callable
            From the folder of a model to whether it is the one that is to be made, whoever made it.

        Raises
        ------
        UsageError
            If the user named the comparison and a model of that name is from elsewhere.
        """
        for name in self._names(head):
            if name not in self.reserved and alike(self.workspace.model_folder(name)):
                return name
            if name not in self.reserved and (self.replace or self._is_free(name, key(name), task)):
                if self.models.get(name) != model_digest(self.workspace.model_folder(name)):
                    self.made(name, "")
                return name
            if self.named:
                problem = f"a model {name} is there that other settings made"
                raise UsageError(f"{problem}; give the comparison another --name, or replace what is there: --replace")
        raise AssertionError("there is always another name")

    def _names(self, head: str) -> Iterator[str]:
        if not self.named:
            yield head
        yield f"{head}-{self.name}"
        number = 2
        while True:
            yield f"{head}-{self.name}-{number}"
            number += 1

    def _is_free(self, name: str, key: str, task: AnyTask) -> bool:
        folder = self.workspace.model_folder(name)
        is_ours = name in self.models and self.models[name] in ("", model_digest(folder))
        return is_ours or not folder.exists() or kept_answers(self.workspace, task, name, key, folder) is not None

    def made(self, name: str, digest: str) -> None:
        """Remember a model as this comparison's own, by the digest of its folder."""
        self.models[name] = digest
        self.save()

    def save(self) -> None:
        """Write what is known of it."""
        if self.kept_elsewhere:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {"format": 1, "name": self.name, "settings": self.settings, "named": self.named, "models": self.models}
        try:
            write_json(self.folder / STATE, state)
        except OSError:
            with contextlib.suppress(OSError):  # what is in it stays
                self.folder.rmdir()
            raise

    def make_latest(self) -> None:
        """Have reports/compare stand for this comparison."""
        latest = self.folder.with_name(LATEST)
        remove_left_overs(latest.parent)
        temporary = temporary_beside(latest)
        try:
            temporary.symlink_to(self.folder.name, target_is_directory=True)
        except OSError:  # a file system, or a Windows, without links
            shutil.copytree(self.folder, temporary, ignore=shutil.ignore_patterns("folds"))
            write_json(temporary / STATE, {COPY: self.name})
        if latest.is_dir() and not latest.is_symlink():
            shutil.rmtree(latest)
        os.replace(temporary, latest)


def kept_answers(workspace: Workspace, task: AnyTask, name: str, key: str, model: Path) -> Answers | None:
    """Return what a comparison of this workspace kept of a model: of this key, its folder as it was then."""
    digest = model_digest(model)
    for place in comparisons(workspace):
        answers: Answers | None = task.load_answers(place / "answers" / f"{name}.safetensors", key)
        if answers is not None and answers.about["model"] == digest:
            return answers
    return None


def comparisons(workspace: Workspace) -> list[Path]:
    """Return the folders of all comparisons, sorted."""
    return sorted(path for path in workspace.reports.glob(f"{LATEST}-*") if path.is_dir())


def open_comparison(
    workspace: Workspace, settings: str, name: str = "", replace: bool = False, reserved: frozenset[str] = frozenset()
) -> ComparisonFolder:
    """Return the folder of a comparison: that of the same settings, if there is one, else a new one.

    Parameters
    ----------
    workspace : Workspace
    settings : str
        What identifies what is compared.
    name : str
        As its user calls it; default the next number.
    replace : bool
        Take the folder of that name, by default that of the latest, whatever it holds.
    reserved : frozenset of str
        Names that its models cannot have.

    Raises
    ------
    UsageError
        If the name is no plain one, or that of a comparison with other settings.
    """
    _move_old(workspace)
    states = {path.name.removeprefix(f"{LATEST}-"): read_state(path / STATE) for path in comparisons(workspace)}
    if name:
        workspace.model_folder(name)  # which refuses what is no plain name
        if not replace:
            refuse_another("a comparison", name, states, settings)
        models = _models(states.get(name, {}))
        return ComparisonFolder(workspace, name, settings, True, replace, models, reserved)
    again = [known for known, state in states.items() if state.get("settings") == settings and not state.get("named")]
    latest = (workspace.reports / LATEST).resolve().name.removeprefix(f"{LATEST}-")
    number = next(str(number) for number in range(1, len(states) + 2) if str(number) not in states)
    chosen = again[-1] if again else latest if replace and latest in states else number
    named = bool(states.get(chosen, {}).get("named"))
    return ComparisonFolder(workspace, chosen, settings, named, replace, _models(states.get(chosen, {})), reserved)


def refuse_another(what: str, name: str, states: Mapping[str, Mapping[str, Any]], settings: str) -> None:
    """Refuse a name that stands for what other settings made.

    Raises
    ------
    UsageError
        If it does.
    """
    if name in states and states[name].get("settings") != settings:
        problem = f"{what} {name} of other settings is there"
        raise UsageError(f"{problem}; give another --name, or replace it: --replace")


def _models(state: Mapping[str, Any]) -> dict[str, str]:
    models = state.get("models")
    return dict(models) if isinstance(models, dict) else {}


def read_state(path: Path) -> dict[str, Any]:
    """Return what is known of a report: nothing where its state is missing or damaged."""
    try:
        state = read_json(path)
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _move_old(workspace: Workspace) -> None:
    """Give the report of an older esmcls, which knew but one, a name of its own."""
    latest = workspace.reports / LATEST
    if not latest.exists() or latest.is_symlink() or COPY in read_state(latest / STATE):
        return
    if not latest.is_dir():
        raise FolderError(latest, "is a file, where reports of comparisons go", "move it away")
    there = {path.name for path in comparisons(workspace)}
    free = (f"{LATEST}-{number}" for number in range(1, len(there) + 2))
    latest.rename(latest.with_name(next(name for name in free if name not in there)))
