"""An ONNX file as a plain value, each size in it looked at before anything of that size is made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from xcnn.core.files import IrregularFileError, is_hollow, open_regular, path_of
from xcnn.errors import ExchangeError, short, told_by
from xcnn.exchange.onnx.package import onnx_package

LARGEST = (1 << 31) - 1
"""Bytes of a file of protocol buffers."""
MOST_NODES = 50_000
MOST_AXES = 16
OWN = ("", "ai.onnx")
"""The names of ONNX's own operators' domain."""
OPSETS = range(7, 29)
"""The versions of ONNX whose operators are known here."""


@dataclass(frozen=True)
class Op:
    """An operator of a file: its name there, its type, what it takes and gives by name, and its attributes."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or what it is where it is left out."""
        return self.attributes.get(name, default)


@dataclass(frozen=True)
class End:
    """An input or an output: its name, its type's number, and its sizes, None for one that is free."""

    name: str
    kind: int
    sizes: tuple[int | None, ...] | None
    value: str = ""
    """The name of what an output is, where that has another."""


@dataclass(frozen=True)
class Contents:
    """What a file holds."""

    ops: list[Op]
    constants: dict[str, NDArray[Any]]
    inputs: list[End]
    outputs: list[End]
    opset: int
    info: dict[str, str]
    size: int
    """Bytes of the file and of its external data."""


def refuse(path: Path, why: str, cause: BaseException | None = None) -> NoReturn:
    """X413"""
    raise ExchangeError("X413", f"{path.name} is not an ONNX file that xcnn can read: {why}.") from cause


def contents(path: str | Path) -> Contents:
    """What a file holds.

    Raises
    ------
    ExchangeError
        X413, for what is no ONNX file, or is damaged, or takes more than it has.
    MissingDependency
        X601
    """
    onnx, path = onnx_package("load_onnx"), path_of(path)
    message, size = parsed(onnx, path)
    graph = message.graph
    if len(graph.node) > MOST_NODES:
        refuse(path, f"it has {len(graph.node):,} nodes; at most {MOST_NODES:,} are read")
    if len(graph.sparse_initializer):
        refuse(path, "its constants are sparse")
    opset = max([each.version for each in message.opset_import if each.domain in OWN], default=0)
    if opset not in OPSETS:
        refuse(path, f"its operators are of opset {opset}; {OPSETS[0]} to {OPSETS[-1]} are read")
    reader = Tensors(onnx, path)
    constants = {tensor.name: reader.array(tensor) for tensor in graph.initializer}
    try:
        ops = [op_of(onnx, reader, node, n) for n, node in enumerate(graph.node)]
        inputs = [end_of(each) for each in graph.input if each.name not in constants]
        outputs = [end_of(each) for each in graph.output]
    except UnicodeDecodeError as error:
        refuse(path, "a name in it is no text", error)
    check_order(path, ops, {*constants, *(end.name for end in inputs)}, outputs)
    info = {each.key: each.value for each in message.metadata_props}
    return Contents(ops, constants, inputs, outputs, opset, info, size + reader.size)


def parsed(onnx: Any, path: Path) -> tuple[Any, int]:
    """The file's message, and the file's size."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST:
                refuse(path, f"it has {size:,} bytes; such files have at most {LARGEST:,}")
            if is_hollow(file):
                refuse(path, "nearly all of it is a hole")
            read = file.read(size)
    except IrregularFileError as error:
        refuse(path, "it is no regular file", error)
    message = onnx.ModelProto()
    try:
        message.ParseFromString(read)
    except Exception as error:  # of the package that reads protocol buffers, which has several
        refuse(path, "it is no message of ONNX's", error)
    if not message.HasField("graph"):
        refuse(path, "it has no graph")
    return message, size


def op_of(onnx: Any, reader: Tensors, node: Any, n: int) -> Op:
    """An operator; those of other domains carry them in their type."""
    kind = node.op_type if node.domain in OWN else f"{node.domain}::{node.op_type}"
    attributes = {each.name: value_of(onnx, reader, each) for each in node.attribute}
    return Op(node.name or f"{kind}_{n}", kind, tuple(node.input), tuple(node.output), attributes)


def value_of(onnx: Any, reader: Tensors, attribute: Any) -> Any:
    """An attribute's value; None for graphs and types, which no operator here has."""
    kinds = onnx.AttributeProto
    match attribute.type:
        case kinds.FLOAT:
            return attribute.f
        case kinds.INT:
            return attribute.i
        case kinds.STRING:
            return attribute.s.decode("utf-8", "replace")
        case kinds.TENSOR:
            return reader.array(attribute.t)
        case kinds.FLOATS:
            return list(attribute.floats)
        case kinds.INTS:
            return list(attribute.ints)
        case kinds.STRINGS:
            return [each.decode("utf-8", "replace") for each in attribute.strings]
    return None


def end_of(info: Any) -> End:
    """An input or an output."""
    tensor = info.type.tensor_type
    known = tensor.HasField("shape")
    sizes = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in tensor.shape.dim)
    return End(info.name, tensor.elem_type, sizes if known else None)


def check_order(path: Path, ops: list[Op], known: set[str], outputs: list[End]) -> None:
    """Refuse a graph in which a node takes what no node before it gives, or gives what another does."""
    known.add("")
    for op in ops:
        for name in op.inputs:
            if name not in known:
                refuse(path, f"its node {short(op.name)} takes {short(name)}, which nothing before it gives")
        for name in op.outputs:
            if name and name in known:
                refuse(path, f"its node {short(op.name)} gives {short(name)} once more")
        known.update(op.outputs)
    for end in outputs:
        if end.name not in known:
            refuse(path, f"nothing gives its output {short(end.name)}")


class Tensors:
    """Reads the constants of a file, and of the files beside it that it names."""

    def __init__(self, onnx: Any, path: Path) -> None:
        self.onnx: Any = onnx
        self.path: Path = path
        self.size: int = 0

    def array(self, tensor: Any) -> NDArray[Any]:
        """A constant, whose cells are as many as its shape says."""
        name, sizes = short(tensor.name), tuple(tensor.dims)
        kinds = self.onnx.TensorProto
        if len(sizes) > MOST_AXES or any(n < 0 for n in sizes):
            refuse(self.path, f"its constant {name} has the shape {short(sizes)}")
        try:
            dtype = self.onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        except (KeyError, TypeError, ValueError) as error:
            refuse(self.path, f"its constant {name} has a type that is not known, {tensor.data_type}", error)
        cells = prod(sizes)
        if tensor.data_location == kinds.EXTERNAL:
            return self.external(tensor, sizes, dtype)
        if tensor.HasField("raw_data"):
            if tensor.data_type in (kinds.INT4, kinds.UINT4) or len(tensor.raw_data) != cells * dtype.itemsize:
                refuse(self.path, f"its constant {name} has {len(tensor.raw_data):,} bytes for {short(sizes)}")
            return np.frombuffer(tensor.raw_data, dtype.newbyteorder("<")).reshape(sizes)
        field = self.onnx.helper.tensor_dtype_to_field(tensor.data_type)
        given = len(getattr(tensor, field))
        if field == "string_data" or given != cells * (2 if np.dtype(dtype).kind == "c" else 1):
            refuse(self.path, f"its constant {name} has {given:,} numbers for {short(sizes)}")
        try:
            return np.asarray(self.onnx.numpy_helper.to_array(tensor))
        except Exception as error:
            refuse(self.path, f"its constant {name} can't be read: {told_by(error)}", error)

    def external(self, tensor: Any, sizes: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A constant of another file, which lies in the model's folder or below it."""
        told, name = {each.key: each.value for each in tensor.external_data}, short(tensor.name)
        folder = os.path.realpath(self.path.parent)
        where = told.get("location", "")
        target = os.path.realpath(os.path.join(folder, where)) if where and "\0" not in where else ""
        if not where or os.path.isabs(where) or os.path.commonpath([folder, target or os.sep]) != folder:
            refuse(self.path, f"its constant {name} lies outside of its folder, at {short(where)}")
        try:
            at, length = int(told.get("offset", 0)), int(told.get("length", -1))
            needed = prod(sizes) * dtype.itemsize
            with open_regular(target) as file:
                whole = os.fstat(file.fileno()).st_size
                length = whole - at if length == -1 else length
                if not (0 <= at <= whole and length == needed and at + length <= whole) or is_hollow(file):
                    refuse(self.path, f"its constant {name} does not fit into {short(where)}")
                file.seek(at)
                read = file.read(needed)
        except (OSError, ValueError) as error:
            if isinstance(error, ExchangeError):
                raise
            refuse(self.path, f"its constant {name} can't be read from {short(where)}: {told_by(error)}", error)
        self.size += needed
        return np.frombuffer(read, dtype.newbyteorder("<")).reshape(sizes)


def by_output(ops: list[Op]) -> dict[str, Op]:
    """Which operator gives a value."""
    return {name: op for op in ops for name in op.outputs if name}


def takers(ops: list[Op]) -> Iterator[tuple[str, Op]]:
    """Each value that is taken, and by whom."""
    for op in ops:
        for name in op.inputs:
            if name:
                yield name, op
