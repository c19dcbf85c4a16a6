"""ONNX: nets written as its graphs, and its graphs read as nets."""
