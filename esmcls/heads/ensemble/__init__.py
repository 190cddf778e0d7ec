"""Heads that combine others."""
