"""Paths of 0.1.0, whose modules stood in one folder: for one version each leads to where its module is, and says so.

An old path where nothing is now (`esmcls.allotment`) is found by `MovedFinder`. An old path that is a room's name now
(`esmcls.cache`) has the old module's names through `hand_on_names`, which the room's `__init__` calls.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.abc import Loader
else:
    Loader = object  # the import of that class takes longer than all of `import esmcls` else

MOVED: Final = {
    "about": "info",
    "accretion": "labels.information_accretion",
    "adapters": "encoders.adapters",
    "allotment": "datasets.sampling_plan",
    "alphabet": "encoders.alphabet",
    "annotations": "reading.joined.term_tables",
    "answers": "tasks.one_label.answers",
    "artifact": "models.folder",
    "assessment": "evaluation.assess",
    "background": "cache.prefetch",
    "cache": "cache.store",
    "calibration": "metrics.calibration",
    "classifier": "models.model",
    "clusters": "datasets.clusters",
    "columns": "reading.record_columns",
    "comparison": "tasks.one_label.comparison",
    "confidence": "tasks.one_label.confidence",
    "contest": "evaluation.compare",
    "contestants": "evaluation.fit_and_ask",
    "corpus": "pretraining.corpus",
    "curation": "datasets.sampling",
    "curves": "training.log_figure",
    "dataset": "datasets.dataset",
    "devices": "encoders.devices",
    "download": "encoders.sources.fair_esm",
    "drawing": "reporting.figure_style",
    "embedding": "cache.embed",
    "encoder": "encoders.encoder",
    "ensembling": "models.combine",
    "esm2": "encoders.esm2",
    "estimators": "models.estimators",
    "evaluation": "tasks.one_label.evaluation",
    "exporting": "cache.exchange.export_vectors",
    "fasta": "reading.fasta",
    "features": "cache.features",
    "finetuning": "finetuning.task",
    "fitting": "models.fit",
    "heads": "heads.registry",
    "heads.boosting": "heads.trees.boosting",
    "heads.bounds": "heads.neighbours.int8_bounds",
    "heads.candidates": "heads.trees.candidates",
    "heads.combining": "heads.ensemble.combining",
    "heads.common": "heads.blocks",
    "heads.costs": "heads.trees.time_estimate",
    "heads.descent": "heads.layers.descent",
    "heads.ensemble": "heads.ensemble.ensemble",
    "heads.evidence": "heads.trees.candidates",
    "heads.homology": "heads.alignment.homology",
    "heads.knn": "heads.neighbours.knn",
    "heads.lightgbm": "heads.trees.lightgbm",
    "heads.linear": "heads.layers.linear",
    "heads.members": "heads.ensemble.members",
    "heads.mlp": "heads.layers.mlp",
    "heads.network": "heads.layers.network",
    "heads.ranker": "heads.trees.ranker",
    "heads.ridge": "heads.layers.ridge",
    "heads.search": "heads.neighbours.search",
    "heads.votes": "heads.neighbours.votes",
    "held": "tasks.one_label.validation_answers",
    "homology_search": "heads.alignment.search",
    "inference": "encoders.inference",
    "intake": "workspace.intake",
    "interop": "cache.exchange.import_vectors",
    "jobs": "workspace.embed_in_workspace",
    "keeping": "evaluation.fit_and_ask",
    "kmer": "encoders.kmer",
    "labels": "labels.labels",
    "lineup": "evaluation.plan",
    "losses": "training.losses",
    "manifest": "models.manifest",
    "metrics": "metrics.classification",
    "missing": "cache.to_embed",
    "mmseqs": "datasets.clusters",
    "model": "encoders.model",
    "objectives": "pretraining.objectives",
    "ontology": "labels.ontology",
    "optimizers": "training.optimizers",
    "overview": "datasets.statistics_page",
    "packing": "finetuning.packing",
    "parallel": "cache.parallel",
    "pending": "cache.pending",
    "plots": "tasks.one_label.figures",
    "pooling": "encoders.esm2",
    "powerlaw": "datasets.power_law",
    "prediction": "models.predict",
    "pretraining": "pretraining.run",
    "readers": "reading.readers",
    "records": "reading.records",
    "replicas": "training.processes",
    "report": "reporting.report",
    "rows": "cache.index",
    "runlog": "training.loop",
    "schedule": "training.schedule",
    "sealed": "cache.store",
    "segments": "cache.segments",
    "setaside": "datasets.held_out",
    "sources": "text_files",
    "spec": "cache.spec",
    "split": "datasets.split",
    "statistics": "datasets.statistics",
    "stockholm": "reading.stockholm",
    "tables": "reading.tables",
    "term_answers": "tasks.go_terms.answers",
    "term_assessment": "evaluation.assess",
    "term_comparison": "tasks.go_terms.comparison",
    "term_contest": "evaluation.compare",
    "term_contestants": "evaluation.fit_and_ask",
    "term_curves": "metrics.cafa_curves",
    "term_ensembling": "models.combine",
    "term_evaluation": "tasks.label_sets.evaluation",
    "term_fitting": "models.fit",
    "term_heads": "heads.base",
    "term_heads.base": "heads.base",
    "term_heads.common": "heads.blocks",
    "term_heads.descent": "heads.layers.descent",
    "term_heads.ensemble": "heads.ensemble.term_ensemble",
    "term_heads.homology": "heads.alignment.term_homology",
    "term_heads.knn": "heads.neighbours.term_knn",
    "term_heads.knobs": "heads.layers.trained",
    "term_heads.lightgbm": "heads.trees.term_lightgbm",
    "term_heads.linear": "heads.layers.term_linear",
    "term_heads.mixing": "heads.ensemble.term_mixing",
    "term_heads.mlp": "heads.layers.mlp",
    "term_heads.multitask": "heads.layers.term_multitask",
    "term_heads.naive": "heads.term_naive",
    "term_heads.ridge": "heads.layers.ridge",
    "term_heads.trained": "heads.layers.trained",
    "term_heads.transfer": "heads.neighbours.term_votes",
    "term_losses": "training.term_losses",
    "term_metrics": "metrics.cafa",
    "term_plots": "tasks.label_sets.figures",
    "term_prediction": "tasks.go_terms.prediction",
    "term_ranking": "metrics.average_precision",
    "term_report": "tasks.go_terms.report",
    "term_statistics": "tasks.go_terms.statistics",
    "term_thresholds": "tasks.label_sets.thresholds",
    "terms": "tasks.go_terms.hierarchy",
    "tracking": "training.tracking",
    "training": "training.loop",
    "tuned": "finetuning.model",
    "tuning": "finetuning.run",
    "tuning_report": "finetuning.report",
    "tuning_seeds": "finetuning.seeds",
    "tuning_start": "finetuning.config",
    "weights": "encoders.weights",
    "whitening": "heads.whitening",
    "windows": "encoders.windows",
    "wording": "reporting.phrases",
    "workspace": "workspace.workspace",
}
"""Module of 0.1.0 -> the module that has its names now, both below `esmcls`."""
DIVIDED: Final = {
    "files": ("plain_values",),
    "heads": ("heads.base", "heads.settings"),
    "manifest": ("files",),
    "segments": ("cache.steady_file",),
    "tables": ("reading.joined.label_tables",),
    "term_heads": ("heads.registry",),
    "workspace": ("workspace.state_file",),
}
"""Module of 0.1.0 -> other modules that have names of it now."""


class MovedFinder:
    """Finds modules by their old paths. It is asked last, so about what no file is there for."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Return how a module is imported by its old path, or None for any other name."""
        package, _, old = name.partition(".")
        if package != "esmcls" or old not in MOVED:
            return None
        is_package = any(other.startswith(f"{old}.") for other in MOVED)
        return ModuleSpec(name, MovedLoader(), is_package=is_package)


class MovedLoader(Loader):
    """Loads a module by its old path."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Let the import system make an empty module: the one of today has a spec of its own, which must stay."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of today into the empty one's place; a package stays, for its modules, and hands on names."""
        if hasattr(module, "__path__"):
            hand_on_names(module.__name__)
            return
        path = _path_of_today(module.__name__)
        _warn(module.__name__, path)
        today = sys.modules[module.__name__] = importlib.import_module(path)
        _look_further(today, module.__name__, _divided(module.__name__))


def hand_on_names(package: str) -> None:
    """Give a package the names of the module that had its path: `from esmcls.cache import EmbeddingCache`.

    A module that has kept its path has those that went from it.

    Type checkers do not see it, so that names that are nowhere stay errors to them.

    Parameters
    ----------
    package : str
        Its `__name__`.
    """
    first = [_path_of_today(package)] if package.removeprefix("esmcls.") in MOVED else []
    _look_further(sys.modules[package], package, [*first, *_divided(package)])


def _look_further(module: ModuleType, old: str, paths: Sequence[str]) -> None:
    """Have a module find what it lacks in others, with a warning that names the old path."""
    if not paths:
        return
    is_package = hasattr(module, "__path__")

    def __getattr__(name: str) -> object:
        below = is_package and importlib.util.find_spec(f"{old}.{name}")  # Python imports modules itself
        if not name.startswith("__") and not below:
            for path in paths:
                other = importlib.import_module(path)
                if hasattr(other, name):
                    _warn(f"{old}.{name}", path)
                    return getattr(other, name)
        raise AttributeError(f"module {old!r} has no attribute {name!r}")

    vars(module)["__getattr__"] = __getattr__


def _divided(old: str) -> list[str]:
    return [f"esmcls.{other}" for other in DIVIDED.get(old.removeprefix("esmcls."), ())]


def _path_of_today(old: str) -> str:
    return f"esmcls.{MOVED[old.removeprefix('esmcls.')]}"


def _warn(old: str, path: str) -> None:
    """Warn whoever imports, which is the caller's caller: the import system's own frames do not count."""
    message = f"{old} has moved to {path}, the only path that the next version knows"
    warnings.warn(message, DeprecationWarning, stacklevel=3)
