"""Optimizers whose update a backend makes in one pass, with all their options."""

import xcnn
from xcnn.training.optimizers import SGD, Adam, AdamW, RMSprop

OPTIMIZERS = {
    "sgd": SGD(0.1),
    "decay": SGD(0.1, weight_decay=0.02),
    "momentum": SGD(0.1, momentum=0.9, weight_decay=0.02),
    "nesterov": SGD(0.1, momentum=0.8, nesterov=True),
    "schedule": SGD(xcnn.schedules.Step(0.1, every=2)),
    "adam": Adam(0.01, beta1=0.8, epsilon=1e-6),
    "adamw": AdamW(0.01, weight_decay=0.1),
    "rmsprop": RMSprop(0.01, weight_decay=0.1),
    "rmsprop_momentum": RMSprop(0.01, rho=0.9, momentum=0.5),
}
