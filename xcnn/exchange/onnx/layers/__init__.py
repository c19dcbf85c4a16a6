"""The layers as operators of ONNX, one function each: what its nodes are for samples of a known shape."""

from xcnn.exchange.onnx.layers import cells, containers, kernels, norms, sizes, windows

__all__ = ["cells", "containers", "kernels", "norms", "sizes", "windows"]
