"""esmcls: protein sequences to ESM-2 embeddings once, and light classifiers on them."""

__version__ = "0.1.0"
