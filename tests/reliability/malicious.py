"""Row C9: files made to do harm. All are refused, and an audit hook sees nothing that a file must not cause."""

import errno
import io
import json
import os
import pickle
import sys
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

import xmlp
from reliability.core import ROOT, python, row
from reliability.samples import but, listeners, mended, packed, small, subjects
from xmlp.errors import CheckpointError
from xmlp.host import files

BIG = 10**9
JSON_LIMIT = 64_000_000  # bytes that two megabytes of brackets become in Python


class Shell:
    """A pickle of it runs a command where it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


def header(text: str | bytes, data: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw + data


def ours(arrays: str, data: bytes = b"", config: str = "{}") -> bytes:
    """A file of xmlp, its checksum right, whose header names any arrays."""
    own = {"format": files.FORMAT, "config": config, "sha256": "0" * 64}
    return mended(header(f'{{"__metadata__":{json.dumps(own, separators=(",", ":"))}{arrays}}}', data))


def archive(name: str, content: bytes) -> bytes:
    """A zip file with one member."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed_file:
        packed_file.writestr(name, content)
    return stream.getvalue()


def numpy_archive() -> bytes:
    """What `np.savez` writes, an array of objects in it."""
    stream = io.BytesIO()
    np.savez(stream, theta=np.asarray([Shell()], dtype=object))
    return stream.getvalue()


def cases() -> Iterator[tuple[str, bytes]]:
    """Every file with a name for it."""
    good = packed(but())
    code = pickle.dumps(Shell())
    # other formats under our name, alone and joined to a file of ours
    yield "pickle", code
    yield "zip", archive("data.pkl", code)
    yield "npz", numpy_archive()
    yield "torch zip", archive("archive/data.pkl", code)
    yield "hdf5", b"\x89HDF\r\n\x1a\n" + bytes(500)
    yield "model, then zip", good + archive("data.pkl", code)
    yield "model, then zip, mended", mended(good + archive("data.pkl", code))
    yield "zip, then model", archive("data.pkl", code) + good
    yield "pickle, then model", code + good
    yield "header that is a pickle", header(code)
    # names that lead to code
    for name in ("os.system", "__import__", "builtins.eval", "subprocess.Popen", "../../evil", "xmlp.host.files.write",
                 "__class__", "Dense.__init__", "Formula", "/etc/passwd", "file:///x", "!!python/object"):  # fmt: skip
        yield f"layer {name}", packed(but(layers=[{"type": name, "command": "touch owned"}]))
        yield f"activation {name}", packed(but(layers=[{"activation": name}]))
    for field in ("__class__", "__init__", "__dict__", "__reduce__", "forward", "module", "custom"):
        yield f"field {field}", packed(but(layers=[{"type": "Dense", "units": 2, field: "os.system"}]))
    yield (
        "an initializer by name",
        packed(but(layers=[{"type": "Dense", "units": 2, "kernel_initializer": "os.system"}])),
    )
    yield "activation by path", packed(but(layers=[{"type": "Dense", "units": 2, "activation": "os.system"}]))
    yield "a backend", packed({**but(), "backend": "os"})
    # sizes without bound
    yield "10**9 units", packed(but(layers=[{"type": "Dense", "units": BIG}]))
    yield "10**30 units", packed(but(layers=[{"type": "Dense", "units": BIG**3}]))
    yield "10**9 inputs", packed(but(in_features=BIG))
    yield "30,000 layers", packed(but(layers=[{"activation": "tanh"}] * 30_000))
    yield "10**9 layers", packed('{"layers": [' + "[" * 10_000)
    yield "a header of lists", header('{"__metadata__":[' + "[]," * 800_000 + "[]]}")
    yield "a configuration of lists", packed('{"a":[' + "[]," * 300_000 + "[]]}")
    yield "a configuration of objects", packed('{"a":[' + '{"":{}},' * 130_000 + "[]]}")
    yield "deep layers", packed(but(layers=[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]))
    yield "deep residuals", packed(but(layers=[residual(19)]))
    yield "shape [0, 2**62]", ours(',"theta":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[0,0]}')
    yield "shape [2**32, 2**32]", ours(',"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}')
    yield "shape of 1,000 axes", ours(f',"a":{{"dtype":"U8","shape":{[1] * 1000},"data_offsets":[0,1]}}', b"1")
    yield "negative shape", ours(',"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}', b"1")
    yield "offsets beyond", ours(',"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}', b"1")
    yield "offsets backwards", ours(',"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}', b"1")
    yield (
        "offsets that overlap",
        ours(
            ',"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}',
            b"123",
        ),
    )
    yield "a hole", ours(',"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}', b"12")
    for dtype in ("F7", "BF16", "F8_E4M3", "F4", "C64", "O", "object", ""):
        yield f"dtype {dtype}", ours(f',"theta":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,8]}}', bytes(8))
    yield "header of 101 MB", header(b"{" + b" " * 101_000_000 + b"}")
    yield "header of 2**63 bytes", (2**63).to_bytes(8, "little") + b"{}"
    # JSON
    yield "deep header", header('{"__metadata__":' + "[" * 100_000 + "]" * 100_000 + "}")
    yield "deep configuration", packed('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")
    yield "duplicate keys", packed(json.dumps(but())[:-1] + ', "link": "softmax"}')
    yield "duplicate arrays", ours(',"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}' * 2, b"1")
    for word in ("NaN", "Infinity", "-Infinity", "1e999"):
        yield f"{word} in JSON", packed(json.dumps(but(seed="?")).replace('"?"', word))
    yield "an integer of 10,000 digits", packed('{"a": 1' + "0" * 10_000 + "}")
    yield "half a character", ours("", config="\ud800")
    yield "metadata of lists", header('{"__metadata__": {"format": ["xmlp-1"]}}')
    yield "nan", packed(but(), {**small().arrays(), "theta": small().arrays()["theta"] * np.float32("nan")})
    yield "someone else's", safetensors.numpy.save({"theta": np.ones(3)}, {"format": "pt"})


VALID = (("clip_norm", None), ("clip_norm", 1e300), ("clip_norm", 2**70), ("lr_scale", 1e300), ("lr_scale", 2**70),
         ("l1", 1e300), ("l1", 2**70), ("seed", 2**70))  # fmt: skip


def checkpoint_cases(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Checkpoints of runs, each with a name for what is wrong in it."""
    right = subjects(folder)[1].data
    (folder / "right").write_bytes(right)
    arrays, config = files.read(folder / "right", any_numbers=("history",))

    def changed(**changes: Any) -> bytes:
        return packed({**config, "trainer": {**config["trainer"], **changes}}, arrays)

    assert changed() == right
    for name in ("os.system", "__import__", "../evil", "xmlp.host.files.write", "__class__"):
        for part in ("loss", "optimizer"):
            yield f"{part} {name}", changed(**{part: {"type": name, "lr": 0.1}})
        yield f"metric {name}", changed(metrics=[name])
        yield f"callback {name}", changed(callbacks=[{"type": name, "values": {}}] * 2)
    yield "a loss of one's own", changed(loss={"own": "os.system"})
    yield "memories that are attributes", changed(callbacks=[{"type": "EarlyStopping", "values": {"__class__": 1}}] * 2)
    for name in ("steps", "epoch", "position", "lr_scale", "seed", "clip_norm", "l1"):
        for value in (-1, 1e300, "1", None, [], {"type": "Adam"}, 2**70):
            if (name, value) not in VALID:
                yield f"{name} {value!r}", changed(**{name: value})
    fit = config["trainer"]["fit"]
    for name in fit:
        for value in (-1, "x", None, 2**70, {}):
            yield f"fit.{name} {value!r}", changed(fit={**fit, name: value})
    yield "a fit of other fields", changed(fit={"__class__": 1})
    yield "an array that is not asked for", packed(config, {**arrays, "slot.evil": arrays["theta"]})
    yield "a memory without a callback", packed(config, {**arrays, "callback.99.theta": arrays["theta"]})
    yield "a memory by name", packed(config, {**arrays, "callback.x.theta": arrays["theta"]})
    yield "a history of 10**6 names", changed(history=["loss"] * 100_000)
    yield "the model alone", packed(config["network"], {n: arrays[n] for n in ("theta", "stats")})


def residual(depth: int) -> Any:
    """Blocks within blocks."""
    return {"type": "Residual", "layers": [residual(depth - 1)]} if depth else {"activation": "tanh"}


def forbidden(event: str, arguments: tuple[Any, ...]) -> str:
    """What a file must not cause, in words; empty for anything else."""
    if event == "open":
        mode, flags = arguments[1], arguments[2] or 0
        return (
            f"open {arguments[0]} to write" if set(str(mode)) & set("wax+") or flags & (os.O_RDWR | os.O_WRONLY) else ""
        )
    if event == "compile":
        return "compile" if isinstance(arguments[0], (str, bytes)) else ""
    named = ("exec", "import", "subprocess.", "os.", "socket.", "pickle.", "shutil.", "ctypes.dlopen", "code.__new__")
    harmless = ("os.listdir", "os.scandir")
    return f"{event} {arguments!r:.80}" if event.startswith(named) and event not in harmless else ""


def resumed(path: Path) -> xmlp.Trainer:
    """The run of a checkpoint."""
    return xmlp.Trainer.resume(path, callbacks=listeners(), planned=False)


def audit(folder: Path) -> None:
    """Load every file of a folder under an audit hook; print what was seen. For a process of its own."""
    events: list[str] = []
    on = threading.local()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if getattr(on, "on", False) and (text := forbidden(event, arguments)):
            events.append(text)

    def load(path: Path) -> str:
        try:
            network = xmlp.load(path) if path.name[0] != "c" else resumed(path)
        except CheckpointError:
            return "refused"
        except OSError as error:  # a link to itself
            return "refused" if error.errno == errno.ELOOP else repr(error)
        return str(network)

    for name in ("good", "cgood", "000", "c000"):  # what is imported for any file at all
        load(folder / name)
    sys.addaudithook(hook)
    results = {}
    for path in sorted(folder.iterdir()):
        tracemalloc.start()
        on.on = True
        result = load(path)
        on.on = False
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        results[path.name] = (result, memory)
    on.on = True
    open(folder / "probe", "w").close()  # the hook is awake
    on.on = False
    print(json.dumps({"results": results, "events": events}))


@row(
    "C9",
    "malicious files are refused; an audit hook sees no import, execution, process, socket or write",
    "all refused",
)
def malicious_files(size: int, folder: Path) -> str:
    place = folder / "files"
    place.mkdir()
    names = {}
    for i, (name, data) in enumerate(cases()):
        (place / f"{i:03}").write_bytes(data)
        names[f"{i:03}"] = name
    for i, (name, data) in enumerate(checkpoint_cases(folder)):
        (place / f"c{i:03}").write_bytes(data)
        names[f"c{i:03}"] = name
    (place / "cgood").write_bytes((folder / "right").read_bytes())
    os.mkfifo(place / "fifo")
    (place / "folder").mkdir()
    (place / "zero").symlink_to("/dev/zero")
    (place / "loop").symlink_to("loop2")
    (place / "loop2").symlink_to("loop")
    with open(place / "sparse", "wb") as file:
        file.truncate(files.MAX_FILE)
    (place / "good").write_bytes(packed(but()))
    path = os.pathsep.join([str(ROOT / "tests"), str(Path(xmlp.__file__).parent.parent)])
    code = "import sys, pathlib; from reliability.malicious import audit; audit(pathlib.Path(sys.argv[1]))"
    done = python(code, place, cwd=folder, timeout=200, env={**os.environ, "PYTHONPATH": path})
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["events"] == [f"open {place / 'probe'} to write"], found["events"]
    results = found["results"]
    assert results.pop("good")[0].startswith("Network(3-4-")
    assert "Trainer" in results.pop("cgood")[0]
    above = 0.0
    for file, (result, memory) in results.items():
        assert result == "refused", f"{names.get(file, file)}: {result}"
        length = (place / file).stat().st_size if (place / file).is_file() else 0
        limit = 10 * length + (2_000_000 if length < 500_000 else JSON_LIMIT)
        assert memory <= limit, f"{names.get(file, file)}: {memory} bytes for {length}"
        above = max(above, memory - 10 * length)
    assert not (folder / "owned").exists()
    return f"{len(results)} of {len(results)}; memory at most 10 x the file + {max(above, 0) / 1e6:.1f} MB"
