"""The page of all commands, made from what click knows of them: as complete as `esmcls --help`, and never older."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import click

CODE = re.compile(r"(`[^`]+`)")
BEGINNING = """# Commands

Every command with every option, as `esmcls COMMAND --help` has them. This page is made anew whenever the site is built.
Exit codes: 0 all is well; 1 an error in data or surroundings; 2 the command was put together wrongly; 3 finished, but
some records were left out; 130 Ctrl-C.
"""


def commands_page(program: click.Group) -> str:
    """Return the page in Markdown: a section for each command, one below it for each command of a group."""
    return "\n".join([BEGINNING, *sections(program, ("esmcls",))])


def sections(group: click.Group, words: tuple[str, ...]) -> Iterator[str]:
    """Yield the section of each command of a group, and those of its own commands."""
    context = click.Context(group, info_name=words[-1])
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        path = (*words, name)
        yield section(command, path)
        if isinstance(command, click.Group):
            yield from sections(command, path)


def section(command: click.Command, words: tuple[str, ...]) -> str:
    """Return what one command is for, how it is called, and a table of its options for each of their groups."""
    context = click.Context(command, info_name=" ".join(words))
    usage = " ".join([*words, *command.collect_usage_pieces(context)])
    parts = [f"{'#' * len(words)} {' '.join(words)}", f"```text\n{usage}\n```", described(command.help or "")]
    parts += [titled(title, params, context) for title, params in in_groups(command, context).items() if params]
    return "\n\n".join(parts) + "\n"


def described(text: str) -> str:
    """Return a help text in Markdown; what stands after a `\\b` keeps its lines."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(
        f"```text\n{paragraph.removeprefix(chr(8)).strip(chr(10))}\n```"
        if paragraph.startswith("\b")
        else safe(paragraph)
        for paragraph in paragraphs
    )


def in_groups(command: click.Command, context: click.Context) -> dict[str, list[click.Parameter]]:
    """Return the parameters by the title of their group, as the help page has them; arguments come first."""
    titles: dict[str, list[str]] = getattr(command, "groups", {"Options": []})
    last = list(titles)[-1]
    groups: dict[str, list[click.Parameter]] = {"Arguments": [], **{title: [] for title in titles}}
    for param in command.get_params(context):
        named = [title for title, names in titles.items() if param.name in names]
        is_argument = isinstance(param, click.Argument)
        groups["Arguments" if is_argument else [*named, last][0]].append(param)
    return groups


def titled(title: str, params: list[click.Parameter], context: click.Context) -> str:
    """Return the table of a group of options, or nothing where no parameter has anything to say."""
    records = [
        record for param in params if (record := param.get_help_record(context)) and (record[1] or title != "Arguments")
    ]
    if not records:
        return ""
    rows = [f"| `{names}` | {safe(text).replace('|', chr(92) + '|')} |" for names, text in records]
    return "\n".join([f"| {title.lower()} | |", "|---|---|", *rows])


def safe(text: str) -> str:
    """Return a text as Markdown shows it letter for letter, but for code between backticks."""
    one_line = " ".join(text.split())
    parts = CODE.split(one_line)
    return "".join(
        part if place % 2 else re.sub(r"([*_\[\]])", r"\\\1", html.escape(part, quote=False))
        for place, part in enumerate(parts)
    )
