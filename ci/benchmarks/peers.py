"""One training job on one engine, in a process of its own; prints one line of JSON.

    python ci/benchmarks/peers.py ENGINE --sizes 784,128,10 --batch 64 [--epochs 3]
                              [--activation relu] [--data fashion-mnist] [--seed 0] [--until ACCURACY] [--predict]

Every engine does the same work in float32: He weights, softmax cross-entropy, Adam(1e-3), minibatches reshuffled each
epoch, the last partial batch dropped. The first epoch is not counted in `epoch_s`, the fastest of the others.
`--until` stops at that test accuracy and reports the seconds since the process began; `--predict` times predictions.
Engines: products (the matrix products of the step alone, through NumPy: the floor), numpy, sklearn, torch, jax, xmlp,
xmlp-plain (without plans), xmlp-replay (plans without llvmlite).
"""

import argparse
import json
import os
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

RATE = 1e-3


def process_age() -> float:
    """Seconds since this process was started."""
    ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - ticks / os.sysconf("SC_CLK_TCK")


def load(name):
    """x_train (N, I) bytes, labels, x_test, labels, and the number that the bytes are divided by."""
    import xmlp.data

    data = xmlp.data.load(name)
    if name == "digits":  # small: eight times over, so that an epoch can be timed
        return np.tile(data.x_train, (8, 1)), np.tile(data.y_train, 8), data.x_test, data.y_test, 16.0
    return *data, 255.0


def he_weights(sizes, seed):
    rng = np.random.default_rng(seed)
    return [
        ((rng.standard_normal((i, o)) * np.sqrt(2 / i)).astype("f4"), np.zeros(o, "f4")) for i, o in pairwise(sizes)
    ]


def batches(rows, size, seed):
    order = np.random.default_rng(seed).permutation(rows)
    return [order[i : i + size] for i in range(0, rows - size + 1, size)]


def products(a, x, y):
    rng, layers = np.random.default_rng(0), list(pairwise(a.sizes))
    w, g = ([rng.random(s, dtype="f4") for s in layers] for _ in range(2))
    h, d, back = ([rng.random((a.batch, n), dtype="f4") for n in a.sizes] for _ in range(3))

    def epoch(e):
        for _ in range(len(x) // a.batch):
            for k in range(len(w)):
                np.matmul(h[k], w[k], out=h[k + 1])
            for k in reversed(range(len(w))):
                np.matmul(h[k].T, d[k + 1], out=g[k])
                if k:
                    np.matmul(d[k + 1], w[k].T, out=back[k])
        return 0.0

    def predict(rows):
        if len(rows) not in outputs:
            outputs[len(rows)] = [np.empty((len(rows), n), "f4") for n in a.sizes[1:]]
        for k, out in enumerate(outputs[len(rows)]):
            rows = np.matmul(rows, w[k], out=out)
        return rows

    outputs: dict[int, list] = {}
    return epoch, predict


def numpy(a, x, y):
    function, slope = {
        "relu": (lambda z: np.maximum(z, 0), lambda h: h > 0),
        "tanh": (np.tanh, lambda h: 1 - h * h),
        "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda h: h * (1 - h)),
    }[a.activation]
    theta = [p for pair in he_weights(a.sizes, a.seed) for p in pair]
    m, v, t = [np.zeros_like(p) for p in theta], [np.zeros_like(p) for p in theta], [0]
    onehot, last = np.eye(a.sizes[-1], dtype="f4")[y], len(a.sizes) - 2

    def forward(rows):
        h = [rows]
        for k in range(last + 1):
            z = h[-1] @ theta[2 * k] + theta[2 * k + 1]
            h.append(z if k == last else function(z))
        return h

    def epoch(e):
        total, steps = 0.0, batches(len(x), a.batch, e)
        for i in steps:
            h = forward(x[i])
            z = np.exp(h[-1] - h[-1].max(1, keepdims=True))
            p = z / z.sum(1, keepdims=True)
            total -= np.log((p * onehot[i]).sum(1) + 1e-12).mean()
            d, t[0] = (p - onehot[i]) / np.float32(len(i)), t[0] + 1
            for k in range(last, -1, -1):
                grads = h[k].T @ d, d.sum(0)
                if k:
                    d = (d @ theta[2 * k].T) * slope(h[k])
                for j, g in enumerate(grads, 2 * k):
                    m[j] = np.float32(0.9) * m[j] + np.float32(0.1) * g
                    v[j] = np.float32(0.999) * v[j] + np.float32(0.001) * g * g
                    step = np.float32(RATE / (1 - 0.9 ** t[0])) * m[j]
                    theta[j] -= step / (np.sqrt(v[j] / np.float32(1 - 0.999 ** t[0])) + np.float32(1e-8))
        return total / len(steps)

    return epoch, lambda rows: forward(rows)[-1]


def sklearn(a, x, y):
    import warnings

    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore")
    name = {"sigmoid": "logistic"}.get(a.activation, a.activation)
    model = MLPClassifier(
        a.sizes[1:-1], activation=name, alpha=0.0, batch_size=a.batch, learning_rate_init=RATE, max_iter=1,
        warm_start=True, random_state=a.seed,
    )  # fmt: skip

    def epoch(e):
        model.fit(x, y)
        return model.loss_

    return epoch, model.predict_proba


def torch(a, x, y):
    import torch
    from torch import nn

    torch.manual_seed(a.seed)
    function = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[a.activation]
    modules = []
    for w, _ in he_weights(a.sizes, a.seed):
        linear = nn.Linear(*w.shape)
        linear.weight.data, linear.bias.data = torch.from_numpy(w.T.copy()), torch.zeros(w.shape[1])
        modules += [linear, function()]
    model, criterion = nn.Sequential(*modules[:-1]), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    xs, ys = torch.from_numpy(x), torch.from_numpy(y)

    def epoch(e):
        total, steps = torch.zeros(()), batches(len(x), a.batch, e)
        for i in map(torch.from_numpy, steps):
            optimizer.zero_grad(set_to_none=True)
            loss = criterion(model(xs[i]), ys[i])
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return float(total) / len(steps)

    def predict(rows):
        with torch.no_grad():
            return model(torch.from_numpy(rows)).numpy()

    return epoch, predict


def jax(a, x, y):
    import jax
    import jax.numpy as jnp
    import optax

    function = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[a.activation]
    optimizer = optax.adam(RATE)
    params = [tuple(map(jnp.asarray, pair)) for pair in he_weights(a.sizes, a.seed)]
    carry, xs, ys = [params, optimizer.init(params)], jnp.asarray(x), jnp.asarray(y)

    def model(params, rows):
        for w, b in params[:-1]:
            rows = function(rows @ w + b)
        return rows @ params[-1][0] + params[-1][1]

    def objective(params, rows, labels):
        return optax.softmax_cross_entropy_with_integer_labels(model(params, rows), labels).mean()

    @jax.jit
    def run(params, state, index, xs, ys):
        def step(carry, i):
            loss, grads = jax.value_and_grad(objective)(carry[0], xs[i], ys[i])
            updates, state = optimizer.update(grads, carry[1], carry[0])
            return (optax.apply_updates(carry[0], updates), state), loss

        (params, state), losses = jax.lax.scan(step, (params, state), index)
        return params, state, losses.mean()

    def epoch(e):
        *carry[:], loss = run(*carry, jnp.asarray(np.stack(batches(len(x), a.batch, e))), xs, ys)
        return float(loss)

    jitted = jax.jit(model)
    return epoch, lambda rows: np.asarray(jitted(carry[0], rows))


def xmlp(a, x, y, planned=None):
    import xmlp

    network = xmlp.mlp(a.sizes, activation=a.activation, seed=a.seed)
    if x.dtype == np.uint8:
        network = xmlp.Network([xmlp.layers.Standardize(scale=a.scale), *network.layers], a.sizes[0], seed=a.seed)
    trainer = xmlp.Trainer(
        network, loss="softmax_cross_entropy", optimizer=xmlp.optimizers.Adam(RATE), seed=a.seed, planned=planned
    )
    keep = len(x) // a.batch * a.batch

    def train(epochs, after):  # one fit for all epochs, as a user would
        class Clock:
            def on_epoch_begin(self, trainer):
                self.start = time.perf_counter()

            def on_epoch_end(self, trainer):
                if after(time.perf_counter() - self.start, trainer.history["loss"][-1]):
                    trainer.stop()

        trainer.callbacks.append(Clock())
        trainer.fit(x[:keep], y[:keep].astype(np.int32), epochs=epochs, batch_size=a.batch)

    return train, network.predict


def xmlp_plain(a, x, y):
    return xmlp(a, x, y, planned=False)


def xmlp_replay(a, x, y):
    sys.modules["llvmlite"] = None  # as if it were not installed
    return xmlp(a, x, y, planned=True)


ENGINES = {
    f.__name__.replace("_", "-"): f for f in (products, numpy, sklearn, torch, jax, xmlp, xmlp_plain, xmlp_replay)
}


def epochwise(epoch):
    """Training with a function that does one epoch; `after(seconds, loss)` says whether to stop."""

    def train(epochs, after):
        for e in range(epochs):
            start = time.perf_counter()
            loss = epoch(e)
            if after(time.perf_counter() - start, loss):
                break

    return train


def best_of(function, repeats=200):
    """The fastest of many calls, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--sizes", default="784,128,10", type=lambda s: [int(n) for n in s.split(",")])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--until", type=float)
    parser.add_argument("--bytes", action="store_true", help="leave the bytes to the engine (xmlp only)")
    parser.add_argument("--predict", action="store_true")
    a = parser.parse_args()
    x, y, x_test, y_test, a.scale = load(a.data)
    if not a.bytes:
        x, x_test = (np.divide(v, np.float32(a.scale), dtype="f4") for v in (x, x_test))
    train, predict = ENGINES[a.engine](a, x, y)
    seconds, losses, reached = [], [], []

    def after(elapsed, loss):
        seconds.append(elapsed)
        losses.append(float(loss))
        if a.until and (predict(x_test).argmax(1) == y_test).mean() >= a.until:
            reached.append(process_age())
        return bool(reached)

    if not a.engine.startswith("xmlp"):
        train = epochwise(train)
    train(a.epochs + (a.until is None), after)
    result = {
        "engine": a.engine,
        "epoch_s": min(seconds[1:] or seconds),
        "us_per_step": min(seconds[1:] or seconds) / (len(x) // a.batch) * 1e6,
        "loss": losses[-1],
        "accuracy": float((predict(x_test).argmax(1) == y_test).mean()),
        "reached_s": reached[0] if reached else None,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if a.predict:
        one, many = x_test[:1].copy(), x_test[:1000].copy()
        result |= {"one_us": best_of(lambda: predict(one)) * 1e6, "many_us": best_of(lambda: predict(many), 30) * 1e6}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
