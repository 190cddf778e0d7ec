"""The models that the page can ask, each loaded when it is first asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from esmcls.errors import EsmclsError, UnknownNameError
from esmcls.files import STATE
from esmcls.models.model import Model
from esmcls.models.predict import open_model
from esmcls.scanning.folder import find_scanner
from esmcls.workspace.workspace import Workspace

KEPT: Final = 2
"""Models that are held in memory at a time."""


@dataclass
class OpenModels:
    """Models by the names that the page shows.

    Parameters
    ----------
    workspace : Path
    names : list of str
        Of models of the workspace, model folders or `hf:OWNER/NAME`; the first is asked unless another is chosen.
    device : str
    """

    workspace: Path
    names: list[str]
    device: str = "cpu"
    _open: dict[str, Model] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, workspace: Path, named: Sequence[str] = (), device: str = "cpu") -> OpenModels:
        """Return the models that are named, else all of a workspace, its best first.

        Raises
        ------
        WorkspaceError
            If there is no workspace or no model in it, and none is named.
        """
        if named:
            models = cls(workspace, list(dict.fromkeys(named)), device)
            models.get(models.names[0])  # what cannot be opened is told before the page is there
            return models
        place = Workspace.open(workspace)
        best = place.best_model().name
        others = (model.name for model in place.models() if model.name != best)
        return cls(workspace, [best, *others], device)

    @property
    def has_dataset(self) -> bool:
        """Whether the workspace has proteins for a map."""
        return (self.workspace / STATE).is_file() and Workspace.open(self.workspace).has_dataset

    @property
    def has_scanner(self) -> bool:
        """Whether the workspace has a scanner to find domains by."""
        try:
            find_scanner(self.workspace)
        except EsmclsError:
            return False
        return True

    def get(self, name: str) -> Model:
        """Return a model; the one that was not asked for longest is let go.

        Raises
        ------
        UnknownNameError
            If it is none of the page's: programs may ask for any name.
        """
        if name not in self.names:
            raise UnknownNameError("model", name, self.names)
        model = self._open.pop(name, None) or open_model(self.workspace, name, device=self.device)
        self._open[name] = model
        while len(self._open) > KEPT:
            del self._open[next(iter(self._open))]
        return model
