"""The Python blocks of the README run, one after another, as a reader would type them."""

import re
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)
    assert len(blocks) == 4
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["history"]["val_accuracy"][-1] > 0.95
    assert (tmp_path / "digits.safetensors").exists()
    assert "product 32 x 64 x 128" in capsys.readouterr().out
