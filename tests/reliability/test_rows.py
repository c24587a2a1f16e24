"""Every row of the reliability table at its short size; and each kind of row is seen to break."""

import errno
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import xmlp
import xmlp.host.files
from reliability import concurrency, determinism, files, fuzzing, malicious, mutants, resources, runs, samples, supply
from reliability.__main__ import main, measured
from reliability.rows import ROWS
from xmlp.data import csvfile
from xmlp.errors import DataError


@pytest.mark.parametrize("id", ROWS)
def test_row(id, tmp_path):
    row = ROWS[id]
    print(f"{row.id}: {row.promise}: wanted {row.wanted}; seen {row.run(row.short, tmp_path)}")


# --- faults, planted one by one ---------------------------------------------------------------------------------------


def broken(id, folder, size=None):
    """Run a row that must break; the message."""
    with pytest.raises(AssertionError) as caught:
        ROWS[id].run(size or ROWS[id].short, folder)
    return str(caught.value)


def in_place(path, *pieces, last=None):
    """A save without a temporary file."""
    with open(path, "wb", buffering=0) as file:
        for piece in pieces:
            file.write(piece)
        at, piece = last()
        file.seek(at)
        file.write(piece)
        os.fsync(file.fileno())


def test_a_save_in_place_is_seen(planted, tmp_path):
    with planted(xmlp.host.files, "replace_file", in_place), pytest.raises((AssertionError, xmlp.CheckpointError)):
        ROWS["C2"].run(1, tmp_path)
    (tmp_path / "full").mkdir()
    with planted(xmlp.host.files, "replace_file", in_place), pytest.raises((AssertionError, OSError)):
        ROWS["C4"].run(1, tmp_path / "full")


def test_rubbish_that_stays_is_seen(planted, tmp_path):
    with planted(xmlp.host.files, "_sweep", lambda folder, stem: None):
        assert "was not removed" in broken("C2", tmp_path)


def test_an_error_without_bytes_is_seen(planted, tmp_path):
    def silent(path, *pieces, last=None):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    right, calls = xmlp.host.files.replace_file, []

    def first_only(path, *pieces, last=None):
        calls.append(path)
        return (right if len(calls) == 1 else silent)(path, *pieces, last=last)

    with planted(xmlp.host.files, "replace_file", first_only):
        broken("C5", tmp_path)


@pytest.mark.parametrize("id", ["C7", "C6"])
def test_a_checksum_that_is_not_compared_is_seen(planted, tmp_path, id):
    with planted(xmlp.host.files, "_is_whole", lambda content, checksum: True):
        broken(id, tmp_path, 2000)


def test_a_reader_that_is_content_with_what_it_needs_is_seen(planted, tmp_path):
    def load(content):
        size = 8 + int.from_bytes(content[:8], "little")
        ends = [entry["data_offsets"][1] for name, entry in json.loads(content[8:size]).items() if name[:2] != "__"]
        return right(content[: size + max(ends)])

    right = safetensors.numpy.load
    with (
        planted(xmlp.host.files, "_is_whole", lambda content, checksum: True),
        planted(safetensors.numpy, "load", load),
    ):
        broken("C8", tmp_path)


def test_arrays_in_the_wrong_order_are_seen(planted, tmp_path):
    with planted(np, "ascontiguousarray", lambda a, dtype=None: np.asarray(a, dtype).copy(order="K").T):
        broken("C13", tmp_path)


def test_golden_files_that_do_not_load_are_seen(planted, tmp_path):
    with planted(xmlp.host.files, "FORMAT", "xmlp-2"), pytest.raises(xmlp.CheckpointError):
        ROWS["C11"].run(1, tmp_path)


def test_a_race_is_seen(tmp_path, planted):
    code = files.RACE.replace("network.save(path)", "open(path, 'wb').write(b'half')")
    with planted(files, "RACE", code), pytest.raises((AssertionError, xmlp.CheckpointError)):
        ROWS["C12"].run(20, tmp_path)


WATCHED = [
    ("import", ("os",)), ("exec", ("code",)), ("subprocess.Popen", ("sh",)), ("os.system", ("ls",)),
    ("compile", ("1", "")),
    ("open", ("x", "w", 0)), ("open", ("x", None, os.O_WRONLY)), ("socket.connect", ()), ("pickle.find_class", ()),
]  # fmt: skip


@pytest.mark.parametrize(("event", "arguments"), WATCHED)
def test_the_watch_over_malicious_files_sees(event, arguments):
    assert malicious.forbidden(event, arguments)
    assert not malicious.forbidden("open", ("x", "rb", os.O_RDONLY))


def test_a_name_that_becomes_an_import_is_seen(planted, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib, xmlp.network.configs as configs\n"
        "right = configs.from_json\n"
        "def imported(data, custom=None, _depth=0):\n"
        "    if isinstance(data, dict) and '.' in str(data.get('type')):\n"
        "        importlib.import_module(data['type'].rpartition('.')[0].strip('./') or 'os')\n"
        "    return right(data, custom, _depth)\n"
        "configs.from_json = imported\n"
    )
    (tmp_path / "work").mkdir()
    usual = malicious.python
    place = os.pathsep.join([str(tmp_path), str(Path(xmlp.__file__).parent.parent)])

    def infected(code, *args, env, **settings):
        return usual(code, *args, env={**env, "PYTHONPATH": f"{place}{os.pathsep}{env['PYTHONPATH']}"}, **settings)

    with planted(malicious, "python", infected):
        broken("C9", tmp_path / "work")


def test_a_run_that_is_not_repeatable_is_seen(planted, tmp_path):
    code = determinism.TRAIN.replace("seed=5", "seed=hash('a') % 100")
    with planted(determinism, "TRAIN", code):
        broken("D1", tmp_path, 3)


def test_training_that_depends_on_the_number_of_threads_is_seen(planted, tmp_path):
    code = determinism.TRAIN.replace("seed=5", "seed=int(os.environ['OMP_NUM_THREADS'])").replace(
        "sys\n", "os, sys\n", 1
    )
    with planted(determinism, "TRAIN", code):
        broken("D2", tmp_path)


def test_rows_that_depend_on_each_other_are_seen(planted, tmp_path):
    right = xmlp.Network.compute

    def compute(self, x, **kw):
        return right(self, x - 1e-4 * x.mean(axis=0), **kw)

    with planted(xmlp.Network, "compute", compute):
        broken("D7", tmp_path)


@pytest.mark.parametrize(
    ("owner", "name", "fault"),
    [
        (xmlp.initializers.VarianceScaling, "__call__", lambda right: lambda *a: 1.05 * right(*a)),
        (xmlp.layers.Dropout, "_mask", lambda right: lambda s, *a: right(xmlp.layers.Dropout(s.rate + 0.02), *a)),
        (determinism, "batch_order", lambda right: lambda *a: np.sort(right(*a).reshape(2, -1), axis=1).ravel()),
    ],
)  # fmt: skip
def test_distributions_that_are_off_are_seen(planted, tmp_path, owner, name, fault):
    with planted(owner, name, fault(getattr(owner, name))):
        broken("D8", tmp_path)


def test_a_leak_is_seen(planted, tmp_path):
    with planted(resources, "LEAK", resources.LEAK.replace("seen.append", "kept.append(np.ones(60_000)); seen.append")
                 .replace("seen = []", "seen, kept = [], []")):  # fmt: skip
        broken("R1", tmp_path)


def test_predictions_that_differ_between_threads_are_seen(planted, tmp_path):
    import threading

    right = xmlp.Network.predict

    def predict(self, x, batch_size=None):
        return right(self, x, batch_size) + (threading.current_thread() is not threading.main_thread())

    with planted(xmlp.Network, "predict", predict):
        broken("R5w", tmp_path)


def test_cold_processes_that_differ_are_seen(planted, tmp_path):
    with planted(concurrency, "cold", lambda kind, driver, threads, model, cache: [str(threads)]):
        assert "16 of 16 processes differ" in broken("R5", tmp_path)


def test_derivatives_that_differ_between_threads_are_seen(planted, tmp_path):
    import threading

    right = concurrency.derived

    def derived(formula):
        return right(formula) if threading.current_thread() is threading.main_thread() else "0"

    with planted(concurrency, "derived", derived):
        assert "416 of 416 wrong" in broken("R5d", tmp_path)


@pytest.mark.parametrize(
    ("id", "name", "error"),
    [
        ("I1", "read_csv", IndexError("list index")),
        ("I2", "read_idx", OverflowError()),
        ("I1", "read_csv", DataError("?")),
    ],
)
def test_an_error_that_is_not_declared_is_seen(planted, tmp_path, id, name, error):
    def fail(*args, **kw):
        raise error

    with planted(fuzzing, name, fail), pytest.raises((AssertionError, type(error))):
        ROWS[id].run(100, tmp_path)


def test_a_reader_that_loses_rows_is_seen(planted, tmp_path):
    with planted(csvfile, "regular_block", lambda piece, *rest: (None, len(piece))):
        broken("I4", tmp_path)


def test_a_command_that_raises_is_seen(planted, tmp_path):
    from xmlp.cli import info

    def fail(*args, **kw):
        raise RuntimeError

    with planted(info, "_tried", fail):
        broken("I3", tmp_path)


def test_an_unbounded_dependency_is_seen(planted, tmp_path):
    with planted(supply, "project", lambda: {"dependencies": ["numpy>=2"], "optional-dependencies": {}}):
        assert "numpy>=2" in broken("S1", tmp_path)


def test_a_lock_that_lacks_something_is_seen(planted, tmp_path):
    right = (supply.LOCKED / "demo.txt").read_text()
    (tmp_path / "test.txt").write_text((supply.LOCKED / "test.txt").read_text())
    for wrong, text in (
        (re.sub(r"--hash=sha256:\w+", "", right), "without a hash"),
        (right.replace("click==", "clock=="), "click is not locked"),
        (re.sub("click==[0-9.]+", "click==7.0", right), "click<9,>=8.1 has 7.0"),
    ):
        (tmp_path / "demo.txt").write_text(wrong)
        with planted(supply, "LOCKED", tmp_path):
            assert text in broken("S2", tmp_path)


def test_an_advisory_is_seen(planted, tmp_path):
    found = {"dependencies": [{"name": "click", "version": "8.1", "vulns": [{"id": "GHSA-1"}]}]}
    done = subprocess.CompletedProcess([], 1, stdout=json.dumps(found))
    with planted(supply.subprocess, "run", lambda *a, **kw: done), planted(supply.importlib.util, "find_spec", bool):
        assert "click 8.1: GHSA-1" in broken("S2", tmp_path)


def test_a_socket_is_seen(planted, tmp_path):
    with planted(
        supply, "OFFLINE", supply.OFFLINE.replace("import xmlp\n", "import socket; socket.gethostbyname('x')\n")
    ):
        assert "socket.gethostbyname" in broken("S8", tmp_path)


def test_data_that_are_not_verified_are_seen(planted, tmp_path):
    with planted(supply.datasets, "_SYSTEM_SHA256", {}):
        broken("S4", tmp_path)


def test_mistakes_that_go_unnoticed_are_seen(planted, tmp_path):
    with planted(mutants, "killed", lambda folder: False):
        assert "the transpose dropped" in broken("G7", tmp_path)


def test_every_mutant_is_another_program():
    import ast

    found = mutants.mutants()
    assert len(found) > 100
    assert {file for file, _, _ in found} == set(mutants.TARGETS)
    rights = {file: ast.unparse(ast.parse((mutants.PACKAGE / file).read_text())) for file in mutants.TARGETS}
    for file, text, source in found:
        assert source != rights[file], text
        lines = [(a, b) for a, b in zip(source.splitlines(), rights[file].splitlines(), strict=True) if a != b]
        assert len(lines) == 1, text


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_has_every_row_and_tells_what_broke(planted, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["nightly", "--only", "S5,S3", "--write", str(tmp_path / "r.md")])
    assert main() == 0
    text = (tmp_path / "r.md").read_text()
    assert "| S5 | the embedded data are what they claim to be |" in text
    assert "2 rows, 0 broken" in capsys.readouterr().out
    with planted(supply, "project", lambda: {"optional-dependencies": {"x": ["onnx>=1.0"]}}):
        assert main() == 1
    assert "BROKEN: AssertionError: onnx>=1.0" in (tmp_path / "r.md").read_text()
    monkeypatch.setattr("sys.argv", ["nightly", "--only", "S99"])
    with pytest.raises(SystemExit):
        main()


def test_sizes_follow_the_scale(tmp_path):
    sizes = []
    row = ROWS["S5"].__class__("x", "", "", 10, 1000, lambda size, folder: sizes.append(size) or "")
    for scale in (None, 0.001, 0.1, 1.0):
        measured(row, scale)
    assert sizes == [10, 10, 100, 1000]
    assert json.dumps(samples.but(seed=2))


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_that_forgets_is_seen(planted, tmp_path):
    from xmlp.training.run import Run

    right = Run.fill

    def forgetful(run, config, arrays):
        right(run, {**config, "lr_scale": 0.5}, arrays)

    with planted(Run, "fill", forgetful):
        broken("C3", tmp_path, 2)


def test_a_checkpoint_that_is_removed_too_early_is_seen(planted, tmp_path):
    right = xmlp.callbacks.Checkpoint.save

    def save(self, trainer):
        while self._own:
            self._own.pop().unlink(missing_ok=True)
        right(self, trainer)

    with planted(xmlp.callbacks.Checkpoint, "save", save), pytest.raises((AssertionError, xmlp.CheckpointError)):
        ROWS["C2c"].run(3, tmp_path)


@pytest.mark.parametrize("id", ["C1", "R7"])
def test_a_run_that_ends_elsewhere_is_seen(planted, tmp_path, id):
    code = runs.NURSERY.replace('print("ready"', WRONG_ORDER + 'print("ready"')
    with planted(runs, "NURSERY", code):
        assert "another model" in broken(id, tmp_path, 4)


WRONG_ORDER = """
from xmlp.training.run import Run
right = Run.fill
def late(run, config, arrays):
    right(run, config, arrays)
    run.steps += 1
Run.fill = late
"""


def test_a_slow_end_is_seen(planted, tmp_path):
    import time

    right = xmlp.callbacks.Checkpoint.on_fit_end

    def on_fit_end(self, trainer):
        begin = time.perf_counter()
        right(self, trainer)
        time.sleep(1 + 20 * (time.perf_counter() - begin))  # whatever else runs on the machine

    with planted(xmlp.callbacks.Checkpoint, "on_fit_end", on_fit_end):
        broken("R8", tmp_path, 1)


def test_a_wrong_estimate_of_memory_is_seen(planted, tmp_path):
    right = xmlp.Trainer.memory
    with planted(xmlp.Trainer, "memory", lambda self, batch: 1.3 * right(self, batch)):
        broken("R4", tmp_path, 1)


def test_a_plain_memory_error_is_seen(planted, tmp_path):
    code = resources.SHORT_OF_MEMORY.replace("import numpy as np, xmlp\n", PLAIN)
    with planted(resources, "SHORT_OF_MEMORY", code):
        assert "MemoryError" in broken("R2", tmp_path)


PLAIN = """import contextlib
import numpy as np, xmlp, xmlp.training.memory
xmlp.training.memory.explained = lambda trainer: contextlib.nullcontext()
"""
