"""Measure how fast a folder as large as Pfam's full random split is read, and how much memory that takes.

Run as `python benchmarks/read_speed.py [--rows 1300000] [--shards 80] [--pack none|gzip] [--folder DIR]`. The folder is
made of random residues in the shape of Google's shards (five columns; sequence lengths from 30 to 300, mean 165) and
removed again.
"""

from __future__ import annotations

import argparse
import gzip
import random
import resource
import tempfile
import time
from pathlib import Path

from esmcls.reading.readers import read_records
from esmcls.reading.records import Tally

HEADER = "family_id,sequence_name,family_accession,aligned_sequence,sequence\n"
LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def write_shards(folder: Path, rows: int, shards: int, *, packed: bool) -> int:
    """Write `rows` rows below `folder/random_split`; return the bytes written."""
    draw = random.Random(0)
    pool = "".join(draw.choices(LETTERS, k=1 << 20))
    written = 0
    for shard in range(shards):
        part = ("train", "train", "train", "dev", "test")[shard * 5 // shards]
        path = folder / f"random_split/{part}/data-{shard:05}-of-{shards:05}{'.csv.gz' if packed else ''}"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = HEADER + "".join(_row(draw, pool, row) for row in range(shard, rows, shards))
        path.write_bytes(gzip.compress(text.encode(), compresslevel=1) if packed else text.encode())
        written += path.stat().st_size
    return written


def _row(draw: random.Random, pool: str, row: int) -> str:
    start, length, family = draw.randrange(1 << 19), draw.randint(30, 300), draw.randrange(17_929)
    sequence = pool[start : start + length]
    aligned = f"{sequence[:10]}......{sequence[10:20]}.{sequence[20:]}"
    return f"family{family},PROT{row}_HUMAN/1-{length},PF{family:05}.21,{aligned},{sequence}\n"


def peak_mib() -> float:
    """Return the largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Write, read, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_300_000)
    parser.add_argument("--shards", type=int, default=80)
    parser.add_argument("--pack", choices=["none", "gzip"], default="none")
    parser.add_argument("--folder", type=Path, help="where to make the shards")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        size = write_shards(Path(folder), options.rows, options.shards, packed=options.pack == "gzip")
        before, tally, residues, start = peak_mib(), Tally(), 0, time.perf_counter()
        for record in read_records(folder, tally=tally):
            residues += len(record.protein.sequence)
        seconds = time.perf_counter() - start
    assert tally.records == options.rows
    print(f"rows {tally.records:,}  files {options.shards}  bytes {size / 2**20:.0f} MiB  residues {residues:,}")
    print(f"{seconds:.1f} s  {tally.records / seconds:,.0f} rows/s  {residues / seconds / 1e6:.0f} M residues/s")
    print(f"peak RSS {peak_mib():.0f} MiB (before reading {before:.0f} MiB)")


if __name__ == "__main__":
    main()
