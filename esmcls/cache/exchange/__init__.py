"""Vectors of a cache as files of other tools, and theirs into a cache."""
