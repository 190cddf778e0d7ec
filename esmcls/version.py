"""The version, where everything that states it reads it."""

__version__ = "0.2.0"
