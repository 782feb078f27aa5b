"""Run the benchmarks and write what they found to ``RESULTS.md``.

    python benchmarks/run.py                 # all, one after the other (make bench)
    python benchmarks/run.py dpo scoring     # these two; the rows of the others stay

Every script runs with its defaults in a process of its own and prints a list of
:class:`claim.Result` as JSON in its last line. One that fails, or prints none, or misses its aim
stands in the table as such. ``results.json`` keeps what each said, by script and machine: killed
anywhere, the rows of what has run are there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NO_BENCHMARKS = ("claim", "run")
SECONDS = 1800
"""After which a script has failed; it should take less than 300."""
UNITS = {"x": "×", "s": " s", "share": "", "GiB": " GiB"}


def scripts() -> list[str]:
    """The names of all benchmarks."""
    return sorted(p.stem for p in HERE.glob("*.py") if p.stem not in NO_BENCHMARKS)


def machine() -> str:
    """Cores, memory and accelerator; no name that tells whose machine it is."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = ""
    if Path("/dev/nvidia0").exists():
        import torch

        gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB{gpu}"


def parsed(output: str) -> list[dict[str, Any]]:
    """The results in the last line of ``output``.

    Raises:
        ValueError: there are none.
    """
    found = json.loads((output.strip().splitlines() or [""])[-1])
    if not isinstance(found, list) or not found:
        raise ValueError("its last line is no list of results")
    for one in found:
        if not isinstance(one, dict):
            raise ValueError("a result is no object")
        for name in ("claim", "ratio", "spread", "n", "against", "aim", "unit", "better"):
            if name not in one:
                raise ValueError(f"a result lacks {name}")
    return found


def run(script: Path, limit: float = SECONDS) -> dict[str, Any]:
    """What ``script`` found, or how it failed; what it prints is shown while it runs."""
    environment = os.environ | {"PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    environment["PYTHONUNBUFFERED"] = "1"
    about: dict[str, Any] = {"command": f"python benchmarks/{script.name}", "results": []}
    about["load"] = round(os.getloadavg()[0], 1)
    begun, lines = time.monotonic(), list[str]()
    command = ["timeout", "--kill-after=10", str(limit), sys.executable, str(script)]
    with tempfile.TemporaryFile("w+") as talk:  # warnings and bars would tear the last line
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=talk,
            text=True,
            env=environment,
            cwd=HERE.parent,
        )
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        code = process.wait()
        talk.seek(0)
        errors = [line.strip() for line in talk.read().splitlines() if line.strip()]
    about["seconds"] = round(time.monotonic() - begun)
    try:
        about["results"] = parsed("".join(lines))
    except ValueError as error:
        about["failed"] = f"printed no result ({error})"
    if code:
        how = f"no end after {limit:g} s" if code in (124, 137) else f"exit code {code}"
        about["failed"] = how + (f": {errors[-1][:150]}" if errors else "")
        print("\n".join(errors[-20:]), file=sys.stderr)
    return about


def row(name: str, about: dict[str, Any]) -> list[str]:
    """The lines of the table for one script."""
    found = []
    for one in about["results"]:
        unit, (low, high) = UNITS[one["unit"]], one["spread"]
        sign = "≥" if one["better"] == "higher" else "≤"
        missed = one["aim"] is not None and (
            one["ratio"] < one["aim"] if one["better"] == "higher" else one["ratio"] > one["aim"]
        )
        unit += " as long" if one["unit"] == "x" and one["better"] == "lower" else ""
        aim = "" if one["aim"] is None else f"{sign} {one['aim']:g}{unit}"
        value = f"{one['ratio']:.3g}{unit}"
        spread = f"{low:.3g} to {high:.3g}, n={one['n']}" if one["n"] > 1 else "n=1"
        found.append(
            f"| {one['claim']} | {f'**{value}**, missed' if missed else value} | "
            f"{spread} | {aim} | {one['against']} | `{name}` |"
        )
    if "failed" in about:
        words = about["failed"].replace("|", "/")
        found.append(f"| (the script) | **failed** | {words} | | | `{name}` |")
    return found


def page(known: dict[str, dict[str, Any]]) -> str:
    """``RESULTS.md``: a table a machine."""
    text = [
        "# What the benchmarks found",
        "",
        "Written by `make bench`; each script is `python benchmarks/NAME.py`, whose first lines",
        "say what it measures. It checks first that both sides give the same result, then takes",
        "them in turns: the median of the turns, and the least and most among them. × is times as",
        "fast as what it is measured against in the same run, unless it says as long. Bold is what",
        "missed its aim.",
    ]
    for where in sorted(known):
        rows = known[where]
        days = sorted({about["date"] for about in rows.values()})
        loads = [about["load"] for about in rows.values()]
        text += [
            "",
            f"## {where}",
            "",
            f"{' to '.join(dict.fromkeys((days[0], days[-1])))}; load when each began "
            f"{min(loads):g} to {max(loads):g}; {sum(a['seconds'] for a in rows.values())} s.",
            "",
            "| claim | found | spread | aim | against | script |",
            "|---|---|---|---|---|---|",
        ]
        for name in sorted(rows):
            text += row(name, rows[name])
    return "\n".join(text) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """How many scripts failed."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("names", nargs="*", metavar="NAME", help="of a script; all by default")
    flags.add_argument("--out", type=Path, default=HERE / "RESULTS.md")
    chosen = flags.parse_args(argv)
    names = [Path(name).stem for name in chosen.names] or scripts()
    for name in names:
        if not (HERE / f"{name}.py").is_file() or name in NO_BENCHMARKS:
            flags.error(f"no benchmark {name!r}; there are {', '.join(scripts())}")
    kept, failed = chosen.out.with_name("results.json"), 0
    known: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    here = known.setdefault(machine(), {})
    for name in list(here):
        if not (HERE / f"{name}.py").is_file():
            del here[name]  # a benchmark that is no more
    for name in names:
        print(f"== benchmarks/{name}.py", flush=True)
        about = run(HERE / f"{name}.py")
        failed += "failed" in about
        here[name] = {"date": time.strftime("%Y-%m-%d"), **about}
        for path, text in ((kept, json.dumps(known, indent=1) + "\n"), (chosen.out, page(known))):
            partial = path.with_name(f".{path.name}.partial")
            partial.write_text(text)
            partial.replace(path)
    print(f"wrote {chosen.out.name}; {failed} of {len(names)} failed")
    return min(failed, 100)


if __name__ == "__main__":
    sys.exit(main())
