"""Heads for structures: they say how far apart the residues of a protein lie, pair by pair."""
