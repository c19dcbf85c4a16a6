"""What backends on the host's processors share: recycled memory, threads, random bits. NumPy's and PyTorch's use it."""
