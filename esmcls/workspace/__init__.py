"""The folder that remembers data set, caches and models."""
