"""Heads: the classifiers that are trained on embeddings."""
