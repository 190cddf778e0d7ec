"""Heads that align sequences."""
