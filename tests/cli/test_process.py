"""Signals, pipes and terminals: what only a process of its own shows."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from cli.command import COMMAND, environment, houses, run, table

import xmlp
from xmlp.cli import jobs
from xmlp.cli.interrupt import Interrupt

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
FOREVER = ("train", "--epochs", 100_000, "--schedule", "constant", "--lr", 0.003, "--hidden", 64, "--dropout", 0)


MODULE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.{})
runpy.run_module("xmlp", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def start():
    """Start the command in a process of its own, which does not outlive the test.

    It listens to Ctrl-C, even where the tests themselves do not, as in the background of a script.
    """
    usual = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
    with contextlib.ExitStack() as stack:

        def started(*args, handler="default_int_handler", **settings):
            command = [sys.executable, "-c", MODULE.format(handler), *map(str, args)]
            process = stack.enter_context(subprocess.Popen(command, **{"env": environment(), **usual, **settings}))
            stack.callback(process.kill)
            return process

        yield started


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_training_and_keeps_the_model(here, number, code, start):
    process = start(*FOREVER)
    while not process.stdout.readline().startswith("epoch"):
        assert process.poll() is None, process.stderr.read()
    time.sleep(0.05)
    process.send_signal(number)
    sent = time.perf_counter()
    _, err = process.communicate(timeout=30)
    print(f"stopped {time.perf_counter() - sent:.2f} s after the signal")
    assert process.returncode == code
    name = signal.Signals(number).name
    told = rf"stopped by {name} in epoch (\d+) of 100000; the weights of epoch \d+, the best, are in model.safetensors"
    assert (match := re.fullmatch(told + r"\nto go on: xmlp train .*--resume\n", err))
    network = xmlp.load("model.safetensors")
    assert network.metadata["training"]["epochs"] == int(match[1]) - 1
    assert json.loads(run("evaluate", "model.safetensors", "--json").stdout)["accuracy"] > 0.7
    assert sorted(p.name for p in here.iterdir()) == ["model.safetensors", "model.safetensors.checkpoints"]


@posix
def test_a_regression_that_was_cut_short_predicts_in_the_targets_unit(here, start):
    path = table(here / "a.csv", houses(500))
    process = start(
        "train", path, "--target", "price", "--epochs", 100_000, "--json", "--lr", 0.01, "--schedule", "constant"
    )
    assert json.loads(process.stdout.readline())["event"] == "table"
    while json.loads(process.stdout.readline())["val_r2"] < 0.9:
        pass
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["stopped"] == "SIGINT"
    assert json.loads(run("evaluate", "model.safetensors", path, "--json").stdout)["r2"] > 0.8


@posix
def test_a_signal_that_is_ignored_stays_ignored(here, start):
    """As in the background of a script, or under nohup."""
    process = start("train", "--epochs", 8, "--json", handler="SIG_IGN")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["epochs"] == 8


@pytest.fixture
def listening():
    """Handlers for both signals in this process, wherever it runs."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Stopped:
    """Stands for a trainer."""

    stops = 0

    def stop(self):
        self.stops += 1


def test_a_second_signal_ends_everything_at_once(listening):
    before = signal.getsignal(signal.SIGINT)
    for number, error in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)):
        trainer = Stopped()
        with Interrupt(trainer) as interrupt:
            signal.raise_signal(number)
            assert (trainer.stops, interrupt.signal) == (1, number)
            with pytest.raises(error) as caught:
                signal.raise_signal(number)
            assert trainer.stops == 1
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("number", "quiet"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal_before_the_first_step_counts(here, listening, monkeypatch, number, quiet):
    standardized = jobs.Job.standardized

    def interrupted(job, rows):
        if rows is job.train:  # the last thing before fit, which forgets earlier stops
            signal.raise_signal(number)
        return standardized(job, rows)

    monkeypatch.setattr(jobs.Job, "standardized", interrupted)
    result = run("train", "--epochs", 3, *["--quiet"] * quiet, code=128 + number)
    told = "stopped by SIGINT in epoch 1 of 3; the weights so far are in model.safetensors\n"
    told += "to go on: xmlp train --epochs 3 --resume\n"
    assert result.stderr == ("" if quiet else told)
    assert not (quiet and result.stdout)
    assert xmlp.load("model.safetensors").metadata["training"]["epochs"] == 0


def test_an_interrupt_outside_training_is_one_word(here, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(xmlp.data, "load", interrupted)
    assert run("train", code=130).stderr == "\ninterrupted\n"


@posix
@pytest.mark.parametrize("command", ["predict", "train"])
def test_a_reader_that_leaves_is_no_error(shelf, here, start, command):
    columns = {name: np.resize(column, 20_000).tolist() for name, column in houses().items()}
    path = table(here / "a.csv", columns)
    process = start(*FOREVER) if command == "train" else start("predict", shelf / "kind.safetensors", path)
    assert process.stdout.readline().startswith("digits" if command == "train" else "prediction,p_big,p_small\n")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 141
    process.stderr.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("args", ["evaluate digits.safetensors", "predict price.safetensors houses.csv"])
def test_a_full_disk_behind_stdout_is_an_error(shelf, start, args):
    with open("/dev/full", "w") as full:
        process = start(*args.split(), stdout=full, cwd=shelf)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert re.fullmatch("error: No space left on device\n", err)


@posix
@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        ("predict kind.safetensors <&-", 2, "error: standard input is closed. See xmlp predict --help.\n"),
        ("predict kind.safetensors houses.csv >&-", 2, "error: standard output is closed\n"),
        ("predict kind.safetensors houses.csv -o closed.csv >&-", 0, ""),
        ("inspect houses.csv >&-", 2, "error: standard output is closed\n"),
        ("predict --help >&-", 2, "error: standard output is closed\n"),
        ("evaluate nope >&- 2>&-", 2, ""),
    ],
)
def test_closed_streams(shelf, args, code, told):
    command = f"{subprocess.list2cmdline(COMMAND)} {args}"
    done = subprocess.run(command, shell=True, cwd=shelf, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", told)


def test_what_is_piped_has_no_escape_codes(here, start):
    process = start("train", "--epochs", 2)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert len(out.splitlines()) == 9
    assert "\x1b" not in out
    assert "\r" not in out


@posix
def test_other_encodings_get_other_letters(shelf, here):
    columns = houses(40)
    columns["kind"] = [{"big": "größer", "small": "小さい"}[kind] for kind in columns["kind"]]
    columns["hue"] = ["rosé" if hue == "red" else hue for hue in columns["hue"]]
    path = table(here / "a.csv", columns)
    run("train", path, "--target", "kind", "--epochs", 1, "--quiet")
    for command in ("evaluate", "predict"):
        args = [*COMMAND, command, "model.safetensors", str(path)]
        done = subprocess.run(args, env=environment(PYTHONIOENCODING="latin-1"), capture_output=True, check=True)
        expected = "größer".encode() if command == "predict" else b"\\u5c0f\\u3055\\u3044"  # CSV is always UTF-8
        assert expected in done.stdout
    args = [*COMMAND, "predict", "model.safetensors", "-"]
    with open(path, "rb") as file:
        piped = subprocess.run(
            args, stdin=file, env=environment(PYTHONIOENCODING="latin-1"), capture_output=True, check=True
        )
    assert piped.stdout == done.stdout


@pytest.fixture
def terminal(start):
    """Run the command on a terminal, with a Ctrl-C when `stop` is seen: exit code, and what was drawn."""
    import fcntl
    import pty
    import struct
    import termios

    def shown(*args, stop=None, columns=80):
        mine, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        places = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
        process = start(*args, **places, text=False, start_new_session=True, env=environment(TERM="xterm-256color"))
        os.close(theirs)
        drawn = b""
        while select.select([mine], [], [], 60)[0]:
            try:
                piece = os.read(mine, 4096)
            except OSError:  # on Linux, when the other end is closed
                piece = b""
            if not piece:
                break
            drawn += piece
            if stop is not None and stop in drawn:
                process.send_signal(signal.SIGINT)
                stop = None
        os.close(mine)
        return process.wait(timeout=30), drawn.decode()

    return shown


@posix
def test_a_terminal_shows_a_bar_and_gets_its_cursor_back(here, terminal):
    code, drawn = terminal("train", "--epochs", 20)
    assert code == 0
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 1
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    for part in (
        "epoch 20/20",
        "100%",
        "samples/s",
        "ETA 0:00:0",
        "validation accuracy",
        "█",
        "saved model.safetensors",
    ):
        assert part in plain, part
    assert max(map(len, plain.splitlines())) == 80  # the bar takes what there is


@posix
@pytest.mark.parametrize(("columns", "parts"), [(30, ()), (40, ("━",)), (120, ("━", "samples/s", "█"))])
def test_a_terminal_of_any_width_shows_the_epoch_on_one_line(here, terminal, columns, parts):
    _, drawn = terminal("train", "--epochs", 12, columns=columns)
    view = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn).split("best epoch")[0]
    lines = [line for line in view.splitlines() if line.startswith("epoch")]
    assert any(re.match(r"epoch 12/12\b.*\d:\d\d:\d\d$", line.strip()) for line in lines)
    assert max(map(len, lines)) <= columns
    assert all(part in view for part in parts)
    assert all(any(line.startswith(word) for line in view.splitlines()) for word in ("loss ", "validation accuracy "))


@posix
@pytest.mark.parametrize("columns", [40, 120])
def test_a_warning_stands_whole_above_the_view(here, terminal, columns):
    command = ("train", "--epochs", 3, "--checkpoints", "/dev/fd", "--save-every", 0)  # a folder that takes no file
    _, drawn = terminal(*map(str, command), columns=columns)
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn).splitlines()]
    told = [i for i, line in enumerate(lines) if "warning" in line]
    assert len(told) > 2
    assert all(lines[i].startswith("warning: no checkpoint at step") for i in told)
    assert all(
        re.search(r"goes on: .* cannot save .*the old file is untouched", " ".join(" ".join(lines[i : i + 5]).split()))
        for i in told
    )
    assert max(map(len, lines)) <= columns


@posix
def test_a_terminal_gets_its_cursor_back_after_an_interrupt(here, terminal):
    code, drawn = terminal(*FOREVER, stop=b"samples/s")
    assert code == 130
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 1
    assert "stopped by SIGINT in epoch" in drawn
    assert xmlp.load("model.safetensors").in_features == 64


@posix
def test_predict_does_not_wait_for_a_terminal(shelf, here, terminal):
    code, drawn = terminal("predict", shelf / "kind.safetensors")
    assert code == 2
    assert "give a CSV file, or - to type one" in drawn


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "xmlp", "--version"], env=environment(), capture_output=True, text=True
    )
    assert done.stdout == f"xmlp {xmlp.__version__}\n"
    assert run("--version").stdout == done.stdout


def test_an_interrupt_outside_of_what_click_guards(here, monkeypatch):
    import click

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Command, "_main_shell_completion", interrupted)
    assert run("info", code=130).stderr == "interrupted\n"
