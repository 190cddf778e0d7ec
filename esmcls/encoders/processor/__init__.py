"""What a processor does otherwise: products of eight-bit numbers."""
