"""Labelled sequences, their split, their statistics, and smaller sets drawn from them."""
