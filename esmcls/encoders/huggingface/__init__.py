"""Protein language models of `transformers`, by families: vocabularies, weights, and the one encoder of all of them."""
