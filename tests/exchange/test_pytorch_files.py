"""Files of PyTorch's weights: read as torch reads them, without torch; forged and damaged ones are refused."""

import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from draws import draws
from spent import assert_soon, started

import xcnn
from xcnn.errors import ExchangeError, XcnnError

torch = pytest.importorskip("torch", reason="torch writes these files")

LARGEST, SECONDS = 64 << 20, 1.0


def model():
    net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.BatchNorm(), xcnn.Flatten(), xcnn.Dense(2))
    return xcnn.Model(net, (1, 3, 3), backend="numpy")


def twin():
    nn = torch.nn
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))


def agree(mine, theirs):
    return all((mine.state_dict()[name] == value.numpy()).all() for name, value in theirs.items() if value.ndim)


FORMS = {
    "archive": {},
    "older": {"_use_new_zipfile_serialization": False},
    "protocol 4": {"pickle_protocol": 4},
    "protocol 5": {"pickle_protocol": 5},
}


@pytest.mark.parametrize("form", FORMS)
def test_files_of_torch_are_read(form, tmp_path):
    state = twin().state_dict()
    torch.save(state, tmp_path / "net.pth", **FORMS[form])
    mine = model()
    assert str(mine.load_weights(tmp_path / "net.pth")) == "loaded 8 weights"
    assert agree(mine, state)


def test_safetensors_go_out_and_in_bit_for_bit(tmp_path):
    from safetensors.torch import load_file

    state, mine = twin().state_dict(), model()
    mine.load_weights(state)
    mine.save_weights(tmp_path / "net.safetensors")
    other = model()
    other.load_weights(tmp_path / "net.safetensors")
    assert agree(other, state)
    theirs = twin()
    theirs.load_state_dict(load_file(tmp_path / "net.safetensors"))
    assert agree(mine, theirs.state_dict())


@pytest.mark.parametrize("kind", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("form", ["archive", "safetensors"])
def test_numbers_of_other_types(kind, form, tmp_path):
    from safetensors.torch import save_file

    state = {name: value.to(getattr(torch, kind)) for name, value in twin().state_dict().items()}
    save = torch.save if form == "archive" else save_file
    save(state, tmp_path / "net")
    mine = model()
    mine.load_weights(tmp_path / "net")
    assert agree(mine, {name: value.float() for name, value in state.items()})


def test_views_parameters_and_storages_that_are_shared(tmp_path):
    whole = torch.arange(100, dtype=torch.float32).reshape(10, 10)
    state = {"weight": torch.nn.Parameter(whole[2:6:2, 1:4].T), "bias": whole[7:9, 5]}
    torch.save(OrderedDict(state), tmp_path / "net.pth")
    mine = xcnn.Model(xcnn.Dense(3), (2,), loss="mse", backend="numpy")
    mine.load_weights(tmp_path / "net.pth", strict=False, rename={"bias": None})
    assert (whole[2:6:2, 1:4].T.numpy() == mine.weights["kernel"].T).all()


def test_numbers_that_stand_for_their_negatives(tmp_path):
    """As a view of conjugated ones: the storage has others than the tensor."""
    torch.save(
        {"weight": torch.tensor([[1 + 2j, 3 - 1j]] * 2).conj().imag, "bias": torch.zeros(2)}, tmp_path / "net.pth"
    )
    refused(tmp_path / "net.pth", "further properties")


def test_reading_needs_no_torch(tmp_path):
    torch.save(twin().state_dict(), tmp_path / "net.pth")
    code = (
        "import sys, xcnn; sys.modules['torch'] = None; "
        "net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.BatchNorm(), xcnn.Flatten(), xcnn.Dense(2)); "
        "print(xcnn.Model(net, (1, 3, 3), backend='numpy').load_weights('net.pth'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "loaded 8 weights"


# What is forged.


class Calls:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def as_archive(pickled, path, **records):
    with zipfile.ZipFile(path, "w") as whole:
        whole.writestr("net/data.pkl", pickled)
        for name, text in records.items():
            whole.writestr(f"net/data/{name}", text)


def tensor(shape, strides, cells=4, kind=b"FloatStorage", name=b"weight", key=b"a"):
    """A pickle of a dict with one tensor, as torch.save writes it."""

    def whole(n):
        return b"\x8a" + bytes([len(raw := n.to_bytes(9, "little"))]) + raw

    def several(numbers):
        return b"(" + b"".join(map(whole, numbers)) + b"t"

    def text(words):
        return b"X" + struct.pack("<I", len(words)) + words

    stored = b"(" + text(b"storage") + b"ctorch\n" + kind + b"\n" + text(key) + text(b"cpu") + whole(cells) + b"tQ"
    rest = several(shape) + several(strides) + b"\x89ccollections\nOrderedDict\n)R"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + whole(0) + rest + b"tR"
    return b"\x80\x02}" + text(name) + call + b"s."


def dense(units=2, features=2):
    return xcnn.Model(xcnn.Dense(units, bias=False), (features,), loss="mse", backend="numpy")


def test_the_forgery_is_a_file_if_its_numbers_are_right(tmp_path):
    as_archive(tensor((2, 2), (2, 1)), tmp_path / "net.pth", a=np.arange(4, dtype="f4").tobytes())
    mine = dense()
    mine.load_weights(tmp_path / "net.pth")
    assert (mine.weights["kernel"] == [[0, 2], [1, 3]]).all()


FOUR = b"\x8a\x09\x04" + bytes(8)
LISTS = b"]" + b"".join(b"q" + bytes([n]) + b"](h" + bytes([n]) + b"h" + bytes([n]) + b"e" for n in range(60))
ZERO = b"tQ\x8a\x09" + bytes(9)
ONE = b"\x8a\x09\x01" + bytes(8)

PAIRS = "".join(f"M{chr(n % 256)}{chr(n // 256)}N\x86" for n in range(13_000))
WIDE = b"\x80\x02}X" + struct.pack("<I", (1 << 24) - 100) + b"a" * ((1 << 24) - 104) + "\U0001f600".encode()


def of_one_hash(n):
    """A key and a value; Python's whole numbers are hashed modulo 2^61 - 1."""
    raw = (n * ((1 << 61) - 1)).to_bytes(10, "little")
    return b"\x8a" + bytes([len(raw)]) + raw + b"N"


def many(begin, each):
    """A pickle with 9,000 calls."""
    return b"\x80\x02" + (begin + each * 9000 + ".").encode("latin-1")


FORGED = {
    "a command": lambda: pickle.dumps(Calls(os.system, ("touch {0}",)), 2),
    "a command by its old name": lambda: b"\x80\x02cposix\nsystem\nX\x09\x00\x00\x00touch {0}\x85R.",
    "a command below a tensor": lambda: pickle.dumps({"w": Calls(exec, ("open({0!r}, 'w')",))}, 2),
    "a call within a call": lambda: pickle.dumps(Calls(getattr, (Calls(__import__, ("os",)), "system")), 4),
    "a name on the stack": lambda: b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
    "a name that is dotted": lambda: b"\x80\x04\x8c\x0bcollections\x8c\x15OrderedDict.fromkeys.x\x93.",
    "lists within each other as a name": lambda: b"\x80\x04" + LISTS + b"h\x00\x93.",
    "lists within each other as a size": lambda: tensor((2, 2), (2, 1)).replace(FOUR, LISTS),
    "lists within each other as a beginning": lambda: tensor((2, 2), (2, 1)).replace(ZERO, b"tQ" + LISTS),
    "an object's state": lambda: b"\x80\x02ccollections\nOrderedDict\n}b.",
    "a class to make": lambda: b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "an extension's number": lambda: b"\x80\x02\x82\x01.",
    "an INST": lambda: b"\x80\x02(S'x'\niposix\nsystem\n.",
    "a call of what is no name": lambda: b"\x80\x02X\x01\x00\x00\x00a)R.",
    "a call of a storage": lambda: b"\x80\x02ctorch\nFloatStorage\nK\x05\x85R.",
    "more cells than its storage": lambda: tensor((2**20, 2**20), (0, 0)),
    "beyond its storage": lambda: tensor((2, 2), (2, 2)),
    "a stride that is huge": lambda: tensor((2, 2), (2**39, 1)),
    "sizes that overflow": lambda: tensor((2**39,) * 8, (1,) * 8),
    "too many axes": lambda: tensor((1,) * 2000, (1,) * 2000),
    "negative strides": lambda: tensor((2, 2), (2, 1)).replace(ONE, b"J\xff\xff\xff\xff"),
    "a storage larger than its record": lambda: tensor((2, 2), (2, 1), cells=2**38),
    "a storage that is not there": lambda: tensor((2, 2), (2, 1), key=b"z"),
    "a storage of another folder's": lambda: tensor((2, 2), (2, 1), key=b"../data.pkl"),
    "a storage of no kind": lambda: tensor((2, 2), (2, 1), kind=b"UntypedStorage"),
    "a memo's number that is huge": lambda: b"\x80\x02}r\xff\xff\xff\x7f.",
    "a key that hashes for ever": lambda: b"\x80\x02})q\0" + b"h\0h\0\x86q\0" * 28 + b"0" * 29 + b"h\0Ns.",
    "keys of one hash": lambda: b"\x80\x02}(" + b"".join(map(of_one_hash, range(1, 50_000))) + b"u.",
    "a list copied as sizes": lambda: many("]q\0(" + "N" * 39_000 + "e0ctorch\nSize\nq\x010", "h\1h\0\x85R"),
    "pairs copied as dicts": lambda: many(f"]q\0({PAIRS}e0ccollections\nOrderedDict\nq\x010", "h\1h\0\x85R"),
    "a text of wide letters": lambda: WIDE + b"s.",
    "a name of wide letters": lambda: WIDE + b"q\0h\0\x93.",
    "a million instructions": lambda: b"\x80\x02" + b"]" * 300_000 + b".",
    "a text that is not there": lambda: b"\x80\x02X\xff\xff\xff\x7fabc.",
    "nothing": lambda: b"",
}  # fmt: skip


@pytest.mark.parametrize("case", FORGED)
@pytest.mark.parametrize("form", ["archive", "older"])
def test_what_is_forged_is_refused_and_nothing_is_called(case, form, tmp_path):
    planted, path = tmp_path / "planted", tmp_path / "net.pth"
    forged = FORGED[case]().replace(b"{0}", os.fsencode(planted))
    if form == "archive":
        as_archive(forged, path, a=bytes(16))
    else:
        older = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
        path.write_bytes(older + (forged or b"\x80\x02") + pickle.dumps([], 2))
    refused(path, traced=form == "archive")
    assert not planted.exists()


def test_a_billion_dicts_within_each_other(tmp_path):
    """Each holds the one below twice: to visit all would take for ever."""
    text = b"\x80\x02}q\x00"
    for n in range(1, 60):
        text += b"}q" + bytes([n]) + b"(K\x00h" + bytes([n - 1]) + b"K\x01h" + bytes([n - 1]) + b"u"
    as_archive(text + b".", tmp_path / "net.pth")
    refused(tmp_path / "net.pth")


def refused(path, words="X416", traced=True):
    """It is, in less than a second, and with at most 64 MiB more than the file has."""
    begin = started()
    with pytest.raises(ExchangeError, match=words):
        dense().load_weights(path)
    assert_soon(begin, SECONDS)
    if not traced:
        return
    tracemalloc.start()
    with pytest.raises(ExchangeError):
        dense().load_weights(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LARGEST + path.stat().st_size


def test_archives_that_unfold(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pth", "w", zipfile.ZIP_DEFLATED) as whole:
        whole.writestr("net/data.pkl", tensor((2, 2), (2, 1)))
        whole.writestr("net/data/a", bytes(1 << 26))
    refused(tmp_path / "net.pth")


def test_archives_with_two_records_of_one_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as whole:
        whole.writestr("net/data.pkl", tensor((2, 2), (2, 1)))
        with pytest.warns(UserWarning, match="Duplicate"):
            whole.writestr("net/data.pkl", tensor((2, 2), (2, 1)))
    with pytest.raises(ExchangeError, match="one name"):
        dense().load_weights(tmp_path / "net.pth")


def test_archives_whose_records_reach_beyond_them(tmp_path):
    as_archive(tensor((2, 2), (2, 1)), tmp_path / "net.pth", a=bytes(16))
    text, long = (tmp_path / "net.pth").read_bytes(), struct.pack("<II", 1 << 30, 1 << 30)
    (tmp_path / "net.pth").write_bytes(text.replace(struct.pack("<II", 16, 16), long))
    refused(tmp_path / "net.pth", "beyond the file")


def test_a_list_of_records_that_is_large(tmp_path):
    names = b"".join(b"PK\x01\x02" + bytes(24) + b"\x04\0" + bytes(16) + b"%04d" % n for n in range(9999)) * 10
    end = b"PK\x05\x06" + bytes(4) + struct.pack("<HHIIH", 0xFFFF, 0xFFFF, len(names), 30, 0)
    (tmp_path / "net.pth").write_bytes(b"PK\x03\x04" + bytes(26) + names + end)
    refused(tmp_path / "net.pth", "list of records")


HEADERS = {
    "a shape that is huge": {"weight": {"dtype": "F32", "shape": [2**30, 2**30], "data_offsets": [0, 16]}},
    "beyond the file": {"weight": {"dtype": "F32", "shape": [2, 2**20], "data_offsets": [0, 2**23]}},
    "before the file": {"weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [-16, 0]}},
    "no offsets": {"weight": {"dtype": "F32", "shape": [2, 2]}},
    "no type": {"weight": {"dtype": "F31", "shape": [2, 2], "data_offsets": [0, 16]}},
    "a type that does not hash": {"weight": {"dtype": [], "shape": [2, 2], "data_offsets": [0, 16]}},
    "a number": 4,
}


@pytest.mark.parametrize("case", HEADERS)
def test_safetensors_that_promise_what_is_not_there(case, tmp_path):
    header = json.dumps(HEADERS[case]).encode()
    header = header if case != "a number" else b'{"a": 4}'
    (tmp_path / "net").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(ExchangeError, match="X416"):
        dense().load_weights(tmp_path / "net")


def test_safetensors_that_are_headers_alone(tmp_path):
    many = b"{" + b",".join(b'"%d":[]' % n for n in range(600_000)) + b"}"
    lists = b'{"a":[' + b"[[]]," * 800_000 + b"1]}"
    scalars = b",".join(b'"%d":{"dtype":"F32","shape":[],"data_offsets":[0,4]}' % n for n in range(24_000))
    for header in (many, lists, b"{" + scalars + b"}"):
        (tmp_path / "net").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
        refused(tmp_path / "net", "X41[67]")


OTHERS = {
    "a module": (lambda path: torch.save(twin(), path), "torch.nn.modules"),
    "a list": (lambda path: torch.save([torch.ones(2)], path), "holds a list"),
    "a tensor": (lambda path: torch.save(torch.ones(2), path), "a single tensor"),
    "a tar file": (lambda path: path.write_bytes(bytes(257) + b"ustar" + bytes(300)), "tar file"),
    "an archive": (lambda path: as_archive(b"", path.with_suffix(".x")) or zip_of(path), "not one of torch.save's"),
    "a text": (lambda path: path.write_text("weights"), "neither of these"),
    "nothing": (lambda path: path.write_bytes(b""), "neither of these"),
    "a program": (lambda path: torch.jit.trace(twin().eval(), torch.ones(1, 1, 3, 3)).save(str(path)), "TorchScript"),
}


def zip_of(path):
    with zipfile.ZipFile(path, "w") as whole:
        whole.writestr("readme", "hello")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("case", OTHERS)
def test_what_is_no_file_of_weights(case, tmp_path):
    write, words = OTHERS[case]
    write(tmp_path / "net.pth")
    with pytest.raises(ExchangeError, match=words):
        dense().load_weights(tmp_path / "net.pth")


def test_files_that_are_not_there_or_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        dense().load_weights(tmp_path / "net.pth")
    with pytest.raises(IsADirectoryError):
        dense().load_weights(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ExchangeError, match="no regular file"):
        dense().load_weights(tmp_path / "fifo")
    with pytest.raises(XcnnError, match="X104"):
        dense().load_weights(3)


def test_a_number_that_was_altered_is_found_and_nothing_is_taken(tmp_path):
    """The last of its tensors: those before it are read by then."""
    state, path, mine = twin().state_dict(), tmp_path / "net.pth", model()
    torch.save(state, path)
    before, last = mine.state_dict(), state["3.bias"].numpy().tobytes()
    assert path.read_bytes().count(last) == 1
    path.write_bytes(path.read_bytes().replace(last, last[:-1] + b"\x42"))
    with pytest.raises(ExchangeError, match="is damaged"):
        mine.load_weights(path)
    assert all((before[name] == value).all() for name, value in mine.state_dict().items())


@pytest.mark.parametrize("form", ["archive", "older", "safetensors"])
def test_files_that_are_damaged(form, tmp_path):
    from safetensors.torch import save_file

    state, path, buffer = twin().state_dict(), tmp_path / "net", io.BytesIO()
    if form == "safetensors":
        save_file(state, path)
        whole = path.read_bytes()
    else:
        torch.save(state, buffer, **FORMS[form])
        whole = buffer.getvalue()
    draw, mine, told = random.Random(7), model(), []
    for _ in range(draws(120)):
        path.write_bytes(damaged(whole, draw))
        begin = started()
        try:
            mine.load_weights(path, strict=False)
        except XcnnError as error:
            told.append(str(error))
        assert_soon(begin, SECONDS)
    assert len(told) > 20
    assert max(map(len, told)) < 3000


def damaged(whole, draw):
    """Bytes changed, cut, doubled or moved."""
    text = bytearray(whole)
    for _ in range(draw.choice([1, 1, 2, 5])):
        at, length = draw.randrange(len(text)), draw.choice([1, 1, 4, 20, 200])
        match draw.randrange(5):
            case 0:
                text[at] = draw.randrange(256)
            case 1:
                text[at] ^= 1 << draw.randrange(8)
            case 2:
                del text[at : at + length]
            case 3:
                text[at:at] = text[at : at + length]
            case 4:
                text[at : at + length] = draw.randbytes(length)
        if not text:
            break
    return bytes(text)
