"""What is no layer in a Keras model, as `x + y` and `2 * x`, and stands for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xcnn.exchange.keras.calls import arguments, references

OPERATIONS = ("Add", "Maximum", "Minimum", "Multiply", "Subtract")
"""Those that are what the layers of these names are."""
FUNCTIONS = (
    "Elu", "Gelu", "Mish", "Relu", "Relu6", "Selu", "Sigmoid", "Silu", "Softmax", "Softplus", "Softsign", "Tanh",
)  # fmt: skip
"""Those that are activations, in small letters."""


def is_operation(layer: Mapping[str, Any]) -> bool:
    """Whether what the graph calls is none of Keras's layers, but one of its functions."""
    return str(layer.get("module")).startswith("keras.src.ops.")


def operation(layer: Mapping[str, Any], call: Any) -> tuple[str, Mapping[str, Any]]:
    """The kind and the options of the layer that a call of an operation stands for."""
    config: Mapping[str, Any] = layer["config"]
    name, args = str(layer["class_name"]), arguments(call)
    numbers, values = [each for each in args if isinstance(each, int | float)], references(args)
    if call.get("kwargs") or len(numbers) + len(values) != len(args):
        return f"the operation {name}", config
    if name in OPERATIONS and len(values) == 2 == len(args):
        return name, {"axes_from_the_last": True}
    if name in FUNCTIONS and len(values) == 1 == len(args) and options_are_defaults(config):
        return "Activation", {"activation": name.lower()}
    if len(values) == 1 and (scaling := linear(name, numbers, not args or args[0] in numbers)):
        return "Rescaling", scaling
    return f"the operation {name}", config


def options_are_defaults(config: Mapping[str, Any]) -> bool:
    """Whether an operation's configuration says nothing but its name, its type, and that its axis is the last."""
    return all(value in (None, -1) for name, value in config.items() if name not in ("name", "dtype", "trainable"))


def linear(name: str, numbers: Sequence[float], number_first: bool) -> Mapping[str, Any] | None:
    """The options of the Rescaling that an operation with a number, or none, is; None where it is no such."""
    if name == "Negative" and not numbers:
        return {"scale": -1.0}
    if len(numbers) != 1:
        return None
    (number,) = numbers
    match name:
        case "Add":
            return {"offset": number}
        case "Multiply":
            return {"scale": number}
        case "Subtract":
            return {"scale": -1.0, "offset": number} if number_first else {"offset": -number}
        case "Divide" | "TrueDivide" if not number_first and number:
            return {"scale": 1 / number}
    return None
