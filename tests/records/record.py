"""What a change of structure must leave as it is: printed plans, the code of their kernels, and trained numbers.

    PYTHONPATH=.:tests python -m records.record          makes them anew; say in the commit which changed and why

`plans.json` holds the printed plans and, of each kernel in turn, the SHA-256 of its code. `numbers.npz` holds, for each
network and way of training, parameters, statistics, the optimizer's vectors, losses and predictions, and the machine
that they were made on: on another one sums are added in another order, and the last bits differ.
"""

import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from records import networks
from threadpoolctl import threadpool_info

import xmlp
from xmlp.compiler import cuda, llvm
from xmlp.compiler.planner import Kernel

FOLDER = Path(__file__).resolve().parent
PLANS, NUMBERS = FOLDER / "plans.json", FOLDER / "numbers.npz"


def machine() -> str:
    """What the last bits of a sum depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kinds = sorted({line for line in lines if line.startswith(("model name", "flags"))})
        processor = hashlib.sha256("\n".join(kinds).encode()).hexdigest()[:16]
    except OSError:
        processor = platform.processor()
    blas = sorted(f"{i['internal_api']} {i['version']} {i.get('architecture')}" for i in threadpool_info()
                  if i["user_api"] == "blas")  # fmt: skip
    try:
        engine = f"llvmlite {metadata.version('llvmlite')}"
    except metadata.PackageNotFoundError:
        engine = "no llvmlite"
    return "; ".join([platform.machine(), processor, f"numpy {np.__version__}", engine, *blas])


def plan(name: str, dtype: str) -> dict[str, Any]:
    """The plan of a step as it is printed, and the code of its kernels."""
    network, _, settings, fit = networks.NETWORKS[name]
    plan = xmlp.Trainer(network(dtype), **settings).plan(fit["batch_size"])
    native = [llvm.emit(call).text for call in plan.calls if isinstance(call, Kernel)]
    launches = [call.source for call in cuda.lower(plan).calls if isinstance(call, cuda.Launch)]
    return {"plan": str(plan).splitlines(), "llvm": list(map(_digest, native)), "cuda": list(map(_digest, launches))}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def numbers(name: str, way: str) -> dict[str, Any]:
    """All that training leaves, on the host."""
    trainer = networks.trained(name, *networks.WAYS[way])
    network = trainer.network
    left = {"theta": network.theta, "stats": network.stats, "predictions": network.predict(networks.X)}
    left |= {f"optimizer.{n}": a for n, a in trainer.run.slots.items()}
    return {**left, "loss": np.asarray(trainer.history["loss"])}


def main() -> None:
    """Write both files."""
    plans = {f"{name}, {dtype}": plan(name, dtype) for name in networks.NETWORKS for dtype in ("float32", "float64")}
    PLANS.write_text(json.dumps(plans, indent=1) + "\n", encoding="utf-8")
    arrays: dict[str, Any] = {"machine": np.asarray(machine())}
    for name in networks.NETWORKS:
        for way in networks.WAYS:
            arrays |= {f"{name}/{way}/{what}": value for what, value in numbers(name, way).items()}
    np.savez_compressed(NUMBERS, **arrays)


if __name__ == "__main__":
    main()
