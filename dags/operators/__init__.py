"""Operators: the tasks of the DAGs, and how their commands run."""
