"""Layers and runs of layers by the compiled library."""
