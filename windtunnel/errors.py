"""The exceptions that stand for errors that users can fix."""


class WindtunnelError(Exception):
    """An error that the user can fix. Its message names the problem, the value found and the next step, in one line."""


class VersionError(WindtunnelError):
    """A version cannot be used, now or later: a file, its manifest or its signature is missing, or differs from what was registered."""
