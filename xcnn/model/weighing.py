"""What samples and classes weigh in the loss, as a user says it: checked, and put together for each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xcnn.core.checks import is_number, plain
from xcnn.core.options import nearest
from xcnn.data.source import Source
from xcnn.errors import DataError, OptionError, short
from xcnn.model.feeding import known_targets
from xcnn.model.held import Held, class_names
from xcnn.model.host_data import host_array
from xcnn.model.taking import some
from xcnn.training.losses import loss_name, takes_weights
from xcnn.training.state import HostArray


@dataclass(frozen=True, eq=False)
class Weighing:
    """Weights of a batch's samples, or of each of their places where classes have weights or labels do not count."""

    dtype: str
    labels: tuple[int, ...]
    """The shape of one sample's labels."""
    classes: tuple[float, ...] = ()
    """The weight of each class; none where all count alike."""
    samples: HostArray | None = None
    """The weight of each sample of the data; None where all count alike."""
    ignore_index: int | None = None

    def __call__(self, t: HostArray, chosen: HostArray) -> HostArray:
        """(N,), or (N, *labels), for targets t of the samples with these numbers."""
        found = np.ones(len(t)) if self.samples is None else self.samples[chosen].astype(np.float64)
        if self.classes or self.ignore_index is not None:
            of_places = self.of_labels(t) if t.shape == (len(t), *self.labels) else self.of_targets(t)
            found = found.reshape(-1, *(1 for _ in self.labels)) * of_places
        return np.asarray(found, self.dtype)

    def of_labels(self, t: HostArray) -> HostArray:
        """Of whole numbers, one for each place."""
        kept = np.ones(t.shape, bool) if self.ignore_index is None else t != self.ignore_index
        if not self.classes:
            return kept.astype(np.float64)
        of_class: HostArray = np.asarray(self.classes)[np.where(kept, t, 0).astype(np.int64)] * kept
        return of_class

    def of_targets(self, t: HostArray) -> HostArray:
        """Of shares of the classes, or for a single output of its 0 .. 1."""
        if not self.classes:
            return np.ones((len(t), *self.labels))
        shares = np.concatenate([1 - t, t], axis=1) if t.shape[1] == 1 else t
        weighed: HostArray = np.tensordot(shares, np.asarray(self.classes), (1, 0))
        return weighed


def weighing(
    model: Held, data: Source, class_weight: Any, sample_weight: Any, role: str = "", names: Sequence[Any] = ()
) -> Weighing | None:
    """What `fit` was given as class_weight and sample_weight, for these data; None where all count alike.

    `names` are those of the classes, where the model does not know them yet.

    Raises
    ------
    OptionError
        X104, for what can't be the weights of these classes, and a loss that knows no weights.
    DataError
        X203, for what can't be the weights of these samples.
    """
    if class_weight is None and sample_weight is None:
        return None
    if not takes_weights(model.loss):
        raise OptionError(
            "X104",
            f"{loss_name(model.loss) or 'this loss'} takes no weights of samples or classes.",
            hint="a loss (y, t, *, weights=None) does: their weighted mean is sum(weights * e) / sum(weights).",
        )
    labels = model.output_shape[1:]
    classes = () if class_weight is None else class_weights(model, data, class_weight, names)
    if sample_weight is not None and data.samples is None:
        told = "sample_weight is for data whose samples have numbers; these come one after another"
        raise OptionError("X104", f"{told}.", hint="class_weight=[...] weighs their classes.")
    samples = None if sample_weight is None else sample_weights(sample_weight, data.samples or 0, role)
    return Weighing(model.dtype, labels, classes, samples, model.trainer.ignore_index)


def class_weights(model: Held, data: Source, given: Any, names: Sequence[Any] = ()) -> tuple[float, ...]:
    """The weight of each class: as a list has them, or a dict, in which others weigh 1, or "balanced"."""
    if model.trainer.threshold is None:
        raise OptionError("X104", "class_weight is for classifiers.", hint="sample_weight weighs each sample.")
    count, names = max(model.output_shape[0], 2), [*map(str, names)] or class_names(model)
    if isinstance(given, str):
        if given != "balanced":
            raise OptionError("X104", f'class_weight is "balanced", a list or a dict; got {short(given)}.')
        y = known_targets(data)
        if y is None:
            told = 'class_weight="balanced" counts labels, which these data do not tell before they are read'
            raise OptionError("X104", f"{told}.", hint="give y beside x, or the weights as a list.")
        return balanced(model, y, count)
    if isinstance(given, Mapping):
        found = dict.fromkeys(range(count), 1.0)
        for key, weight in given.items():
            number = names.index(key) if key in names else plain(key)
            if type(number) is not int or number not in found:
                meant = nearest(str(key), names)
                known = f"classes are {some(names)}" if names else f"classes are numbered 0..{count - 1}"
                hint = f"did you mean {meant!r}?" if meant else f"{known}."
                raise OptionError("X104", f"class_weight has no class {short(key)}.", hint=hint)
            found[number] = plain(weight)
        weights = [*found.values()]
    else:
        weights = [plain(weight) for weight in np.ravel(given).tolist()]
    if len(weights) != count or not all(is_number(w) and 0 <= w < np.inf for w in weights) or not any(weights):
        raise OptionError(
            "X104",
            f"class_weight must be {count} finite numbers of at least 0, not all 0; got {short(given)}.",
            hint='"balanced" weighs each class by how rare it is.',
        )
    return tuple(float(weight) for weight in weights)


def balanced(model: Held, y: HostArray, count: int) -> tuple[float, ...]:
    """N / (classes n), n of N being of the class, as scikit-learn has it: each class weighs as much as any other."""
    labels = model.output_shape[1:]
    if y.shape == (len(y), *labels):
        kept = y if model.trainer.ignore_index is None else y[y != model.trainer.ignore_index]
        counted = np.bincount(kept.reshape(-1).astype(np.int64), minlength=count).astype(np.float64)
    else:
        of_outputs = np.moveaxis(y, 1, -1).reshape(-1, y.shape[1]).sum(axis=0, dtype=np.float64)
        whole = float(y.size // y.shape[1])
        counted = np.array([whole - of_outputs[0], of_outputs[0]]) if y.shape[1] == 1 else of_outputs
    there = counted > 0
    share = counted.sum() / max(int(there.sum()), 1)
    return tuple(float(share / n) if n > 0 else 1.0 for n in counted)


def sample_weights(given: Any, samples: int, role: str) -> HostArray:
    """A finite number of at least 0 for each sample, not all 0."""
    weights = host_array(f"{role}sample_weight", given)
    whole = weights.shape == (samples,) and weights.dtype.kind in "iufb" and bool(np.isfinite(weights).all())
    if not whole or weights.min() < 0 or not weights.any():
        raise DataError(
            "X203",
            f"{role}sample_weight must be {samples} finite numbers of at least 0, not all 0.",
            f"got {weights.dtype} {weights.shape}",
            hint="a sample that is not to count has the weight 0.",
        )
    return weights.astype(np.float64)
