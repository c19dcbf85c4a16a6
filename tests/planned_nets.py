"""`python planned_nets.py [LIBCUDNN]`: a plan of cuDNN's for all that the bench's nets ask, on a described H100?

Each net's training step is rehearsed in each precision, its kernels left out, and what it asks of cuDNN is asked of the
library itself, which makes plans without a GPU. Dense layers, which go to cublasLt as a rule, are asked for as cuDNN's
convolutions here. Prints a row of Markdown for each net.
"""

import sys
import time

from array_api_compat.common import _aliases
from cuda_on_host.capturing import RECORDERS, namespace_of, reason
from cudnn_stub import driver
from xcnn_cupy.cudnn import Described, Plans, load
from xcnn_cupy.cudnn.description import H100
from xcnn_cupy.cudnn.library import SIGNATURES, Library
from xcnn_cupy.shared_library import first_loaded

from xcnn.bench.zoo import NETS
from xcnn.core import arrays

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
TWICE = ("resnet18-64", "unet-256")  # the same nets, of other images


def questions(known, precision):
    """What a step asks, each once."""
    net = known.net(10 if known.classes == 1000 else known.classes)
    device = RECORDERS[False]
    device.refused, device.asked = {"preferred"}, []
    why = reason(net, known.input_shape, samples=known.batches[-1], loss=known.loss, precision=precision)
    assert why == "", why
    return dict.fromkeys(device.asked)


def main():
    why = driver()
    assert not why, why
    library = Library(first_loaded(sys.argv[1:], SIGNATURES)) if sys.argv[1:] else load()
    plans = Plans(library, Described(H100))
    found = namespace_of(arrays.array_namespace)
    arrays.array_namespace = _aliases.array_namespace = found
    print(f"cuDNN {library.version}, {H100.name}")
    print(f"| net:batch | {' | '.join(PRECISIONS)} | seconds |\n{'|---' * (len(PRECISIONS) + 2)}|", flush=True)
    for name, known in NETS.items():
        if name in TWICE:
            continue
        cells, begun = [], time.process_time()
        for precision in PRECISIONS:
            asked = questions(known, precision)
            none = [question.key for question in asked if not plans.answers(question)]
            cells.append(f"{len(asked) - len(none)} of {len(asked)}")
            print("".join(f"{key}\n" for key in none), end="", file=sys.stderr)
        taken = time.process_time() - begun
        print(f"| {name}:{known.batches[-1]} | {' | '.join(cells)} | {taken:.0f} |", flush=True)


if __name__ == "__main__":
    main()
