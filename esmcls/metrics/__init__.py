"""How good predictions are: plain functions on arrays."""
