"""Names of the files of a workspace, by which its mirror in a store of objects knows them, too."""

from __future__ import annotations

from typing import Final

STATE: Final = "workspace.json"
TABLE: Final = "dataset.parquet"
ONTOLOGY: Final = "ontology.json"
HIERARCHY: Final = "hierarchy.json"
"""In the folder of a model, too, that was fitted with one."""
MANIFEST: Final = "manifest.json"
"""In the folder of a model."""
SPEC: Final = "spec.json"
"""In the folder of a cache."""
PASSING: Final = ".passing"
"""There, where it serves to choose layers from, and goes then."""
