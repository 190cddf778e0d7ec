"""A Gene Ontology of a dozen terms, with one of everything that the real one has.

F  GO:0003674 ◀── GO:0000001 ◀─┬─ GO:0000002 ◀─┬─ GO:0000004        a diamond, its lowest term is_a and part_of
                               └─ GO:0000003 ◀─┘
C  GO:0005575 ◀── GO:0000005
P  GO:0008150 ◀── GO:0000006                                        has part_of to GO:0000004, of another aspect
"""

from __future__ import annotations

from pathlib import Path

OBO = """\
format-version: 1.2
ontology: go

[Term]
id: GO:0003674
name: molecular_function
namespace: molecular_function

[Term]
id: GO:0005575
name: cellular_component
namespace: cellular_component

[Term]
id: GO:0008150
name: biological_process
namespace: biological_process

[Term]
id: GO:0000001
name: binding
namespace: molecular_function
is_a: GO:0003674 ! molecular_function

[Term]
id: GO:0000002
name: ion binding
namespace: molecular_function
alt_id: GO:0000020
alt_id: GO:0000021
is_a: GO:0000001 {source="x"} ! binding

[Term]
id: GO:0000003
name: metal binding
namespace: molecular_function
is_a: GO:0000001 ! binding

[Term]
id: GO:0000004
name: zinc ion binding
namespace: molecular_function
is_a: GO:0000002 ! ion binding
relationship: part_of GO:0000003 ! metal binding
relationship: has_part GO:0003674 ! molecular_function

[Term]
id: GO:0000005
name: nucleus
namespace: cellular_component
is_a: GO:0005575 ! cellular_component

[Term]
id: GO:0000006
name: zinc transport
namespace: biological_process
is_a: GO:0008150 ! biological_process
relationship: part_of GO:0000004 ! zinc ion binding

[Term]
id: GO:0000007
name: old nucleus
namespace: cellular_component
is_obsolete: true
replaced_by: GO:0000005

[Term]
id: GO:0000008
name: gone
namespace: cellular_component
is_obsolete: true

[Term]
id: GO:0000009
name: split in two
namespace: molecular_function
is_obsolete: true
replaced_by: GO:0000002
replaced_by: GO:0000003

[Typedef]
id: part_of
name: part of
"""
F, C, P = "GO:0003674", "GO:0005575", "GO:0008150"
BINDING, ION, METAL, ZINC, NUCLEUS, TRANSPORT = (f"GO:000000{number}" for number in range(1, 7))


def write_obo(path: Path) -> Path:
    """Write the ontology."""
    path.write_text(OBO, encoding="utf-8")
    return path


def write_cafa(folder: Path, n: int = 40) -> tuple[Path, Path]:
    """Write wrapped sequences under UniProt's headers, and the terms of zinc proteins and nuclear ones as CAFA does."""
    rows, entries = ["EntryID\tterm\taspect"], list[str]()
    for number in range(n):
        zinc = number % 2 == 0
        entries.append(f">sp|P{number:05}|X{number}_HUMAN zinc={zinc}\nM{'CH' if zinc else 'RK'}{'ACDE'[number % 4]}\n")
        entries.append(f"{'C' * (number + 1) if zinc else 'K' * (number + 1)}\n")
        rows += (
            [f"P{number:05}\t{ZINC}\tF", f"P{number:05}\t{TRANSPORT}\tP"] if zinc else [f"P{number:05}\t{NUCLEUS}\tC"]
        )
    fasta, table = folder / "train_sequences.fasta", folder / "train_terms.tsv"
    fasta.write_text("".join(entries), encoding="utf-8")
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return fasta, table
