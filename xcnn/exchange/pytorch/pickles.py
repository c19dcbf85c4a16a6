"""Pickles of `torch.save` by a machine of few instructions, which calls nothing that a file names.

A pickle is a program for a stack. Of its instructions those run here that make numbers, texts, tuples, lists and dicts.
A name is taken only from a fixed list, as a mark without any power; what a "call" of it gives is made here: an empty
OrderedDict, or a tensor that stands in the file. All else is refused by name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from xcnn.core.windows import is_whole
from xcnn.exchange.pytorch.tensors import MOST_AXES, Order, Storage, Stored, view

MOST_BYTES = 1 << 24
MOST_STEPS = 120_000
"""Instructions of one pickle: a tensor takes about 25, and each makes an object at most; copied entries count too."""
MOST_TEXT = 1 << 22
"""Bytes of all texts of one pickle, which take four times as many where one character is rare."""
MOST_KEY = 1 << 31
"""Whole numbers that are keys of dicts lie within this: all that are larger can have one hash, and meet each other."""
LONGEST_NAME = 200

STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
NAMES = {
    "collections OrderedDict", "torch Size", "torch._utils _rebuild_parameter", "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2", *(f"torch {name}" for name in STORAGES),
    *(f"torch {name}" for name in ("bfloat16", "bool", "device", "float16", "float32", "float64", "int32", "int64")),
}  # fmt: skip
"""All that a file may name, as "module name"."""

CONSTANTS: dict[bytes, bool | None] = {b"N": None, b"\x88": True, b"\x89": False}
TUPLES = {b")": 0, b"\x85": 1, b"\x86": 2, b"\x87": 3}
NUMBERS = {b"J": "<i", b"K": "<B", b"M": "<H", b"G": ">d"}
TEXTS = {b"X": 4, b"\x8c": 1, b"\x8d": 8}
BYTES = {b"C": 1, b"B": 4, b"\x8e": 8, b"U": 1, b"T": 4, b"\x8a": 1}
"""Instructions that push a value; of the last two the bytes of the length before what is pushed."""
OTHERS = {
    b"\x80": "proto", b"\x95": "frame", b"(": "mark", b"}": "empty_dict", b"]": "empty_list", b"t": "tuple",
    b"0": "pop", b"a": "append", b"e": "appends", b"s": "setitem", b"u": "setitems", b"q": "put",
    b"r": "long_put", b"\x94": "memoize", b"h": "get", b"j": "long_get", b"c": "global", b"\x93": "stack_global",
    b"R": "reduce", b"b": "build", b"Q": "persistent",
}  # fmt: skip
"""All other instructions, by the methods below that run them."""
STOP = b"."


class RefusedError(ValueError):
    """A pickle that asks for more than tensors and plain values."""


@dataclass(frozen=True)
class Name:
    """What stands for a name that a file may use."""

    text: str


@dataclass
class Ordered:
    """What stands for an OrderedDict: a dict whose attributes are not kept."""

    entries: dict[Any, Any]


def loads(file: IO[bytes], storage_of: Callable[[tuple[Any, ...]], Storage], order: Order = "<") -> Any:
    """The value of the pickle that a file goes on with, plain dicts for all kinds of them.

    Parameters
    ----------
    file
        in memory, so that no more is read than there is
    storage_of
        from what a file says of a storage, (type's name, key, place, cells, view), to the storage
    order
        of bytes, "<" or ">"

    Raises
    ------
    RefusedError
        where it asks for anything else than what is listed here.
    ValueError, IndexError, KeyError, TypeError
        where it is damaged.
    """
    machine = Machine(file, storage_of, order)
    while (code := machine.raw(1)) != STOP:
        machine.spend(1)
        machine.step(code)
    (value,) = machine.stack
    return value.entries if isinstance(value, Ordered) else value


class Machine:
    """The stack, the places where a list of arguments begins on it, and what is kept to be asked for again."""

    file: IO[bytes]
    storage_of: Callable[[tuple[Any, ...]], Storage]
    order: Order

    def __init__(self, file: IO[bytes], storage_of: Callable[[tuple[Any, ...]], Storage], order: Order) -> None:
        self.file, self.storage_of, self.order = file, storage_of, order
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.left: int = MOST_STEPS
        self.left_text: int = MOST_TEXT

    def spend(self, count: int) -> None:
        """Count so many instructions, or entries that one of them copies."""
        self.left -= count
        if self.left < 0:
            raise RefusedError(f"it has more than {MOST_STEPS:,} instructions")

    def step(self, code: bytes) -> None:
        """Run one instruction."""
        if code in CONSTANTS:
            self.stack.append(CONSTANTS[code])
        elif code in TUPLES:
            self.stack.append(tuple(self.taken(TUPLES[code])))
        elif code in NUMBERS:
            self.stack.append(self.number(NUMBERS[code]))
        elif code in TEXTS:
            self.stack.append(self.text(TEXTS[code]))
        elif code in BYTES:
            text = self.counted(BYTES[code])
            self.stack.append(int.from_bytes(text, "little", signed=True) if code == b"\x8a" else text)
        elif code in OTHERS:
            getattr(self, f"on_{OTHERS[code]}")()
        else:
            raise RefusedError(f"it has the instruction {code!r}, which tensors do not need")

    def raw(self, count: int) -> bytes:
        """So many bytes of the file."""
        found = self.file.read(count)
        if len(found) < count:
            raise ValueError("it ends within an instruction")
        return found

    def number(self, kind: str) -> Any:
        """A number of the file, as the module struct names its kind."""
        return struct.unpack(kind, self.raw(struct.calcsize(kind)))[0]

    def counted(self, width: int) -> bytes:
        """Bytes of the file behind their number, which has so many bytes."""
        return self.raw(min(int.from_bytes(self.raw(width), "little"), MOST_BYTES + 1))

    def text(self, width: int) -> str:
        """A text of the file behind the number of its bytes."""
        text = self.counted(width)
        self.left_text -= len(text)
        if self.left_text < 0:
            raise RefusedError(f"its texts have more than {MOST_TEXT:,} bytes")
        return text.decode("utf-8", "surrogatepass")

    def taken(self, count: int) -> list[Any]:
        """So many values from the top of the stack, the lowest first."""
        if count > len(self.stack) - (self.marks[-1] if self.marks else 0):
            raise IndexError("the stack has fewer values")
        return [self.stack.pop() for _ in range(count)][::-1]

    def since_mark(self) -> list[Any]:
        """The values above the last mark, which is gone then."""
        at = self.marks.pop()
        values = self.stack[at:]
        del self.stack[at:]
        return values

    # The instructions.

    def on_proto(self) -> None:
        """Versions 2 to 5: those before wrote lines of text."""
        version = self.number("<B")
        if not 2 <= version <= 5:
            raise RefusedError(f"it is a pickle of version {version}; 2 to 5 are read")

    def on_frame(self) -> None:
        """A hint for readers: how many bytes belong together."""
        self.raw(8)

    def on_mark(self) -> None:
        """A list of arguments begins."""
        self.marks.append(len(self.stack))

    def on_empty_dict(self) -> None:
        """{}"""
        self.stack.append({})

    def on_empty_list(self) -> None:
        """[]"""
        self.stack.append([])

    def on_tuple(self) -> None:
        """Of all since the mark."""
        self.stack.append(tuple(self.since_mark()))

    def on_pop(self) -> None:
        """Forget the last value."""
        self.taken(1)

    def on_append(self) -> None:
        """[..., value]"""
        self.extend(self.taken(1))

    def on_appends(self) -> None:
        """[..., *values]"""
        self.extend(self.since_mark())

    def extend(self, values: list[Any]) -> None:
        """Append them to the list below."""
        if type(self.stack[-1]) is not list:
            raise TypeError("values are appended to what is no list")
        self.stack[-1].extend(values)

    def on_setitem(self) -> None:
        """{..., key: value}"""
        self.enter(self.taken(2))

    def on_setitems(self) -> None:
        """{..., key: value, ...}"""
        self.enter(self.since_mark())

    def enter(self, values: list[Any]) -> None:
        """Enter keys and values, in turn, into the dict below. Keys are texts or small numbers, which hash at once."""
        top = self.stack[-1]
        entries = top.entries if isinstance(top, Ordered) else top
        if type(entries) is not dict or len(values) % 2:
            raise TypeError("entries are set in what is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str) and not (isinstance(key, int) and abs(key) < MOST_KEY):
                raise TypeError("a dict's key is no text and no small whole number")
            entries[key] = value.entries if isinstance(value, Ordered) else value

    def on_put(self, kind: str = "<B") -> None:
        """Keep the last value under a number."""
        self.memo[self.number(kind)] = self.stack[-1]

    def on_long_put(self) -> None:
        """The same under a number of four bytes."""
        self.on_put("<I")

    def on_memoize(self) -> None:
        """Keep the last value under the next number."""
        self.memo[len(self.memo)] = self.stack[-1]

    def on_get(self, kind: str = "<B") -> None:
        """A value that was kept."""
        self.stack.append(self.memo[self.number(kind)])

    def on_long_get(self) -> None:
        """The same under a number of four bytes."""
        self.on_get("<I")

    def on_global(self) -> None:
        """A name: two lines."""
        self.name(*(self.file.readline(LONGEST_NAME).decode().removesuffix("\n") for _ in range(2)))

    def name(self, module: Any, name: Any) -> None:
        """The mark that stands for a name."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name is no text")  # nor is it shown: lists within lists can be endless to write
        if max(len(module), len(name)) > LONGEST_NAME:
            raise ValueError("a name is longer than any that is read")
        if f"{module} {name}" not in NAMES:
            raise RefusedError(
                f"it names {f'{module}.{name}'[:120]}, which no file of weights needs; nothing was called"
            )
        self.stack.append(Name(f"{module} {name}"))

    def on_stack_global(self) -> None:
        """A name whose parts are on the stack."""
        self.name(*self.taken(2))

    def on_reduce(self) -> None:
        """What a call would give, made here."""
        called, given = self.taken(2)
        if not isinstance(called, Name) or not isinstance(given, tuple):
            raise RefusedError("it calls what has no name")
        self.stack.append(self.made(called.text.split()[-1], given))

    def made(self, name: str, given: tuple[Any, ...]) -> Any:
        """The value that stands for a call of this name."""
        match name, given:
            case "OrderedDict", ():
                return Ordered({})
            case "OrderedDict", ([*pairs],) if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
                self.spend(len(pairs))
                self.stack.append(made := Ordered({}))
                self.enter([each for pair in pairs for each in pair])
                self.stack.pop()
                return made
            case (("_rebuild_tensor" | "_rebuild_tensor_v2"), (Storage() as storage, first, shape, strides, *more)):
                if more[2:] not in ([], [{}], [None]):  # behind whether it is trained, and its hooks
                    raise RefusedError("a tensor has further properties, as numbers that stand for their negatives")
                return view(storage, first, shape, strides, self.order)
            case "_rebuild_parameter", (Stored() as tensor, *_):
                return tensor
            case "Size", (tuple() | list() as sizes,) if len(sizes) <= MOST_AXES:
                return tuple(sizes)
            case "device", (*_,):
                return None
        raise RefusedError(f"it calls {name} in a way that torch.save does not")

    def on_build(self) -> None:
        """Attributes of an OrderedDict, as PyTorch's versions of modules: not kept."""
        self.taken(1)
        if not isinstance(self.stack[-1], Ordered):
            raise RefusedError("it sets attributes of what is no OrderedDict")

    def on_persistent(self) -> None:
        """A storage, which stands elsewhere in the file."""
        (said,) = self.taken(1)
        match said:
            case ("storage", Name(text), str() as key, _, cells, *rest) if (
                text.split()[-1] in STORAGES and len(rest) < 2
            ):
                if not is_whole(cells) or not 0 <= cells < 2**40:
                    raise ValueError("a storage's size is no number that can be")  # nor is it shown, as no names are
                self.stack.append(self.storage_of((STORAGES[text.split()[-1]], key, cells, *rest)))
            case ("module", *_):
                raise RefusedError("it holds the code of a module beside its weights")
            case _:
                raise RefusedError("it has a storage of a kind that is not read")
