"""Errors that the command line knows how to end with."""

from __future__ import annotations


class UserError(Exception):
    """The user's mistake, or something only the user can mend: exit code 2.

    ``message`` names the input that is wrong, ``remedy`` says what to do next; both are one line.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str]]:
        return type(self), (self.message, self.remedy)  # from another process, it is as it was

    def __str__(self) -> str:
        return f"{self.message} — {self.remedy}"


class RunBusyError(UserError):
    """Another process is at the run."""
