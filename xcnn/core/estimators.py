"""The types of scikit-learn's base classes, which has none: what type checkers see in their place.

Nothing imports this page when it runs.
"""

from __future__ import annotations

from typing import Any, Self


class BaseEstimator:
    """Options are kept under their names, and can be asked for and set."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The options by their names."""
        raise NotImplementedError

    def set_params(self, **params: Any) -> Self:
        """Set some options."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        raise NotImplementedError


class ClassifierMixin:
    """What all classifiers have."""

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy of what it predicts for X."""
        raise NotImplementedError


class RegressorMixin:
    """What all regressors have."""

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R² of what it predicts for X."""
        raise NotImplementedError
