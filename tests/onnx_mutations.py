"""`python onnx_mutations.py FOLDER COUNT`: reads files with bytes or fields changed, COUNT times for each net.

Whatever is read, xcnn's own errors alone come out, a load takes less than a second of the processor's time, and memory
grows by less than 64 MiB.
"""

import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import onnx
from onnx_models import built

import xcnn
from xcnn.core import random
from xcnn.errors import XcnnError
from xcnn.exchange.onnx.operators import OPERATORS

MEBIBYTES = 64
SECONDS = 1.0
NUMBERS = (-(1 << 62), -(1 << 31), -7, -1, 0, 1, 2, 3, 8, 65, 1 << 20, 1 << 31, 1 << 62)
NETS = {
    "images": (xcnn.nets.RECIPES["small-resnet"].net(4), (3, 8, 8)),
    "signals": (
        xcnn.Sequential(
            xcnn.Padding1D(2), xcnn.Conv1D(3, 3, stride=2), xcnn.MaxPool1D(2), xcnn.Conv1DTranspose(4, 3, stride=2),
            xcnn.PReLU(), xcnn.UpSampling1D(2), xcnn.GlobalAveragePool1D(), xcnn.Dense(3), xcnn.LogSoftmax(),
        ), (2, 40)),
    "other sizes": (
        xcnn.Sequential(
            xcnn.Padding2D(1, "edge"), xcnn.Cropping2D(1), xcnn.PixelShuffle(2), xcnn.Resize((5, 7)), xcnn.GELU(),
            xcnn.Permute((2, 1, 3)), xcnn.Slice(1, 4), xcnn.LayerNorm(axis=(1, 2)),
            xcnn.AveragePool2D(2, ceil_mode=True),
            xcnn.Concatenate(xcnn.HardSwish(), xcnn.ClippedReLU(2.0)), xcnn.Reshape((-1, 3)), xcnn.Softmax(),
        ), (8, 4, 4)),
}  # fmt: skip


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


def altered(model, rng):
    """The model with a few of its fields as nobody writes them: numbers, types, who takes what."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    for _ in range(int(rng.integers(1, 4))):
        node = chosen(graph.node, rng)
        number = int(chosen(NUMBERS, rng))
        match int(rng.integers(6)):
            case 0 if node.attribute:
                alter(chosen(node.attribute, rng), number, rng)
            case 1:
                node.op_type = str(chosen([*OPERATORS], rng))
            case 2 if node.input:
                node.input[int(rng.integers(len(node.input)))] = str(chosen([*names, ""], rng))
            case 3:
                alter_constant(chosen(graph.initializer, rng), number, rng)
            case 4:
                sizes = graph.input[0].type.tensor_type.shape.dim
                chosen(sizes, rng).dim_value = number
            case 5:
                changed.opset_import[0].version = int(rng.integers(5, 24))
    return changed.SerializeToString()


def alter(attribute, number, rng):
    """One of an attribute's numbers, or how many it has."""
    kind = onnx.AttributeProto
    match attribute.type:
        case kind.INT:
            attribute.i = number
        case kind.FLOAT:
            attribute.f = float(number)
        case kind.INTS if attribute.ints:
            if rng.random() < 0.2:
                attribute.ints.append(number)
            else:
                attribute.ints[int(rng.integers(len(attribute.ints)))] = number
        case kind.STRING:
            attribute.s = str(chosen(["", "SAME_UPPER", "linear", "wrap", "floor"], rng)).encode()


def alter_constant(tensor, number, rng):
    """A cell of a constant of whole numbers, or a size of another."""
    if tensor.data_type == onnx.TensorProto.INT64 and len(tensor.raw_data) >= 8:
        at = 8 * int(rng.integers(len(tensor.raw_data) // 8))
        tensor.raw_data = tensor.raw_data[:at] + number.to_bytes(8, "little", signed=True) + tensor.raw_data[at + 8 :]
    elif len(tensor.dims):
        tensor.dims[:] = [*tensor.dims[::-1]] if rng.random() < 0.7 else [*tensor.dims, 1]


def chosen(items, rng):
    return items[int(rng.integers(len(items)))]


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(folder, count):
    path, rng, read = Path(folder) / "mutated.onnx", random.generator(7), 0
    contents = {}
    for name, (net, shape) in NETS.items():
        built(net, shape).to_onnx(path, verify=False)
        xcnn.load_onnx(path, backend="numpy")
        contents[name] = path.read_bytes()
    before = peak()
    for name, whole in contents.items():
        model = onnx.load_from_string(whole)
        for n in range(count):
            path.write_bytes(mutated(whole, rng) if n % 3 == 0 else altered(model, rng))
            start = time.process_time()
            try:
                with suppress(XcnnError):
                    xcnn.load_onnx(path, backend="numpy")
                    read += 1
            except BaseException:
                print(f"mutation {n} of {name}: {path}")
                raise
            took = time.process_time() - start
            assert took < SECONDS, f"mutation {n} of {name} took {took:.2f} s: {path}"
            assert peak() - before < MEBIBYTES, f"mutation {n} of {name} took {peak() - before:.0f} MiB: {path}"
    print(f"{read} of {3 * count} were read nevertheless; memory grew by {peak() - before:.1f} MiB")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
