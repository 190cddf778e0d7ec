"""Profile hidden Markov models of families: built from aligned members, kept as tensors, searched with sequences."""
