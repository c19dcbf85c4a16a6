"""What a layer is: hyper-parameters in a frozen dataclass, a way to draw weights, and y with its own backward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, runtime_checkable

from xcnn.core.arrays import namespace
from xcnn.core.checks import check_flag
from xcnn.core.types import Array, Backward, Rng, Shape, Weights
from xcnn.errors import OptionError, short

if TYPE_CHECKING:
    from xcnn.core.primitives import Primitives
    from xcnn.core.random import Key


@dataclass(frozen=True, slots=True)
class Share:
    """Which samples of a batch a call has, where several processes have some each: `first` to `first` + N - 1.

    Parameters
    ----------
    first
        the number of the first of them in the batch
    whole
        samples of the batch, those of all processes
    sum
        the sum of an array over all processes, each of which calls it with one of the same shape and type
    each
        (processes, ...), the array of each process in their order, which all call as they do `sum`
    """

    first: int
    whole: int
    sum: Callable[[Array], Array]
    each: Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Run:
    """What a call of a layer runs on: the backend, whether it trains, the key of its randomness, and who looks on.

    Where nobody wants dX, as of a net's first layer in training, its backward may give None for it: a layer that passes
    its run on to others, and goes on with their dX, asks `wants_dx` first.

    Where nobody wants gradients at all, as in a prediction, containers drop each layer's backward at once, and with it
    all that it keeps: memory then follows from the largest layers, not from their number.

    Parameters
    ----------
    backend
        whose primitives are called
    train
        whether this is training: batch statistics, dropout
    key
        a path of whole numbers, (seed, step, place, ...)
    hook
        who sees each layer's output and gradient; None is nobody
    wants_dx
        whether dX is asked for
    wants_backward
        whether backward is going to be called; without `train` it gives the gradients of a prediction
    share
        the samples that this call has, where a batch is computed by several processes; None is all of them

    Raises
    ------
    OptionError
        X104, for what is neither True nor False, and for a backend's name.

    Examples
    --------
    >>> net = xcnn.Sequential(xcnn.Dense(1, kernel_initializer="ones"), xcnn.ReLU())
    >>> weights, _ = net.init(np.random.default_rng(0), (2,))
    >>> y, backward = net(weights, np.array([[1.0, 2]]), xcnn.Run(xcnn.backend("numpy")))
    >>> dx, grads = backward(np.ones_like(y))
    >>> y.tolist(), dx.tolist(), grads["dense1"]["kernel"].tolist()
    ([[3.0]], [[1.0, 1.0]], [[1.0], [2.0]])
    """

    backend: Primitives
    train: bool = False
    key: Key = (0,)
    hook: Hook | None = None
    wants_dx: bool = True
    wants_backward: bool = True
    share: Share | None = None

    def __post_init__(self) -> None:
        if not (type(self.train) is type(self.wants_dx) is type(self.wants_backward) is bool):
            for name in ("train", "wants_dx", "wants_backward"):  # "no" would count as true
                object.__setattr__(self, name, check_flag(name, getattr(self, name)))
        if isinstance(self.backend, str):
            raise OptionError(
                "X104", f"a run is on a backend, not on its name {short(self.backend)}.", hint="xcnn.backend(name)"
            )

    @property
    def by_layer(self) -> bool:
        """Whether somebody looks at each layer by itself."""
        return self.hook is not None and not self.hook.of_runs

    def child(self, n: int, name: str, wants_dx: bool = True) -> Run:
        """The same for the n-th layer inside, with a key of its own."""
        hook = None if self.hook is None else replace(self.hook, path=(*self.hook.path, name))
        return Run(self.backend, self.train, (*self.key, n), hook, wants_dx, self.wants_backward, self.share)

    def wanting(self, wants_dx: bool) -> Run:
        """The same, where dX is asked for or not."""
        if wants_dx == self.wants_dx:
            return self
        return Run(self.backend, self.train, self.key, self.hook, wants_dx, self.wants_backward, self.share)

    # What is not of one sample alone: a layer that asks here computes the same, whoever has the rest of its batch.

    def batch_size(self, samples: int) -> int:
        """How many samples the batch has of which a call has so many."""
        return samples if self.share is None else self.share.whole

    def sum_over_batch(self, part: Array) -> Array:
        """The sum over a whole batch, of what it is over the samples that this call has."""
        return part if self.share is None else self.share.sum(part)

    def each_of_batch(self, part: Array) -> Array:
        """(shares, ...): what each share of a whole batch has, of what it is of the samples that this call has."""
        return part[None, ...] if self.share is None else self.share.each(part)

    def sums_over_batch(self, *parts: Array) -> tuple[Array, ...]:
        """The sums of several arrays of one shape and type, which go to other processes as one."""
        if self.share is None:
            return parts
        whole = self.sum_over_batch(namespace(parts[0]).stack(parts))
        return tuple(whole[n, ...] for n in range(len(parts)))

    def random_bits(self, shape: Shape) -> Array:
        """Random whole numbers 0 .. 2^32 - 1 for cells of these samples, (N, ...), by the run's key: see random.py."""
        if self.share is None:
            return self.backend.random_bits(self.key, shape)
        first, whole = self.share.first, (self.share.whole, *shape[1:])
        return self.backend.random_bits(self.key, whole)[first : first + shape[0], ...]


@dataclass(frozen=True, slots=True)
class Hook:
    """Sees each layer that a container calls: `look(path, layer, y, backward)` may answer with another backward.

    Parameters
    ----------
    path
        the names of the containers around
    of_runs
        whether a run of layers that is fused is looked at as one, under the name of its last, its backward taking
        (dy, grads); else its layers are called one by one
    before
        called as `before(path, layer, weights, x)` ahead of each layer that a container calls; None is nothing
    """

    look: Callable[[tuple[str, ...], Any, Array, Any], Any]
    path: tuple[str, ...] = ()
    of_runs: bool = False
    before: Callable[[tuple[str, ...], Any, Weights, Array], None] | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """Stands among the gradients for a weight that is not trained: the value that replaces it.

    Parameters
    ----------
    value
        in the weight's shape and type

    Examples
    --------
    >>> grads = {"kernel": np.ones((2, 3)), "running_mean": xcnn.Next(np.zeros(3))}
    """

    value: Array


@runtime_checkable
class Layer(Protocol):
    """The protocol of all layers and of whole nets.

    `init(rng, input_shape)` draws weights on the host and gives the output's shape, both without the batch axis.
    `layer(weights, x, run)` gives y and `backward`; `backward(dy)` gives dx and the gradients, a tree shaped like the
    weights.

    A layer of your own is called in every step. If its results follow from its arguments and attributes alone,
    `@xcnn.pure` above its class says so: then steps with it may be recorded, compiled or captured (core/pure.py).

    Examples
    --------
    >>> class Double:
    ...     def init(self, rng, input_shape):
    ...         return {}, input_shape
    ...     def __call__(self, weights, x, run):
    ...         return 2 * x, lambda dy: (2 * dy, {})
    >>> isinstance(Double(), xcnn.Layer), xcnn.Model(Double(), (2,)).predict(np.array([[1.0, 2]])).tolist()
    (True, [[2.0, 4.0]])
    """

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        """Draw the weights for inputs of this shape."""
        ...

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        """Y, and the function from dy to dx and the gradients."""
        ...


def no_backward(*given: object) -> NoReturn:
    """The backward of a run that does not want one.

    Raises
    ------
    OptionError
        X104
    """
    raise OptionError(
        "X104",
        "this run keeps nothing for a backward pass.",
        hint="call the net with Run(backend), whose wants_backward is True.",
    )
