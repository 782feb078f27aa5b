"""What every test stands on."""

from __future__ import annotations

import signal

# A shell that starts the suite in the background has it ignore Ctrl-C, and every process that a
# test starts would inherit that. With a handler here they begin with the system's default.
signal.signal(signal.SIGINT, signal.default_int_handler)
