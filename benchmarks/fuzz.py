"""Damage every kind of file that esmcls reads, in many ways, and count what is anything but one clear line.

Each case is a whole file (`fuzz_kinds`), damaged by a seed (`fuzz_damage`), and used in a child that is forked from
this process, which has imported everything, with limits of memory and processor time. A child does a hundred cases,
each with limits of its own; where it dies, the next child goes on behind the case that it died of. What may come of a
case is an answer, an `EsmclsError` or an `OSError` of one line. Counted as faults are any other exception, one that a
wide `except` in esmcls has made an `EsmclsError` of, a hang, and a signal.

    python benchmarks/fuzz.py --cases 10000 --out fuzz.json --jobs 2  # ten thousand in all; again: goes on from there
    python benchmarks/fuzz.py --only segment --case 4711              # one, here, with its traceback

Counts are kept after every hundred cases. A case is known by its kind and number alone; `--first` begins elsewhere.
Digests in manifests are made to fit: a stranger can compute them, too.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a fork does not take threads along
os.environ.setdefault("POLARS_MAX_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))
from fuzz_damage import damaged
from fuzz_kinds import Kind, kinds

MEMORY = 3 << 30
"""Bytes of address space that a child may have beyond this process."""
SECONDS = 10
"""Of processor time, and twice of the clock, that a case may take."""
BATCH = 100
"""Cases of a child."""
MISSED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NameError,
    NotImplementedError,
    RecursionError,
    TypeError,
)
"""What an error must not be made of that esmcls raised itself: a check is missing."""
PACKAGE = f"{os.sep}esmcls{os.sep}"


# one case


def damage(kind: Kind, copy: Path, seed: str) -> None:
    """Write the damaged file of a case into a copy of its kind's folder, or over a copy of its file."""
    chance = random.Random(seed)
    whole = kind.source / kind.file if kind.file else kind.source
    file = copy / kind.file if kind.file else copy
    data = damaged(whole.read_bytes(), kind.style, chance)
    file.unlink(missing_ok=True)  # a mapping of the last case's may live
    file.write_bytes(data)
    manifest = kind.source / "manifest.json"
    if kind.file and kind.file != "manifest.json" and manifest.is_file():
        about = json.loads(manifest.read_text(encoding="utf-8"))
        about["files"][kind.file] = hashlib.sha256(data).hexdigest()
        (copy / "manifest.json").write_text(json.dumps(about), encoding="utf-8")


def copied(kind: Kind, place: Path) -> Path:
    """Copy a kind's folder or file into a folder."""
    copy = place / kind.source.name
    if kind.source.is_dir():
        shutil.copytree(kind.source, copy)
    else:
        shutil.copyfile(kind.source, copy)
    return copy


def outcome(kind: Kind, path: Path) -> str:
    """Return what using a file came to: "answered", "refused", or what no user should see."""
    from esmcls.errors import EsmclsError

    try:
        kind.use(path)
    except (EsmclsError, OSError) as error:
        if "\n" in str(error) or "\x1b" in str(error):
            return "more than one line"
        missed = _missed(error)
        return "refused" if missed is None else f"refused, by {_named(missed)}"
    except BaseException as error:  # what is counted
        return _named(error)
    return "answered"


def _missed(error: BaseException) -> BaseException | None:
    """Return the exception behind an error that tells of a check that is missing in esmcls."""
    behind = error.__cause__ or error.__context__
    while behind is not None:
        inside = PACKAGE in traceback.extract_tb(behind.__traceback__)[-1].filename
        if isinstance(behind, MISSED) and (inside or isinstance(behind, MemoryError)):
            return behind
        behind = behind.__cause__ or behind.__context__
    return None


def _named(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = next((frame for frame in reversed(frames) if PACKAGE in frame.filename), frames[-1])
    return f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"


# many cases


def outcomes(name: str, kind: Kind, numbers: Sequence[int], seconds: int = SECONDS) -> Iterator[tuple[int, str]]:
    """Give the outcome of each case: what using it came to, in a forked child, or "hang", or the signal of its end."""
    rest = list(numbers)
    while rest:
        with tempfile.TemporaryDirectory(prefix="esmcls-fuzz-") as place:
            came = list(_in_child(name, kind, rest[:BATCH], Path(place), seconds))
        yield from came
        rest = rest[len(came) :]


def _in_child(name: str, kind: Kind, numbers: Sequence[int], place: Path, seconds: int) -> Iterator[tuple[int, str]]:
    """Give the outcomes of the first cases, up to the first that ended the child."""
    copy = copied(kind, place)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(name, kind, numbers, copy, seconds, writing)
    os.close(writing)
    with open(reading, encoding="utf-8", errors="replace") as handle:
        came = [line.rstrip("\n") for line in handle]
    _, status = os.waitpid(child, 0)
    yield from zip(numbers, came, strict=False)
    if len(came) < len(numbers):
        yield numbers[len(came)], _ended(status)


def _ended(status: int) -> str:
    if not os.WIFSIGNALED(status):
        return f"exit {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    return "hang" if number in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL) else signal.Signals(number).name


def _work(name: str, kind: Kind, numbers: Sequence[int], copy: Path, seconds: int, writing: int) -> None:
    """Do the cases, a line of its outcome each; never returns."""
    try:
        faulthandler.disable()
        with open(os.devnull, "r+b") as nothing:
            for number in (0, 1, 2):
                os.dup2(nothing.fileno(), number)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        for number in numbers:
            spent = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
            resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds + 1, hard))
            signal.alarm(2 * seconds)
            damage(kind, copy, f"{name} {number}")
            os.write(writing, outcome(kind, copy).replace("\n", " ")[:200].encode("utf-8", "replace") + b"\n")
        os._exit(0)
    except BaseException:  # a fault of the fuzzer itself
        traceback.print_exc(file=open("/proc/self/fd/1", "w"))  # noqa: SIM115
        os._exit(99)


def warm(name: str, kind: Kind) -> None:
    """Use the whole file here once: it must be answered, and what that imports each child has then."""
    if kind.threads:
        return
    with tempfile.TemporaryDirectory() as folder:
        if (result := outcome(kind, copied(kind, Path(folder)))) != "answered":
            raise RuntimeError(f"{name}: {result}, undamaged")


def bad(counts: Counter[str]) -> dict[str, int]:
    """Return the outcomes that should not be."""
    return {result: count for result, count in counts.items() if result not in ("answered", "refused")}


def cases_of(wanted: dict[str, Kind], total: int) -> dict[str, int]:
    """Return how many cases each kind has, of so many in all."""
    whole = sum(kind.share for kind in wanted.values())
    return {name: max(1, round(total * kind.share / whole)) for name, kind in wanted.items()}


def main() -> int:
    """Run what the command line asks for; 1 where any outcome should not be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="in all; kinds that take long have fewer")
    parser.add_argument("--first", type=int, default=0, help="the number of each kind's first case")
    parser.add_argument("--only", action="append", default=[], help="a kind, or what its name holds; again for more")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side, each with kinds of its own")
    parser.add_argument("--case", type=int, help="run this one here, and show its traceback")
    parser.add_argument("--out", type=Path, help="counts; what is there is not run again")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="esmcls-fuzz-") as made:
        wanted = _wanted(kinds(Path(made)), arguments.only)
        if arguments.case is not None:
            return _show(*next(iter(wanted.items())), arguments.case)
        state = _read_state(arguments.out)
        cases = cases_of(wanted, arguments.cases)
        numbers = {name: range(arguments.first, arguments.first + count) for name, count in cases.items()}
        if arguments.jobs > 1:
            _run_side_by_side(wanted, numbers, state, arguments.out or Path(made, "counts.json"), arguments.jobs)
        else:
            _run_all(wanted, numbers, state, arguments.out)
    total = sum(sum(entry["counts"].values()) for entry in state.values())
    wrong = [name for name, entry in state.items() if bad(Counter(entry["counts"]))]
    seconds = time.perf_counter() - begun
    print(f"{total:,} cases of {len(state)} kinds, {seconds:.0f} s: {', '.join(wrong) or 'no'} faults")
    return int(bool(wrong))


def _wanted(known: dict[str, Kind], only: Sequence[str]) -> dict[str, Kind]:
    """Return the kinds whose names hold any of these, those of the very name first; all where nothing is asked for."""
    chosen = [name for name in known if any(part in name for part in only or [""])]
    return {name: known[name] for name in sorted(chosen, key=lambda name: name not in only)}


def _read_state(out: Path | None) -> dict[str, Any]:
    return json.loads(out.read_text(encoding="utf-8")) if out is not None and out.exists() else {}


def _show(name: str, kind: Kind, number: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(kind, Path(folder))
        damage(kind, copy, f"{name} {number}")
        print(kind.use(copy))
    return 0


def _run_side_by_side(
    wanted: dict[str, Kind], numbers: dict[str, range], state: dict[str, Any], out: Path, jobs: int
) -> None:
    """Give every process each so-manieth kind, and put the counts that they leave beside `out` together."""
    children = {}
    for job in range(jobs):
        part = out.with_name(f"{out.name}.{job}")
        child = os.fork()
        if child == 0:
            try:
                names = list(numbers)[job::jobs]
                before = {name: state[name] for name in names if name in state}
                _run_all(wanted, {name: numbers[name] for name in names}, before, part)
                os._exit(0)
            except BaseException:  # not to be seen by what the parent has begun
                traceback.print_exc()
                os._exit(99)
        children[child] = part
    for child, part in children.items():
        _, status = os.waitpid(child, 0)
        if status:
            raise RuntimeError(f"a process ended with {_ended(status)}")
        state |= _read_state(part)
        part.unlink()
    out.write_text(json.dumps(state, indent=1), encoding="utf-8")


def _run_all(wanted: dict[str, Kind], numbers: dict[str, range], state: dict[str, Any], out: Path | None) -> None:
    for name in numbers:
        _run(name, wanted[name], numbers[name], state, out)


def _run(name: str, kind: Kind, numbers: range, state: dict[str, Any], out: Path | None) -> None:
    """Run the cases of a kind that were not run yet, and keep the counts."""
    warm(name, kind)
    entry = state.setdefault(name, {"next": numbers.start, "counts": {}, "first": {}})
    counts, begun, before = Counter[str](entry["counts"]), time.perf_counter(), entry["next"]
    for start in range(max(entry["next"], numbers.start), numbers.stop, BATCH):
        stop = min(start + BATCH, numbers.stop)
        for number, result in outcomes(name, kind, range(start, stop)):
            counts[result] += 1
            entry["first"].setdefault(result, number)
        entry |= {"next": stop, "counts": dict(counts)}
        if out is not None:
            out.write_text(json.dumps(state, indent=1), encoding="utf-8")
    seconds, done = time.perf_counter() - begun, max(1, entry["next"] - before)
    wrong = ", ".join(f"{count:,} {result} ({entry['first'][result]})" for result, count in sorted(bad(counts).items()))
    figures = f"{counts['answered']:>7,} answered {counts['refused']:>7,} refused {1000 * seconds / done:6.1f} ms"
    print(f"{name:48} {sum(counts.values()):>7,} {figures}  {wrong or '-'}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
