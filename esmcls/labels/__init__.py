"""The classes of each record, one or many, and the ontology that they are from."""
