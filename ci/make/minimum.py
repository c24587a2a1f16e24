"""Print the oldest versions that pyproject.toml allows at run time, as constraints for pip."""

import re
import tomllib
from pathlib import Path


def main() -> None:
    path = Path(__file__).resolve().parents[2] / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    optional = (requirement for name in ("fast", "sklearn", "plot", "table") for requirement in extras[name])
    for requirement in [*project["dependencies"], *optional]:
        print("{}=={}".format(*re.match(r"([\w-]+)>=([\d.]+)", requirement).groups()))


if __name__ == "__main__":
    main()
