"""Heads for labels and numbers of residues: they read the vector of each residue, protein by protein."""
