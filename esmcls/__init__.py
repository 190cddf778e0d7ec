"""esmcls: protein sequences to ESM-2 embeddings once, and light classifiers on them.

    >>> import esmcls
    >>> esmcls.embed(["MKTAYIAKQR", "MLE"], encoder="composition").shape[0]
    2

The rooms, in the order of the flow; each imports only from those above it:

errors types files plain_values programs remote text_files   the ground
foreign                          files of other tools' formats, checked before their libraries see them
labels, reporting, reading       classes and the Gene Ontology; what reports share; proteins from files
metrics, structures, training    how good predictions are; distances and traces; the one training loop
encoders, pretraining            sequences to vectors; an encoder of one's own
cache, datasets, workspace       vectors that are kept; labelled sequences and their split; the folder of both
heads                            classifiers on vectors
tasks                            what is particular to one label, a number, or Gene Ontology terms a protein
layer_choice                     which of an encoder's layers serve a data set
scanning                         domains of known families in whole proteins
models, evaluation, finetuning   a head with its encoder; models compared; the encoder trained end to end
insight, engines                 why a model says so, and the map of all proteins; clusters of machines
reference                        a model of GO terms that says what it knows, to annotate with
app                              the page that asks models in a browser
info, demo                       what the commands of these names do

Paths of modules in 0.1.0 are known to moved, for one version.
"""

# ruff: noqa: F401  (what type checkers see is imported for them alone)
from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from esmcls.moved import MovedFinder
from esmcls.version import __version__

_HOMES = {
    "EsmclsError": "errors",
    "UsageError": "errors",
    "Protein": "reading.records",
    "Record": "reading.records",
    "Tally": "reading.records",
    "read_records": "reading.readers",
    "Columns": "reading.record_columns",
    "Labels": "labels.labels",
    "read_obo": "labels.ontology",
    "information_accretion": "labels.information_accretion",
    "parse_long": "encoders.windows",
    "Encoder": "encoders.encoder",
    "Embedded": "encoders.encoder",
    "BatchPlan": "encoders.encoder",
    "load_encoder": "encoders.encoder",
    "describe_encoders": "encoders.encoder",
    "EmbeddingSpec": "cache.spec",
    "EmbeddingCache": "cache.store",
    "embed": "cache.embed",
    "embed_into": "cache.embed",
    "Dataset": "datasets.dataset",
    "Features": "cache.features",
    "describe_records": "datasets.statistics",
    "gini": "datasets.statistics",
    "SamplingPlan": "datasets.sampling_plan",
    "stratify": "datasets.sampling",
    "Workspace": "workspace.workspace",
    "mirrored": "remote.mirror",
    "embed_dataset": "workspace.embed_in_workspace",
    "Head": "heads.base",
    "load_head": "heads.registry",
    "choose_layers": "layer_choice.embed",
    "cut_encoder": "layer_choice.cut",
    "Model": "models.model",
    "load_model": "models.folder",
    "fit": "models.fit",
    "fit_head": "models.fit",
    "fold": "models.fold",
    "predict": "models.predict",
    "evaluate": "evaluation.assess",
    "compare": "evaluation.compare",
    "ComparisonPlan": "evaluation.plan",
    "LabelPrediction": "tasks.many_labels.prediction",
    "TermPrediction": "tasks.go_terms.prediction",
    "FinetuneConfig": "finetuning.config",
    "FinetuneInputs": "finetuning.config",
    "finetune": "finetuning.run",
    "PretrainConfig": "pretraining.run",
    "pretrain": "pretraining.run",
    "ESMEmbedder": "models.estimators",
    "NumberPrediction": "tasks.number.prediction",
    "Prediction": "tasks.one_label.prediction",
    "predict_stream": "models.predict",
}
"""Public name -> its module; imported at first use, so that `import esmcls` costs nothing."""

__all__ = ["__version__", *_HOMES]

sys.meta_path.append(MovedFinder)

if TYPE_CHECKING:
    from esmcls.cache.embed import embed, embed_into
    from esmcls.cache.features import Features
    from esmcls.cache.spec import EmbeddingSpec
    from esmcls.cache.store import EmbeddingCache
    from esmcls.datasets.dataset import Dataset
    from esmcls.datasets.sampling import stratify
    from esmcls.datasets.sampling_plan import SamplingPlan
    from esmcls.datasets.statistics import describe_records, gini
    from esmcls.encoders.encoder import BatchPlan, Embedded, Encoder, describe_encoders, load_encoder
    from esmcls.encoders.windows import parse_long
    from esmcls.errors import EsmclsError, UsageError
    from esmcls.evaluation.assess import evaluate
    from esmcls.evaluation.compare import compare
    from esmcls.evaluation.plan import ComparisonPlan
    from esmcls.finetuning.config import FinetuneConfig, FinetuneInputs
    from esmcls.finetuning.run import finetune
    from esmcls.heads.base import Head
    from esmcls.heads.registry import load_head
    from esmcls.labels.information_accretion import information_accretion
    from esmcls.labels.labels import Labels
    from esmcls.labels.ontology import read_obo
    from esmcls.layer_choice.cut import cut_encoder
    from esmcls.layer_choice.embed import choose_layers
    from esmcls.models.estimators import ESMEmbedder
    from esmcls.models.fit import fit, fit_head
    from esmcls.models.fold import fold
    from esmcls.models.folder import load_model
    from esmcls.models.model import Model
    from esmcls.models.predict import predict, predict_stream
    from esmcls.pretraining.run import PretrainConfig, pretrain
    from esmcls.reading.readers import read_records
    from esmcls.reading.record_columns import Columns
    from esmcls.reading.records import Protein, Record, Tally
    from esmcls.remote.mirror import mirrored
    from esmcls.tasks.go_terms.prediction import TermPrediction
    from esmcls.tasks.many_labels.prediction import LabelPrediction
    from esmcls.tasks.number.prediction import NumberPrediction
    from esmcls.tasks.one_label.prediction import Prediction
    from esmcls.workspace.embed_in_workspace import embed_dataset
    from esmcls.workspace.workspace import Workspace


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'esmcls' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"esmcls.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *_HOMES})
