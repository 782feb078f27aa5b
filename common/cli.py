"""``upspiral``: the command tree, and what every command promises.

Progress and logs go to stderr; with ``--json`` the last line of stdout is one JSON object. Exit
codes: 0 done; 1 a failure, the run resumable; 2 the user's mistake, in one line with a remedy; 130
Ctrl-C. Nothing heavy is imported until a command runs, so that help and mistakes answer at once.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import inspect
import io
import json
import math
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from common.commands import Command, Domain, Output, resolve
from common.errors import UserError

BUILTIN: dict[str, Command] = {
    "doctor": Command(
        "what is here, and what to install for the rest",
        "upspiral doctor",
        "common.commands.doctor:Doctor",
    ),
    "data get": Command(
        "fetch data by name, verify and cache it",
        "upspiral data get prompts",
        "common.commands.data:Get",
    ),
    "data list": Command(
        "data and models by name, with licences",
        "upspiral data list",
        "common.commands.data:List",
    ),
    "runs list": Command(
        "all runs, newest first", "upspiral runs list", "common.commands.runs:List"
    ),
    "runs show": Command(
        "the rounds of a run and their metrics",
        "upspiral runs show last",
        "common.commands.runs:Show",
    ),
    "runs resume": Command(
        "continue a run that was cut off",
        "upspiral runs resume last",
        "common.commands.runs:Resume",
    ),
    "runs export": Command(
        "write a run's preferences as Parquet in TRL's format",
        "upspiral runs export last --out pairs.parquet",
        "common.commands.runs:Export",
    ),
    "runs archive": Command(
        "figures of finished runs as one small file",
        "upspiral runs archive last --out runs.json.gz",
        "common.commands.runs:Archive",
    ),
    "runs import": Command(
        "take in runs that were archived on another machine",
        "upspiral runs import runs.json.gz",
        "common.commands.runs:Import",
    ),
    "runs report": Command(
        "write a run's report, one HTML file",
        "upspiral runs report last --out report.html",
        "common.commands.runs:Report",
    ),
    "runs remove": Command(
        "remove runs, and what nothing else needs of their files",
        "upspiral runs remove last",
        "common.commands.runs:Remove",
    ),
    "lifelong measure": Command(
        "what a lifetime of tasks shows: kept, lost, transferred",
        "upspiral lifelong measure lifetime/ --ste expert-1/ --ste expert-2/ --json",
        "common.commands.lifelong:Measure",
    ),
    "lifelong run": Command(
        "one policy through a sequence of tasks, tested on all of them after each",
        "upspiral lifelong run --tasks arithmetic,countdown,logic --method vanilla",
        "common.commands.lifelong:Run",
    ),
    "sandbox run": Command(
        "run a script that nobody trusts: what did it print, what stopped it",
        "upspiral sandbox run script.py --profile blender --out made/",
        "common.commands.sandbox:Run",
    ),
}
GROUPS = {
    "data": "data and models by name",
    "runs": "what has been run: show, resume, export, remove",
    "lifelong": "a sequence of tasks: one policy through it, and what it kept",
    "sandbox": "code that a model wrote, where it can do no harm",
}


def domains() -> dict[str, metadata.EntryPoint]:
    """Entry points of the installed domains by name; nothing of them is imported yet."""
    return {point.name: point for point in metadata.entry_points(group="upspiral.domains")}


def load_domain(name: str) -> Domain:
    """The domain called ``name``.

    Raises:
        UserError: no such domain is installed, or its entry point is not a :class:`Domain`.
    """
    known = domains()
    if name not in known:
        raise unknown("domain", name, known)
    domain = resolve(known[name].value)
    if not isinstance(domain, Domain):
        raise UserError(f"the entry point {name!r} is no domain", "it must name a Domain")
    return domain


_NAMED = 20
"""How many names an error lists at most."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among ``known``, with the nearest one as the remedy.

    Where none is near, all of them are, or the first of many. A set is brought into order.
    """
    names = sorted(known) if isinstance(known, (set, frozenset)) else list(known)
    if near := difflib.get_close_matches(name, names, n=1):
        return UserError(f"unknown {kind} {name!r}", f"did you mean {near[0]!r}?")
    shown = [repr(n) if {",", " "} & set(n) else n for n in names[:_NAMED]] or ["none"]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return UserError(f"unknown {kind} {name!r}", f"use one of: {', '.join(shown)}{more}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    as_json = "--json" in words[:end]
    words = [word for word in words[:end] if word != "--json"] + words[end:]
    out = Output(sys.stdout, as_json)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            try:
                result = dispatch(words, out)
            finally:
                out.close()
        if as_json:
            print(json.dumps(plain(result or {}), ensure_ascii=False), file=out._stdout)
        out._stdout.flush()
        return out.code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except UserError as error:
        return say(out, 2, f"{error}{_resume(out)}", error=error.message, remedy=error.remedy)
    except BrokenPipeError:
        # The reader has gone (``| head``); leave no complaint when Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return say(out, 130, f"stopped{_resume(out)}", error="stopped")
    except Exception as error:
        return failure(error, out)


def dispatch(words: list[str], out: Output) -> Mapping[str, Any] | None:
    """Find the command that ``words`` name and run it; print help where they ask for it."""
    if not words or words[0] in ("-h", "--help", "help"):
        out.print(overview())
        return None
    if words[0] == "--version":
        out.print(f"upspiral {metadata.version('upspiral')}")
        return {"version": metadata.version("upspiral")}
    commands = BUILTIN
    title = GROUPS.get(words[0], "")
    if words[0] not in {name.split()[0] for name in BUILTIN}:
        if words[0] not in domains():
            raise unknown("command", words[0], {*(n.split()[0] for n in BUILTIN), *domains()})
        domain = load_domain(words[0])
        commands = {f"{domain.name} {name}": c for name, c in domain.commands.items()}
        title = domain.help if len(words) < 2 else domain.groups.get(words[1], domain.help)
    for length in range(1, len(words) + 1):
        name = " ".join(words[:length])
        if name in commands:
            return run(name, commands[name], words[length:], out)
        inside = {n: c for n, c in commands.items() if n.startswith(name + " ")}
        following = words[length] if length < len(words) else "--help"
        if following in ("-h", "--help"):
            out.print(group_help(name, title, inside))
            return None
        nexts = {n.split()[length] for n in inside}
        if following not in nexts:
            raise unknown(f"command of '{name}'", following, nexts)
    raise AssertionError("unreachable: every prefix is a command or a group")


def run(name: str, command: Command, words: list[str], out: Output) -> Mapping[str, Any] | None:
    """Parse the command's flags and run it."""
    config = parse(name, command, words, out)
    result: Mapping[str, Any] | None = config.run(out)
    return result


def parse(name: str, command: Command, words: list[str], out: Output) -> Any:
    """The command's configuration from its flags; a mistake ends in one line."""
    target = resolve(command.target)
    import tyro

    heard, complaint = io.StringIO(), io.StringIO()
    taught = inspect.getdoc(target) or ""  # what the command's class says of it, but for its title
    parts = [command.help, taught.partition("\n\n")[2], f"Example:\n  {command.example}"]
    about = "\n\n".join([*filter(None, parts), "Also: --json, for programs."])
    try:
        with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(complaint):
            return tyro.cli(target, args=words, prog=f"upspiral {name}", description=about)
    except SystemExit as stop:
        if not stop.code:
            out.print(heard.getvalue().rstrip())
            raise
        raise UserError(one_line(complaint.getvalue()), f"see: upspiral {name} --help") from None


def one_line(box: str) -> str:
    """The message in what tyro prints about a parsing error, and what it suggests instead.

    A title comes first, framed or underlined by the kind of terminal; then parts between rules.
    """
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()]
    parts: list[list[str]] = [[]]
    for line in [line for line in lines if line][1:]:
        if set(line) <= {"─", "-"}:
            parts.append([])
        else:
            parts[-1].append(line)
    parts = [part for part in parts if part]
    message = " ".join(parts[0]) if parts else "the flags could not be read"
    for part in parts[1:]:
        if part[0].startswith("Perhaps you meant") and len(part) > 1:
            message += f" (perhaps {part[1].split(' ')[0]})"
    return message


def overview() -> str:
    """The text of ``upspiral --help``."""
    lines = [
        "usage: upspiral COMMAND ... [--json]",
        "",
        "Self-improvement loops on one engine.",
        "",
    ]
    lines += [f"  {'upspiral doctor':<22}{BUILTIN['doctor'].help}"]
    lines += [f"  {'upspiral ' + name:<22}{text}" for name, text in GROUPS.items()]
    for name in sorted(domains()):
        try:
            text = load_domain(name).help
        except Exception as error:  # a broken domain of a third party must not take help with it
            text = f"(cannot be loaded: {error})"
        lines.append(f"  {'upspiral ' + name:<22}{text}")
    lines += ["", "`upspiral COMMAND --help` says more. Start with: upspiral doctor"]
    return "\n".join(lines)


def group_help(name: str, title: str, commands: Mapping[str, Command]) -> str:
    """The text of ``upspiral GROUP --help``: every command with its example."""
    lines = [f"usage: upspiral {name} COMMAND ... [--json]", "", title, ""]
    for path, command in commands.items():
        lines += [f"  {path.removeprefix(name + ' '):<16}{command.help}"]
        lines += [f"  {'':<16}$ {command.example}"]
    return "\n".join(lines)


def plain(value: Any) -> Any:
    """``value`` as JSON can write it: NaN and infinities become null, the rest its text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | str | None):
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int) else str(value)


def failure(error: Exception, out: Output) -> int:
    """End after a failure: what it was, where the details are, how to go on."""
    if os.environ.get("UPSPIRAL_DEBUG") == "1":
        traceback.print_exc()
    message = f"{type(error).__name__}: {error}".splitlines()[0]
    if _full(error):
        message = f"no space left ({error}): make room, for instance with upspiral runs remove"
    where = _log(error)
    detail = f"; details in {where}" if where else ""
    return say(out, 1, f"failed: {message}{detail}{_resume(out)}", error=message)


def _full(error: Exception) -> bool:
    """Whether the disk is full. Libraries that write weights do not say so in so many words."""
    from common.home import home

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    with contextlib.suppress(OSError, UserError):
        if shutil.disk_usage(home()).free < _FREE:
            return True
    return "disk is full" in str(error)


_FREE = 2**20
"""Bytes of a disk below which whatever failed most likely failed for that."""


def _log(error: Exception) -> Path | None:
    """Write the traceback into the home folder; on a full disk there may be nowhere to write."""
    from common.home import home

    try:
        folder = home() / "logs"
        folder.mkdir(exist_ok=True)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        text = "".join(traceback.format_exception(error))
        path.write_text(f"{' '.join(sys.argv)}\n\n{text}", encoding="utf-8")
        return path
    except (OSError, UserError):
        return None


def _resume(out: Output) -> str:
    command = f"upspiral runs resume {out.run}" if out.run else out.resume
    return f"; resume with: {command}" if command else ""


def say(out: Output, code: int, text: str, **facts: str) -> int:
    """One line on stderr (and, with ``--json``, an object on stdout), then the exit code."""
    print(f"upspiral: {text}", file=sys.stderr)
    if out.json:
        if out.run:
            facts["run"] = out.run
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(facts), file=out._stdout, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
