"""Heads that are linear layers and small networks."""
