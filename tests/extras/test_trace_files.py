"""biotite reads back what we write of a trace, as PDB and as mmCIF."""

from __future__ import annotations

import io

import numpy as np
import pytest
from biotite.structure import AtomArray
from biotite.structure.io import pdb, pdbx

from esmcls.structures.writing import TraceFile, mmcif_text, pdb_text

SEQUENCE = "MKTAYIAKQRQXBZUO"


def read(text: str, format_: str) -> AtomArray:
    if format_ == "pdb":
        return pdb.PDBFile.read(io.StringIO(text)).get_structure(model=1, extra_fields=["b_factor"])
    return pdbx.get_structure(pdbx.CIFFile.read(io.StringIO(text)), model=1, extra_fields=["b_factor"])


@pytest.mark.parametrize("format_", ["pdb", "mmcif"])
def test_biotite_reads_the_places_numbers_names_and_confidences_that_were_written(format_: str) -> None:
    rng = np.random.default_rng(0)
    trace = rng.normal(0, 40, (len(SEQUENCE), 3)).astype(np.float32)
    trace[3] = np.nan
    confidence = rng.random(len(SEQUENCE)).astype(np.float32)
    file = TraceFile("a; 'b' \"c\"", SEQUENCE, trace, confidence, ("; what it is", "x" * 200))
    atoms = read((pdb_text if format_ == "pdb" else mmcif_text)(file), format_)
    seen = ~np.isnan(trace[:, 0])
    np.testing.assert_allclose(atoms.coord, trace[seen], atol=6e-4)
    np.testing.assert_allclose(atoms.b_factor, 100 * confidence[seen], atol=6e-3)
    assert atoms.res_id.tolist() == (np.flatnonzero(seen) + 1).tolist()
    assert set(atoms.atom_name) == {"CA"}
    assert set(atoms.element) == {"C"}
    assert set(atoms.chain_id) == {"A"}
    assert atoms.res_name[[0, 1, -1]].tolist() == ["MET", "LYS", "PYL"]


def test_biotite_reads_the_whole_sequence_of_an_mmcif_file() -> None:
    trace = np.full((len(SEQUENCE), 3), np.nan, dtype=np.float32)
    trace[:2] = 1.0
    file = TraceFile("a", SEQUENCE, trace, np.ones(len(SEQUENCE), dtype=np.float32))
    block = pdbx.CIFFile.read(io.StringIO(mmcif_text(file))).block
    assert block["entity_poly"]["pdbx_seq_one_letter_code_can"].as_item() == SEQUENCE
    assert block["entity_poly_seq"]["mon_id"].as_array().tolist()[:2] == ["MET", "LYS"]
