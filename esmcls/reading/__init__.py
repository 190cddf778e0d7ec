"""Proteins and labels from files."""
