"""What a CUDA device does otherwise: attention in one call, few kernels a layer, pooling in place, no waiting."""
