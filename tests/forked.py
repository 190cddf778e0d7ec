"""`esmcls` for tests that start it often: a process that has imported everything forks a child for each command.

Starting Python and importing torch takes seconds a command, and the pages of the documentation have a hundred. Here a
folder holds a program `esmcls` that hands its words, its folder and its three standard files to that process; a child
of it does with them what the installed program does. Where the surroundings are others than those of the process
(`PYTHONPATH=plugin esmcls ...`), the installed program is run: it may read them when it starts.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import shlex
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import forked_client

PROGRAM = Path(sys.executable).parent / "esmcls"
"""The installed one."""
USED_LATER = ("torch._dynamo", "matplotlib.figure", "matplotlib.backends.backend_svg", "fontTools.subset")
"""By the first optimiser and by the first figure, which take a second and a half."""


@contextlib.contextmanager
def forking_program(folder: Path) -> Iterator[dict[str, str]]:
    """Make the program in `folder`; the surroundings to run it in are given, and its process ends with the block.

    Python is told not to buffer: what a command says and what it answers then come in the order that a terminal shows.
    """
    surroundings = {**os.environ, "PYTHONUNBUFFERED": "1"}
    surroundings["PATH"] = os.pathsep.join([str(folder), str(PROGRAM.parent), os.environ["PATH"]])
    place, kept = folder / "socket", folder / "surroundings.json"
    kept.write_text(json.dumps(surroundings), encoding="utf-8")
    words = [sys.executable, "-IS", forked_client.__file__, str(place), str(kept), str(PROGRAM)]
    program = folder / "esmcls"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    server = [sys.executable, __file__, str(place)]
    with subprocess.Popen(server, env=surroundings, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield surroundings
        finally:
            process.terminate()


def import_everything() -> None:
    """Import all that a command may want from esmcls, and what torch and figures import when they are first used."""
    for package in ("esmcls", "esmcls_cli"):
        root = importlib.import_module(package)
        for module in pkgutil.walk_packages(root.__path__, f"{package}."):
            importlib.import_module(module.name)
    for module_name in USED_LATER:
        importlib.import_module(module_name)


def fork() -> int:
    """Fork; Python warns where a library has made threads, which do nothing yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return os.fork()


def serve(place: str) -> NoReturn:
    """Answer commands until the process is ended."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as main() says before anything is imported
    import_everything()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(place)
        door.listen()
        print("ready", flush=True)
        while True:
            connection, _ = door.accept()
            if fork() == 0:
                door.close()
                answer(connection)
            connection.close()
            reap()


def reap() -> None:
    """Forget the children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def answer(connection: socket.socket) -> NoReturn:
    """Run one command in a child of this process, and tell its exit code once it has ended, with all it had to do."""
    data, files, _, _ = socket.recv_fds(connection, forked_client.LONGEST, 3)
    child = fork()
    if child:
        _, status = os.waitpid(child, 0)
        connection.sendall(str(forked_client.exit_code(status)).encode())
        os._exit(0)
    connection.close()
    run(json.loads(data), files)


def run(command: Mapping[str, object], files: list[int]) -> NoReturn:
    """Be the program: with the command's words, folder and standard files.

    What is to be done at exit is done; the interpreter is not taken down, which would touch all that was imported.
    """
    from esmcls_cli.main import main

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    os.chdir(str(command["folder"]))
    words = command["words"]
    assert isinstance(words, list)
    sys.argv = [str(PROGRAM), *words]
    code = main()
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
