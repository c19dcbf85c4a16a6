"""Several processes and machines for one result: training over MPI, and NCCL between GPUs.

It comes with `pip install "xcnn[parallel]"`. See docs/scaling.md.
"""

from xcnn.parallel.together import Together, mpi

__all__ = ["Together", "mpi"]
