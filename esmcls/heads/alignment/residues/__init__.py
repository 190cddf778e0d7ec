"""Alignment of residue vectors."""
