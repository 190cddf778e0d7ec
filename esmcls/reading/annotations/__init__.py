"""Annotations of the Gene Ontology as databases give them out: GAF, and which evidence counts."""
