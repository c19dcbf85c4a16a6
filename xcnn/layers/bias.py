"""The bias of layers that make images: one number for each filter, or the article's one for each output element."""

from __future__ import annotations

from xcnn.core.arrays import namespace, total
from xcnn.core.initializers import zeros
from xcnn.core.types import Array, Bias, Rng, Shape, Weights
from xcnn.errors import OptionError, ShapeError, short


class Biased:
    """Y = Z + B.   dB = dY, summed where B is shared. A layer's `bias` is True, False or "untied"."""

    bias: Bias

    def check_bias(self) -> None:
        """Raise X104 unless the option is one of its three values."""
        if not isinstance(self.bias, bool) and self.bias != "untied":
            raise OptionError("X104", f'bias must be True, False or "untied"; got {short(self.bias)}.')

    def init_bias(self, rng: Rng, output: Shape) -> Weights:
        """The bias, all zero, for an output (filters, H', W')."""
        if not self.bias:
            return {}
        return {"bias": zeros(rng, output if self.bias == "untied" else output[:1])}

    def add_bias(self, weights: Weights, z: Array) -> Array:
        """Z + B for Z (N, filters, H', W').

        Raises
        ------
        ShapeError
            X101, when an untied bias was made for images of another size.
        """
        if not self.bias:
            return z
        bias = weights["bias"]
        if self.bias != "untied":
            return z + namespace(z).reshape(bias, (-1, 1, 1))
        if tuple(z.shape[1:]) != tuple(bias.shape):
            raise ShapeError(
                "X101",
                f"has an untied bias for an output of {_by(bias)} but its output is {_by(z)}.",
                f"got an output {tuple(z.shape)}, the bias is {tuple(bias.shape)} = (filters, height, width)",
                hint="resize the images to those that the model was built for, or use bias=True.",
                layer=self,
            )
        return z + bias

    def bias_gradient(self, dy: Array) -> Weights:
        """DB as the gradients' entry; none where there is no bias."""
        if not self.bias:
            return {}
        return {"bias": total(dy, axis=0 if self.bias == "untied" else (0, 2, 3))}


def _by(image: Array) -> str:
    return f"{image.shape[-2]}x{image.shape[-1]}"
