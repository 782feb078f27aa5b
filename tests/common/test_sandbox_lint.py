"""The check of a script's source: what it refuses, with the line, and what it lets through."""

# ruff: noqa: E501 (the lines of the scripts are not ours)

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.sandbox import Profile
from common.sandbox.lint import lint

REFUSED: list[tuple[Profile, str, str]] = [
    ("python", "import os", "import of os"),
    ("python", "import numpy, socket", "import of socket"),
    ("python", "from subprocess import run", "import of subprocess"),
    ("python", "import numpy.ctypeslib", "numpy.ctypeslib"),
    ("python", "from numpy import ctypeslib", "numpy.ctypeslib"),
    ("python", "from . import x", "no package"),
    ("python", "from math import *", "everything"),
    ("python", "from random import _os", "_os"),
    ("python", "().__class__.__bases__", "__class__"),
    ("python", "import random\nrandom._os.listdir()", "_os"),
    ("python", "self.__dict__", "__dict__"),
    ("python", "x._secret", "_secret"),
    ("python", "__builtins__['open']", "__builtins__"),
    ("python", "eval('1')", "eval"),
    ("python", "e = exec", "exec"),
    ("python", "getattr(x, name)", "getattr"),
    ("python", "getattr(x, '_os')", "getattr"),
    ("python", "g = getattr", "getattr"),
    ("python", "open(name)", "open"),
    ("python", "open('/etc/passwd')", "open"),
    ("python", "open('../../x')", "open"),
    ("python", "o = open", "open"),
    ("python", "import bpy", "import of bpy"),
    ("python", "def f(:", "no valid Python"),
    ("python", "x = '\0'", "no valid Python"),
    ("blender", "import bpy\nbpy.utils._os.system('id')", "utils"),
    ("blender", "import bpy as b\nb.app.handlers.save_post.append(f)", "app"),
    ("blender", "import bpy\nb = bpy\nb.context", "another name"),
    ("blender", "import bpy\no = bpy.ops", "another name"),
    ("blender", "import bpy\nw = bpy.ops.mesh", "another name"),
    ("blender", "from bpy import utils", "bpy.utils"),
    ("blender", "from bpy import ops", "bpy.ops"),
    ("blender", "import bpy.app", "bpy.app"),
    ("blender", "import bpy\nbpy.ops.wm.save_as_mainfile(filepath='x')", "operators of wm"),
    ("blender", "import bpy\nbpy.ops.script.python_file_run(filepath='x')", "operators of script"),
    ("blender", "import bpy\nbpy.ops.text.run_script()", "operators of text"),
    ("blender", "import bpy\nbpy.data.texts.new('x')", "texts"),
    ("blender", "t.as_module()", "as_module"),
    ("blender", "o.driver_add('location')", "driver_add"),
    ("blender", "import bpy\nbpy.data.libraries.load('x')", "libraries"),
    ("blender", "import bpy\nbpy.data.images.load('x')", "the host loads"),
    ("blender", "import bpy\nbpy.context.preferences.filepaths", "preferences"),
    ("blender", "getattr(bpy, 'utils')", "getattr"),
]
ALLOWED: list[tuple[Profile, str]] = [
    ("python", "from __future__ import annotations\nimport math, numpy as np\nprint(np.pi)"),
    ("python", "class A(list):\n    def __init__(self):\n        super().__init__()\n        self._n = 1"),
    ("python", "if __name__ == '__main__':\n    open('out.txt', 'w').write(open('../in/a').read())"),
    ("python", "from collections import defaultdict\nx = getattr(defaultdict(int), 'items', None)"),
    ("blender", "import bpy\nbpy.ops.mesh.primitive_cube_add(size=2)\nfor o in bpy.data.objects: o.select_set(True)"),
    ("blender", "import bmesh, bpy\nfrom mathutils import Vector\nm = bpy.data.materials.new('m')\nm.use_nodes = True"),
    ("blender", "from bpy import context as c, data\nc.scene.collection.objects.link(data.objects['a'])"),
]  # fmt: skip


@pytest.mark.parametrize(("profile", "source", "word"), REFUSED)
def test_what_would_not_work_is_found(profile: Profile, source: str, word: str) -> None:
    found = lint(source, profile)
    assert any(word in finding.message for finding in found), found
    last = source.count("\n") + 1
    assert found[0].line in (last, last - 1)


@pytest.mark.parametrize(("profile", "source"), ALLOWED)
def test_plain_code_passes(profile: Profile, source: str) -> None:
    assert lint(source, profile) == []


def test_findings_come_in_the_order_of_lines() -> None:
    found = lint("x = 1\nimport os\n\neval(open(x))\n")
    assert [finding.line for finding in found] == [2, 4, 4]


def test_it_never_falls() -> None:
    for source in ("(" * 5000, "-" * 20000 + "1", "x" + ".a" * 5000, "[" * 90 + "]" * 90):
        lint(source)


@given(st.text(alphabet="abo_.()[]:=\n '\"ipmrtxeg", max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_answered(source: str) -> None:
    for finding in lint(source, "blender"):
        assert finding.line >= 1 and finding.message
