"""The command `esmcls`; and `bar`, which shows in a notebook or terminal what the library does."""

from esmcls_cli.options.progress import bar

__all__ = ["bar"]
