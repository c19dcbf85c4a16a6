"""PyTorch's weights in and out, without PyTorch: files (files.py), what is in them (states.py), names (names.py)."""
