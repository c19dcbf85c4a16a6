"""Checks of layers and backends, yours too, by short names: xcnn.testing.check_layer (checking/)."""

from xcnn.checking.backend import Row, check_backend
from xcnn.checking.exercises import Verdict, check_exercise
from xcnn.checking.gradients import CheckFailed, ReferenceBackend, Report, check_adjoint, check_layer

__all__ = [
    "CheckFailed",
    "ReferenceBackend",
    "Report",
    "Row",
    "Verdict",
    "check_adjoint",
    "check_backend",
    "check_exercise",
    "check_layer",
]
