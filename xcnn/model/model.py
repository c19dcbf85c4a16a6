"""A net with its weights, its loss, its optimizer and a backend: what is trained, asked, saved and moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import replace
from functools import partial, wraps
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import numpy as np

from xcnn.backends.contract import Backend
from xcnn.backends.selector import backend as make_backend
from xcnn.backends.selector import get_backend, with_precision
from xcnn.core import process, random, tree
from xcnn.core.checks import check_flag, check_rate, check_shape, check_whole
from xcnn.core.initializers import check_cells_of
from xcnn.core.options import explained, nearest
from xcnn.core.streams import Stream
from xcnn.core.types import (
    Array,
    DType,
    DTypeName,
    LossName,
    OptimizerName,
    PrecisionName,
    ProgressName,
    Shape,
    Weights,
)
from xcnn.data.images import FORMATS
from xcnn.errors import BusyError, OptionError, host_memory, short
from xcnn.layers.batch_norm import RUNNING, settled
from xcnn.layers.layer import Layer
from xcnn.model import checkpoint, habits, onnx_out, several
from xcnn.model.feeding import to_ask, to_measure, to_train_on
from xcnn.model.fit import augmentations, fit, weighed
from xcnn.model.held import class_names
from xcnn.model.host_data import fitting, samples_of, weight_of, weights_of
from xcnn.model.needs import at_once
from xcnn.model.predict import as_probabilities, in_views, mean, of_one_batch
from xcnn.model.summary import Summary, summarize
from xcnn.model.taking import Taking, check_scaling
from xcnn.model.weighing import weighing
from xcnn.training import loss_scaling
from xcnn.training.callbacks import Callback, check_callbacks
from xcnn.training.history import History
from xcnn.training.loop import measure
from xcnn.training.losses import OF_ONE_CLASS, THRESHOLDS, Loss, ignored, loss_function, loss_name, tell_bounded_logits
from xcnn.training.metrics import Metric, check_metrics
from xcnn.training.optimizers import SGD, Optimizer
from xcnn.training.optimizers import optimizer as make_optimizer
from xcnn.training.precision import Precision, check_numbers, dtype_name, mixed, policy, widened
from xcnn.training.progress import Progress
from xcnn.training.progress import progress as make_progress
from xcnn.training.schedules import Schedule, Shifted
from xcnn.training.schedules import learning_rate as rate_at
from xcnn.training.state import HostArray, TrainingState
from xcnn.training.step import Step, TrainingStep
from xcnn.training.together import Alone, check_together
from xcnn.training.trainer import Trainer

if TYPE_CHECKING:
    from xcnn.core.figure import Figure
    from xcnn.data.augment import Augmentation
    from xcnn.exchange.pytorch.weights import Loaded
    from xcnn.model.rate_search import RateSearch
    from xcnn.model.report import Report
    from xcnn.model.trace import Trace

LEFT_OUT = ("trainer", "turn")
"""What copies and pickles make anew."""

SET = ("learning_rate", "loss", "metrics", "optimizer", "precision", "scaling", "weights")
"""What may be assigned."""
KINDS: dict[str, type] = {"info": dict, "plan": dict, "state": TrainingState, "trainer": Trainer}
"""What may be assigned if it is of this kind, by users or by the rooms of this wing."""
FIXED = ("backend", "compiled_step", "dtype", "history", "input_shape", "net", "output_shape", "policy", "seed")
"""What a model is built with: another asks for another model, or for `to`."""

Method = TypeVar("Method", bound=Callable[..., Any])


def changes(what: str, trains: bool = False) -> Callable[[Method], Method]:
    """Let one thread at a time change a model by this method; any other is told X502.

    So is that thread itself, within a training, where the method `trains` too, and where a step is under way.
    """

    def guard(method: Method) -> Method:
        @wraps(method)
        def guarded(self: Model, *args: Any, **kwargs: Any) -> Any:
            turn, mine = self.turn, process.Hold()
            try:
                if not turn.take(mine):
                    raise busy("another thread is training this model", what, "wait until its fit is over")
                if mine.before is not None and (trains or mine.before.closed):
                    when = "when fit is over" if trains else "between epochs"
                    raise busy("this model is being trained", what, f"do it {when}")
                return method(self, *args, **kwargs)
            finally:  # an interrupt finds no call here
                if turn.owner is mine:
                    turn.owner = mine.before

        return cast("Method", guarded)

    return guard


def busy(why: str, what: str, wait: str) -> BusyError:
    """X502"""
    hint = f"{wait}, or train a copy of the model: copy.deepcopy(model)."
    return BusyError("X502", f"{why}: {what} would mix with its steps.", hint=hint)


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
    metrics
        what `fit` and `evaluate` measure beside it: names such as "f1" and "top5", values of xcnn.metrics, functions
        (y, t) -> value, or objects with update(y, t) and result()
    optimizer
        a name, or a value such as xcnn.SGD(0.1, momentum=0.9)
    backend
        a name or a Backend; None is the process's (xcnn.set_backend)
    dtype
        "float32" or "float64", of the weights; np.float32 and its like will do
    precision
        what layers compute in, None being the dtype: "float32", which is strict, "tf32", "bfloat16" or "float16" with
        float32 weights, "float64" with those; as far as the backend has it. float16 scales the loss's gradient
    seed
        of the initial weights, the order of samples and dropout's masks: one seed gives the same on every backend
    scaling
        what is made of samples: "bytes" divides bytes (uint8) by 255, and takes floating-point numbers in 0..1 alone;
        "floats" takes numbers as they are, and no bytes; None lets the first training decide

    Raises
    ------
    ShapeError
        when the layers do not fit the input or each other; it names the layer.

    Notes
    -----
    `model.info` is a dict of yours, written to checkpoints; the command line keeps the names of the classes there.

    Examples
    --------
    >>> net = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2))
    >>> model = xcnn.Model(net, (1, 4, 4), optimizer=xcnn.Adam(0.1), backend="numpy")
    >>> x, y = np.eye(16, dtype="float32").reshape(16, 1, 4, 4), np.arange(16) % 2
    >>> history = model.fit(x, y, epochs=30, progress="none")
    >>> model.evaluate(x, y)["accuracy"], model.predict(x).shape
    (1.0, (16, 2))
    """

    dtype: DTypeName
    """The type of the weights, "float32" or "float64"."""
    history: History
    """A row for each epoch that it was trained."""
    info: dict[str, Any]
    """Yours; checkpoints keep it."""
    input_shape: Shape
    """Of one sample."""
    output_shape: Shape
    """Of one sample's output."""
    plan: dict[str, Any]
    """How it was trained last, of which `fit(resume=True)` goes on."""
    policy: Precision
    """The types of the weights and of what layers compute."""
    seed: int
    state: TrainingState
    """The weights, the optimizer's state and how far training is."""
    trainer: Trainer
    turn: process.Turn

    @explained
    def __init__(
        self,
        net: Layer,
        input_shape: Shape,
        *,
        loss: LossName | Loss = "cross_entropy",
        metrics: Iterable[Any] | str | Metric = (),
        optimizer: OptimizerName | Optimizer = "adam",
        backend: str | Backend | None = None,
        dtype: DType = "float32",
        precision: PrecisionName | None = None,
        seed: int = 0,
        scaling: str | None = None,
    ) -> None:
        if not isinstance(net, Layer) or isinstance(net, type):
            raise OptionError(
                "X104", f"net must be a layer; got {short(net)}.", hint="put the layers into xcnn.Sequential()."
            )
        kind = dtype_name(dtype)
        self.policy = policy(precision, kind)
        seed = random.check_seed(seed)
        net, input_shape = several.packed(net, input_shape)
        sizes = check_shape("input_shape", input_shape, least=1)
        self._net, self.input_shape, self.dtype, self.seed = net, sizes, kind, seed
        self._loss, self._optimizer = loss_function(several.losses_of(net, loss)), make_optimizer(optimizer)
        self._kept_scaling = check_scaling(scaling)
        self._metrics = several.measured(check_metrics(metrics), self._loss)
        self._check_numbers(self._optimizer, self._loss, self.policy)
        self._backend = get_backend() if backend is None else make_backend(backend)
        with_precision(self._backend, self.policy)
        self.turn = process.Turn()
        with host_memory("the net's weights"), fitting(net, self.input_shape):
            drawn, self.output_shape = net.init(random.Typed(seed, self.dtype), self.input_shape)
            check_cells_of(self.output_shape)
            weights = drawn if isinstance(net, checkpoint.Restored) else tree.map(self._send, drawn)
        self._shapes = {path: np.shape(w) for path, w in tree.items(drawn)}
        self.state = TrainingState(weights, self._first_state(self._optimizer, weights))
        self.history = History()
        self.plan, self.info = {}, {}
        self.trainer = self._made()
        tell_bounded_logits(loss_name(self.loss), net, self.output_shape)
        if not isinstance(net, checkpoint.Restored):
            habits.tell_momentum(net)

    def _become(self, **changed: Any) -> None:
        """Change attributes, and the trainer that follows from them: all, or where one is refused, none.

        An interrupt too finds the model as it was, or as it is then: the last call runs no Python.
        """
        other = object.__new__(type(self))
        vars(other).update(vars(self), **changed)
        changed["trainer"] = other._made()
        vars(self).update(changed)

    def _made(self) -> Trainer:
        """The trainer, which follows from the net, loss, optimizer, backend and precision together."""
        self._check_numbers(self.optimizer, self.loss, self.policy)
        name = loss_name(self.loss)
        threshold, least = THRESHOLDS.get(name), 2 if name in OF_ONE_CLASS else 1
        if threshold is not None and (not self.output_shape or self.output_shape[0] < least):
            raise OptionError(
                "X104",
                f"{name} can't tell classes apart by an output of shape {self.output_shape}.",
                hint='give one output for each class, or loss="binary_cross_entropy_with_logits" for a single one.',
            )
        backend, cast = with_precision(self.backend, self.policy), mixed(self.net, self.policy)
        layers = widened(cast, self.policy)
        net = widened(backend.rewrite(cast), self.policy) if backend.fuse else layers
        left_out = ignored(self.loss)
        metrics = tuple(metric.bound(threshold, left_out) for metric in self.metrics)
        accumulate = int(self.plan.get("accumulate", 1))
        optimizer, began = self.optimizer, self.state.rate_offset
        if began and isinstance(optimizer.learning_rate, Schedule):
            optimizer = optimizer.with_rate(Shifted(optimizer.learning_rate, began))
        return Trainer(
            net=net,
            layers=layers,
            loss=self.loss,
            optimizer=optimizer,
            threshold=threshold,
            places=prod(self.output_shape[1:]),
            at_once=at_once(self.net, self.input_shape, backend.cells_at_once),
            seed=self.seed,
            dtype=self.dtype,
            precision=self.precision,
            backend=backend,
            step=backend.compile(
                TrainingStep(net, self.loss, optimizer, threshold, backend, bool(metrics), accumulate)
            ),
            metrics=metrics,
            accumulate=accumulate,
        )

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

    def __setattr__(self, name: str, value: Any) -> None:
        """Set what may be set: an attribute that nothing reads would do nothing, in silence."""
        if name in SET or isinstance(value, KINDS.get(name, ())):
            object.__setattr__(self, name, value)
            return
        begun = name in vars(self) or hasattr(type(self), name)
        inner = name.startswith("_") or name == "turn" or (type(self) is not Model and name not in KINDS)
        if inner or (name in FIXED and not begun):
            object.__setattr__(self, name, value)
            return
        if name in KINDS:
            raise OptionError("X104", f"model.{name} must be a {KINDS[name].__name__}; got {short(value)}.")
        if name in FIXED:
            hint = 'model.to("numpy") moves it.' if name == "backend" else "build another model: xcnn.Model(...)."
            raise OptionError("X104", f"a model's {name} can't be changed.", hint=hint)
        meant = nearest(name, (*SET, *KINDS, *FIXED))
        guess = f"did you mean model.{meant}?" if meant else "what is yours goes into model.info, a dict."
        raise OptionError(
            "X104", f"a model has no attribute {short(name)} to set.", hint=habits.SETTING.get(name, guess)
        )

    def __getattr__(self, name: str) -> NoReturn:
        habits.no_attribute(self, name)

    def __getstate__(self) -> dict[str, Any]:
        plan, state = self.standing()
        state = state.with_rows_of_its_own()
        kept = {name: value for name, value in vars(self).items() if name not in LEFT_OUT}
        own = {"plan": dict(plan), "info": deepcopy(self.info), "history": replace(self.history, rows=[*state.rows])}
        return {**kept, "state": state, **own}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        vars(self).update(kept)
        self.turn = process.Turn()
        self.trainer = self._made()

    def standing(self) -> tuple[dict[str, Any], TrainingState]:
        """How it is being trained, and where that stands, both of one moment though another thread trains it."""
        while True:
            plan, state = self.plan, self.state
            if plan is self.plan:
                return plan, state

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
    def precision(self) -> PrecisionName:
        """What the layers compute in. Another that goes with the weights' type may be assigned; None is that type."""
        return self.policy.name

    @precision.setter
    @changes("another precision")
    def precision(self, new: str | None) -> None:
        chosen, before = policy(new, self.dtype), self.state.optimizer_state
        moments = {name: leaf for name, leaf in before.items() if name not in loss_scaling.TYPES}
        state = replace(self.state, optimizer_state={**moments, **self._scaling(chosen, before)})
        self._become(policy=chosen, state=state)

    @property
    def scaling(self) -> str | None:
        """What it makes of samples: "bytes" scales bytes to 0..1, "floats" takes numbers as they are; None is open.

        It is "bytes" once a model is trained on bytes or on photos, and "floats" once it is trained on numbers, whose
        scale nobody has told: then bytes are refused, unless "bytes" is assigned. Checkpoints keep it.
        """
        return self.taking.scaling

    @scaling.setter
    @changes("another scaling")
    def scaling(self, new: str | None) -> None:
        self._kept_scaling = check_scaling(new)

    @property
    def taking(self) -> Taking:
        """What it makes of bytes and of the names of classes, as the rooms of this wing ask for it."""
        return Taking(self._kept_scaling or ("floats" if self.state.step else None), tuple(class_names(self)))

    @property
    def loss(self) -> Loss:
        """The loss. Another may be assigned, by name or as a function."""
        return self._loss

    @loss.setter
    @changes("another loss")
    def loss(self, new: str | Loss) -> None:
        loss = loss_function(several.losses_of(self.net, new))
        self._become(_loss=loss, _metrics=several.measured(self.metrics, loss))
        tell_bounded_logits(loss_name(loss), self.net, self.output_shape, stacklevel=5)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured beside the loss. Others may be assigned between epochs, as they are given to Model."""
        return self._metrics

    @metrics.setter
    @changes("other metrics")
    def metrics(self, new: Iterable[Any] | str | Metric) -> None:
        if self.state.batch:
            hint = "finish it first: fit(..., resume=True)."
            raise OptionError("X104", "other metrics would miss the batches of the epoch that is open.", hint=hint)
        self._become(_metrics=several.measured(check_metrics(new), self.loss))

    @property
    def learning_rate(self) -> float:
        """The rate of the next step. Another, or a schedule, may be assigned: the optimizer's moments and steps go on.

        So a schedule that is assigned here stands where the one before stood; with another optimizer it begins anew.
        """
        return rate_at(self.trainer.optimizer.learning_rate, self.state.optimizer_state["step"])

    @learning_rate.setter
    @changes("another learning rate")
    def learning_rate(self, new: float | Schedule) -> None:
        self._become(_optimizer=self.optimizer.with_rate(new))

    @property
    def compiled_step(self) -> Step:
        """The training step as the backend compiled it; its `reason` says why it did not, where it has one."""
        return self.trainer.step

    @property
    def weights(self) -> Weights:
        """The tree of weights as they are now, on the model's backend.

        Numbers of any library in the shapes that the net declares may be assigned, a copy of them being taken: to the
        whole, or to a branch or a leaf of it, as in model.weights["conv1"]["kernel"] = kernel. `edit` sets cells: the
        arrays themselves are read-only where the library has such (NumPy, JAX, array-api-strict). On PyTorch and CuPy
        they are the model's memory, and what is written into them is written into the model, unchecked.
        """
        now = [self.state.weights]
        return tree.Guarded(now[0], lambda path, new: self._set_weights(now, path, new), self.backend.shown)

    @weights.setter
    @changes("other weights")
    def weights(self, new: Weights) -> None:
        self._set_all(weights_of(self._shapes, new, self.dtype))

    @changes("other weights")
    def _set_weights(self, now: list[Weights], path: str, new: Weights) -> Weights:
        """Set some weights of the branch at this path; what it is then. `now` is the tree that was asked for."""
        if self.state.weights is not now[0]:
            raise OptionError(
                "X104",
                "these weights are of an earlier moment: the model was changed since.",
                hint=f"ask for them again: model.weights{''.join(f'[{name!r}]' for name in path.split('/')[:-1])}",
            )
        self._set_all(weights_of(self._shapes, new, self.dtype, path))
        branch = now[0] = self.state.weights
        for name in path.split("/")[:-1]:
            branch = branch[name]
        return branch

    def _set_all(self, new: Mapping[str, HostArray]) -> None:
        """Let these leaves be the model's."""
        here = dict(tree.items(self.state.weights))
        old = {path: self.backend.to_numpy(w) for path, w in here.items() if path.endswith(RUNNING)}
        sent = {path: self._send(w) for path, w in settled(new, old).items()}
        state = self.state
        following = {
            name: tree.filled(state.optimizer_state[name], {**dict(tree.items(state.optimizer_state[name])), **sent})
            for name in self.optimizer.following
        }
        self.state = replace(
            state,
            weights=tree.filled(state.weights, {**here, **sent}),
            optimizer_state={**state.optimizer_state, **following},
        )

    @contextmanager
    def edit(self, path: str) -> Iterator[HostArray]:
        """A weight as a NumPy array whose cells may be set within a `with` block: the model takes them at its end.

        `path` is as in `with model.edit("conv1/kernel") as kernel: kernel[0, 0] = 1`. Some libraries' arrays can't be
        written; this is the way on every backend.

        Parameters
        ----------
        path
            of a weight, its branches before it

        Raises
        ------
        OptionError
            X104, for a path that the net does not have.
        DataError
            X203, for numbers that are not so in the net's type.

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> with model.edit("dense1/bias") as bias:
        ...     bias[0] = 1
        >>> model.weights["dense1"]["bias"].tolist()
        [1.0, 0.0]
        """
        if path not in self._shapes:
            names = ", ".join(self._shapes)
            hint = f"did you mean {meant!r}?" if (meant := nearest(str(path), self._shapes)) else f"it has {names}."
            raise OptionError("X104", f"the net has no weight {path!r}.", hint=hint)
        weights, (*branches, leaf) = self.weights, path.split("/")
        for name in branches:
            weights = weights[name]
        copy = np.array(self.backend.to_numpy(weights[leaf]))
        yield copy
        weights[leaf] = copy

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer. Another of its kind goes on with the moments of the one before, other kinds start anew.

        Its schedule begins anew, unless it is the very one of the optimizer before, as in
        Adam(model.optimizer.learning_rate). `model.learning_rate = schedule` lets another go on instead.
        """
        return self._optimizer

    @optimizer.setter
    @changes("another optimizer")
    def optimizer(self, new: str | Optimizer) -> None:
        optimizer, before, state = make_optimizer(new), self._optimizer, self.state
        moments = state.optimizer_state
        goes_on = optimizer.learning_rate is before.learning_rate
        done = moments["step"] + state.rate_offset if goes_on else 0
        if not optimizer.goes_on_from(before, state.weights):
            moments = self._first_state(optimizer, state.weights, moments)
        state = replace(state, optimizer_state=moments, rate_offset=done - moments["step"])
        self._become(_optimizer=optimizer, state=state)

    def _first_state(self, optimizer: Optimizer, weights: Weights, before: Weights | None = None) -> Weights:
        """The optimizer's state before its first step, with the loss's scale of the state before."""
        with self.backend.active():
            return {**optimizer.init(weights), **self._scaling(self.policy, before or {})}

    def _scaling(self, policy: Precision, before: Weights) -> Weights:
        """The loss's scale as it was before, or a new one; nothing where the policy has none."""
        if not policy.scales:
            return {}
        with self.backend.active():
            return loss_scaling.entries_of(before) or loss_scaling.entries(self.backend)

    @explained
    @changes("another backend")
    def to(self, backend: str | Backend, **options: Any) -> Model:
        """Move the weights and the optimizer's state to another backend, and return the model.

        Between two libraries on one device they stay where they are: both see the same memory (`Backend.from_other`).

        Parameters
        ----------
        backend
            a name, such as "numpy", "torch" or "cupy:1", or a Backend
        **options
            the backend's own: algorithm, fuse and others

        Raises
        ------
        BackendError, BackendUnavailable, OptionError
            as `xcnn.backend`; X104 also where it does not compute in the model's precision.

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> model.to("numpy", algorithm="literal").backend.algorithm
        'literal'
        """
        there = make_backend(backend, **options)
        with_precision(there, self.policy)  # what it refuses changes nothing

        def move(leaf: Any) -> Any:
            if isinstance(leaf, int):
                return leaf
            moved = there.from_other(leaf, self.backend)
            read_only = isinstance(moved, np.ndarray) and not moved.flags.writeable  # JAX's memory
            return moved.copy() if read_only else moved

        moved = replace(
            self.state,
            weights=tree.map(move, self.state.weights),
            optimizer_state=tree.map(move, self.state.optimizer_state),
        )
        self._become(_backend=there, state=moved)
        return self

    # Training and asking.

    @explained
    @changes("a second fit", trains=True)
    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        epochs: int = 1,
        batch_size: int = 32,
        validation_data: Any = None,
        validation_split: float | None = None,
        callbacks: Iterable[Callback] | Callback | None = (),
        progress: ProgressName | bool | Progress = "auto",
        shuffle: bool = True,
        resume: bool = False,
        augment: Augmentation | Iterable[Augmentation] = (),
        steps_per_epoch: int | None = None,
        workers: int | None = None,
        class_weight: Mapping[Any, float] | Iterable[float] | str | None = None,
        sample_weight: Any = None,
        accumulate: int = 1,
        parallel: Alone | None = None,
    ) -> History:
        """Train on host arrays, or on what is read as it is needed, each batch moved to the backend.

        An epoch's order is a permutation drawn from (seed, epoch); a last smaller batch counts by its size. Ctrl-C ends
        training with the weights of the last finished step and `history.stopped == "interrupted"`.

        Parameters
        ----------
        x : (samples, *input_shape)
            floating-point numbers, or bytes, which are scaled to 0..1 (`model.scaling`). What lies on disk is read as
            it is needed: memory maps, HDF5 and zarr arrays, `xcnn.data.folder`, `xcnn.data.tar`, data sets of PyTorch
            or Hugging Face, iterables of batches (x, y): see `xcnn.data.source`
        y : (samples,) or (samples, *output_shape)
            whole-number labels for classifiers, names of classes, which the model keeps in its `info`, or targets
            shaped like the output. None where x gives them too
        epochs
            how many more; with `resume` how many in all, the unfinished one going on where it stood, on the same data
        batch_size
            samples a step; the last one of an epoch takes what is left
        validation_data
            (x, y), (x, y, sample_weight), or a source of samples and targets, measured after each epoch; None is
            nothing
        validation_split
            instead of it: the share of the samples that are measured and not trained on, of each class alike, drawn
            from the seed as `xcnn.datasets.split` does; None is none
        callbacks
            functions (model, history), called after each epoch; True ends training. A method `start(model)` of theirs
            is called when training begins, `finish(model, history)` when it is over, however: `history.stopped` is then
            "finished", "early", "interrupted", "diverged" or, where anything else raised an error, "failed"
        progress
            "auto", "live", "plain" or "none", on stderr
        shuffle
            whether each epoch has an order of its own, drawn from the seed
        resume
            whether to go on with a training that was left
        augment
            augmentations, as of `xcnn.data.augment`, which each training batch goes through in turn; what they draw
            follows from the seed, the epoch and each sample's number
        steps_per_epoch
            batches of an epoch, where x is an iterable of them that does not begin anew; None is all
        workers
            threads that make batches ahead of the steps, where these are read, scaled or augmented: None is one for
            each processor, 0 makes each when its step comes. They change no bit of any result; functions of yours that
            augment are called by several at once. `history["stall"]` is the seconds that steps waited in each epoch
        class_weight
            what samples of each class weigh in the loss: a list, a dict by number or name, in which others weigh 1, or
            "balanced", N / (classes n) for a class of n of the N samples; None is 1 for each. Validation data are not
            weighed so
        sample_weight : (samples,)
            what each sample weighs; None is 1 for each. The loss is sum(w e) / sum(w), in a batch as in an epoch;
            accuracy and metrics count each sample once
        accumulate
            parts that each batch is computed in, one after another, their gradients added up: a step is that of the
            whole batch, and takes the memory of a part. Batch normalization's statistics are those of a part, and
            dropout's masks others than of the whole
        parallel
            `xcnn.parallel.mpi()`, where several processes train this model together: each computes its part of each
            batch, and the weights are those that one process would find. Callbacks are called by the first of them.
            None is this process alone

        Raises
        ------
        DivergedError
            X501, when the loss or a gradient is no longer finite; the weights before that step are kept.
        BusyError
            X502, while another thread trains this model, and within a callback of such a training.

        Returns
        -------
        History
            of all epochs so far, `model.history` until the next call, which makes one of its own

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> x, y = np.eye(16, dtype="float32").reshape(16, 1, 4, 4), np.arange(16) % 2
        >>> history = model.fit(x, y, epochs=3, batch_size=8, validation_split=0.25, progress="none")
        >>> history["epoch"], history.stopped
        ([1, 2, 3], 'finished')
        """
        together = check_together(parallel)
        with together.guard():
            epochs, batch_size = check_whole("epochs", epochs, least=0), check_whole("batch_size", batch_size)
            steps = None if steps_per_epoch is None else check_whole("steps_per_epoch", steps_per_epoch)
            several.check_augment(self, augment)
            x, y, validation_data = *several.both(self, x, y), several.pairs(self, validation_data)
            data, taking = to_train_on(self, x, y, steps)
            parts = weighed(self, data, taking, validation_data, validation_split, class_weight, sample_weight)
            return fit(
                self,
                parts.data,
                parts.validation,
                taking=taking,
                accumulate=check_whole("accumulate", accumulate),
                weigh=parts.weigh,
                validation_weigh=parts.validation_weigh,
                epochs=epochs,
                batch_size=batch_size,
                callbacks=check_callbacks(callbacks),
                progress=make_progress(progress),
                shuffle=check_flag("shuffle", shuffle),
                resume=check_flag("resume", resume),
                augment=augmentations(augment),
                workers=process.processors() if workers is None else check_whole("workers", workers, least=0),
                together=together,
            )

    @explained
    @changes("a step", trains=True)
    def step(self, x: Any, y: Any) -> float:
        """Train on one batch; its loss. It counts as a step, but not within an epoch of `fit`.

        Parameters
        ----------
        x, y
            samples and their labels or targets, host arrays as for `fit`

        Raises
        ------
        DataError, ShapeError, DTypeError, LabelError
            X203, X101, X103, X201, for samples or targets that do not fit.
        DivergedError
            X501, as `fit`.

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> x, y = np.eye(16, dtype="float32").reshape(16, 1, 4, 4), np.arange(16) % 2
        >>> model.step(x, y) > model.step(x, y) > 0
        True
        """
        x, y = several.both(self, x, y)
        self.turn.close()
        self.trainer.look()
        self.state, loss = self.trainer.after_step(self.state, *samples_of(self, x, y), within_epoch=False)
        return loss

    @explained
    def find_learning_rate(
        self, x: Any, y: Any = None, *, first: float = 1e-6, last: float = 1.0, steps: int = 100, batch_size: int = 32
    ) -> RateSearch:
        """Train with a rate that grows from step to step, and see where the loss falls most steeply: Smith 2017.

        The steps begin where the model stands, and are thrown away: it stays as it is. They end where the loss is four
        times its least.

        Parameters
        ----------
        x, y
            samples and their labels or targets, as for `fit`; y is None where x gives both
        first, last
            the rates of the first step and of the last
        steps
            in all, at least 10
        batch_size
            samples a step

        Raises
        ------
        OptionError
            X104, for an option that can't be.
        DataError, ShapeError, DTypeError, LabelError
            X203, X101, X103, X201, for samples or targets that do not fit.

        Returns
        -------
        RateSearch
            `suggestion`, `rates`, `losses`, `plot()`; it prints itself, and draws itself in a notebook

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> x, y = np.eye(16, dtype="float32").reshape(16, 1, 4, 4), np.arange(16) % 2
        >>> search = model.find_learning_rate(x, y, steps=20, batch_size=8)
        >>> 1e-6 < search.suggestion < 1
        True
        """
        from xcnn.model.rate_search import search

        steps, batch_size = check_whole("steps", steps, least=10), check_whole("batch_size", batch_size)
        first, last = check_rate("first", first), check_rate("last", last)
        data, _ = to_train_on(self, *several.both(self, x, y), None)
        return search(self, data, first=first, last=last, steps=steps, batch_size=batch_size)

    @explained
    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        *,
        class_weight: Mapping[Any, float] | Iterable[float] | str | None = None,
        sample_weight: Any = None,
    ) -> dict[str, Any]:
        """{"loss": mean over the samples}, for classifiers "accuracy", and the model's metrics.

        Parameters
        ----------
        x, y
            samples and their labels or targets, or a source of both and None, as for `fit`
        batch_size
            samples that are computed at once; it changes no result but for rounding. None takes up to 256, as many as
            fill the device: fewer of large images
        class_weight, sample_weight
            what classes and samples weigh in the loss, as for `fit`; None is 1 for each

        Raises
        ------
        DataError, ShapeError, DTypeError, LabelError
            X203, X101, X103, X201, for samples or targets that do not fit.

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> x, y = np.eye(16, dtype="float32").reshape(16, 1, 4, 4), np.arange(16) % 2
        >>> sorted(model.evaluate(x, y))
        ['accuracy', 'loss']
        """
        batch_size = None if batch_size is None else check_whole("batch_size", batch_size)
        data = to_measure(self, *several.both(self, x, y))
        weigh = weighing(self, data, class_weight, sample_weight)
        return measure(self.trainer, self.trainer.asked(self.state), data, process.processors(), batch_size, weigh)

    @explained
    def report(self, x: Any, y: Any = None, *, batch_size: int | None = None, worst: int = 12) -> Report:
        """What a classifier gets right and wrong: it prints itself, shows itself in a notebook, and can be a page.

        Accuracy with its 95 % interval, precision, recall and F1 of each class, the confusion matrix, the pairs of
        classes that are most confused, and the samples whose own class got the least probability.

        Parameters
        ----------
        x, y
            samples and their labels, or a source of both and None, as for `evaluate`
        batch_size
            samples that are computed at once; None takes up to 256, as many as fill the device
        worst
            how many of the samples with the largest losses are kept

        Raises
        ------
        OptionError
            X104, for a model that is no classifier of whole samples.
        DataError, ShapeError, DTypeError, LabelError
            X203, X101, X103, X201, for samples or targets that do not fit.

        Returns
        -------
        Report
            `print(report)`, `report.write("report.html")`, `report.confusion`, `report.recall`, ...

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> x, y = np.eye(16, dtype="float32").reshape(16, 1, 4, 4), np.arange(16) % 2
        >>> model.report(x, y).confusion.shape
        (2, 2)
        """
        from xcnn.model.report import report

        worst = check_whole("worst", worst, least=0)
        return report(self, x, y, partial(self.probabilities, batch_size=batch_size), worst)

    @explained
    @several.by_names
    def predict(
        self, x: Any, batch_size: int | None = None, views: Iterable[Augmentation | None] | None = None
    ) -> HostArray:
        """The net's outputs (samples, *output_shape) as a NumPy array.

        While another thread trains the model, all batches meet the weights of one step.

        Parameters
        ----------
        x
            (samples, *input_shape), numbers on the host, or what gives samples as they are needed, as for `fit`
        batch_size
            samples that are computed at once; it changes no result but for rounding. None takes up to 256, as many as
            fill the device: fewer of large images
        views
            augmentations, each of which shows all samples in its way, None as they are: the outputs are their mean.
            views=[None, xcnn.augment.Flip(1)] sees each image as it is, and mirrored

        Raises
        ------
        OptionError
            X104, for what is no view.
        ShapeError, DTypeError
            X101, X103, for samples that do not fit.
        DataError
            X203, for all of x, where one sample holds NaN or infinity: in its place there would be NaN, whose argmax is
            the first class. The message names the sample, and how to leave it out.

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> model.predict(np.zeros((3, 1, 4, 4), "float32")).shape
        (3, 2)
        """
        plain = views is None and self._kept_scaling != "bytes"  # whose numbers are held to 0..1
        y = of_one_batch(self, x, batch_size) if plain else None
        return mean(in_views(self, to_ask(self, x), views, batch_size, process.processors())) if y is None else y

    @explained
    def classify(self, x: Any, batch_size: int | None = None) -> HostArray:
        """The likeliest class of each sample, (samples,): its name where the model knows names, else its number.

        Parameters
        ----------
        x
            (samples, *input_shape), numbers on the host, or what gives samples as they are needed, as for `fit`
        batch_size
            samples that are computed at once; None takes up to 256, as many as fill the device

        Raises
        ------
        OptionError
            X104, when the loss is not a classifier's.

        Examples
        --------
        >>> net, sgd = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), xcnn.SGD(1.0)
        >>> model = xcnn.Model(net, (1, 4, 4), optimizer=sgd, backend="numpy")
        >>> x, y = np.eye(16, dtype="float32").reshape(16, 1, 4, 4), ["left", "left", "right", "right"] * 4
        >>> history = model.fit(x, y, epochs=50, progress="none")
        >>> str(model.classify(x[:1])[0])
        'left'
        """
        likeliest: HostArray = self.probabilities(x, batch_size).argmax(axis=1)
        names = np.array(class_names(self))
        return names[likeliest] if len(names) == max(self.output_shape[0], 2) else likeliest

    @explained
    def predict_images(self, paths: Any, formats: Sequence[str] = FORMATS) -> HostArray:
        """The likeliest class of the pictures in files, (files,): what `classify` gives, from their names on.

        Each is read as large and of the colours that the model takes, and digits are prepared as MNIST's were, as
        `xcnn predict` does.

        Parameters
        ----------
        paths
            the name of a file, of a folder, whose pictures are taken by their names, or several
        formats
            of the files, as for `xcnn.data.image_folder`

        Raises
        ------
        OptionError
            X104, when the loss is not a classifier's, and for what are no names of files.
        DataError
            X207, X208, for a file that can't be read as a picture, or has no digit where one is wanted.
        ShapeError
            X101, where the model takes no images.

        Examples
        --------
        >>> from PIL import Image
        >>> page = Image.new("L", (80, 100), "white")
        >>> page.paste(0, (36, 20, 44, 80))
        >>> page.save("one.png")
        >>> [str(name) for name in xcnn.nets.pretrained("lenet-mnist").predict_images(["one.png"])]
        ['1']
        """
        from xcnn.model.image_files import from_files

        return self.classify(from_files(self, paths, formats))

    def __call__(self, x: Any) -> HostArray:
        """What `predict` gives."""
        return self.predict(x)

    @explained
    def probabilities(
        self, x: Any, batch_size: int | None = None, views: Iterable[Augmentation | None] | None = None
    ) -> HostArray:
        """The outputs of a classifier as probabilities (samples, classes), float64, by what its loss takes them for.

        Softmax of the logits of cross_entropy, exp of what nll takes, sigmoid of the logits of focal and of
        binary_cross_entropy_with_logits, and the outputs themselves for dice and binary_cross_entropy. A single unit p
        gives the two classes 1 - p and p. A logit of -inf is the probability 0; rows of them alone, and those with
        +inf, are NaN, as PyTorch has it.

        Parameters
        ----------
        x
            (samples, *input_shape), numbers on the host, or what gives samples as they are needed, as for `fit`
        batch_size
            samples that are computed at once; None takes up to 256, as many as fill the device
        views
            augmentations, each of which shows all samples in its way, None as they are: the probabilities' mean is
            given

        Raises
        ------
        OptionError
            X104, when the loss is not a classifier's.

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> x, y = np.eye(16, dtype="float32").reshape(16, 1, 4, 4), np.arange(16) % 2
        >>> model.probabilities(x).sum(axis=1).round(6)[:3].tolist()
        [1.0, 1.0, 1.0]
        """
        if views is None:
            return as_probabilities(self.loss, self.predict(x, batch_size))
        asked = to_ask(self, several.inputs(self, x))
        outputs = in_views(self, asked, views, batch_size, process.processors())
        return mean(as_probabilities(self.loss, y) for y in outputs)

    def forward(self, x: HostArray, weights: Weights | None = None) -> Array:
        """The output for one batch, an array of the backend; with the model's weights unless others are given.

        Parameters
        ----------
        x
            (samples, *input_shape), of the model's type
        weights
            a tree on the model's backend; None is the model's own

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> x, y = np.eye(16, dtype="float32").reshape(16, 1, 4, 4), np.arange(16) % 2
        >>> model.forward(x).shape
        (16, 2)
        """
        return self.trainer.forward(self.trainer.asked(self.state) if weights is None else weights, x)

    @explained
    def summary(self, batch_size: int = 32) -> Summary:
        """A table of the layers with shapes, parameters and memory, which prints itself; and whether a step fits.

        To see what this engine takes, it takes a step and a prediction of few samples of zeros, and throws them away.

        Parameters
        ----------
        batch_size
            samples of a step and of a prediction, for the memory that they take

        Raises
        ------
        OptionError
            X104, for a batch_size that can't be.

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> model.summary(batch_size=8).parameters
        34
        """
        return summarize(self, check_whole("batch_size", batch_size))

    @explained
    def trace(self, x: Any, y: Any, *, train: bool = False) -> Trace:
        """What each layer gets and gives for one batch: input, output, and the loss's gradients by input and weights.

        Nothing is changed: no step is taken, and no running statistics move. All layers are called one by one.

        Parameters
        ----------
        x, y
            samples and their labels or targets, host arrays as for `fit`
        train
            whether layers do what they do in training: batch statistics, dropout as in the next step

        Raises
        ------
        DataError, ShapeError, DTypeError, LabelError
            X203, X101, X103, X201, for samples or targets that do not fit.
        OptionError
            X104, where train is neither True nor False.

        Returns
        -------
        Trace
            a mapping by the layers' names: `trace["conv1"].dx`, `.x`, `.y`, `.dy`, `.grads["kernel"]`

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4))
        >>> trace = model.trace(np.ones((1, 1, 4, 4), "float32"), np.array([0]))
        >>> trace["conv1"].grads["kernel"].shape
        (2, 1, 3, 3)
        """
        from xcnn.model.trace import trace

        return trace(self, *several.both(self, x, y), check_flag("train", train))

    @explained
    def show_kernels(self, layer: str | None = None) -> Figure:
        """The kernels of the net as pictures, red above 0 and blue below: a matplotlib figure, which a notebook shows.

        Parameters
        ----------
        layer
            one layer's name; None is all, the first 16 kernels of each

        Raises
        ------
        OptionError
            X104, for a layer whose kernels are no images.
        MissingDependency
            X601, without matplotlib.

        Examples
        --------
        >>> net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.Flatten(), xcnn.Dense(2))
        >>> figure = xcnn.Model(net, (1, 8, 8)).show_kernels("conv1")
        """
        from xcnn.model.pictures import show_kernels

        return show_kernels(self, layer)

    @explained
    def show_maps(self, x: Any, layer: str | None = None) -> Figure:
        """What layers make of the first sample of x, as pictures: a matplotlib figure.

        Parameters
        ----------
        x
            samples, as for `predict`
        layer
            one layer's name; None is all whose outputs are maps, the first 16 maps of each

        Raises
        ------
        OptionError
            X104, for a layer whose output is no maps.
        MissingDependency
            X601, without matplotlib.

        Examples
        --------
        >>> net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.Flatten(), xcnn.Dense(2))
        >>> figure = xcnn.Model(net, (1, 8, 8)).show_maps(np.ones((1, 1, 8, 8)), "conv1")
        """
        from xcnn.model.pictures import show_maps

        return show_maps(self, x, layer)

    @explained
    def show_gradients(self, x: Any, y: Any, layer: str | None = None) -> Figure:
        """The loss's gradients of a batch, by the first sample's pixels and maps, and by the kernels: a figure.

        Parameters
        ----------
        x, y
            samples and their labels or targets, as for `trace`
        layer
            one layer's name; None is all whose outputs are maps

        Raises
        ------
        OptionError
            X104, for a layer whose output is no maps.
        MissingDependency
            X601, without matplotlib.

        Examples
        --------
        >>> net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.Flatten(), xcnn.Dense(2))
        >>> figure = xcnn.Model(net, (1, 8, 8)).show_gradients(np.ones((1, 1, 8, 8)), [0], "conv1")
        """
        from xcnn.model.pictures import show_gradients

        return show_gradients(self.trace(x, y), layer)

    @explained
    def show_class_activation(self, x: Any, y: Any = None, layer: str | None = None) -> Figure:
        """Where in the first sample the net finds a class: Grad-CAM, Selvaraju et al. 2017, laid over the picture.

        Parameters
        ----------
        x
            samples, as for `predict`
        y
            the class to look for in each; None is the one that the model says
        layer
            one layer's name; None is the last whose output is maps

        Raises
        ------
        OptionError
            X104, for a model that is no classifier, or a layer whose output is no maps.
        MissingDependency
            X601, without matplotlib.

        Examples
        --------
        >>> net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.Flatten(), xcnn.Dense(2))
        >>> figure = xcnn.Model(net, (1, 8, 8)).show_class_activation(np.ones((1, 1, 8, 8)), layer="conv1")
        """
        from xcnn.model.pictures import show_class_activation

        return show_class_activation(self, x, self.probabilities(x).argmax(axis=1) if y is None else y, layer)

    @explained
    def frozen(self) -> Model:
        """A copy of the model for many predictions: what a backend makes of its weights is made once and kept.

        Its weights are copies that can't be changed in place. On NumPy kernels are laid out once, which can take half
        the time of a prediction of one image, and the second prediction of a shape is recorded: those that follow run
        no Python between layers. It can be trained and saved as any other, and is no longer frozen then.

        Returns
        -------
        Model

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> x = np.ones((1, 1, 4, 4), "float32")
        >>> bool((model.frozen().predict(x) == model.predict(x)).all())
        True
        """
        made = copy(self)
        asked = tree.map(self.backend.frozen, made.trainer.asked(made.state))
        if (state := made.state).weights is made.trainer.asked(state):
            made._become(state=replace(state, weights=asked))
        else:
            made._become(state=replace(state, optimizer_state={**state.optimizer_state, "average": asked}))
        return made

    # Files.

    @explained
    @changes("other weights")
    def load_weights(
        self,
        source: str | Path | Mapping[str, Any],
        *,
        rename: Mapping[str, str | None] | None = None,
        strict: bool = True,
        without: str | Sequence[str] = (),
        key: str | None = None,
    ) -> Loaded:
        """Take weights from a file of PyTorch's or a state dict, by PyTorch's names: all that are asked for, or none.

        Parameters
        ----------
        source
            a safetensors file or one of `torch.save`, which is read without PyTorch, and calls nothing; or a dict of
            arrays by name
        rename
            the source's names, or beginnings of them that end in a point, to those of the net: {"backbone.": ""};
            None leaves out
        strict
            whether all of the net's weights must be there, and no others
        without
            beginnings of names that stay as they are, as the head's: "fc"
        key
            which entry holds the weights, where a file has dicts within dicts; None finds it

        Raises
        ------
        ExchangeError
            X416, for a file that can't be read; X417, where these are not the net's weights: it lists all that are
            missing, unexpected or of another shape.
        OptionError
            X104, for options that can't be.
        DataError
            X203, for numbers that are not finite in the net's type.

        Returns
        -------
        Loaded
            what was taken and what was not; it prints itself

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> model.load_weights({"1.weight": np.ones((2, 16)), "1.bias": np.zeros(2)})
        Loaded(taken=('1.weight', '1.bias'), missing=(), unexpected=(), within=(), prefix='')
        """
        from xcnn.exchange.pytorch import weights

        how = weights.how_to(rename, strict, without, key)
        leaves, loaded = weights.load(self.net, self.state.weights, source, how)
        self._set_all({path: weight_of(path, leaf, self._shapes[path], self.dtype) for path, leaf in leaves.items()})
        return loaded

    @explained
    def state_dict(self) -> dict[str, HostArray]:
        """The weights by PyTorch's names, in its layouts, as NumPy arrays: `torch.from_numpy` makes tensors of them.

        Without `num_batches_tracked`, which PyTorch does not ask for.

        Returns
        -------
        dict
            arrays by name

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> {name: array.shape for name, array in model.state_dict().items()}
        {'1.weight': (2, 16), '1.bias': (2,)}
        """
        from xcnn.exchange.pytorch import weights

        return weights.state_dict(self.net, self.state.weights, self.backend.to_numpy)

    @explained
    def save_weights(self, path: str | Path) -> None:
        """Write `state_dict()` as a safetensors file, whole or not at all; `save` keeps the net and training as well.

        Parameters
        ----------
        path
            of the file

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> model.save_weights("weights.safetensors")
        >>> loaded = model.load_weights("weights.safetensors")
        """
        from xcnn.exchange.pytorch import files

        files.write(path, self.state_dict())

    @explained
    def save(self, path: str | Path | Stream, *, optimizer: bool = True) -> None:
        """Write a checkpoint: weights, optimizer state, configuration and history, in one safetensors file.

        It is written beside the path, synced and renamed: the path holds the old file or the new one, whole. A symbolic
        link is followed: what it leads to is replaced. Read-only files, FIFOs and devices are not replaced.

        Parameters
        ----------
        path
            of the file; or a file that is open for bytes, as io.BytesIO, which is given the whole checkpoint at once
            where it stands, and stays open
        optimizer
            whether the optimizer's state is written, of which Adam's is twice as large as the weights. Without it the
            file has what predictions need, and the history; a training of the loaded model begins with a new state

        Raises
        ------
        CheckpointError
            X403, X404, for what a file can't give back.
        OptionError
            X104, for a file that is open for text. The operating system's errors pass through; the old file stays.

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> model.save("net.xcnn", optimizer=False)
        >>> xcnn.Model.load("net.xcnn").net
        Sequential(flatten1=Flatten(), dense1=Dense(units=2, bias=True, kernel_initializer='glorot_uniform'))
        """
        habits.tell_ending(path)
        saved = self._saved()
        if not check_flag("optimizer", optimizer):
            saved = saved.without_optimizer(self.trainer.asked(saved.state))
        checkpoint.save(saved, path, self.backend.to_numpy)

    def check_save(self) -> None:
        """Raise what `save` would raise of what the model is now, and write nothing: before a training.

        Raises
        ------
        CheckpointError
            X403, X404, for what a file can't give back.

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> model.check_save()
        """
        checkpoint.checked(self._saved())

    def _saved(self) -> checkpoint.Saved:
        """What a checkpoint keeps of it."""
        plan, state = self.standing()
        return checkpoint.Saved(
            self.net, self.input_shape, self.loss, self.optimizer, self.metrics, self.policy, self.seed, state, plan,
            self.info, {"backend": self.backend.spec, "versions": self.backend.versions()}, self.scaling,
        )  # fmt: skip

    @classmethod
    def load(
        cls,
        path: str | Path | bytes | Stream,
        *,
        backend: str | Backend | None = None,
        layers: Mapping[str, type] | None = None,
        loss: Loss | None = None,
        metrics: Iterable[Any] | str | Metric | None = None,
        precision: PrecisionName | None = None,
        max_bytes: int = checkpoint.MAX_BYTES,
    ) -> Model:
        """The model that was saved, on any backend (by default the process's).

        Parameters
        ----------
        path
            of the file; or its bytes, or a file that is open for bytes, which is read to its end, through memory
        backend
            a name or a Backend; None is the process's (xcnn.set_backend)
        layers
            your own layers' classes by name, where the net has any; else None
        loss
            your own loss, where the model was saved with one; else None
        metrics
            your own metrics, all of the model's together, where it was saved with functions or objects among them; None
            is those that were saved
        precision
            another than it was saved with, where the backend does not have that one; None is that
        max_bytes
            what a sample may take on its way through the net: the arrays of its layers, counted before any is made

        Raises
        ------
        CheckpointError
            X401 incomplete, X402 altered, X403 not one of ours or of unknown layers, X404 too large.
        OptionError
            X104, where the backend does not compute in the model's precision.

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> model.save("net.xcnn")
        >>> xcnn.Model.load("net.xcnn", backend="numpy").input_shape
        (1, 4, 4)
        """
        max_bytes = check_whole("max_bytes", max_bytes)
        there = get_backend() if backend is None else make_backend(backend)
        measured = None if metrics is None else check_metrics(metrics)
        saved = checkpoint.load(
            path, layers=layers or {}, loss=loss, max_bytes=max_bytes, send=there.adopted, metrics=measured
        )
        state, kind = saved.state, saved.policy
        kind = kind if precision is None else policy(precision, kind.dtype)
        with_precision(there, kind)  # that a backend does not have it is no fault of the file's
        with checkpoint.blaming(path):
            model = cls(
                checkpoint.Restored(saved.net, state.weights), saved.input_shape, loss=saved.loss,
                metrics=saved.metrics, optimizer=SGD(), backend=there, dtype=kind.dtype,
                precision=kind.name, seed=saved.seed,
            )  # fmt: skip  # an optimizer without moments, which would be made to be replaced
            kept = model._restored_state(saved)
            state = replace(state, weights=model.state.weights, optimizer_state=kept)
            model._become(
                _net=saved.net, _optimizer=saved.optimizer, state=state, history=History([*state.rows]),
                plan=saved.plan, info=saved.info, _kept_scaling=saved.scaling,
            )  # fmt: skip
        return model

    def _restored_state(self, saved: checkpoint.Saved) -> Weights:
        """The optimizer's state as it was saved, or a new one for weights alone; the loss's scale where it has one."""
        if saved.weights_alone:
            return self._first_state(saved.optimizer, self.state.weights)
        found, scaling = saved.state.optimizer_state, loss_scaling.entries_of(self.state.optimizer_state)
        moments = {n: found[n] for n in saved.optimizer.moments}
        if scaling and (kept := loss_scaling.entries_of(found)):
            scaling = loss_scaling.entries(self.backend, **kept)
        return {"step": found["step"], **moments, **scaling}

    @explained
    def to_onnx(
        self,
        path: str | Path,
        *,
        fold_batch_norm: bool = False,
        info: Mapping[str, Any] | None = None,
        verify: bool | None = None,
    ) -> None:
        """Write the net as an ONNX file, for batches of any size, in float32; nodes have the names of the layers.

        Its metadata have `model.info`'s "classes" and, for nets that the command line has trained, "input": how an
        image becomes a sample. It needs the package onnx, `pip install "xcnn[onnx]"`.

        Parameters
        ----------
        path
            of the file, which is written whole, as `save` does
        fold_batch_norm
            whether batch normalisations go into the convolutions before them
        info
            further metadata, texts or what JSON has; None is nothing more
        verify
            whether onnxruntime must give the net's outputs for batches of 1, 2 and 7 samples before the file is
            written; None asks it where it is installed

        Raises
        ------
        ExchangeError
            X411, for layers that can't be written; X412, where onnxruntime gives other outputs.
        MissingDependency
            X601

        Examples
        --------
        >>> model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 4, 4), backend="numpy")
        >>> model.to_onnx("net.onnx", verify=False)
        """
        onnx_out.to_onnx(self, path, fold_batch_norm=fold_batch_norm, info=info, verify=verify)

    def _send(self, array: Any) -> Array:
        return self.backend.asarray(array, self.dtype)
