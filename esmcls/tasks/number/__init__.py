"""A number a protein, such as a melting temperature: what is particular to this kind of task."""
