"""Write a small cache of the current format, to be read for ever: python data/archives/make_cache.py cache-format-1

Run once when a format is new. The vector of a sequence is (number of A, number of C, number of D, length), `cls` is
twice and each chunk once that; a sequence of n residues has ceil(n / 4) chunks. One segment replaces two whose files
are still there, as after a crash while compacting.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

from esmcls.cache.spec import EmbeddingSpec
from esmcls.cache.store import EmbeddingCache
from esmcls.encoders.encoder import Embedded

SEQUENCES = ["A", "CAD", "DDDDDDDDD", "ACDACDACD", "MKTAYIAKQR", "W" * 70]


def embedded(sequences: list[str]) -> Embedded:
    """Return the vectors of sequences."""
    mean = np.array([[s.count("A"), s.count("C"), s.count("D"), len(s)] for s in sequences], dtype=np.float32)
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    inputs = -(-lengths // 4)
    chunks = [np.repeat(mean[row : row + 1], count, axis=0) for row, count in enumerate(inputs)]
    return Embedded({"mean": mean, "cls": 2 * mean}, inputs, lengths, chunks)


def main(folder: Path) -> None:
    """Write three segments, compact the first two, and put these back."""
    spec = EmbeddingSpec("toy", "70", (3, 6), "chunk:4", "fp32", "float16", ("mean", "cls", "chunk"), 4)
    with EmbeddingCache.open(folder, spec) as cache:
        for part in (SEQUENCES[:2], SEQUENCES[2:4]):
            cache.append(part, embedded(part))
            cache.flush()
        for path in list(folder.glob("*.h5")):
            shutil.copy(path, path.with_suffix(".kept"))
        cache.compact()
        for path in list(folder.glob("*.kept")):
            path.rename(path.with_suffix(".h5"))
        cache.append(SEQUENCES[4:], embedded(SEQUENCES[4:]))


if __name__ == "__main__":
    main(Path(__file__).with_name(sys.argv[1]))
