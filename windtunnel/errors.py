"""The one exception that users see."""


class WindtunnelError(Exception):
    """Something a user can mend. Its text names the thing, the value found and the next step, in one line."""
