"""What is told while a network trains, without a terminal."""

import time
from types import SimpleNamespace

import pytest

from xmlp.cli.progress import Course, Quiet, View
from xmlp.training.history import History


def told(report, trainer, chunks, seconds, per_chunk=10):
    """Steps in chunks, of which the first takes long, and the end of an epoch."""
    for i in range(chunks):
        time.sleep(seconds if i == 0 else 0.01)
        trainer.steps += per_chunk
        report.on_progress(trainer)
    trainer.history["seconds"] = [*trainer.history.get("seconds", []), seconds + 0.01 * chunks]


@pytest.mark.parametrize("kind", [Quiet])
def test_the_steps_that_compile_do_not_count_in_the_speed(kind):
    trainer = SimpleNamespace(steps=0, history=History())
    report = kind(Course(epochs=2, rows=1000, batch_size=10, metric="r2"))
    report.on_fit_begin(trainer)
    told(report, trainer, 10, 1.0)
    first = report.speed(trainer)
    assert 2_000 < first < 900 / 0.09  # 90 steps of 10 rows in 0.09 s, where counting all gives 909
    told(report, trainer, 10, 0.01)
    assert report.speed(trainer) == pytest.approx(1000 / 0.11)


def test_an_epoch_of_one_chunk_counts_whole():
    trainer = SimpleNamespace(steps=0, history=History())
    report = Quiet(Course(epochs=2, rows=100, batch_size=10, metric="r2"))
    report.on_fit_begin(trainer)
    told(report, trainer, 1, 0.1)
    assert report.speed(trainer) == pytest.approx(100 / 0.11)


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 200])
def test_no_line_of_the_view_is_wider_than_the_terminal(width):
    from rich.console import Console

    view = View(Course(epochs=1000, rows=3400, batch_size=64, metric="accuracy"))
    history = History(loss=[1.0, 0.5], val_loss=[1.0, 0.25], val_accuracy=[0.5, 0.75])
    view.on_fit_begin(SimpleNamespace(steps=100, history=history))
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as drawn:
        console.print(view)
    lines = drawn.get().splitlines()
    assert lines[0].startswith("epoch 2/1000")
    assert max(map(len, lines)) <= width
    if width >= 30:
        assert lines[-1].split()[:3] == ["validation", "accuracy", "0.7500"]
