"""What is run on a GPU, run on a pretended one: each file of `tests/pretended` in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FOLDER = TESTS / "pretended"


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(os.environ.get("CXX", "g++")) is None,
    reason="the pretended device is for Linux and is compiled",
)
@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.glob("test_on_*.py")))
def test_all_holds_on_a_pretended_device(file: str) -> None:
    kind = file.removeprefix("test_on_").split("_")[0].removesuffix(".py")
    path = os.pathsep.join([str(FOLDER), str(TESTS), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "pretended_device", "-p", "no:cacheprovider", str(FOLDER / file)],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": path, "PRETENDED_DEVICE": kind},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-4000:]
