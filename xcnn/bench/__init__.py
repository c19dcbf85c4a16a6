"""Timings of training steps and of single correlations, also beside PyTorch's: what `xcnn bench` prints."""
