"""Classifiers on vectors; each is a plugin, the built-in ones too."""

from esmcls.moved import hand_on_names

hand_on_names(__name__)
