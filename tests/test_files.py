"""Model files: what is saved comes back to the bit, and whatever is wrong with a file is a CheckpointError."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from conftest import Mode

import xmlp
from xmlp import activations, initializers
from xmlp.errors import CheckpointError
from xmlp.host import files
from xmlp.layers import Activation, BatchNorm, Dense, Dropout, LayerNorm, Residual, Standardize
from xmlp.network import configs

X = np.random.default_rng(0).normal(size=(9, 3))


def everything() -> list[Any]:
    """Every layer, a bound activation, an initializer of its own."""
    return [
        Standardize(mean=0.5, scale=2.0),
        Dense(4, activations.leaky_relu.bind(alpha=0.3), use_bias=False, kernel_initializer="orthogonal"),
        BatchNorm(momentum=0.8, eps=1e-4),
        Activation("gelu"),
        Dropout(0.25),
        Residual([Dense(5, "tanh"), LayerNorm(eps=1e-3), Residual(["silu"]), Dense(4, bias_initializer=0.5)]),
        Dense(3, "softmax", kernel_initializer=initializers.VarianceScaling(2.0, "fan_out", "normal")),
    ]


def trained(backend: Any = "numpy", **kw: Any) -> xmlp.Network:
    network = xmlp.Network(everything(), 3, backend=backend, seed=5, **kw)
    network.fit(X, np.arange(9) % 3, epochs=2, batch_size=4)
    network.metadata = {"classes": ["a", "b", "ü"], "nested": {"x": [1, 2.5, None, True]}, "text": '\u2028 "q" \\'}
    return network


def small() -> xmlp.Network:
    return xmlp.mlp([3, 4, 2], "tanh", normalization="batch", seed=1)


def vectors(network: xmlp.Network) -> tuple[bytes, bytes, str]:
    arrays = network.arrays()
    return arrays["theta"].tobytes(), arrays["stats"].tobytes(), str(arrays["theta"].dtype)


# --- round trips ------------------------------------------------------------------------------------------------------


def test_round_trip(mode: Mode, dtype: str, tmp_path: Path) -> None:
    if dtype not in mode.dtypes:
        pytest.skip("this device has no float64")
    network = trained().to(mode.backend(dtype))
    network.save(tmp_path / "m.safetensors")
    for backend in (mode.backend(dtype), "numpy"):
        again = xmlp.load(tmp_path / "m.safetensors", backend=backend)
        assert vectors(again) == vectors(network)
        assert again.layers == network.layers
        assert again.config() == network.config()
        assert (again.link, again.seed, again.dtype, again.metadata) == ("softmax", 5, dtype, network.metadata)
    assert xmlp.load(tmp_path / "m.safetensors").backend.name == "numpy"
    again = xmlp.load(tmp_path / "m.safetensors", backend=mode.backend(dtype))
    assert again.predict(X).tobytes() == network.predict(X).tobytes()
    again.save(tmp_path / "second.safetensors")
    assert (tmp_path / "second.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()


def test_a_name_may_be_any_path(tmp_path: Path) -> None:
    for name in (str(tmp_path / "as text"), tmp_path / "model", tmp_path / "ü.bin"):
        small().save(name)
        assert vectors(xmlp.load(name)) == vectors(small())


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_every_activation(name: str, tmp_path: Path) -> None:
    network = xmlp.Network([Dense(3), Activation(name), Dense(2, name)], 3)
    network.save(tmp_path / "m")
    assert xmlp.load(tmp_path / "m").layers == network.layers


def test_settings_that_differ_from_the_defaults_come_back() -> None:
    values = [
        *everything(),
        activations.elu.bind(alpha=0.7),
        initializers.Constant(0.25),
        initializers.Normal(std=0.5, mean=-1.0),
        initializers.Orthogonal(1.5),
        xmlp.optimizers.SGD(xmlp.schedules.Cosine(0.1, total_steps=9, warmup_steps=2), momentum=0.9, nesterov=True),
        xmlp.optimizers.AdamW(1e-2, 0.8, 0.9, 1e-7, 0.1),
        xmlp.losses.Huber(0.5, reduction="sum"),
        xmlp.losses.SoftmaxCrossEntropy(soft_targets=True),
    ]
    for value in values:
        text = json.dumps(configs.to_json(value))
        assert configs.from_json(json.loads(text)) == value
    assert len({json.dumps(configs.to_json(v)) for v in values}) == len(values)


@xmlp.elementwise
def bent(xp, x, *, slope=0.5):  # type: ignore[no-untyped-def]
    return xp.where(x > 0, x, slope * x) + 0.1 * x**2


@dataclass(frozen=True)
class Twice(Activation):
    """A layer of one's own."""

    function: Any = "tanh"
    factor: float = 2.0

    def forward(self, params: Any, x: Any, ctx: Any) -> Any:
        return Activation.forward(self, params, self.factor * x, ctx)


@dataclass(frozen=True)
class Cube:
    """An activation by value and derivative."""

    scale: float = 1.0

    def fn(self, z: Any) -> Any:
        return self.scale * z**3

    def deriv(self, z: Any) -> Any:
        return 3 * self.scale * z**2


def test_what_users_write_comes_back_by_name_only(tmp_path: Path) -> None:
    network = xmlp.Network([Dense(4, bent.bind(slope=0.25)), Twice("tanh", 3.0), Dense(2, Cube(0.5))], 3)
    network.save(tmp_path / "m")
    custom = {"bent": bent, "Twice": Twice, "Cube": Cube}
    again = xmlp.load(tmp_path / "m", custom=custom)
    assert again.layers == network.layers
    assert again.predict(X).tobytes() == network.predict(X).tobytes()
    for name in custom:
        rest = {k: v for k, v in custom.items() if k != name}
        with pytest.raises(CheckpointError, match=f"unknown .*'{name}'.* pass it: custom={{'{name}': ...}}"):
            xmlp.load(tmp_path / "m", custom=rest)


def test_names_of_xmlp_are_not_taken_for_its_own(tmp_path: Path) -> None:
    """A class or formula of the user's that is called like one of xmlp's would come back as that."""

    @xmlp.elementwise
    def relu(xp, x):  # type: ignore[no-untyped-def]
        return 2.0 * xp.maximum(x, 0.0)

    @xmlp.elementwise
    def leaky_relu(xp, x, *, slope=0.01):  # type: ignore[no-untyped-def]
        return xp.where(x > 0, x, slope * x)

    class Dropout(Activation): ...

    for layer in (Activation(relu), Dense(2, leaky_relu), Dropout("tanh")):
        with pytest.raises(ValueError, match="cannot be saved: xmlp has another of that name"):
            xmlp.Network([layer], 2).save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_saved_says_so(tmp_path: Path) -> None:
    class Plain(Activation):
        def __init__(self) -> None:
            object.__setattr__(self, "function", activations.tanh)

    network = small()
    cases: list[tuple[Any, type[Exception], str]] = [
        ({"x": object()}, TypeError, "not JSON serializable"),
        ({"x": float("nan")}, ValueError, "not JSON compliant"),
        ({"x": "a" * 2**20}, ValueError, "the limit is 1048576"),
    ]
    for metadata, kind, words in cases:
        network.metadata = metadata
        with pytest.raises(kind, match=words):
            network.save(tmp_path / "m")
    with pytest.raises(TypeError, match="cannot be saved: it is not a frozen dataclass"):
        xmlp.Network([Dense(2, kernel_initializer=lambda rng, shape: np.zeros(shape))], 2).save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_arrays_of_any_layout(tmp_path: Path) -> None:
    base = np.random.default_rng(1).normal(size=(6, 8))
    readonly = base.copy()
    readonly.flags.writeable = False
    arrays = {
        "fortran": np.asfortranarray(base),
        "strided": base[::2, 1::3],
        "reversed": base[::-1, ::-1],
        "transposed": base.T,
        "readonly": readonly,
        "broadcast": np.broadcast_to(base[:1], (5, 8)),
        "empty": np.zeros((0, 3)),
        "scalar": np.asarray(2.5),
        "float32": np.float32(base)[:, ::2],
        "integers": np.arange(12).reshape(3, 4).T,
    }
    files.write(tmp_path / "m", arrays, {"a": 1})
    got, config = files.read(tmp_path / "m")
    assert config == {"a": 1}
    assert sorted(got) == sorted(arrays)
    for name, array in arrays.items():
        assert got[name].dtype == array.dtype
        assert got[name].shape == array.shape, name
        assert (got[name] == array).all(), name


# --- writing all or nothing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["os.replace", "os.fsync", "builtins.open"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_file(
    call: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, network = tmp_path / "m.safetensors", small()
    network.save(path)
    before = path.read_bytes()
    network.theta = np.zeros(network.layout.size)

    def fail(*args: Any, **kw: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(call, fail)
        with pytest.raises(type(error)) as caught:
            network.save(path)
    if isinstance(error, OSError):
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(path)
        assert "the old file is untouched" in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    network.save(path)
    assert path.read_bytes() != before


def test_a_save_that_fails_on_writing(tmp_path: Path) -> None:
    """The disk is full: a limit on the size of files stands in for it."""
    pytest.importorskip("resource")
    program = """
import resource, sys, xmlp
network = xmlp.mlp([3, 4, 2]); network.save(sys.argv[1])
before = open(sys.argv[1], "rb").read()
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    xmlp.mlp([100, 200, 2]).save(sys.argv[1])
except OSError as error:
    assert "the old file is untouched" in str(error) and "cannot save" in str(error), error
    assert open(sys.argv[1], "rb").read() == before
    xmlp.load(sys.argv[1]); print("kept")
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "m")], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.stdout == "kept\n", run.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_save_where_none_can_be(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="cannot save"):
        small().save(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match="cannot save"):
        small().save(tmp_path / "missing" / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_saves_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    networks = [small() for _ in range(4)]
    for i, network in enumerate(networks):
        network.theta = np.full(network.layout.size, float(i))
    threads = [threading.Thread(target=lambda n=n: [n.save(tmp_path / "m") for _ in range(5)]) for n in networks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(xmlp.load(tmp_path / "m").theta.tolist())) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "m"
    small().save(path)
    content = path.read_bytes()
    assert 1000 < len(content) < 4096
    return content


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[bytes], str]:
    """Loads these bytes, which must be refused; gives the message."""
    path = tmp_path / "file"

    def load(content: bytes) -> str:
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            xmlp.load(path)
        return str(caught.value)

    return load


def test_every_flip_of_a_bit_is_noticed(good: bytes, refused: Callable[[bytes], str], tmp_path: Path) -> None:
    bits = np.random.default_rng(3).choice(8 * len(good), size=2000, replace=False)
    for bit in [*range(64), *bits.tolist()]:
        content = bytearray(good)
        content[bit // 8] ^= 1 << bit % 8
        refused(bytes(content))
    (tmp_path / "file").write_bytes(good)
    assert vectors(xmlp.load(tmp_path / "file")) == vectors(small())


def test_truncation_at_every_byte_is_noticed(good: bytes, refused: Callable[[bytes], str]) -> None:
    for size in range(len(good)):
        refused(good[:size])


def test_additions_are_noticed(good: bytes, refused: Callable[[bytes], str]) -> None:
    for content in (good + good, good + b"\0", b"\0" + good, good[:8] + b" " + good[8:], good[: len(good) // 2] + good):
        refused(content)


# --- files of others, and of enemies ----------------------------------------------------------------------------------


def packed(configuration: Any, arrays: dict[str, Any] | None = None, **metadata: Any) -> bytes:
    """A file with a right checksum, whatever is in it."""
    text = configuration if isinstance(configuration, str) else json.dumps(configuration)
    tensors = small().arrays() if arrays is None else arrays
    own = {"format": files.FORMAT, "config": text, "sha256": "0" * 64, **metadata}
    return mended(safetensors.numpy.save(tensors, metadata={k: v for k, v in own.items() if v is not None}))


def mended(content: bytes) -> bytes:
    """The file with the checksum that belongs to it, where it has zeros for one: somebody who knows how wrote it."""
    zeros = b'"sha256":"' + b"0" * 64
    digest = hashlib.sha256(content).hexdigest().encode()
    return content.replace(zeros, zeros[:-64] + digest, 1)


def header(text: str | bytes, data: bytes = b"") -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw + data


def ours(text: str, data: bytes = b"") -> bytes:
    """A file of xmlp with these arrays in its header."""
    metadata = json.dumps({"format": files.FORMAT, "config": "{}", "sha256": "0" * 64}, separators=(",", ":"))
    return mended(header(f'{{"__metadata__":{metadata},{text}', data))


def but(**changes: Any) -> dict[str, Any]:
    """A right configuration with some fields changed; None takes a field out."""
    return {k: v for k, v in {**small().config(), **changes}.items() if v is not None}


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


THETA = small().arrays()["theta"]
STATS = small().arrays()["stats"]
BIG = 10**12

FOREIGN: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "is damaged"),
    "text": (lambda: b"epoch,loss\n1,0.5\n2,0.25\n", "is not a safetensors file"),
    "zip": (lambda: b"PK\x03\x04" + bytes(200), "is not a safetensors file"),
    "pickle": (lambda: b"\x80\x04\x95" + bytes(200), "is not a safetensors file"),
    "safetensors of somebody else": (lambda: safetensors.numpy.save({"w": np.ones(3)}), "not one of xmlp"),
    "its metadata too": (lambda: safetensors.numpy.save({"w": np.ones(3)}, {"format": "pt"}), "has the format pt"),
    "a later format": (lambda: packed(but(), format="xmlp-2"), "has the format xmlp-2; this version reads xmlp-1"),
    "no format": (lambda: packed(but(), format=None), "not one of xmlp"),
    "no checksum": (lambda: packed(but(), sha256=None), "its checksum does not fit"),
    "another checksum": (lambda: packed(but(), sha256="1" * 64), "its checksum does not fit"),
    "no configuration": (lambda: packed(but(), config=None), "the configuration is not JSON"),
    "a header of 0 bytes": (lambda: bytes(8), "is damaged"),
    "a header beyond the end": (lambda: (2**40).to_bytes(8, "little") + b"{}", "the header is cut off"),
    "a header of 2**64 - 1 bytes": (lambda: b"\xff" * 8 + b"{}" * 50, "the header is cut off"),
    "a header too long": (lambda: header(" " * (files.MAX_HEADER + 1)), "the header takes 2621441 bytes"),
    "a header that is a list": (lambda: header("[1, 2]"), "is damaged"),
    "a header in UTF-16": (lambda: header('{"a": 1}'.encode("utf-16")), "is damaged"),
    "a deep header": (lambda: header('{"__metadata__":' + nested(100_000) + "}"), "is damaged"),
    "metadata of numbers": (lambda: header('{"__metadata__": {"format": 1}}'), "the header holds no metadata"),
    "metadata as a list": (lambda: header('{"__metadata__": ["format"]}'), "the header holds no metadata"),
    "a key twice": (
        lambda: header('{"__metadata__": {"format": "xmlp-1", "format": "pt"}}'), "a key stands twice",
    ),
    "an array twice": (
        lambda: header('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                       '"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"1"), "a key stands twice",
    ),
    "a shape beyond memory": (
        lambda: ours('"a":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[0,0]}}'), "is damaged",
    ),
    "offsets beyond the end": (
        lambda: ours('"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}', b"1234"), "is damaged",
    ),
    "an unknown dtype": (lambda: ours('"a":{"dtype":"F7","shape":[1],"data_offsets":[0,1]}}', b"1"), "is damaged"),
    "NaN in the header": (lambda: header('{"__metadata__": NaN}'), "is damaged"),
    "nan in theta": (
        lambda: packed(but(), {"theta": THETA * np.float32("nan"), "stats": STATS}), "theta holds numbers that are",
    ),
    "infinity in stats": (
        lambda: packed(but(), {"theta": THETA, "stats": STATS + np.float32("inf")}), "stats holds numbers",
    ),
    "theta too short": (lambda: packed(but(), {"theta": THETA[:-1], "stats": STATS}), "need 30 numbers in theta"),
    "stats too long": (lambda: packed(but(), {"theta": THETA, "stats": THETA}), "need 8 numbers in stats"),
    "theta as a matrix": (lambda: packed(but(), {"theta": THETA[None], "stats": STATS}), "got (1, 30)"),
    "theta in float64": (lambda: packed(but(), {"theta": np.float64(THETA), "stats": STATS}), "theta of float64"),
    "theta in integers": (lambda: packed(but(), {"theta": np.int32(THETA), "stats": STATS}), "theta of int32"),
    "no theta": (lambda: packed(but(), {"stats": STATS}), "the file lacks 'theta'"),
    "one array more": (lambda: packed(but(), {"theta": THETA, "stats": STATS, "w": STATS}), "holds 'w'"),
    "no JSON": (lambda: packed("{'a': 1}"), "the configuration is not JSON"),
    "a JSON list": (lambda: packed("[]"), "the configuration is not a JSON object"),
    "NaN in JSON": (lambda: packed('{"a": NaN}'), "the configuration is not JSON"),
    "minus infinity in JSON": (lambda: packed('{"a": -Infinity}'), "the configuration is not JSON"),
    "a key twice in JSON": (lambda: packed('{"a": 1, "a": 2}'), "a key stands twice"),
    "deep JSON": (lambda: packed('{"a":' + nested(100_000) + "}"), "the configuration is not JSON"),
    "deep layers": (lambda: packed(but(layers=json.loads(nested(50)))), "nested more than 20 deep"),
    "long JSON": (lambda: packed(but(metadata={"a": "b" * files.MAX_CONFIG})), "the limit is 1048576"),
    "an integer of 10,000 digits": (lambda: packed('{"a": 1' + "0" * 10_000 + "}"), "the configuration is not JSON"),
    "half a character": (lambda: surrogate(), "is damaged"),
    "an extra field": (lambda: packed(but(extra=1)), "the configuration holds 'extra'"),
    **{f"no {k}": ((lambda k=k: packed(but(**{k: None}))), f"the configuration lacks '{k}'") for k in small().config()},
    "float16": (lambda: packed(but(dtype="float16")), "the dtype of the network is 'float16'"),
    "a list as dtype": (lambda: packed(but(dtype=["float32"])), "the dtype of the network is ['float32']"),
    "another dtype": (lambda: packed(but(dtype="float64")), "the dtype of the network is 'float64'"),
    "a link": (lambda: packed(but(link="tanh")), "unknown link 'tanh'"),
    "a list as link": (lambda: packed(but(link=["identity"])), "unknown link ['identity']"),
    "a list as metadata": (lambda: packed(but(metadata=[["a", 1]])), "metadata is not an object"),
    "a seed": (lambda: packed(but(seed=-1)), "seed must be an integer >= 0"),
    "in_features": (lambda: packed(but(in_features=3.5)), "in_features must be an integer >= 1"),
    "other in_features": (lambda: packed(but(in_features=4)), "the layers need 34 numbers in theta, got (30,)"),
    "no layers at all": (lambda: packed(but(layers=[])), "at least one layer"),
    "a word for layers": (lambda: packed(but(layers="relu")), "expected a sequence of layers"),
    "numbers for layers": (lambda: packed(but(layers=[1])), "layer 0 is 1, not a Layer"),
    "an optimizer for a layer": (lambda: packed(but(layers=[{"type": "Adam"}])), "not a Layer"),
    "os.system": (lambda: packed(but(layers=[{"type": "os.system", "c": "touch owned"}])), "type 'os.system'"),
    "a path": (lambda: packed(but(layers=[{"type": "../x"}])), "unknown type '../x'"),
    "a dunder": (lambda: packed(but(layers=[{"type": "__import__", "name": "os"}])), "type '__import__'"),
    "a dunder for an activation": (lambda: packed(but(layers=[{"activation": "__class__"}])), "unknown activation"),
    "a list for a type": (lambda: packed(but(layers=[{"type": ["Dense"], "units": 2}])), "type ['Dense']"),
    "an object for an activation": (lambda: packed(but(layers=[{"activation": {}}])), "unknown activation {}"),
    "a strange field": (lambda: packed(but(layers=[{"type": "Dense", "units": 2, "__init__": 1}])), "is not valid"),
    "a field too few": (lambda: packed(but(layers=[{"type": "Dense"}])), "of Dense is not valid"),
    "a schedule for an activation": (
        lambda: packed(but(layers=[{"type": "Dense", "units": 2, "activation": {"type": "SGD", "lr": 1}}])),
        "is not valid",
    ),
    "scalars that are not taken": (lambda: packed(but(layers=[{"activation": "relu", "alpha": 1}])), "does not take"),
    "scalars for softmax": (lambda: packed(but(layers=[{"activation": "softmax", "name": 1}])), "does not take"),
    "units without end": (lambda: packed(but(layers=[{"type": "Dense", "units": BIG}])), f"need {4 * BIG}"),
    "units beyond int64": (lambda: packed(but(layers=[{"type": "Dense", "units": BIG**3}])), "the layers need"),
    "inputs without end": (lambda: packed(but(in_features=BIG, layers=[{"type": "BatchNorm"}])), f"need {2 * BIG}"),
    "statistics without end": (
        lambda: packed(but(in_features=BIG, layers=[{"type": "Standardize"}]), {"theta": THETA[:0], "stats": STATS}),
        f"the layers need {2 * BIG} numbers in stats",
    ),
}  # fmt: skip


def surrogate() -> bytes:
    text = json.dumps({"__metadata__": {"format": files.FORMAT, "config": "\ud800", "sha256": "0"}})
    return header(text)


def allocated(run: Callable[[], Any]) -> int:
    """The most memory that was in use at a time, in bytes."""
    import tracemalloc

    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore:(invalid|divide):RuntimeWarning")
@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_wrong_is_refused(case: str, refused: Callable[[bytes], str], tmp_path: Path) -> None:
    make, words = FOREIGN[case]
    content = make()
    message: list[str] = []
    peak = allocated(lambda: message.append(refused(content)))
    assert words in message[0]
    assert peak < 10 * len(content) + 4_000_000
    assert not (tmp_path / "owned").exists()


def test_this_file_is_right_where_those_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(packed(but()))
    assert vectors(xmlp.load(tmp_path / "m")) == vectors(small())


def test_places_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        xmlp.load(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="is not a regular file"):
        xmlp.load(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo")
        caught: list[BaseException] = []

        def load() -> None:
            try:
                xmlp.load(tmp_path / "fifo")
            except BaseException as error:
                caught.append(error)

        thread = threading.Thread(target=load, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive(), "it waits for a writer"
        assert isinstance(caught[0], CheckpointError)
        with pytest.raises(CheckpointError, match="is not a regular file"):
            xmlp.load("/dev/zero")


# --- nothing in a file is executed ------------------------------------------------------------------------------------

WATCHED: dict[str, list[Any]] = {"events": []}
_ON = threading.local()


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if getattr(_ON, "on", False):
        WATCHED["events"].append((event, arguments))


@pytest.fixture(scope="module")
def hook() -> None:
    sys.addaudithook(_watch)


@pytest.fixture
def watched(hook: None) -> Iterator[Callable[[Callable[[], Any]], list[str]]]:
    """What a call does that a file must not make it do."""

    def run(call: Callable[[], Any]) -> list[str]:
        WATCHED["events"].clear()
        _ON.on = True
        try:
            call()
        except CheckpointError:
            pass
        finally:
            _ON.on = False
        return [text for event, arguments in WATCHED["events"] if (text := forbidden(event, arguments))]

    yield run
    _ON.on = False


def forbidden(event: str, arguments: tuple[Any, ...]) -> str:
    if event == "import":
        top = str(arguments[0]).partition(".")[0]
        return "" if top in sys.stdlib_module_names or top in ("xmlp", "numpy") else f"import {arguments[0]}"
    if event == "open":
        mode, flags = arguments[1], arguments[2]
        writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (
            isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        return f"open {arguments}" if writes else ""
    if event == "compile":
        return f"compile {arguments}" if isinstance(arguments[0], (str, bytes)) else ""
    named = (
        "exec",
        "subprocess.",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.fork",
        "socket.",
        "pickle.",
        "os.remove",
    )
    return event if event.startswith(named) else ""


def test_the_watch_sees(watched: Callable[..., list[str]], tmp_path: Path) -> None:
    sys.modules.pop("this_module_is_not", None)

    def misbehave() -> None:
        exec("1 + 1")
        (tmp_path / "x").write_text("a")
        subprocess.run([sys.executable, "--version"], check=True, capture_output=True)
        with pytest.raises(ImportError):
            __import__("this_module_is_not")

    seen = " ".join(watched(misbehave))
    assert all(word in seen for word in ("compile", "exec", "open", "subprocess.Popen", "import this_module_is_not"))


def test_nothing_in_a_file_is_executed(watched: Callable[..., list[str]], good: bytes, tmp_path: Path) -> None:
    np.seterr(invalid="ignore", divide="ignore")
    try:
        contents = [good, *(make() for make, _ in FOREIGN.values())]
    finally:
        np.seterr(invalid="warn", divide="warn")
    paths = []
    for i, content in enumerate(contents):
        paths.append(tmp_path / str(i))
        paths[-1].write_bytes(content)
    for path in paths:
        assert watched(lambda path=path: xmlp.load(path)) == [], path.name
    assert len(list(tmp_path.iterdir())) == len(contents)


def test_bytes_at_random(tmp_path: Path, good: bytes) -> None:
    """Pieces of a right file cut and joined anyhow, with its checksum mended: only a CheckpointError, or the same."""
    rng = np.random.default_rng(11)
    text = json.dumps(small().config(), sort_keys=True)
    path = tmp_path / "m"
    outcomes = {"refused": 0, "read": 0}
    for _ in range(400):
        characters = list(text)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(characters)))
            characters[at] = str(rng.choice(list('0123456789"{}[],: enultrAZ\\')))
        changed = "".join(characters)
        digest = hashlib.sha256(changed.encode()).hexdigest()
        assert digest
        path.write_bytes(packed(changed))
        try:
            network = xmlp.load(path)
        except CheckpointError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            assert network.predict(X).shape == (9, 2)
    assert outcomes["refused"] > 200
    assert outcomes["read"] > 0


def test_what_is_not_a_regular_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        xmlp.mlp([2, 2]).save(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "model")
    xmlp.mlp([2, 2]).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert xmlp.load(tmp_path / "model").in_features == 2


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    for name in ("m" * 255, "ü" * 127):
        small().save(tmp_path / name)
        assert vectors(xmlp.load(tmp_path / name)) == vectors(small())
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
def test_what_a_killed_save_has_left_is_removed_and_nothing_else(tmp_path):
    import fcntl

    names = [
        "m.tmp.12.0123abcd",
        "m.tmp.34.deadbeef",
        "m.tmp.56.deadbeef",
        "m.tmp.notes",
        "n.tmp.12.0123abcd",
        "m.tmp.1.x",
    ]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / names[1])  # just written
    with open(tmp_path / names[2], "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # still being written
        small().save(tmp_path / "m")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["m", *names[1:]])


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
def test_the_permissions_are_those_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        small().save(tmp_path / "m")
    finally:
        os.umask(before)
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
@pytest.mark.parametrize(("code", "told"), [(errno.EIO, True), (errno.EINVAL, False), (errno.EACCES, False)])
def test_a_folder_that_cannot_be_flushed(code, told, tmp_path, monkeypatch):
    """Where folders cannot be flushed at all there is nothing to tell; a fault of the disk is told."""
    right, calls = os.fsync, []

    def fsync(number):
        calls.append(number)
        if len(calls) == 2:  # the first is that of the file
            raise OSError(code, os.strerror(code))
        right(number)

    monkeypatch.setattr(os, "fsync", fsync)
    if told:
        with pytest.raises(OSError, match="saved, but a power failure may undo it") as caught:
            small().save(tmp_path / "m")
        assert caught.value.filename == str(tmp_path / "m")
    else:
        small().save(tmp_path / "m")
    monkeypatch.undo()
    assert vectors(xmlp.load(tmp_path / "m")) == vectors(small())


@pytest.mark.parametrize("number", ["1e999", "-1e400", "NaN", "Infinity"])
def test_numbers_of_a_configuration_are_finite(number, refused):
    text = json.dumps(but(metadata={"rate": "?"})).replace('"?"', number)
    assert "is not a number of JSON" in refused(packed(text))


def test_kinds_that_are_not_real_numbers_are_not_saved(tmp_path):
    for array in (np.zeros(2, complex), np.zeros(2, "U3"), np.zeros(2, np.longdouble), np.zeros(2, "M8[s]")):
        with pytest.raises(TypeError, match="expected arrays of real numbers to save"):
            files.write(tmp_path / "m", {"a": array}, {})
    assert list(tmp_path.iterdir()) == []
