"""The loop in docs/your-own-loop.md is what runs here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def block() -> str:
    text = (ROOT / "docs" / "your-own-loop.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(code)


def run(home: Path) -> subprocess.CompletedProcess[str]:
    (home / "packing.py").write_text(block(), encoding="utf-8")
    env = {**os.environ, "UPSPIRAL_HOME": str(home / "home"), "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, "packing.py"],
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )


def test_the_loop_in_the_documentation_runs_and_improves(tmp_path: Path) -> None:
    first = run(tmp_path)
    lines = first.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "3", "test:"]
    _, before, _, after = lines[-1].split()
    assert float(after) < float(before)
    assert "round 1 propose: 1/1" in first.stderr
    again = run(tmp_path)
    assert again.stdout == first.stdout, "run again, it says the same"


def test_it_is_about_fifty_lines() -> None:
    code = [line for line in block().splitlines() if line.strip()]
    imports = [line for line in code if line.startswith(("import", "from"))]
    assert len(code) - len(imports) <= 65
