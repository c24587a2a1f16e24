"""Networks and files that the rows damage, save and load."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import xmlp
from xmlp.host import files

X = np.linspace(-1.0, 1.0, 24).reshape(8, 3)
Y = np.arange(8) % 2


def small(value: float | None = None) -> xmlp.Network:
    """A network with statistics and metadata, in a file of some 1.5 kB; with a value, all parameters are that."""
    network = xmlp.mlp([3, 4, 2], "tanh", normalization="batch", seed=1)
    network.metadata = {"classes": ["a", "ü"], "rate": 0.5}
    if value is not None:
        network.theta = np.full(network.layout.size, value)
    return network


def content(network: xmlp.Network, folder: Path) -> bytes:
    """The file of a network."""
    network.save(folder / "sample")
    return (folder / "sample").read_bytes()


def same(one: xmlp.Network, other: xmlp.Network) -> bool:
    """Whether two networks are equal to the bit."""
    a, b = one.arrays(), other.arrays()
    return one.config() == other.config() and all(a[name].tobytes() == b[name].tobytes() for name in a)


@dataclass(frozen=True)
class Subject:
    """A file to damage, and what loads it: as a model, or as the checkpoint of a run."""

    name: str
    data: bytes
    load: Callable[[Path], Any]
    same: Callable[[Any], bool]
    use: Callable[[Any], Any]


def subjects(folder: Path) -> tuple[Subject, Subject]:
    """A model and a checkpoint within an epoch, with callbacks that remember."""
    network, path = small(), folder / "checkpoint"
    trainer, stop = run_of(network), Stopping(5)
    trainer.callbacks.append(stop)
    trainer.fit(X, Y, epochs=3, batch_size=3)
    trainer.save(path)
    saved = state_of(trainer)

    def resume(path: Path) -> xmlp.Trainer:
        return xmlp.Trainer.resume(path, callbacks=listeners(), planned=False)

    model = Subject("model", content(small(), folder), xmlp.load, lambda n: same(n, small()), works)
    return model, Subject(
        "checkpoint", path.read_bytes(), resume, lambda t: state_of(t) == saved, lambda t: works(t.network)
    )


def listeners() -> list[Any]:
    """Callbacks with something to remember."""
    return [xmlp.callbacks.EarlyStopping("loss", patience=3), xmlp.callbacks.ReduceOnPlateau("loss", patience=1)]


def run_of(network: xmlp.Network) -> xmlp.Trainer:
    """A trainer with all that a checkpoint can hold."""
    optimizer = xmlp.optimizers.Adam(xmlp.schedules.OneCycle(0.01, 9))
    return xmlp.Trainer(network, loss="softmax_cross_entropy", optimizer=optimizer,
                        metrics=["accuracy"], callbacks=listeners(), clip_norm=1.0, planned=False)  # fmt: skip


class Stopping:
    """Stops a run at a step."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, trainer: xmlp.Trainer) -> None:
        if trainer.steps == self.step:
            trainer.stop()


def state_of(trainer: xmlp.Trainer) -> tuple[Any, ...]:
    """All of a run that a checkpoint holds, but for the seconds that it took."""
    arrays = {**trainer.network.arrays(), **trainer.run.slots}
    history = {name: repr(column) for name, column in trainer.history.items() if name != "seconds"}
    counters = trainer.moment, trainer.lr_scale, trainer.network.config(), trainer.optimizer, trainer.loss
    return {n: a.tobytes() for n, a in arrays.items()}, history, counters


def works(network: xmlp.Network) -> None:
    """Predict."""
    assert network.predict(np.zeros((2, network.in_features))).shape == (2, network.out_features)


def mended(data: bytes) -> bytes:
    """The file with the checksum that belongs to it: a fault that only the other checks can find."""
    at = data.find(b'"sha256":"') + 10
    if at < 10 or at + 64 > len(data):
        return data
    blank = data[:at] + b"0" * 64 + data[at + 64 :]
    return data[:at] + hashlib.sha256(blank).hexdigest().encode() + data[at + 64 :]


def packed(config: Any, arrays: dict[str, Any] | None = None) -> bytes:
    """A well-formed file with any configuration."""
    text = config if isinstance(config, str) else json.dumps(config)
    held = small().arrays() if arrays is None else arrays
    return mended(b"".join(files._packed(held, {"format": files.FORMAT, "config": text})))


def but(**changes: Any) -> dict[str, Any]:
    """The configuration of `small` with some fields changed."""
    return {**small().config(), **changes}


def mutations(good: bytes, rng: np.random.Generator) -> Iterator[bytes]:
    """Endlessly many damaged copies of a file: bits, bytes, pieces; every second one with its checksum mended."""
    digits = b'0123456789"{}[],: -+.eEnulltrfasFI\\'
    while True:
        data = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            at, size = int(rng.integers(len(data) + 1)), int(rng.integers(1, 40))
            match int(rng.integers(7)):
                case 0 if at < len(data):
                    data[at] ^= 1 << int(rng.integers(8))
                case 1 if at < len(data):
                    data[at] = int(rng.integers(256))
                case 2:
                    del data[at : at + size]
                case 3:
                    data[at:at] = rng.bytes(size)
                case 4:  # a piece from elsewhere
                    start = int(rng.integers(len(good)))
                    data[at : at + size] = good[start : start + size]
                case 5:  # a character of JSON
                    data[at : at + 1] = digits[int(rng.integers(len(digits))) :][:1]
                case 6:  # a number beyond all bounds
                    data[at : at + 2] = [b"9" * size, b"-1", b"1e999", b"null"][int(rng.integers(4))]
        yield bytes(data)
        yield mended(bytes(data))
