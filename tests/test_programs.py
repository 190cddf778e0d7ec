"""Programs that are run end with us, however we end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esmcls.programs import run_program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sessions and pipes are POSIX")
FOREVER = "sleep 300 & echo $! >>{0}; echo $$ >>{0}; sleep 300"


def lives(pid: int) -> bool:
    """Say whether a process is there, and no zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_until_gone(pids: list[int]) -> bool:
    """Wait until all have ended; False if one lives after 20 s."""
    deadline = time.monotonic() + 20
    while any(map(lives, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def pids_in(path: Path, count: int) -> list[int]:
    """Wait for so many process ids in a file."""
    while not path.exists() or len(path.read_text().split()) < count:
        time.sleep(0.02)
    return [int(word) for word in path.read_text().split()]


def test_a_program_and_all_that_it_started_die_with_us_even_by_sigkill(tmp_path: Path) -> None:
    code = "import sys; from esmcls.programs import run_program; run_program(['sh', '-c', sys.argv[1]])"
    script = FOREVER.format(tmp_path / "pids")
    with subprocess.Popen([sys.executable, "-c", code, script]) as parent:
        pids = pids_in(tmp_path / "pids", 2)
        assert all(map(lives, pids))
        parent.send_signal(signal.SIGKILL)
    assert wait_until_gone(pids)


def test_what_a_program_leaves_in_the_background_ends_with_it(tmp_path: Path) -> None:
    script = f"sleep 300 >/dev/null 2>&1 & echo $! >{tmp_path / 'pids'}; echo said"
    assert run_program(["sh", "-c", script]) == (0, "said\n", "")
    assert wait_until_gone(pids_in(tmp_path / "pids", 1))


def test_a_program_reads_nothing_of_our_standard_input_and_gets_its_words_as_they_are() -> None:
    assert run_program(["cat"]) == (0, "", "")
    assert run_program(["printf", "%s|", "a b", "$HOME", "", "'\"*"]) == (0, "a b|$HOME||'\"*|", "")


def test_a_program_that_is_not_there_is_told_as_the_system_does() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        run_program(["no-such-program", "--version"])


def open_descriptors() -> int:
    """Count the descriptors of this process that are open."""
    count = 0
    for number in range(256):
        try:
            os.fstat(number)
        except OSError:
            continue
        count += 1
    return count


def test_no_descriptor_is_left_open() -> None:
    before = open_descriptors()
    for _ in range(3):
        run_program(["true"])
    assert open_descriptors() == before
