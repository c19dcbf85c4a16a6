"""Compiled kernels for arrays on the host: C for several instruction sets in one library, built with the wheel."""
