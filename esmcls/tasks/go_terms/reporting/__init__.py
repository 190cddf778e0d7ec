"""The report of one model of Gene Ontology terms."""
