"""The report of one model of one label a protein."""
