"""The manifest of a model folder: what the model is, what it was fitted on, and what it reached."""

from __future__ import annotations

import dataclasses
import platform
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final, get_type_hints

import numpy as np

from esmcls.cache.spec import EmbeddingSpec
from esmcls.labels.kinds import GO_TERMS, ONE_LABEL
from esmcls.plain_values import from_plain
from esmcls.version import __version__

FORMAT = 1


def versions() -> dict[str, str]:
    """Return the versions of what the numbers of a model depend on."""
    import torch

    return {
        "esmcls": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


@dataclass(frozen=True)
class Manifest:
    """What a model is and where it is from.

    Parameters
    ----------
    head : str
        Registered name.
    config : dict
        Every knob, with what was chosen on validation.
    classes : tuple of str
    class_counts : tuple of int
        Training members of each class.
    spec : EmbeddingSpec
        Of the vectors; the encoder's digest is in it.
    pooling : str
    dataset_digest, split_digest : str
    seed : int
    validation : dict
        accuracy and macro_f1 on rows that were not fitted on, and n, their number; of terms fmax, fmax_C and so on.
    n_train : int
    setup : dict
        What was set aside (hold_out_families, calibration, false_acceptance: shares), whether validation rows were
        fitted on in the end (refit).
    versions : dict
    files : dict
        sha256 of each file of the folder; filled in by `save_model`.
    others : tuple of EmbeddingSpec
        Of an ensemble across encoders: what members read besides `spec`.
    many : bool
        Whether a protein has any number of the classes, which are Gene Ontology terms; their ontology lies beside.
    task : str
        The kind of task, where it is neither that nor one label a protein: see `kind`.
    """

    head: str
    config: dict[str, Any]
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]
    spec: EmbeddingSpec
    pooling: str
    dataset_digest: str
    split_digest: str
    seed: int
    validation: dict[str, float]
    n_train: int
    setup: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)
    files: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT
    others: tuple[EmbeddingSpec, ...] = ()
    many: bool = False
    task: str = ""

    @property
    def kind(self) -> str:
        """The kind of task, one of `esmcls.labels.kinds.KINDS` unless it is a newer esmcls's."""
        return self.task or (GO_TERMS if self.many else ONE_LABEL)

    @classmethod
    def flags(cls, kind: str) -> dict[str, Any]:
        """Return the entries of a manifest that say its kind of task, so that an older esmcls reads what it can."""
        return {"many": kind == GO_TERMS, "task": "" if kind in (ONE_LABEL, GO_TERMS) else kind}

    @property
    def specs(self) -> tuple[EmbeddingSpec, ...]:
        """All specs that vectors are needed of."""
        return (self.spec, *self.others)

    def to_json(self) -> dict[str, Any]:
        """Return what manifest.json holds."""
        flat = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        for name in ("many", "task"):
            if not flat[name]:
                del flat[name]  # so that an older esmcls reads models of one label
        return flat | {
            "spec": self.spec.to_json(),
            "classes": list(self.classes),
            "class_counts": list(self.class_counts),
            "others": [spec.to_json() for spec in self.others],
        }

    @classmethod
    def from_json(cls, flat: dict[str, Any]) -> Manifest:
        """Read what `to_json` gave.

        Raises
        ------
        ValueError
            If it is not that: a key is missing or unknown, or a value is of another kind or out of its range.
        """
        others = [EmbeddingSpec.from_json(spec) for spec in from_plain(list[Any], flat.get("others", []))]
        bare = {name: value for name, value in flat.items() if name not in ("spec", "others")}
        saved = vars(from_plain(_Saved, bare, strict=True))
        manifest = cls(**saved, spec=EmbeddingSpec.from_json(flat.get("spec")), others=tuple(others))
        n_classes = len(manifest.classes)
        if len(manifest.class_counts) not in (0, n_classes) or len(set(manifest.classes)) != n_classes:
            raise ValueError(f"not one count for each of {n_classes} different classes")
        for name in manifest.files:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
                raise ValueError(f"a file {name[:80]!r} outside the model's folder")
        return manifest


_OLDER_LACK: Final = ("many", "task")
"""What an older esmcls did not write."""
_HINTS: Final = get_type_hints(Manifest)
_Saved: Final = dataclasses.make_dataclass(
    "_Saved",
    [
        (entry.name, _HINTS[entry.name], entry.default if entry.name in _OLDER_LACK else field())
        for entry in dataclasses.fields(Manifest)
        if entry.name not in ("spec", "others")
    ],
)
"""What manifest.json holds besides specs, which have a version of their own."""
