"""What a backend is, which one runs, and the operations that go by an array's own library.

contract.py is what a plug-in keeps; registry.py finds plug-ins; selector.py chooses; libraries.py serves array
libraries without a plug-in; table.py tells what is here; planes.py has the article's single planes.
"""

from xcnn.backends.contract import Backend
from xcnn.backends.planes import convolve2d, correlate2d, rot180
from xcnn.backends.registry import backend_names, backend_of
from xcnn.backends.selector import backend, get_backend, set_backend, use_backend
from xcnn.backends.table import BackendInfo, BackendTable, available_backends, probe

__all__ = [
    "Backend",
    "BackendInfo",
    "BackendTable",
    "available_backends",
    "backend",
    "backend_names",
    "backend_of",
    "convolve2d",
    "correlate2d",
    "get_backend",
    "probe",
    "rot180",
    "set_backend",
    "use_backend",
]
