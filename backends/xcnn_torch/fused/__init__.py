"""Runs of layers as few operations of PyTorch's, each with its own backward pass."""

from xcnn_torch.fused import addition, convolution, dense, dropout, normalisation, sample_norms, single

FUSES = (convolution.fuse, dense.fuse, normalisation.fuse, sample_norms.fuse, dropout.fuse, addition.fuse, single.fuse)
"""What knows runs of layers to fuse, in the order in which they are asked."""

__all__ = ["FUSES"]
