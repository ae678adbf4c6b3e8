"""The exception that stands for an error that users can fix."""


class WindtunnelError(Exception):
    """An error that the user can fix. Its message names the problem, the value found and the next step, in one line."""
