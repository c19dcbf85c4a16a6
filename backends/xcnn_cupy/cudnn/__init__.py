"""cuDNN's convolutions from Python, on addresses of arrays: a question is asked, a plan answers it.

    library = load()
    handles = Handles(library)
    plans = Plans(library, Present("NVIDIA H100 80GB HBM3, sm_90", handles))
    question = Question.dense("forward", (64, 1, 28, 28), (6, 1, 5, 5), padding=((2, 2), (2, 2)))
    plan = plans.plan(question)
    plan.execute(handles.handle().on(stream), {"x": ..., "kernel": ..., "y": ...}, workspace)

The C functions of cuDNN's graph API are called through ctypes. From below to above: `library` has the functions,
`descriptors` the objects that they make, `graph` says in them what is to be computed, `engines` how it can be; `plan`
and `plans` are what the backend sees.
"""

from xcnn_cupy.cudnn.handles import Handles
from xcnn_cupy.cudnn.library import CudnnError, Library, load
from xcnn_cupy.cudnn.plan import Plan
from xcnn_cupy.cudnn.plans import Plans
from xcnn_cupy.cudnn.question import Layout, Question
from xcnn_cupy.cudnn.target import Described, Present, Target

__all__ = [
    "CudnnError",
    "Described",
    "Handles",
    "Layout",
    "Library",
    "Plan",
    "Plans",
    "Present",
    "Question",
    "Target",
    "load",
]
