"""What several nets are built of, with torchvision's names: places in a Sequential, or names of attributes."""

from __future__ import annotations

from xcnn.layers import BatchNorm, Conv2D, DepthwiseConv2D, Layer, Sequential


def norm(epsilon: float = 1e-5) -> BatchNorm:
    """Batch normalisation with PyTorch's numbers."""
    return BatchNorm(momentum=0.9, epsilon=epsilon)


def conv(filters: int, kernel_size: int, stride: int = 1) -> Conv2D:
    """A convolution before a norm: without bias, and padded alike on both sides, as PyTorch pads."""
    return Conv2D(
        filters, kernel_size, stride=stride, padding=kernel_size // 2, bias=False, kernel_initializer="he_normal"
    )


def conv_norm(filters: int, kernel_size: int, stride: int = 1, *activation: Layer) -> Sequential:
    """A convolution, its norm, and an activation if there is one."""
    return Sequential(conv(filters, kernel_size, stride), norm(), *activation)


def depthwise_norm(kernel_size: int, stride: int, activation: Layer) -> Sequential:
    """The same with a kernel for each channel."""
    each = DepthwiseConv2D(
        kernel_size, stride=stride, padding=kernel_size // 2, bias=False, kernel_initializer="he_normal"
    )
    return Sequential(each, norm(), activation)


def widened(filters: float, least: int = 8) -> int:
    """The multiple of 8 that is nearest, and not less than nine tenths: what makes channels of a fraction of others."""
    nearest = max(least, int(filters + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * filters else nearest
