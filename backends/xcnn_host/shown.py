"""A model's weights as users see them in NumPy: read-only, and with words for who would write into them.

What is written into a weight in place passes by the check of what is set, and by all that knows a weight by its array.
NumPy says of such an array that it is read-only, and not what to do instead.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from xcnn.errors import OptionError


class Shown(np.ndarray[Any, Any]):
    """A view that can't be written, nor made writable; what is computed of it, and copies, are NumPy's own arrays."""

    path = ""
    """Of the weight, "conv1/kernel"."""

    def __array_finalize__(self, obj: Any) -> None:
        self.path = getattr(obj, "path", "")

    def __setitem__(self, key: Any, value: Any) -> None:
        if not self.flags.writeable:
            refuse(self)
        super().__setitem__(key, value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        written = inputs[:1] if method == "at" else options.get("out", ())
        for array in written:
            if isinstance(array, Shown) and not array.flags.writeable:
                refuse(array)
        return getattr(ufunc, method)(*map(plain, inputs), **{name: plain(value) for name, value in options.items()})

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        try:
            return function(*map(plain, args), **{name: plain(value) for name, value in kwargs.items()})
        except ValueError as error:
            if "read-only" in str(error):
                refuse(self, error)
            raise

    def _refuse(self, *_: Any, **__: Any) -> Any:
        refuse(self)

    fill = put = sort = partition = resize = setfield = _refuse

    def setflags(self, write: Any = None, align: Any = None, uic: Any = None) -> None:
        if write:
            refuse(self)
        super().setflags(write=write, align=align, uic=uic)

    def copy(self, order: Any = "C") -> Any:
        return np.array(self, order=order)

    def astype(self, *args: Any, **kwargs: Any) -> Any:
        return plain(self).astype(*args, **kwargs)

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    def __reduce__(self) -> Any:
        return self.copy().__reduce__()

    def __repr__(self) -> str:
        return repr(plain(self))


def shown(weight: np.ndarray[Any, Any], path: str) -> Shown:
    """The weight, on its own memory, as its model shows it under this path."""
    memory = memoryview(weight).toreadonly()  # type: ignore[arg-type]
    view = np.asarray(memory).view(Shown)
    view.path = path
    return view


def plain(value: Any) -> Any:
    """NumPy's own array in the place of what is shown, also within tuples, lists and mappings."""
    if isinstance(value, Shown):
        return value.view(np.ndarray)
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    return value


def refuse(weight: Shown, cause: Exception | None = None) -> NoReturn:
    """Raise X104, with what to do."""
    path = weight.path or "conv1/kernel"
    keys = "".join(f"[{name!r}]" for name in path.split("/"))
    raise OptionError(
        "X104",
        f"the model's weight {path!r} is read-only: what is written into it in place would pass by every check.",
        hint=f'with model.edit("{path}") as w: w[0] = ... sets cells; or set a copy, model.weights{keys} = w.copy().',
    ) from cause
