"""What a person can do with the versions that users get, as the DAG `release` offers it."""

PROMOTE, ROLL_BACK, RECONCILE = "promote", "roll back", "reconcile"
ACTIONS = (PROMOTE, ROLL_BACK, RECONCILE)

SHORTEST_REASON = 3
"""The fewest characters of a reason."""
