"""Why a model says what it says of a protein: what each residue adds, and the training proteins that it is like."""
