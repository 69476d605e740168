"""The errors that a user can cause. Each message says what, where and how to mend it."""


class GeosslError(Exception):
    """A failure while running (exit code 1). The message is one line, meant for the user."""


class UsageError(GeosslError, ValueError):
    """Wrong input: a file, an argument or a setting (exit code 2). Nothing has been written."""
