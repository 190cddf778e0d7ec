"""Sequences in, vectors out."""

BUNDLED = "bundled"
"""Name of the encoder that comes with the package."""
