"""The metrics, by short names: xcnn.metrics.F1 (training/metrics)."""

from xcnn.training.metrics import (
    F1,
    MAE,
    METRICS,
    MSE,
    R2,
    RMSE,
    ConfusionMatrix,
    IoU,
    Metric,
    Precision,
    Recall,
    TopK,
    metric,
)

__all__ = [
    "F1",
    "MAE",
    "METRICS",
    "MSE",
    "R2",
    "RMSE",
    "ConfusionMatrix",
    "IoU",
    "Metric",
    "Precision",
    "Recall",
    "TopK",
    "metric",
]
