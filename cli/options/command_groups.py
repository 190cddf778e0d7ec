"""How commands are listed, imported when they are wanted, and help is laid out."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import click

from esmcls.errors import UnknownNameError

context_settings: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Grouped(click.Command):
    """A command whose help lists its options in groups, those that most people want first.

    Parameters
    ----------
    groups : mapping
        Title -> names of the parameters; what is in none comes under the last title.
    """

    def __init__(self, *args: Any, groups: Mapping[str, Sequence[str]], **options: Any) -> None:
        super().__init__(*args, **options)
        self.groups = dict(groups)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options a group after the other."""
        title_of = {name: title for title, names in self.groups.items() for name in names}
        last = list(self.groups)[-1]
        records: dict[str, list[tuple[str, str]]] = {title: [] for title in self.groups}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                records[title_of.get(param.name or "", last)].append(record)
        for title, group in records.items():
            if group:
                with formatter.section(title):
                    formatter.write_dl(group)


class Group(click.Group):
    """Commands in the order given, each imported when it is wanted, with a hint where a name is unknown."""

    def __init__(self, *args: Any, lazy: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(*args, **{"no_args_is_help": False, **options})
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the work."""
        return [*self.lazy, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing its file."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        command: click.Command = importlib.import_module(f"esmcls_cli.{self.lazy[cmd_name]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the whole first sentence of each, over several lines if need be."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        shown = [(name, command.get_short_help_str(limit=1000)) for name, command in commands if command is not None]
        with formatter.section("Commands"):
            formatter.write_dl(shown)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name."""
        if not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            raise UnknownNameError("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)
