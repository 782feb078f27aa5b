"""Blender in worker processes: what is built, rendered, measured and written is plain data.

:mod:`~scenes.render.jobs` says what can be asked for, :mod:`~scenes.render.pool` does it. Only the
modules that the worker loads import bpy (``worker``, ``dispatch``, ``models``, ``meshes``,
``materials``, ``build``, ``stage``, ``picture``, ``sight``, ``guide``, ``sample``,
``scan``); nothing else
may.
"""
