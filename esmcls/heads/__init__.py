"""Classifiers on vectors; each is a plugin, the built-in ones too."""
