"""Scanners of format 1: linear heads on residues and windows, which are read but no longer fitted."""
