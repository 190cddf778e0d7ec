"""The folder that remembers data set, caches and models."""

from esmcls.moved import hand_on_names

hand_on_names(__name__)
