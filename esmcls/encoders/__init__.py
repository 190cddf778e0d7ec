"""Sequences in, vectors out."""

BUNDLED = "bundled"
"""Name of the encoder that comes with the package."""
OWN = "encoder.safetensors"
"""Name of our file of weights in a folder."""
