"""Tables that are joined to records by id: of labels, and of Gene Ontology terms."""
