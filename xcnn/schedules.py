"""Learning rates that change with the step, by short names: xcnn.schedules.Cosine (training/schedules.py)."""

from xcnn.core.names import absent
from xcnn.training.schedules import *  # noqa: F403
from xcnn.training.schedules import __all__ as __all__

__getattr__ = absent(__name__, "schedule", __all__)
