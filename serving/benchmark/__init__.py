"""The benchmark of served versions: the command `windtunnel bench`, and a task of each run."""
