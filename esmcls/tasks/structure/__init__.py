"""The structure of a protein as distances between its residues: what is particular to this kind of task."""
