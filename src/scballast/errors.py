"""Errors that a user can cause: one message, exit status 2, no traceback."""


class ScballastError(Exception):
    """Base of the errors that carry a message meant for the user."""


class ConfigError(ScballastError):
    """A configuration that cannot be run: names the key, what was observed, what is allowed, the remedy."""


class DataError(ScballastError):
    """Data that cannot be used: names the file or column, what was observed, what is allowed, the remedy."""


class TrainingError(RuntimeError):
    """No member of a training ended with a finite loss."""
