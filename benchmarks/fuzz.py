"""Damage every kind of file that esmcls reads, in many ways, and count what is anything but one clear line.

Each case is a whole file of the archive of release 0.1.0 (or one made here), mutated by a seed: bytes flipped, cut off,
parts put twice, or JSON with a value of another kind in some place. It is read in a child forked from this process,
which has imported everything, with limits of memory and processor time. What may come of it is the answer or an
`EsmclsError` or an `OSError`; a traceback, a hang and a signal are counted.

    python benchmarks/fuzz.py --cases 10000 --out fuzz.json        # ten thousand of each format; again: goes on

The counts are kept after every hundred cases, and a case is known by its number alone: `--only faiss --case 4711`
runs it again, here, and shows the traceback. Digests in manifests are made to fit: a stranger can compute them, too.
"""

from __future__ import annotations

import argparse
import contextlib
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARCHIVE = Path(__file__).parent.parent / "tests" / "archives" / "release-0.1.0"
MEMORY = 6 << 30
"""Bytes of address space that a child may have beyond this process."""
SECONDS = 10
"""Of processor time, and twice of the clock, that a case may take."""


@dataclass(frozen=True)
class Target:
    """A kind of file: the folder or file that is copied, the file in it that is damaged, and what reads it."""

    source: Path
    file: str
    read: Callable[[Path], object]
    is_json: bool = False
    threads: bool = False
    """Whether its reader starts threads, which a fork does not take along: then it is not warmed in this process."""


def _load_model(folder: Path) -> object:
    import esmcls

    return esmcls.load_model(folder)


def _load_findings(folder: Path) -> object:
    import esmcls

    return esmcls.load_model(folder).findings


def _open_workspace(folder: Path) -> object:
    from esmcls.info import about

    return about(folder)


def _open_cache(folder: Path) -> object:
    from esmcls.cache.store import EmbeddingCache

    with EmbeddingCache.open(folder) as cache:
        return cache.verify()


def _load_dataset(path: Path) -> object:

    from esmcls.datasets.dataset import Dataset

    return Dataset.load(path)


def _load_ontology(path: Path) -> object:
    from esmcls.labels.ontology import Ontology

    return Ontology.load(path)


def _load_report(path: Path) -> object:
    from esmcls.errors import FolderError
    from esmcls.files import read_as
    from esmcls.tasks.one_label.results import OneLabelReport

    return read_as(path, OneLabelReport, FolderError, "compare again")


def _load_weights(path: Path) -> object:
    from esmcls.encoders.weights import load_state

    return load_state(path)


def _import_h5(path: Path) -> object:
    from esmcls.cache.import_vectors import read_vectors

    return list(read_vectors(path))


def targets(made: Path) -> dict[str, Target]:
    """Return each format by its name; what the archive lacks is made in a folder."""
    families, terms = ARCHIVE / "families", ARCHIVE / "terms"
    cache = min((families / "cache").iterdir(), key=lambda path: path.name)
    segment = next(cache.glob("*.h5")).name
    weights = _small_encoder(made)
    model = families / "models"
    found = {
        "manifest.json": Target(model / "linear", "manifest.json", _load_model, True),
        "confidence.json": Target(model / "doubts", "confidence.json", _load_findings, True),
        "held.safetensors": Target(model / "linear", "held.safetensors", _load_findings),
        "linear.safetensors": Target(model / "linear", "linear.safetensors", _load_model),
        "mlp.safetensors": Target(model / "mlp", "mlp.safetensors", _load_model),
        "index.faiss": Target(model / "knn", "index.faiss", _load_model),
        "ids.json": Target(model / "knn", "ids.json", _load_model, True),
        "lightgbm.txt": Target(model / "lightgbm", "lightgbm.txt", _load_model),
        "ranker's lightgbm.txt": Target(model / "ranker", "lightgbm.txt", _load_model),
        "terms' lightgbm.txt": Target(terms / "models" / "lightgbm", "lightgbm.txt", _load_model),
        "members.json": Target(model / "ensemble", "members.json", _load_model, True),
        "terms.json": Target(terms / "models" / "linear", "terms.json", _load_model, True),
        "thresholds.json": Target(terms / "models" / "linear", "thresholds.json", _load_findings, True),
        "workspace.json": Target(families, "workspace.json", _open_workspace, True),
        "dataset.parquet": Target(families / "dataset.parquet", "", _load_dataset, threads=True),
        "ontology.json": Target(terms / "ontology.json", "", _load_ontology, True),
        "report.json": Target(families / "reports" / "compare" / "report.json", "", _load_report, True),
        "spec.json": Target(cache, "spec.json", _open_cache, True),
        "segment": Target(cache, segment, _open_cache),
        "weights": Target(weights, "", _load_weights),
        "imported h5": Target(_vectors(made), "", _import_h5),
    }
    return {name: target for name, target in found.items() if (target.source / target.file).exists()}


def _small_encoder(made: Path) -> Path:
    import torch

    from esmcls.encoders.model import ModelConfig
    from esmcls.encoders.weights import save_state, state_shapes

    torch.manual_seed(0)
    config = ModelConfig(2, 16, 2)
    state = {name: torch.randn(shape) for name, shape in state_shapes(config).items()}
    first = state["layers.0.self_attn.rot_emb.inv_freq"]
    state |= {name: first for name in state if name.endswith("rot_emb.inv_freq")}
    save_state(made / "encoder.safetensors", config, {name: value.clone() for name, value in state.items()})
    return made / "encoder.safetensors"


def _vectors(made: Path) -> Path:
    import h5py
    import numpy as np

    with h5py.File(made / "in.h5", "w") as file:
        for number in range(4):
            file[str(number)] = np.full(8, number, dtype=np.float32)
            file[str(number)].attrs["original_id"] = f"protein {number}"
    return made / "in.h5"


# mutations

_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 10**30, -(10**30), 2**63, 2**31, 0.5, 1e308, -1.0, "", "x", "\x1b[31m", "\0",
    "../../x", [], {}, [[]], [0], ["x"], {"x": 1}, [None], "9" * 400,
]  # fmt: skip
_TEXTS = [
    b"NaN",
    b"Infinity",
    b"1e999",
    b"9" * 5000,
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"",
    b"null",
    b"\xff\xfe",
    b"\0",
]


def mutated(data: bytes, random_: random.Random, is_json: bool) -> bytes:
    """Return a file's bytes, damaged."""
    if is_json and random_.random() < 0.7:
        return _mutated_json(data, random_)
    kind = random_.randrange(6)
    if kind == 0:
        return data[: random_.randrange(len(data) + 1)]
    if kind == 1:  # numbers in text, or 8 bytes, become large or small
        place = random_.randrange(max(1, len(data) - 8))
        number = random_.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, 2**40])
        return data[:place] + number.to_bytes(8, "little") + data[place + 8 :]
    if kind == 2:
        start, end = sorted(random_.randrange(len(data) + 1) for _ in range(2))
        return data[:end] + data[start:]
    if kind == 3:
        start = random_.randrange(len(data) + 1)
        return data[:start] + data[start + random_.randrange(1, 64) :]
    changed = bytearray(data)
    reach = min(len(data), 4096) if kind == 4 else len(data)  # heads are where it hurts
    for _ in range(random_.choice([1, 1, 1, 2, 8, 64])):
        changed[random_.randrange(reach)] = random_.choice([random_.randrange(256), *b"-09 \n=."])
    return bytes(changed)


def _mutated_json(data: bytes, random_: random.Random) -> bytes:
    value = json.loads(data)
    places = list(_places(value))
    if random_.random() < 0.1 or not places:
        return random_.choice([*_TEXTS, json.dumps(random_.choice(_VALUES)).encode()])
    for _ in range(random_.choice([1, 1, 1, 2, 4])):
        holder, key = random_.choice(places)
        with contextlib.suppress(LookupError):
            _change(holder, key, places, random_)
    text = json.dumps(value, ensure_ascii=random_.random() < 0.5)
    if random_.random() < 0.1:  # what json cannot write
        text = text.replace(random_.choice(["0", "1", '"', "true"]), random_.choice(["NaN", "-Infinity", "1e999"]), 1)
    return text.encode("utf-8", "surrogatepass")


def _change(holder: Any, key: Any, places: list[tuple[Any, Any]], random_: random.Random) -> None:
    way = random_.randrange(5)
    if way == 0:
        del holder[key]
    elif way == 1:
        other, place = random_.choice(places)
        with contextlib.suppress(ValueError):
            holder[key] = json.loads(json.dumps(other[place]))
    elif way == 2 and isinstance(holder[key], (int, float)):
        holder[key] = holder[key] * random_.choice([-1, 10**6, 10**18]) + random_.choice([0, 1, -1])
    elif way == 3 and isinstance(holder, dict):
        holder["unknown"] = holder.pop(key)
    else:
        holder[key] = random_.choice(_VALUES)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for number, (key, item) in enumerate(list(pairs)):
        if number < 200:
            yield value, key
            yield from _places(item)


# one case


def damage(target: Target, place: Path, seed: str) -> Path:
    """Write the damaged copy of a case into a folder, and return what is to be read."""
    random_ = random.Random(seed)
    copy = place / target.source.name
    if target.source.is_dir():
        shutil.copytree(target.source, copy, symlinks=True)
    else:
        shutil.copyfile(target.source, copy)
    file = copy / target.file if target.file else copy
    file.chmod(0o644)
    file.write_bytes(mutated(file.read_bytes(), random_, target.is_json))
    manifest = copy / "manifest.json"
    if target.file and target.file != "manifest.json" and manifest.is_file():
        about = json.loads(manifest.read_text(encoding="utf-8"))
        about["files"][target.file] = hashlib.sha256(file.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(about), encoding="utf-8")
    return copy


def outcome(target: Target, path: Path) -> str:
    """Return what reading came to: "read", "refused", or the name of an exception that no user should see."""
    from esmcls.errors import EsmclsError

    try:
        target.read(path)
    except (EsmclsError, OSError) as error:
        return "refused" if "\n" not in str(error) and "\x1b" not in str(error) else "more than one line"
    except MemoryError:
        return "MemoryError"
    except BaseException as error:  # what is counted
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
    return "read"


def in_child(target: Target, path: Path, seconds: int = SECONDS) -> str:
    """Return the outcome of reading in a forked child with limits, or "hang", or the signal that ended it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with open(os.devnull, "r+b") as nothing:
            for number in (0, 1, 2):
                os.dup2(nothing.fileno(), number)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        spent = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
        resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, spent + seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(2 * seconds)
        os.write(writing, outcome(target, path).encode()[:1000])
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as handle:
        told = handle.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "hang" if number in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL) else signal.Signals(number).name
    return told or f"exit {os.WEXITSTATUS(status)}"


def warm(target: Target) -> None:
    """Read the whole file once, here: all is imported, and what is not damaged must be read."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / target.source.name
        (shutil.copytree if target.source.is_dir() else shutil.copyfile)(target.source, copy)  # type: ignore[operator]
        if not target.threads:
            target.read(copy)
        elif (result := in_child(target, copy)) != "read":
            raise RuntimeError(f"{copy}: {result}, undamaged")


def bad(counts: Counter[str]) -> dict[str, int]:
    """Return the outcomes that should not be."""
    return {name: count for name, count in counts.items() if name not in ("read", "refused")}


def run(name: str, target: Target, start: int, stop: int, counts: Counter[str], firsts: dict[str, int]) -> None:
    """Run the cases from one number to another, and count."""
    for number in range(start, stop):
        with tempfile.TemporaryDirectory() as folder:
            result = in_child(target, damage(target, Path(folder), f"{name} {number}"))
        counts[result] += 1
        firsts.setdefault(result, number)


def main() -> int:
    """Run what the command line asks for; 1 where any outcome should not be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="of each format")
    parser.add_argument("--only", action="append", help="a format, such as lightgbm.txt; may be given again")
    parser.add_argument("--case", type=int, help="run this one here, and show its traceback")
    parser.add_argument("--out", type=Path, default=Path("fuzz.json"), help="counts; what is there is not run again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        known = targets(Path(made))
        wanted = {name: known[name] for name in arguments.only or known}
        if arguments.case is not None:
            [(name, target)] = wanted.items()
            with tempfile.TemporaryDirectory() as folder:
                print(target.read(damage(target, Path(folder), f"{name} {arguments.case}")))
            return 0
        state: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
        for name, target in wanted.items():
            warm(target)
            entry = state.setdefault(name, {"cases": 0, "counts": {}, "first": {}})
            counts, begun = Counter[str](entry["counts"]), time.perf_counter()
            while entry["cases"] < arguments.cases:
                stop = min(entry["cases"] + 100, arguments.cases)
                run(name, target, entry["cases"], stop, counts, entry["first"])
                entry |= {"cases": stop, "counts": dict(counts)}
                arguments.out.write_text(json.dumps(state, indent=1))
            print(
                f"{name:24} {entry['cases']:>7,} cases {time.perf_counter() - begun:6.0f} s  {_line(counts)}",
                flush=True,
            )
    return int(any(bad(Counter(entry["counts"])) for entry in state.values()))


def _line(counts: Counter[str]) -> str:
    wrong = ", ".join(f"{count:,} {name}" for name, count in sorted(bad(counts).items()))
    return f"{counts['read']:>6,} read {counts['refused']:>6,} refused   {wrong or '-'}"


if __name__ == "__main__":
    sys.exit(main())
