"""Heads of boosted trees."""
