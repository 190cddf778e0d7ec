"""Sealed segments of vectors: from sequences and an encoder to features."""

from esmcls.moved import hand_on_names

hand_on_names(__name__)
