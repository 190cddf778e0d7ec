"""Make a table of residue targets of the training chains of `structure`, with profiles from ProMod3's StructureDB.

    python benchmarks/structure_targets.py ../shared/data/structure FOLDER --chains FOLDER/chains.txt --db DATABASE

Writes FOLDER/targets.tsv.gz and FOLDER/profiles.npz, for `esmcls pretrain --residue-targets --residue-profiles`.
DATABASE is `structure_db.dat` of Debian's package `promod3-data`; without it there are no profiles.
"""

from __future__ import annotations

import argparse
import gzip
import runpy
from pathlib import Path

import numpy as np


def main() -> None:
    """Write the two files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("structure", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--chains", type=Path, required=True, help="Ids of the chains to take.")
    parser.add_argument("--db", type=Path)
    given = parser.parse_args()
    wanted = set(given.chains.read_text(encoding="ascii").split())
    sequences: dict[str, str] = {}
    with gzip.open(given.output / "targets.tsv.gz", "wt", encoding="ascii") as handle:
        handle.write("id\tsequence\tss8\taccessibility\n")
        for path in sorted(given.structure.glob("train_*.npz")):
            archive = dict(np.load(path))
            sequence, ss8 = (archive[name].tobytes().decode("ascii") for name in ("sequence", "ss8"))
            lengths = archive["length"].astype(int)
            for name, end, length in zip(archive["id"], np.cumsum(lengths), lengths, strict=True):
                if (id_ := name.decode("ascii")) in wanted:
                    part = slice(end - length, end)
                    sequences[id_] = sequence[part]
                    accessibility = " ".join(map(str, archive["rsa_percent"][part]))
                    handle.write(f"{id_}\t{sequence[part]}\t{ss8[part]}\t{accessibility}\n")
    print(f"{len(sequences):,} chains, {sum(map(len, sequences.values())):,} residues")
    if given.db is not None:
        chains = runpy.run_path(str(given.structure / "read_structure_db.py"))["chains"](given.db)
        found = {chain.id: chain.profile for chain in chains if sequences.get(chain.id) == chain.sequence}
        profile = np.concatenate([np.rint(255 * rows).astype(np.uint8) for rows in found.values()])
        sizes = [len(rows) for rows in found.values()]
        np.savez_compressed(given.output / "profiles.npz", id=list(found), length=sizes, profile=profile)
        print(f"{len(found):,} profiles")


if __name__ == "__main__":
    main()
