"""Write what of docs/ is made from the code: equations.md, activations.md and its picture, parts.md.

    python ci/make/docs.py

In pages that are written by hand as a dialogue with Python (REPLAYED), the answers are written anew.
"""

import contextlib
import dataclasses
import doctest
import inspect
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xmlp import initializers, layers, losses, metrics, optimizers, schedules
from xmlp.activations import ACTIVATIONS
from xmlp.graph import Formula
from xmlp.verify import CHECKS, plot_activations, verify

DOCS = Path(__file__).resolve().parents[2] / "docs"

EQUATIONS = """# The equations, and where each is executed

xmlp implements what four introductions to backpropagation promise. `xmlp verify` executes every one of their equations
and promises in up to three forms: as a loop over scalars, for one example with matrices and explicit Jacobians, and for
a batch, which is the library itself. The names of the rows say where a promise comes from:

* **000**: from scalars to vectors; sigmoid units without bias, the outer product, the gradient of the input;
* **001**: a small class of networks from a list of sizes, with activation and loss as objects;
* **002**: equations (1) to (51), for one example and for batches; thresholds, cross-entropy, finite differences;
* **003**: a textbook chapter with Jacobians in numerator layout, the loss as a vector over outputs, tensor products;
* **D1** to **D7**: what is done where they contradict each other; **layer-**, **loss-**: parts that none of them has.

Where a text misprints an equation, the row pins the right form.

| row | equations of 002 | what |
|---|---|---|
"""

ACTIVATION = """# Activation functions

Values and derivatives as the library computes them, printed from their graphs. Derivatives are derived, not written.

![Every activation and its derivative](activations.png)

"""

PARTS = """# Parts

What a network and its training are made of, by the names that they have as strings; printed from the code.
"""

METRICS = {name: getattr(metrics, name) for name in sorted(metrics.__all__) if name.islower() and name != "get"}
TABLES: dict[str, Mapping[str, Any]] = {
    "Activations": ACTIVATIONS,
    "Layers": layers.LAYERS,
    "Losses": losses.LOSSES,
    "Optimizers": optimizers.OPTIMIZERS,
    "Schedules": schedules.SCHEDULES,
    "Initializers": initializers.INITIALIZERS,
    "Metrics": METRICS,
}


def cell(text: str) -> str:
    """A text as a cell of a table."""
    return text.replace("|", "\\|")


def summary(part: Any) -> str:
    """The first paragraph of a docstring, on one line; of an object with settings, those before it."""
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return f"`{part}`: {summary(type(part))}"
    text = inspect.cleandoc(part.__doc__ or "").split("\n\n")[0]
    return re.sub(r":math:(`[^`]*`)", r"\1", " ".join(text.split()))


def equations() -> str:
    verify(only="D1")  # loads the checks
    checks = sorted(CHECKS.values(), key=lambda check: check.id)
    rows = (f"| {c.id} | {', '.join(map(str, c.equations))} | {cell(c.title)} |" for c in checks)
    return EQUATIONS + "\n".join(rows) + "\n"


def activations() -> str:
    sections = (
        f"## {name}\n\n{(f.__doc__ or '').splitlines()[0]}\n\n```\n{f.source}\n\n{f.derivative.source}\n```\n"
        for name, f in ACTIVATIONS.items()
        if isinstance(f, Formula)
    )
    return ACTIVATION + "\n".join(sections)


def parts() -> str:
    text = PARTS
    for title, table in TABLES.items():
        rows = "\n".join(f"| `{name}` | {cell(summary(part))} |" for name, part in table.items())
        text += f"\n## {title}\n\n| name | what |\n|---|---|\n{rows}\n"
    return text


MADE: dict[str, Callable[[], str]] = {"equations.md": equations, "activations.md": activations, "parts.md": parts}
REPLAYED = ("life_of_a_step.md",)


def replayed(text: str) -> str:
    """A page with the answers that its examples give now."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.S):
        said: list[str] = []
        for piece in doctest.DocTestParser().parse(block):
            said.append(piece if isinstance(piece, str) else _answered(piece, names))
        text = text.replace(block, "".join(said))
    return text


def _answered(example: doctest.Example, names: dict[str, Any]) -> str:
    """An example as it is written, with its answer."""
    asked = re.sub("^", "... ", example.source, flags=re.M).replace("... ", ">>> ", 1)
    with contextlib.redirect_stdout(io.StringIO()) as answer:
        exec(compile(example.source, "page", "single"), names)
    return re.sub(r" *$", "", asked, flags=re.M).removesuffix("...") + answer.getvalue()


def main() -> None:
    for name, page in MADE.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
    for name in REPLAYED:
        path = DOCS / name
        path.write_text(replayed(path.read_text(encoding="utf-8")), encoding="utf-8")
    plot_activations(DOCS / "activations.png")


if __name__ == "__main__":
    main()
