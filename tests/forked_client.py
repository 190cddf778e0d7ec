"""The program `esmcls` of `forked.py`: it imports next to nothing, and hands everything to a process that has."""

from __future__ import annotations

import json
import os
import socket
import sys

LONGEST = 1 << 20
"""Bytes of a command; a socket takes them at once."""
OF_THE_SHELL = {"_", "OLDPWD", "PWD", "SHLVL"}
"""What the surroundings of two commands may differ in without a difference."""


def exit_code(status: int) -> int:
    """Return the exit code that a shell makes of what wait() says."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def main(place: str, kept: str, program: str, *words: str) -> int:
    """Have the process at `place` run the command; in other surroundings than those kept run the program itself."""
    with open(kept, encoding="utf-8") as file:
        surroundings = json.load(file)
    differing = {name for name, _ in set(surroundings.items()) ^ set(os.environ.items())}
    if differing - OF_THE_SHELL:
        os.execv(program, [program, *words])
    command = {"words": words, "folder": os.getcwd()}  # noqa: PTH109 - pathlib takes longer to import than the rest
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        socket.send_fds(connection, [json.dumps(command).encode()], [0, 1, 2])
        answer = connection.recv(16)
    return int(answer) if answer else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
