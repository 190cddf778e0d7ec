"""One label a protein."""
