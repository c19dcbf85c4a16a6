"""A net with its weights, its loss, its optimizer and a backend: what is trained, asked, saved and moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import wraps
from math import prod
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from array_api_compat import is_array_api_obj

from xcnn import checkpoint, loss_scaling, process, random, training, tree
from xcnn._arrays import unmasked
from xcnn._typing import Array, Shape, Weights
from xcnn.backends import Backend, backend_of, get_backend
from xcnn.backends import backend as make_backend
from xcnn.checks import check_flag, check_whole
from xcnn.errors import BackendError, BusyError, DataError, DTypeError, LabelError, OptionError, ShapeError, counted
from xcnn.history import History
from xcnn.layers.activations import sigmoid
from xcnn.layers.layer import Layer, Run
from xcnn.losses import THRESHOLDS, Loss, loss_function, loss_name
from xcnn.optimizers import Optimizer
from xcnn.optimizers import optimizer as make_optimizer
from xcnn.precision import Precision, check_numbers, mixed, policy, widened
from xcnn.progress import Progress
from xcnn.progress import progress as make_progress
from xcnn.summary import Summary, summarize
from xcnn.training import HostArray, Standing

AXES = {3: "(batch, channels, height, width)", 2: "(batch, channels, length)", 1: "(batch, features)"}


REBUILT = ("running_backend", "unfused_net", "running_net", "compiled_step")
"""What `_rebuild` makes anew, and pickles leave out."""
KEPT = ("turn",)
"""What belongs to this object alone."""

Method = TypeVar("Method", bound=Callable[..., Any])


def changes(what: str) -> Callable[[Method], Method]:
    """Let one thread at a time change a model by this method; any other is told X502."""

    def guard(method: Method) -> Method:
        @wraps(method)
        def guarded(self: Model, *args: Any, **kwargs: Any) -> Any:
            mine, before = self.turn.take()
            if not mine:
                raise BusyError(
                    "X502",
                    f"another thread is training this model: {what} would mix with its steps.",
                    hint="wait until its fit is over, or train a copy of the model: copy.deepcopy(model).",
                )
            try:
                return method(self, *args, **kwargs)
            finally:
                self.turn.give(before)

        return cast("Method", guarded)

    return guard


class Model:
    """A net that is built: its weights drawn from the seed, on a backend, ready to be trained.

    Parameters
    ----------
    net
        a layer, such as a Sequential
    input_shape
        of one sample, (channels, height, width) for images
    loss
        a name in xcnn.losses.LOSSES, or a function (y, t) -> (value, dy)
    optimizer
        a name, or a value such as xcnn.SGD(0.1, momentum=0.9)
    backend
        a name or a Backend; None is the process's (xcnn.set_backend)
    dtype
        "float32" or "float64", of the weights
    precision
        what layers compute in, None being the dtype: "float32", which is strict, "tf32", "bfloat16" or "float16" with
        float32 weights, "float64" with those; as far as the backend has it. float16 scales the loss's gradient
    seed
        of the initial weights, the order of samples and dropout's masks: one seed gives the same on every backend

    Raises
    ------
    ShapeError
        when the layers do not fit the input or each other; it names the layer.

    Notes
    -----
    `model.info` is a dict of yours, written to checkpoints; the command line keeps the names of the classes there.
    """

    def __init__(
        self,
        net: Layer,
        input_shape: Shape,
        *,
        loss: str | Loss = "cross_entropy",
        optimizer: str | Optimizer = "adam",
        backend: str | Backend | None = None,
        dtype: str = "float32",
        precision: str | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(net, Layer) or isinstance(net, type):
            raise OptionError(
                "X104", f"net must be a layer; got {net!r}.", hint="put the layers into xcnn.Sequential()."
            )
        self.policy = policy(precision, dtype)
        seed = random.check_seed(seed)
        if not isinstance(input_shape, tuple | list):
            raise OptionError("X104", f"input_shape must be a tuple, such as (1, 28, 28); got {input_shape!r}.")
        sizes = tuple(check_whole("each size of input_shape", n) for n in input_shape)
        self._net, self.input_shape, self.dtype, self.seed = net, sizes, dtype, seed
        self._loss, self._optimizer = loss_function(loss), make_optimizer(optimizer)
        self._check_numbers(self._optimizer, self._loss, self.policy)
        self._backend = get_backend() if backend is None else make_backend(backend)
        self._backend.under(self.policy)
        self.turn = process.Turn()
        drawn, self.output_shape = net.init(random.generator(seed), self.input_shape)
        weights = tree.map(self._send, drawn)
        self.at = Standing(weights, self._first_state(weights))
        self.history = History()
        self.plan: dict[str, Any] = {}
        self.info: dict[str, Any] = {}
        self._rebuild()

    def _rebuild(self) -> None:
        """What depends on the net, loss, optimizer, backend and precision together."""
        name = loss_name(self.loss)
        self.threshold = THRESHOLDS.get(name)
        self.places = prod(self.output_shape[1:])
        least = 2 if name == "cross_entropy" else 1
        if self.threshold is not None and (not self.output_shape or self.output_shape[0] < least):
            raise OptionError(
                "X104",
                f"{name} can't tell classes apart by an output of shape {self.output_shape}.",
                hint='give one output for each class, or loss="binary_cross_entropy_with_logits" for a single one.',
            )
        self.running_backend = backend = self.backend.under(self.policy)
        net = mixed(self.net, self.policy)
        self.unfused_net = widened(net, self.policy)
        self.running_net = widened(backend.rewrite(net), self.policy) if backend.fuse else self.unfused_net
        step = training.TrainingStep(self.running_net, self.loss, self.optimizer, self.threshold, backend)
        self.compiled_step: training.Step = backend.compile(step)

    def _check_numbers(self, optimizer: Optimizer, loss: Loss, policy: Precision) -> None:
        """Raise X104 where an option is 0 or infinite in the type that it is computed in."""
        check_numbers(mixed(self.net, policy), policy.dtype)
        check_numbers(optimizer, policy.dtype)
        check_numbers(getattr(loss, "keywords", {}), policy.dtype, loss_name(loss) or "the loss")

    def __repr__(self) -> str:
        return (
            f"Model({self.net!r}, input_shape={self.input_shape}, backend={self.backend.spec!r}, dtype={self.dtype!r}, "
            f"precision={self.precision!r})"
        )

    def __getstate__(self) -> dict[str, Any]:
        plan, at = self.standing()
        history = replace(self.history, rows=list(at.rows))
        state = {name: value for name, value in vars(self).items() if name not in (*REBUILT, *KEPT)}
        return {**state, "at": at, "plan": plan, "history": history}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.turn = process.Turn()
        self._rebuild()

    def standing(self) -> tuple[dict[str, Any], Standing]:
        """How it is being trained, and where that stands, both of one moment though another thread trains it."""
        while True:
            plan, at = self.plan, self.at
            if plan is self.plan:
                return plan, at

    # What it holds.

    @property
    def net(self) -> Layer:
        """The layers."""
        return self._net

    @property
    def backend(self) -> Backend:
        """Where the weights are; `to` moves them."""
        return self._backend

    @property
    def precision(self) -> str:
        """What the layers compute in. Another that goes with the weights' type may be assigned; None is that type."""
        return self.policy.name

    @precision.setter
    @changes("another precision")
    def precision(self, new: str | None) -> None:
        chosen = policy(new, self.dtype)
        self.backend.under(chosen)  # what it refuses changes nothing
        self._check_numbers(self.optimizer, self.loss, chosen)
        self.policy = chosen
        moments = {name: leaf for name, leaf in self.at.state.items() if name not in loss_scaling.TYPES}
        self.at = replace(self.at, state={**moments, **self._scaling(self.at.state)})
        self._rebuild()

    @property
    def loss(self) -> Loss:
        """The loss. Another may be assigned, by name or as a function."""
        return self._loss

    @loss.setter
    @changes("another loss")
    def loss(self, new: str | Loss) -> None:
        loss = loss_function(new)
        self._check_numbers(self.optimizer, loss, self.policy)
        self._loss = loss
        self._rebuild()

    @property
    def weights(self) -> Weights:
        """The tree of weights, on the model's backend; arrays of the same names and shapes may be assigned."""
        return self.at.weights

    @weights.setter
    @changes("other weights")
    def weights(self, new: Weights) -> None:
        check_same_shapes(new, self.at.weights)
        hosts = tree.map(lambda w: unmasked(w) if isinstance(w, np.ndarray) else backend_of(w).to_numpy(w), new)
        self.at = replace(self.at, weights=tree.map(lambda w: self._send(np.array(w)), hosts))  # a copy of its own

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer. Another of its kind goes on with the moments of the one before, other kinds start anew."""
        return self._optimizer

    @optimizer.setter
    @changes("another optimizer")
    def optimizer(self, new: str | Optimizer) -> None:
        optimizer = make_optimizer(new)
        self._check_numbers(optimizer, self.loss, self.policy)
        before, self._optimizer = self._optimizer, optimizer
        if type(before) is not type(self._optimizer) or before.moments != self._optimizer.moments:
            self.at = replace(self.at, state=self._first_state(self.at.weights, self.at.state))
        self._rebuild()

    def _first_state(self, weights: Weights, before: Weights | None = None) -> Weights:
        """The optimizer's state before its first step, with the loss's scale of the state before."""
        with self.backend.active():
            return {**self._optimizer.init(weights), **self._scaling(before or {})}

    def _scaling(self, before: Weights) -> Weights:
        """The loss's scale as it was before, or a new one; nothing where the policy has none."""
        if not self.policy.scales:
            return {}
        with self.backend.active():
            return loss_scaling.entries_of(before) or loss_scaling.entries(self.backend)

    @changes("another backend")
    def to(self, backend: str | Backend, **options: Any) -> Model:
        """Move the weights and the optimizer's state to another backend, and return the model.

        Between two libraries on one device they stay where they are: both see the same memory (`Backend.bring`).
        """
        there = make_backend(backend, **options)
        there.under(self.policy)  # what it refuses changes nothing

        def move(leaf: Any) -> Any:
            return leaf if isinstance(leaf, int) else there.bring(leaf, self.backend)

        moved = replace(self.at, weights=tree.map(move, self.at.weights), state=tree.map(move, self.at.state))
        self._backend, self.at = there, moved
        self._rebuild()
        return self

    # Training and asking.

    @changes("a second fit")
    def fit(
        self,
        x: Any,
        y: Any,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        validation_data: tuple[Any, Any] | None = None,
        callbacks: Iterable[training.Callback] | training.Callback = (),
        progress: str | bool | Progress = "auto",
        shuffle: bool = True,
        resume: bool = False,
    ) -> History:
        """Train on host arrays, each batch moved to the backend.

        An epoch's order is a permutation drawn from (seed, epoch); a last smaller batch counts by its size. Ctrl-C ends
        training with the weights of the last finished step and `history.stopped == "interrupted"`.

        Parameters
        ----------
        x : (samples, *input_shape)
            floating-point numbers
        y : (samples,) or (samples, *output_shape)
            whole-number labels for classifiers, or targets shaped like the output
        epochs
            how many more; with `resume` how many in all, the unfinished one going on where it stood, on the same data
        validation_data
            (x, y) measured after each epoch
        callbacks
            functions (model, history), called after each epoch; True ends training. A method `start(model)` of theirs
            is called when training begins, `finish(model, history)` when it is over, however: `history.stopped` is then
            "finished", "early", "interrupted", "diverged" or, where anything else raised an error, "failed"
        progress
            "auto", "live", "plain" or "none", on stderr

        Raises
        ------
        DivergedError
            X501, when the loss or a gradient is no longer finite; the weights before that step are kept.
        BusyError
            X502, while another thread trains this model.
        """
        epochs, batch_size = check_whole("epochs", epochs, least=0), check_whole("batch_size", batch_size)
        x, y = self._data(x, y)
        if validation_data is not None and (not isinstance(validation_data, tuple | list) or len(validation_data) != 2):
            raise OptionError("X104", "validation_data must be a pair (x, y).")
        return training.fit(
            self,
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            validation=None if validation_data is None else self._data(*validation_data),
            callbacks=training.check_callbacks(callbacks),
            progress=make_progress(progress),
            shuffle=check_flag("shuffle", shuffle),
            resume=check_flag("resume", resume),
        )

    @changes("a step")
    def step(self, x: Any, y: Any) -> float:
        """Train on one batch; its loss. It counts as a step, but not within an epoch of `fit`."""
        before = self.at
        loss = training.take_step(self, *self._data(x, y))
        self.at = replace(self.at, batch=before.batch, loss=before.loss, right=before.right, seen=before.seen)
        return loss

    def evaluate(self, x: Any, y: Any, batch_size: int = 256) -> dict[str, float]:
        """{"loss": mean over the samples}, and for classifiers "accuracy"."""
        batch_size = check_whole("batch_size", batch_size)
        return training.measure(self, *self._data(x, y), batch_size)

    def predict(self, x: Any, batch_size: int = 256) -> HostArray:
        """The net's outputs (samples, *output_shape) as a NumPy array.

        While another thread trains the model, all batches meet the weights of one step.
        """
        batch_size = check_whole("batch_size", batch_size)
        x, weights = self._inputs(x), self.at.weights
        starts = range(0, max(len(x), 1), batch_size)
        return np.concatenate([self.backend.to_numpy(self.forward(x[at : at + batch_size], weights)) for at in starts])

    def probabilities(self, x: Any, batch_size: int = 256) -> HostArray:
        """The outputs of a classifier as probabilities (samples, classes), float64, by what its loss takes them for.

        Softmax of the logits of cross_entropy, sigmoid of those of binary_cross_entropy_with_logits, and the outputs
        themselves for binary_cross_entropy. A single unit p gives the two classes 1 - p and p. A logit of -inf is the
        probability 0; rows of them alone, and those with +inf, are NaN, as PyTorch has it.

        Raises
        ------
        OptionError
            X104, when the loss is not a classifier's.
        """
        y = self.predict(x, batch_size).astype("float64")
        with np.errstate(all="ignore"):
            match loss_name(self.loss):
                case "cross_entropy":
                    p = np.exp(y - y.max(axis=1, keepdims=True))
                    p = p / p.sum(axis=1, keepdims=True)
                    rest = 1 - p
                case "binary_cross_entropy_with_logits":
                    p, rest = sigmoid(np, y), sigmoid(np, -y)
                case "binary_cross_entropy":
                    p, rest = y, 1 - y
                case other:
                    raise OptionError("X104", f"the outputs of a net with {other or 'this loss'} are no probabilities.")
        return np.concatenate([rest, p], axis=1) if p.shape[1] == 1 else p

    def forward(self, x: HostArray, weights: Weights | None = None) -> Array:
        """The output for one batch, an array of the backend; with the model's weights unless others are given."""
        backend = self.running_backend
        with backend.active():
            y, _ = self.running_net(
                self.at.weights if weights is None else weights, backend.asarray(x, self.dtype), Run(backend)
            )
        return y

    def summary(self, batch_size: int = 32) -> Summary:
        """A table of the layers with shapes, parameters and memory, which prints itself."""
        return summarize(self, batch_size)

    # Files.

    def save(self, path: str | Path) -> None:
        """Write a checkpoint: weights, optimizer state, configuration and history, in one safetensors file.

        It is written beside the path, synced and renamed: the path holds the old file or the new one, whole. A symbolic
        link is followed: what it leads to is replaced. Read-only files, FIFOs and devices are not replaced.
        """
        checkpoint.save(self, path)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        backend: str | Backend | None = None,
        layers: Mapping[str, type] | None = None,
        loss: Loss | None = None,
        precision: str | None = None,
    ) -> Model:
        """The model that was saved, on any backend (by default the process's).

        Parameters
        ----------
        layers
            your own layers' classes by name, where the net has any
        loss
            your own loss, where the model was saved with one
        precision
            another than it was saved with, where the backend does not have that one

        Raises
        ------
        CheckpointError
            X401 incomplete, X402 altered, X403 not one of ours or of unknown layers, X404 too large.
        OptionError
            X104, where the backend does not compute in the model's precision.
        """
        return checkpoint.load(cls, path, backend=backend, layers=layers or {}, loss=loss, precision=precision)

    # Host data.

    def _send(self, array: Any) -> Array:
        return self.backend.asarray(array, self.dtype)

    def _data(self, x: Any, y: Any) -> tuple[HostArray, HostArray]:
        x, y = self._inputs(x), host_array("y", y)
        if len(x) != len(y) or not len(x):
            what = "x and y are empty." if len(x) == len(y) else f"x has {counted(len(x), 'sample')}, y {len(y)}."
            raise DataError("X203", what, hint="give as many labels as images, and at least one.")
        return x, self._targets(y)

    def _targets(self, y: HostArray) -> HostArray:
        """Labels as int64, targets in the model's type."""
        shaped = y.shape[1:] == self.output_shape
        if self.threshold is not None and not (shaped and self.output_shape[0] > 1):
            check_labels(y, self.output_shape[0], soft=shaped)
        with np.errstate(all="ignore"):
            targets: HostArray = y.astype(self.dtype) if y.dtype.kind in "iufb" else y
            if y.dtype.kind not in "iufb" or not np.isfinite(targets).all():
                what = f"it is {y.dtype}" if y.dtype.kind not in "iuf" or np.isfinite(y).all() else "it is not"
                raise DataError(
                    "X203", f"y must hold finite numbers of {self.dtype}; {what}.", hint="mend the targets."
                )
        if self.threshold is not None and shaped:
            check_shares(y, sums=loss_name(self.loss) == "cross_entropy")
        return targets if shaped or self.threshold is None else y.astype("int64")

    def _inputs(self, x: Any) -> HostArray:
        x = host_array("x", x)
        if x.shape == (0,) != (0, *self.input_shape):  # an empty list
            raise DataError("X203", "x is empty.", hint=f"give samples, x of shape (any, {_listed(self.input_shape)}).")
        if x.shape[1:] != self.input_shape or x.ndim == 0:
            raise ShapeError(
                "X101",
                f"the model takes samples of shape {self.input_shape}.",
                f"got x {x.shape}, expected {AXES.get(len(self.input_shape), 'batch first')} = (any, "
                f"{_listed(self.input_shape)})",
                hint=_shape_hint(x.shape, self.input_shape),
            )
        if x.dtype.kind != "f":
            scaled = " / 255" if x.dtype == np.uint8 else ""
            raise DTypeError(
                "X103",
                f"x is {x.dtype}; layers compute in {self.dtype}.",
                hint=f'x = x.astype("{self.dtype}"){scaled}',
            )
        with np.errstate(all="ignore"):
            inputs: HostArray = x.astype(self.dtype, copy=False)
        if not np.isfinite(inputs).all():
            bad = np.flatnonzero(~np.isfinite(inputs).reshape(len(x), -1).all(axis=1))
            raise DataError(
                "X203",
                f"x holds NaN or infinity in sample {bad[0]} ({counted(len(bad), 'such sample')}).",
                hint="mend the data.",
            )
        return inputs


def host_array(name: str, x: Any) -> HostArray:
    """A NumPy array of what the user gave.

    Raises
    ------
    BackendError
        X301, for an array of another library.
    DataError
        X203, for what has a mask, or is no array.
    """
    unmasked(x, name)
    if is_array_api_obj(x) and not isinstance(x, np.ndarray | np.generic):
        library = type(x).__module__.partition(".")[0]
        owned = backend_of(x).library == library
        raise BackendError(
            "X301",
            f"{name} is an array of {library}; fit, evaluate and predict take host arrays and move each batch.",
            hint=f"{name} = xcnn.backend_of({name}).to_numpy({name})" if owned else f"{name} = numpy.asarray({name})",
        )
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise DataError("X203", f"{name} is no regular array: {error}", hint="every sample needs one shape.") from error
    if array.ndim == 0:
        raise DataError("X203", f"{name} must hold samples along its first axis; got {x!r}.", hint="give an array.")
    return array


def check_labels(labels: HostArray, outputs: int, soft: bool = False) -> None:
    """Raise LabelError X201 where labels are not whole numbers 0 .. outputs - 1, or with `soft` lie between them.

    A single output tells two classes apart, 0 and 1.
    """
    if labels.dtype.kind not in "iufb":
        raise LabelError(
            "X201", f"labels must be whole numbers; got {labels.dtype}.", hint="number the classes from 0."
        )
    last = max(outputs, 2) - 1
    fits = (labels >= 0) & (labels <= last) & (soft | (labels == np.floor(labels)))
    wrong = np.argwhere(~fits)
    if len(wrong):
        at = tuple(wrong[0])
        allowed = "a single output" if outputs == 1 else f"{outputs} outputs"
        more = np.isfinite(labels).all() and np.max(labels) > last
        raise LabelError(
            "X201",
            f"labels must be 0..{last} for {allowed}; found {labels[at]} at index "
            f"{', '.join(map(str, at))} (and {len(wrong) - 1} more).",
            hint=f"let the last layer have {int(np.max(labels)) + 1} outputs, or mend the labels."
            if more
            else "count classes from 0.",
        )


def check_shares(targets: HostArray, sums: bool) -> None:
    """Raise LabelError X201 unless targets shaped like a classifier's output are 0..1, with the `sums` 1 over axis 1.

    Sums may be off by what rounding to float16 makes, in which shares may have been kept.
    """
    if not ((targets >= 0) & (targets <= 1)).all():
        raise LabelError(
            "X201", "targets shaped like a classifier's output must be 0..1.", hint="give one-hot rows, or labels."
        )
    if not sums:
        return
    sums_of_rows = targets.sum(axis=1, dtype="float64")
    wrong = np.argwhere(np.abs(sums_of_rows - 1) > 2.0**-10)
    if len(wrong):
        total = sums_of_rows[tuple(wrong[0])]
        raise LabelError(
            "X201",
            f"rows of targets must be distributions, with the sum 1 over the classes; found {total:g} at index "
            f"{', '.join(map(str, wrong[0]))} (and {len(wrong) - 1} more).",
            hint="y = y / y.sum(axis=1, keepdims=True); several at once want binary_cross_entropy_with_logits.",
        )


def check_same_shapes(new: Weights, old: Weights) -> None:
    """Raise ShapeError X101 unless both trees have the same names and shapes."""
    shapes = [{name: tuple(w.shape) for name, w in tree.items(weights)} for weights in (new, old)]
    if shapes[0] != shapes[1]:
        odd = sorted(set(shapes[0].items()) ^ set(shapes[1].items()))
        raise ShapeError("X101", f"these weights are not the net's: {odd[0][0]!r} differs.", f"differences: {odd[:6]}")


def _listed(shape: Shape) -> str:
    return ", ".join(map(str, shape))


def _shape_hint(shape: Shape, input_shape: Shape) -> str:
    if shape == input_shape:
        return "a single sample is a batch of one: x[None]."
    if len(input_shape) == 3 and len(shape) == 3 and input_shape[0] == 1 and shape[1:] == input_shape[1:]:
        return "add the channel axis: x[:, None]."
    if len(input_shape) == 3 and len(shape) == 4 and (shape[3], *shape[1:3]) == input_shape:
        return "the channels come first: x.transpose(0, 3, 1, 2)."
    return f"build the model with input_shape={tuple(shape[1:])}, or reshape x."
