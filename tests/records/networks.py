"""A dozen small networks with their trainings: together they use every kind of layer, loss and optimizer."""

from collections.abc import Callable
from typing import Any

import numpy as np

import xmlp
from xmlp.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual, Standardize
from xmlp.losses import AbsoluteError, BinaryCrossEntropy, Huber, SoftmaxCrossEntropy, SquaredError
from xmlp.optimizers import SGD, Adagrad, Adam, AdamW, RMSProp

ROWS, FEATURES = 53, 4
RNG = np.random.default_rng(20)
X = RNG.normal(size=(ROWS, FEATURES)) * [1.0, 3.0, 0.5, 2.0] + [0.0, 5.0, 0.0, -1.0]
REAL = np.stack([np.sin(X[:, 0]) + 0.1 * X[:, 1], X[:, 2] * X[:, 3]], axis=1)
LABELS = (X[:, 0] > 0).astype(np.int32) + (X[:, 2] > 0.2)
WEIGHTS = RNG.uniform(0.2, 3.0, size=ROWS)


def _network(layers: list[Any]) -> Callable[[str], xmlp.Network]:
    return lambda dtype: xmlp.Network(layers, FEATURES, dtype=dtype, seed=3)


# name -> (network of a dtype, targets, settings of the trainer, settings of the fit)
NETWORKS: dict[str, tuple[Callable[[str], xmlp.Network], Any, dict[str, Any], dict[str, Any]]] = {
    "squared error, tanh": (
        _network([Dense(7, "tanh"), Dense(2)]), REAL, {"loss": SquaredError(), "optimizer": Adam(0.02)},
        {"batch_size": 16},
    ),
    "half squared error, two hidden, momentum": (
        _network([Dense(6, "relu"), Dense(5, "silu"), Dense(2)]), REAL,
        {"loss": SquaredError(half=True), "optimizer": SGD(0.02, momentum=0.9, nesterov=True)}, {"batch_size": 13},
    ),
    "all rows at once": (
        _network([Dense(5, "softplus"), Dense(2)]), REAL, {"loss": SquaredError(), "optimizer": SGD(0.01)},
        {"batch_size": ROWS},
    ),
    "Huber, penalties": (
        _network([Dense(8, "gelu"), Dense(2)]), REAL,
        {"loss": Huber(0.7), "optimizer": RMSProp(0.01), "l1": 1e-3, "l2": 1e-2}, {"batch_size": 16},
    ),
    "absolute error, clipped": (
        _network([Dense(6, "elu"), Dense(2)]), REAL,
        {"loss": AbsoluteError(), "optimizer": Adagrad(0.05), "clip_norm": 0.5}, {"batch_size": 10},
    ),
    "softmax of labels": (
        _network([Dense(9, "relu"), Dense(3)]), LABELS, {"loss": SoftmaxCrossEntropy(), "optimizer": AdamW(0.02)},
        {"batch_size": 16},
    ),
    "softmax output, weights": (
        _network([Dense(6, "mish"), Dense(3, "softmax")]), LABELS,
        {"loss": SoftmaxCrossEntropy(), "optimizer": Adam(0.02)}, {"batch_size": 16, "sample_weight": WEIGHTS},
    ),
    "sigmoid, class weights": (
        _network([Dense(6, "tanh"), Dense(1)]), LABELS > 1, {"loss": BinaryCrossEntropy(), "optimizer": Adam(0.02)},
        {"batch_size": 16, "class_weight": "balanced"},
    ),
    "dropout": (
        _network([Dense(12, "relu"), Dropout(0.3), Dense(2)]), REAL,
        {"loss": SquaredError(), "optimizer": Adam(0.02), "seed": 5}, {"batch_size": 16},
    ),
    "batch normalisation": (
        _network([Dense(8, use_bias=False), BatchNorm(), "relu", Dense(2)]), REAL,
        {"loss": SquaredError(), "optimizer": Adam(0.02)}, {"batch_size": 13},
    ),
    "layer normalisation, residual": (
        _network([Dense(6), LayerNorm(), Residual([Dense(6, "tanh"), Dense(6)]), Dense(2)]), REAL,
        {"loss": SquaredError(), "optimizer": AdamW(0.02, weight_decay=0.05)}, {"batch_size": 16},
    ),
    "standardized, in and out": (
        lambda dtype: _network([Standardize(), Dense(10, "selu"), Dense(2)])(dtype).adapt(X), REAL,
        {"loss": SquaredError(), "optimizer": Adam(0.02, eps=0.0)}, {"batch_size": 16, "shuffle": False},
    ),
}  # fmt: skip
EPOCHS = 5
WAYS = {"planned float32": ("float32", True), "planned float64": ("float64", True), "plain float64": ("float64", False)}


def trained(name: str, dtype: str, planned: bool) -> xmlp.Trainer:
    """The trainer after its fit."""
    network, targets, settings, fit = NETWORKS[name]
    trainer = xmlp.Trainer(network(dtype), planned=planned, **settings)
    trainer.fit(X, targets, epochs=EPOCHS, **fit)
    return trainer
