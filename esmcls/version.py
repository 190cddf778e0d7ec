"""The version, where everything that states it reads it."""

__version__ = "0.1.0"
