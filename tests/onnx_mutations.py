"""`python onnx_mutations.py FILE COUNT`: reads a file with bytes changed, cut out and put in, COUNT times.

Whatever is read, xcnn's own errors alone come out, a load takes less than a second of the processor's time, and memory
grows by less than 64 MiB.
"""

import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

import xcnn
from xcnn.core import random
from xcnn.errors import XcnnError

MEBIBYTES = 64
SECONDS = 1.0


def mutated(contents, rng):
    """A few bytes changed, or a piece cut out, doubled, or filled with what means much in protocol buffers."""
    data = bytearray(contents)
    for _ in range(int(rng.integers(1, 6))):
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 40))
        match int(rng.integers(5)):
            case 0:
                data[at] = int(rng.integers(256))
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3:
                data[at : at + 9] = b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
            case 4:
                del data[at:]
        if not data:
            break
    return bytes(data)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(path, count):
    path, rng = Path(path), random.generator(7)
    contents = path.read_bytes()
    xcnn.load_onnx(path, backend="numpy").predict(np.zeros((1, 3, 8, 8), "float32"))
    head = contents.find(b"conv1/kernel")  # most of a file are weights; the rest is more often hit in a short one
    before, read = peak(), 0
    for n in range(count):
        whole = n % 2 or head < 0
        path.write_bytes(mutated(contents, rng) if whole else mutated(contents[:head], rng) + contents[head:])
        start = time.process_time()
        with suppress(XcnnError):
            xcnn.load_onnx(path, backend="numpy")
            read += 1
        took = time.process_time() - start
        assert took < SECONDS, f"mutation {n} took {took:.2f} s"
        assert peak() - before < MEBIBYTES, f"mutation {n} took {peak() - before:.0f} MiB"
    print(f"{read} of {count} were read nevertheless; memory grew by {peak() - before:.1f} MiB")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
