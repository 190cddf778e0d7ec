"""A residue head trained on a store of vectors larger than the memory it may have.

    python benchmarks/residue_memory.py --folder SCRATCH                       # 8 GB on disk, 4 GB of memory
    python benchmarks/residue_memory.py --folder SCRATCH --store .2 --limit 3  # a minute

A workspace is made first: random proteins, and by the cache's own writer a float16 vector of 960 numbers for each
residue, that of its amino acid with noise; whether a residue is H, E or C is told by its amino acid, so that a head
that read the wrong vectors would not learn it. Then `fit` trains in a process of its own, which the kernel gives no
more than --limit of **address space** (RLIMIT_AS): every page that it could ever hold counts there, those of mapped
files and libraries too, resident or not, so that what it holds in memory is less. What was resident at most (VmHWM,
with mapped pages) is told beside, at tenths of the way: it should not grow.

The store is read into buffers, not mapped. Pages that the system keeps of files that were read are the system's, which
gives them up when memory is short; those of the store are dropped before the training begins.

Writes benchmarks/results/residue_memory.json and removes what it made.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results") / "residue_memory.json"
WIDTH = 960
"""Three layers of ESM-2 8M side by side."""
LETTERS = "ACDEFGHIKLMNPQRSTVWY"
STATES = "HCCHCCCEHEHCCHHCEEEE"
"""Of the amino acid at the same place."""
NOISE = 20_000


def make_workspace(folder: Path, nbytes: float) -> dict[str, int]:
    """Make a workspace of so many bytes of residue vectors; return what it holds."""
    import numpy as np

    from esmcls.cache.spec import EmbeddingSpec
    from esmcls.datasets.dataset import build
    from esmcls.encoders.encoder import Embedded
    from esmcls.reading.records import Protein, Record
    from esmcls.workspace.embed_in_workspace import keep_dataset
    from esmcls.workspace.intake import Intake
    from esmcls.workspace.workspace import Workspace

    random = np.random.default_rng(0)
    table = random.normal(size=(len(LETTERS), WIDTH)).astype(np.float32)
    noise = 2 * random.normal(size=(NOISE, WIDTH)).astype(np.float32)
    spec = EmbeddingSpec(
        "synthetic", "5e" * 32, (1, 2, 3), "window:1022:511", "fp32", "float16", ("mean", "residue"), WIDTH
    )
    workspace = Workspace.open(folder, create=True)
    records = list[Record]()
    residues = 0
    with workspace.cache_for(spec) as cache:
        while residues * WIDTH * 2 < nbytes:
            codes = random.integers(0, len(LETTERS), size=random.integers(128, 513))
            sequence = "".join(LETTERS[code] for code in codes)
            begin = random.integers(0, NOISE - len(codes))
            vectors = table[codes] + noise[begin : begin + len(codes)]
            lengths = np.array([len(codes)])
            cache.append(
                [sequence], Embedded({"mean": vectors.mean(0)[None]}, lengths // lengths, lengths, None, [vectors])
            )
            label = "".join(STATES[code] for code in codes)
            part = "validation" if len(records) % 20 == 0 else "train"
            records.append(Record(Protein(f"p{len(records)}", sequence), label, part, "synthetic", len(records)))
            residues += len(codes)
    built = build(records, task="residue-label")
    keep_dataset(workspace, Intake(built.dataset, built.report, task=built.task))
    return {
        "proteins": len(records),
        "residues": residues,
        "bytes": sum(one.stat().st_size for one in segments(folder)),
    }


def segments(folder: Path) -> list[Path]:
    """Return the files of the store."""
    return [path for path in (folder / "cache").rglob("*") if path.is_file()]


def forget_pages(folder: Path) -> None:
    """Have the system drop the pages that it keeps of the store."""
    for path in segments(folder):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory(name: str) -> float:
    """Return a number of this process's status in MB: VmHWM or VmPeak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1e3


def fit(folder: Path, head: str, limit: float) -> dict[str, Any]:
    """Train a head for an epoch with so many bytes of address space; return what it took."""
    resource.setrlimit(resource.RLIMIT_AS, (int(limit), int(limit)))
    from esmcls.models.fit import fit_dataset
    from esmcls.tasks.kinds import task_of
    from esmcls.workspace.workspace import Workspace

    workspace = Workspace.open(folder)
    curve = list[float]()
    steps = -(-workspace.dataset.parts.count("train") // 16)

    def tell(entry: dict[str, float]) -> None:
        if entry["step"] >= (len(curve) + 1) * steps / 10:
            curve.append(round(memory("VmHWM")))
            print(f"step {entry['step']:6,.0f} of {steps:,}: peak {curve[-1]:6,.0f} MB", file=sys.stderr, flush=True)

    began = time.perf_counter()
    fitted = fit_dataset(task_of(workspace), workspace.dataset, workspace.latest_cache(), head, {"epochs": 1}, log=tell)
    seconds = time.perf_counter() - began
    return {
        "head": head,
        "validation": {name: round(value, 4) for name, value in fitted.manifest.validation.items()},
        "seconds": round(seconds),
        "resident_peak_MB": round(memory("VmHWM")),
        "resident_curve_MB": curve,
        "address_space_peak_MB": round(memory("VmPeak")),
    }


def main() -> None:
    """Make the store, train under the limit, write what it took."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--folder", type=Path, help="where the store is made; default the system's temporary folder")
    options.add_argument("--store", type=float, default=8.0, help="GB of residue vectors")
    options.add_argument("--limit", type=float, default=4.0, help="GB of address space in training")
    options.add_argument("--head", default="conv")
    options.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.inside is not None:
        print(json.dumps(fit(given.inside, given.head, 1e9 * given.limit)))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        began = time.perf_counter()
        store = make_workspace(Path(folder), 1e9 * given.store)
        print(f"{store} in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        forget_pages(Path(folder))
        words = ["--limit", str(given.limit), "--head", given.head, "--inside", folder]
        ran = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True)
    result = {"store": store, "limit_MB": round(1e3 * given.limit), **json.loads(ran.stdout)}
    command = f"python benchmarks/residue_memory.py --store {given.store:g} --limit {given.limit:g} --head {given.head}"
    result |= {"command": command}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
