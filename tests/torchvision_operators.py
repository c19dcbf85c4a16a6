"""What torchvision needs to be imported where its compiled part is for another build of PyTorch.

Its models, data sets and transforms are Python alone: the operators that it lacks then are named, and not there.
"""

import importlib.util
from pathlib import Path

BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = (
    f"nms{BOXES}",
    f"qnms{BOXES}",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)


def named_operators():
    """The operators by name, to be kept; None where the compiled part has them, or there is no torchvision."""
    import torch

    found = importlib.util.find_spec("torchvision")
    if found is None:
        return None
    try:
        for compiled in Path(found.origin).parent.glob("_C*"):
            torch.ops.load_library(compiled)
            return None
    except OSError:
        pass
    library = torch.library.Library("torchvision", "DEF")
    for operator in OPERATORS:
        library.define(operator)
    return library
