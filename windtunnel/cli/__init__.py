"""The command line, `windtunnel`."""
