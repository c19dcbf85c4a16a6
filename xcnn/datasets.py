"""Data sets, by short names: xcnn.datasets.mnist01 (data/)."""

from xcnn.data import *  # noqa: F403
from xcnn.data import __all__ as __all__
