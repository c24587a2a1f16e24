"""Write the documents that are made from the code: docs/equations.md, docs/activations.md and its picture."""

from pathlib import Path

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


def main() -> None:
    verify(only="D1")  # loads the checks
    rows = []
    for c in sorted(CHECKS.values(), key=lambda c: c.id):
        equations = ", ".join(map(str, c.equations))
        rows.append(f"| {c.id} | {equations} | {c.title.replace('|', chr(92) + '|')} |")
    (DOCS / "equations.md").write_text(EQUATIONS + "\n".join(rows) + "\n", encoding="utf-8")
    parts = [ACTIVATION]
    for name, f in ACTIVATIONS.items():
        if isinstance(f, Formula):
            summary = (f.__doc__ or "").splitlines()[0]
            parts.append(f"## {name}\n\n{summary}\n\n```\n{f.source}\n\n{f.derivative.source}\n```\n\n")
    (DOCS / "activations.md").write_text("".join(parts).rstrip() + "\n", encoding="utf-8")
    plot_activations(DOCS / "activations.png")


if __name__ == "__main__":
    main()
