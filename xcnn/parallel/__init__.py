"""Several processes and machines for one result: training over MPI, predictions by Dask or any executor.

It comes with `pip install "xcnn[parallel]"`. See docs/scaling.md.
"""

from xcnn.parallel.launch import launch
from xcnn.parallel.predicting import predict
from xcnn.parallel.shards import Shards
from xcnn.parallel.together import Together, mpi

__all__ = ["Shards", "Together", "launch", "mpi", "predict"]
