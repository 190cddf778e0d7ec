"""Labels or numbers of residues."""
