"""Heads that look at the nearest training proteins."""
