"""esmcls: protein sequences to ESM-2 embeddings once, and light classifiers on them.

    >>> import esmcls
    >>> esmcls.embed(["MKTAYIAKQR", "MLE"], encoder="composition").shape[0]
    2

The modules, in the order in which data flows and in which they import one another:

=================  ====================================================================================
types, errors      names of arrays; what can go wrong, each in one line
files, drawing     files that appear whole or not at all; what all figures share
records, readers   proteins and their labels, from FASTA, CSV, TSV and Stockholm
ontology           the Gene Ontology; accretion: bits a term adds; annotations: CAFA's tables of terms
labels, metrics    the class of each record; how good predictions are
windows            long sequences, cut into inputs and joined again
alphabet, model    ESM-2's tokens and the model itself
weights, download  its weights, of every origin
inference          the fast copy of the model: packed, fp32, bf16 or int8
encoder            sequences in, pooled vectors out; esm2 and kmer are two
cache, embedding   sealed segments of vectors; from records into them
split, dataset     train, validation and test; what is learned from
statistics         what a set is like, term_statistics: of many labels; allotment, curation: smaller sets drawn from it
workspace          the folder that remembers dataset, caches and models
setaside           rows and families that nothing is fitted on
losses, replicas   against classes of unequal size; processes that train together
training           the one training loop
calibration        temperature, reliability, sets, rejection; confidence, held: what a model keeps of them
heads              linear, mlp, knn, lightgbm: classifiers on vectors; homology: by alignment; ensemble: any of them
classifier         a head and its encoder: sequences in, classes out
artifact, fitting  model folders and their manifest; from a dataset and a cache to one; ensembling: from several
corpus, objectives what an encoder is trained on, and for
pretraining        an encoder of one's own
adapters           LoRA: attached, merged, kept alone
packing, tuned     proteins as packed streams; the encoder and output layer that are trained on them
optimizers         AdamW, with states of 8 bits
finetuning         the encoder end to end, as a task for the loop
tracking, curves   logs of training in other tools, and as figures
interop            embedding files of other tools
estimators         scikit-learn
prediction         labels for a stream of sequences
evaluation         tables of a model's accuracy
answers            what a model said of test proteins; comparison: models side by side
term_heads, terms  the same for many labels a protein: heads; term_fitting, term_thresholds, term_prediction
term_metrics       CAFA's measures of many labels: term_curves, term_ranking; term_evaluation, term_comparison
plots, report      a comparison's figures; its page and tables, and in wording its sentences; term_plots
lineup, contestants, contest    who takes part in a comparison; every head fitted and asked
tuning             fine-tuning in a workspace, from tuning_start to tuning_seeds
intake, demo       what the commands `embed` and `demo` do
=================  ====================================================================================
"""

# ruff: noqa: F401  (what type checkers see is imported for them alone)
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "EsmclsError": "errors",
    "Protein": "records",
    "Record": "records",
    "Tally": "records",
    "read_records": "readers",
    "Labels": "labels",
    "parse_long": "windows",
    "Encoder": "encoder",
    "load_encoder": "encoder",
    "describe_encoders": "encoder",
    "EmbeddingSpec": "cache",
    "EmbeddingCache": "cache",
    "embed": "embedding",
    "embed_into": "embedding",
    "Dataset": "dataset",
    "Features": "dataset",
    "Workspace": "workspace",
    "Head": "heads",
    "load_head": "heads",
    "Model": "classifier",
    "load_model": "artifact",
    "fit_head": "fitting",
    "FinetuneConfig": "tuned",
    "finetune": "tuning",
    "PretrainConfig": "pretraining",
    "pretrain": "pretraining",
    "ESMEmbedder": "estimators",
    "Prediction": "prediction",
    "predict_stream": "prediction",
}
"""Public name -> its module; imported at first use, so that `import esmcls` costs nothing."""

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from esmcls.artifact import load_model
    from esmcls.cache import EmbeddingCache, EmbeddingSpec
    from esmcls.classifier import Model
    from esmcls.dataset import Dataset, Features
    from esmcls.embedding import embed, embed_into
    from esmcls.encoder import Encoder, describe_encoders, load_encoder
    from esmcls.errors import EsmclsError
    from esmcls.estimators import ESMEmbedder
    from esmcls.fitting import fit_head
    from esmcls.heads import Head, load_head
    from esmcls.labels import Labels
    from esmcls.prediction import Prediction, predict_stream
    from esmcls.pretraining import PretrainConfig, pretrain
    from esmcls.readers import read_records
    from esmcls.records import Protein, Record, Tally
    from esmcls.tuned import FinetuneConfig
    from esmcls.tuning import finetune
    from esmcls.windows import parse_long
    from esmcls.workspace import Workspace


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
