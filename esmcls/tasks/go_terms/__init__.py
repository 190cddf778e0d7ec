"""Gene Ontology terms, any number a protein."""
