"""Sequences in, vectors out."""
