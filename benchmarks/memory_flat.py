"""Peak memory of embedding a FASTA of any length, with a random-weight model of the shape of ESM-2 8M.

    python benchmarks/memory_flat.py --sequences 100000
    python benchmarks/memory_flat.py --sequences 5000 --length 40     # a minute

The FASTA is made first, lengths uniform from half of --length to one and a half times it; then it is read, embedded and
cached in a process of its own, whose peak resident memory is told at tenths of the way: it should not grow. Writes
benchmarks/results/memory_flat.json.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).with_name("results") / "memory_flat.json"
SHAPE = (6, 320, 20)
"""Layers, width and heads of esm2_t6_8M_UR50D."""


def write_fasta(path: Path, sequences: int, length: int) -> None:
    """Write random proteins."""
    chance = random.Random(0)
    with open(path, "w") as file:
        for number in range(sequences):
            residues = chance.choices("ACDEFGHIKLMNPQRSTVWY", k=chance.randint(length // 2, length * 3 // 2))
            file.write(f">protein{number}\n{''.join(residues)}\n")


def peak() -> float:
    """Return the peak resident memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def embed(folder: Path, sequences: int) -> dict[str, object]:
    """Embed the FASTA; return what it took."""
    import torch

    from esmcls.cache.embed import embed_into
    from esmcls.cache.spec import EmbeddingSpec
    from esmcls.cache.store import EmbeddingCache
    from esmcls.encoders.encoder import load_encoder
    from esmcls.encoders.model import ESM2, ModelConfig
    from esmcls.encoders.weights import save_state
    from esmcls.reading.readers import read_records

    torch.manual_seed(0)
    config = ModelConfig(*SHAPE)
    save_state(folder / "random.safetensors", config, ESM2(config).state_dict(), torch.float32)
    encoder = load_encoder(str(folder / "random.safetensors"))
    curve: list[float] = []
    done = 0

    def tell(residues: int, more: int) -> None:
        nonlocal done
        done += more
        if done >= (len(curve) + 1) * sequences / 10:
            curve.append(peak())
            print(f"{done:9,} sequences: peak {curve[-1]:7.0f} MB", file=sys.stderr, flush=True)

    with EmbeddingCache.open(folder / "cache", EmbeddingSpec.of(encoder)) as cache:
        records = (record.protein.sequence for record in read_records([folder / "proteins.fasta"]))
        report = embed_into(cache, encoder, records, progress=tell)
    rate = report.residues / report.seconds
    return {"peak_MB": peak(), "curve_MB": curve, "embedded": report.embedded, "residues_per_s": rate}


def main() -> None:
    """Parse the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=100_000)
    parser.add_argument("--length", type=int, default=300, help="mean length")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        print(json.dumps(embed(options.inside, options.sequences)))
        return
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        write_fasta(Path(folder) / "proteins.fasta", options.sequences, options.length)
        command = [sys.executable, __file__, "--sequences", str(options.sequences), "--inside", folder]
        result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    result["command"] = f"python benchmarks/memory_flat.py --sequences {options.sequences} --length {options.length}"
    print(f"peak {result['peak_MB']:.0f} MB, {result['residues_per_s']:.0f} residues/s", end=", ")
    print(f"{time.monotonic() - started:.0f} s in all")
    RESULTS.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
