"""Airflow's import error for wrong declarations.

A file of its own: Airflow puts all DAGs of a file with an import error out of use.
"""

from dags.declared import problems
from windtunnel.errors import WindtunnelError

if problems:
    raise WindtunnelError("; ".join(problems))
