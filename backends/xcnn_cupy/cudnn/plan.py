"""A plan: an engine that is ready to answer one question, again and again."""

from __future__ import annotations

from collections.abc import Mapping

from xcnn.errors import OptionError
from xcnn_cupy.cudnn.constants import Attribute, AttributeType, DescriptorType
from xcnn_cupy.cudnn.descriptors import Descriptor
from xcnn_cupy.cudnn.engines import Choice, Engine
from xcnn_cupy.cudnn.graph import UIDS
from xcnn_cupy.cudnn.handles import Handle
from xcnn_cupy.cudnn.library import Library
from xcnn_cupy.cudnn.question import Question

MOST_PACKS = 64
"""Of one plan: more arrays than a net's layers of one shape have at a time."""


class Plan:
    """An engine made ready for a question on one GPU.

    `workspace` is how many bytes it wants beside the arrays.
    """

    def __init__(
        self, library: Library, question: Question, engine: Engine, handle: Handle | None, device: Descriptor | None
    ) -> None:
        plan = Descriptor(library, DescriptorType.EXECUTION_PLAN)
        plan.set(Attribute.EXECUTION_PLAN_ENGINE_CONFIG, AttributeType.BACKEND_DESCRIPTOR, [engine.config])
        if handle is not None:
            plan.set(Attribute.EXECUTION_PLAN_HANDLE, AttributeType.HANDLE, [handle])
        if device is not None:
            plan.set(Attribute.EXECUTION_PLAN_DEVICEPROP, AttributeType.BACKEND_DESCRIPTOR, [device])
        self.descriptor = plan.finalize()
        self.library, self.question, self.engine = library, question, engine
        self.workspace: int = plan.get(Attribute.EXECUTION_PLAN_WORKSPACE_SIZE, AttributeType.INT64)[0]
        self._packs: dict[tuple[int, ...], Descriptor] = {}

    @property
    def choice(self) -> Choice:
        """The engine's number and knobs."""
        return self.engine.choice

    @property
    def engine_number(self) -> int:
        """The engine's, as cuDNN counts them."""
        return self.choice.engine

    def execute(self, handle: int, arrays: Mapping[str, int], workspace: int = 0) -> None:
        """Put the map in line on the handle's stream.

        Parameters
        ----------
        handle
            this thread's, for the GPU that the plan was made for
        arrays
            the address of each array by its role: "x", "kernel", "y", and "bias" if the question has one
        workspace
            the address of as many bytes as the plan wants

        Raises
        ------
        OptionError
            X104, for an address that is not a multiple of the question's alignment.
        CudnnError
            X306
        """
        key = (*(arrays[role] for role in self.question.roles), workspace)
        pack = self._packs.get(key) or self._pack(key)
        status = self.library.functions.cudnnBackendExecute(handle, self.descriptor.address, pack.address)
        if status:
            raise self.library.error(status, f"run engine {self.choice.engine}", self.question.key)

    def _pack(self, key: tuple[int, ...]) -> Descriptor:
        """The addresses in cuDNN's form. It is kept: a training step's arrays mostly lie where the last step's lay."""
        *addresses, workspace = key
        for address in addresses:
            if address % self.question.alignment:
                raise OptionError(
                    "X104", f"an array begins at {address:#x}, which {self.question.alignment} does not divide."
                )
        pack = Descriptor(self.library, DescriptorType.VARIANT_PACK)
        uids = [UIDS[role] for role in self.question.roles]
        pack.set(Attribute.VARIANT_PACK_UNIQUE_IDS, AttributeType.INT64, uids)
        pack.set(Attribute.VARIANT_PACK_DATA_POINTERS, AttributeType.VOID_PTR, addresses)
        pack.set(Attribute.VARIANT_PACK_WORKSPACE, AttributeType.VOID_PTR, [workspace])
        pack.finalize()
        if len(self._packs) >= MOST_PACKS:
            self._packs.clear()
        self._packs[key] = pack
        return pack
