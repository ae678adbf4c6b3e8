"""The DAGs: the order of the tasks. They contain no logic of their own."""
