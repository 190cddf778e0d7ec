"""Labelled sequences, their split, what they are like, and smaller sets drawn from them."""
