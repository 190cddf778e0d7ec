"""esmcls: protein sequences to ESM-2 embeddings once, and light classifiers on them.

    >>> import esmcls
    >>> esmcls.embed(["MKTAYIAKQR", "MLE"], encoder="composition").shape[0]
    2

The rooms, in the order of the flow; each imports only from those above it:

errors types files programs text_files   the ground
labels, reporting, reading       classes and the Gene Ontology; what reports share; proteins from files
metrics, training                how good predictions are; the one training loop
encoders, pretraining            sequences to vectors; an encoder of one's own
cache, datasets, workspace       vectors that are kept; labelled sequences and their split; the folder of both
heads                            classifiers on vectors
tasks                            what is particular to one label a protein, and to Gene Ontology terms
models, evaluation, finetuning   a head with its encoder; models compared; the encoder trained end to end
info, demo                       what the commands of these names do
"""

# ruff: noqa: F401  (what type checkers see is imported for them alone)
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from esmcls.version import __version__

_HOMES = {
    "EsmclsError": "errors",
    "Protein": "reading.records",
    "Record": "reading.records",
    "Tally": "reading.records",
    "read_records": "reading.readers",
    "Labels": "labels.labels",
    "parse_long": "encoders.windows",
    "Encoder": "encoders.encoder",
    "load_encoder": "encoders.encoder",
    "describe_encoders": "encoders.encoder",
    "EmbeddingSpec": "cache.store",
    "EmbeddingCache": "cache.store",
    "embed": "cache.embed",
    "embed_into": "cache.embed",
    "Dataset": "datasets.dataset",
    "Features": "datasets.dataset",
    "Workspace": "workspace.workspace",
    "Head": "heads.registry",
    "load_head": "heads.registry",
    "Model": "models.model",
    "load_model": "models.folder",
    "fit_head": "models.fit",
    "FinetuneConfig": "finetuning.model",
    "finetune": "finetuning.run",
    "PretrainConfig": "pretraining.run",
    "pretrain": "pretraining.run",
    "ESMEmbedder": "models.estimators",
    "Prediction": "models.predict",
    "predict_stream": "models.predict",
}
"""Public name -> its module; imported at first use, so that `import esmcls` costs nothing."""

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from esmcls.cache.embed import embed, embed_into
    from esmcls.cache.store import EmbeddingCache, EmbeddingSpec
    from esmcls.datasets.dataset import Dataset, Features
    from esmcls.encoders.encoder import Encoder, describe_encoders, load_encoder
    from esmcls.encoders.windows import parse_long
    from esmcls.errors import EsmclsError
    from esmcls.finetuning.model import FinetuneConfig
    from esmcls.finetuning.run import finetune
    from esmcls.heads.registry import Head, load_head
    from esmcls.labels.labels import Labels
    from esmcls.models.estimators import ESMEmbedder
    from esmcls.models.fit import fit_head
    from esmcls.models.folder import load_model
    from esmcls.models.model import Model
    from esmcls.models.predict import Prediction, predict_stream
    from esmcls.pretraining.run import PretrainConfig, pretrain
    from esmcls.reading.readers import read_records
    from esmcls.reading.records import Protein, Record, Tally
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
