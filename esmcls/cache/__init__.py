"""Sealed segments of vectors: from sequences and an encoder to features."""
