"""The first code inside a job: hand the folder's descriptor out, then become the script.

Its text is given to an interpreter that was started without this project, so it imports nothing of
it. Arguments: the folder that holds ``in`` and ``out``, how many processes there may be (0: others
see to it), and the folders to import from.
"""

from __future__ import annotations

import os
import sys

CHANNEL = 3
"""A socket to the keeper, closed before the script begins."""


def hand_out() -> None:
    """Send the keeper a descriptor of the folder: it looks into it when the job has ended."""
    import _socket
    import struct

    folder = os.open(".", os.O_PATH | os.O_DIRECTORY)
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, CHANNEL)
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", folder))
    channel.sendmsg([b"1"], [rights])
    channel.close()
    os.close(folder)


def main() -> None:
    """Run ``in/script.py`` as ``__main__`` in ``out``."""
    folder, processes, *paths = sys.argv[1:]
    os.chdir(folder)
    hand_out()
    os.closerange(CHANNEL, 64)
    os.chdir("out")
    os.environ.pop("PWD", None)  # bubblewrap sets it
    if processes != "0":
        import resource

        resource.setrlimit(resource.RLIMIT_NPROC, (int(processes), int(processes)))
    sys.path += paths
    name = "../in/script.py"
    sys.argv[:] = [name]
    import site
    import types

    site.setquit()  # exit() and quit()
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=name, __builtins__=__builtins__)
    sys.modules["__main__"] = module
    with open(name, "rb") as file:  # noqa: PTH123 (pathlib would cost a third of the start)
        source = file.read()
    try:
        exec(compile(source, name, "exec"), module.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        # As if the script had been started by itself: without the frames of this file.
        trace = error.__traceback__ and error.__traceback__.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.exit(1)


if __name__ == "__main__":
    main()
