"""Any number of labels a protein, without an ontology."""
