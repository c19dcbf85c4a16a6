"""A fully connected layer."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from xcnn.core.arrays import total
from xcnn.core.checks import VECTOR, check_input, check_rank, check_whole
from xcnn.core.initializers import Initializer, initial, initializer, zeros
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, InitializerName, Rng, Shape, Weights
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run


@computes_in_half
@checked
@dataclass(frozen=True)
class Dense:
    """Y = X W + B.   dW = Xᵀ dY,  dB = sum of dY over the batch,  dX = dY Wᵀ.

    (N, features) -> (N, units); W is (features, units).

    Parameters
    ----------
    units
        features of Y
    bias
        whether B is added
    kernel_initializer
        how the kernel is drawn: a name in xcnn.initializers.INITIALIZERS, such as "he_normal", or a function (rng,
        shape, fan_in, fan_out) -> array

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that is not (N, features).

    Examples
    --------
    >>> weights, output_shape = xcnn.Dense(3).init(np.random.default_rng(0), (4,))
    >>> weights["kernel"].shape, weights["bias"].shape, output_shape
    ((4, 3), (3,), (3,))
    """

    units: int
    _: KW_ONLY
    bias: bool = True
    kernel_initializer: InitializerName | Initializer = "glorot_uniform"

    def __post_init__(self) -> None:
        check_whole("units", self.units)
        initializer(self.kernel_initializer)

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        (features,) = check_rank(self, input_shape, VECTOR)
        shape = (features, self.units)
        weights = {"kernel": initial(self.kernel_initializer, rng, shape, *shape)}
        if self.bias:
            weights["bias"] = zeros(rng, (self.units,))
        return weights, (self.units,)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        kernel = weights["kernel"]
        check_input(self, weights, x, VECTOR, kernel.shape[0])
        y = x @ kernel
        if self.bias:
            y = y + weights["bias"]
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            grads = {"kernel": x.T @ dy}
            if self.bias:
                grads["bias"] = total(dy, axis=0)
            return dy @ kernel.T if run.wants_dx else None, grads

        return y, backward
