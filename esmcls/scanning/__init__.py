"""Whole proteins: which domains of known families lie where in them."""
