"""Chains from files of structures: arrays, PDB, mmCIF and BinaryCIF."""
