"""Run supervisord: `python -m windtunnel.platform.supervisord FLAGS` does what `supervisord FLAGS` does, also on a full disk.

supervisord reports a line that it cannot write to a log on stderr, which is a file on the same disk here. By itself it would end, and
nothing would be restarted any more. Here the lines are lost, and it goes on.
"""

from supervisor import loggers, supervisord


def lose(handler: loggers.Handler) -> None:
    """Do nothing about a line that could not be written."""


if __name__ == "__main__":
    loggers.Handler.handleError = lose
    supervisord.main()
