"""References: models of Gene Ontology terms that say what they know, to annotate proteins without own labels."""
