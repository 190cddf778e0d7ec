"""From the distances that a model expects between residues to a trace of CA atoms."""
