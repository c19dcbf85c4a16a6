"""Engines: cuDNN's ways to compute an operation graph, and what each of them does to the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xcnn_cupy.cudnn.constants import (
    Attribute,
    AttributeType,
    BehaviorNote,
    DescriptorType,
    HeurMode,
    NumericalNote,
)
from xcnn_cupy.cudnn.descriptors import Descriptor
from xcnn_cupy.cudnn.library import Library
from xcnn_cupy.cudnn.question import Question

MOST_KNOBS = 64
MOST_NOTES = 32
"""More than any engine has."""


@dataclass(frozen=True)
class Choice:
    """An engine by its number, and its knobs as (type, value): this is enough to have the very same one again."""

    engine: int
    knobs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Engine:
    """An engine for one graph, its knobs set.

    `numerical` and `behavior` are the notes on it: numbers, of which NumericalNote and BehaviorNote name some.
    """

    config: Descriptor
    choice: Choice
    numerical: frozenset[int]
    behavior: frozenset[int]

    @staticmethod
    def of(config: Descriptor) -> Engine:
        """What cuDNN says of an engine configuration."""
        (engine,) = config.get_descriptors(Attribute.ENGINECFG_ENGINE, DescriptorType.ENGINE)
        (number,) = engine.get(Attribute.ENGINE_GLOBAL_INDEX, AttributeType.INT64)
        return Engine(
            config,
            Choice(number, knobs_of(config)),
            frozenset(engine.get(Attribute.ENGINE_NUMERICAL_NOTE, AttributeType.NUMERICAL_NOTE, MOST_NOTES)),
            frozenset(engine.get(Attribute.ENGINE_BEHAVIOR_NOTE, AttributeType.BEHAVIOR_NOTE, MOST_NOTES)),
        )

    @property
    def is_compiled(self) -> bool:
        """Whether its kernels are compiled when a plan is made of it."""
        return BehaviorNote.RUNTIME_COMPILATION in self.behavior

    def refusal(self, question: Question) -> str | None:
        """Why its numbers are not what the question asks for; None if they are."""
        if NumericalNote.REDUCED_PRECISION_REDUCTION in self.numerical:
            return "it sums in less than float32"
        if question.deterministic and NumericalNote.NONDETERMINISTIC in self.numerical:
            return "it is not deterministic"
        if question.dtype == "float32" and question.math == "float32":
            if NumericalNote.DOWN_CONVERT_INPUTS in self.numerical:
                return "it rounds float32 to fewer bits"
            if NumericalNote.TENSOR_CORE in self.numerical:
                return "it multiplies float32 on tensor cores"
        return None


def knobs_of(config: Descriptor) -> tuple[tuple[int, int], ...]:
    """The knobs of an engine configuration that are set, sorted."""
    kind = DescriptorType.KNOB_CHOICE
    found = []
    for knob in config.get_descriptors(Attribute.ENGINECFG_KNOB_CHOICES, kind, MOST_KNOBS):
        (name,) = knob.get(Attribute.KNOB_CHOICE_KNOB_TYPE, AttributeType.KNOB_TYPE)
        (value,) = knob.get(Attribute.KNOB_CHOICE_KNOB_VALUE, AttributeType.INT64)
        found.append((name, value))
    return tuple(sorted(found))


def heuristics(library: Library, graph: Descriptor, mode: HeurMode, device: Descriptor | None) -> Iterator[Descriptor]:
    """Engine configurations for a graph, in the order of cuDNN's guess at their speed."""
    asked = Descriptor(library, DescriptorType.ENGINEHEUR)
    asked.set(Attribute.ENGINEHEUR_OPERATION_GRAPH, AttributeType.BACKEND_DESCRIPTOR, [graph])
    asked.set(Attribute.ENGINEHEUR_MODE, AttributeType.HEUR_MODE, [mode])
    if device is not None:
        asked.set(Attribute.ENGINEHEUR_DEVICEPROP, AttributeType.BACKEND_DESCRIPTOR, [device])
    asked.finalize()
    count = asked.count(Attribute.ENGINEHEUR_RESULTS, AttributeType.BACKEND_DESCRIPTOR)
    yield from asked.get_descriptors(Attribute.ENGINEHEUR_RESULTS, DescriptorType.ENGINECFG, count)


def rebuilt(library: Library, graph: Descriptor, choice: Choice, device: Descriptor | None) -> Descriptor:
    """The engine configuration of a choice that was made before."""
    engine = Descriptor(library, DescriptorType.ENGINE)
    engine.set(Attribute.ENGINE_OPERATION_GRAPH, AttributeType.BACKEND_DESCRIPTOR, [graph])
    engine.set(Attribute.ENGINE_GLOBAL_INDEX, AttributeType.INT64, [choice.engine])
    if device is not None:
        engine.set(Attribute.ENGINE_DEVICEPROP, AttributeType.BACKEND_DESCRIPTOR, [device])
    config = Descriptor(library, DescriptorType.ENGINECFG)
    config.set(Attribute.ENGINECFG_ENGINE, AttributeType.BACKEND_DESCRIPTOR, [engine.finalize()])
    knobs = [knob(library, name, value) for name, value in choice.knobs]
    config.set(Attribute.ENGINECFG_KNOB_CHOICES, AttributeType.BACKEND_DESCRIPTOR, knobs)
    return config.finalize()


def knob(library: Library, name: int, value: int) -> Descriptor:
    """A knob, set."""
    choice = Descriptor(library, DescriptorType.KNOB_CHOICE)
    choice.set(Attribute.KNOB_CHOICE_KNOB_TYPE, AttributeType.KNOB_TYPE, [name])
    choice.set(Attribute.KNOB_CHOICE_KNOB_VALUE, AttributeType.INT64, [value])
    return choice.finalize()
