"""The gate: may a challenger take the champion's place? Decided on the held-out accuracy of both, and on their speed where it is asked."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from windtunnel.registered import RegisteredVersion


@dataclass(frozen=True)
class Verdict:
    """What the gate says, and why, in a sentence. `worse`: it was held against the champion, and is less accurate than it may be."""

    promote: bool
    reason: str
    worse: bool = False


def judge(challenger: RegisteredVersion, champion: RegisteredVersion | None, margin: float) -> Verdict:
    """Judge a challenger.

    Args:
        challenger: the version that was verified.
        champion: the version users get, if there is one.
        margin: by how much the challenger's accuracy, 0..1, may be below the champion's.
    """
    if champion is None:
        return Verdict(True, f"{challenger.name} has no champion yet")
    if challenger.version == champion.version:
        return Verdict(True, f"version {champion.version} is the champion already")
    if challenger.data_fingerprint != champion.data_fingerprint:
        return Verdict(
            False,
            f"version {challenger.version} and the champion, version {champion.version}, were tested on different data: their accuracies "
            f"cannot be compared; to promote it nevertheless: windtunnel deploy {challenger.name}@{challenger.version}",
        )
    below = champion.accuracy - challenger.accuracy
    # accuracies are counts of images: what they differ by is not to be decided by the last bit of a float
    if not below <= margin and not math.isclose(below, margin, abs_tol=1e-9):
        return Verdict(
            False,
            f"version {challenger.version} has accuracy {challenger.accuracy:.2%}, {100 * below:.2f} points below the champion's, may be "
            f"{100 * margin:.2f}; to promote it nevertheless: windtunnel deploy {challenger.name}@{challenger.version}",
            worse=True,
        )
    return Verdict(True, f"accuracy {challenger.accuracy:.2%}, the champion's {champion.accuracy:.2%}")


def judge_speed(
    verdict: Verdict, challenger: RegisteredVersion, comparisons: Iterable[Mapping[str, Any]], margin: float, binding: bool
) -> Verdict:
    """Weigh in what the benchmark says of challenger and champion.

    Args:
        verdict: of the accuracies.
        challenger: the version that was measured.
        comparisons: as in `benchmark.json`: the `ratio` of the challenger's rate to the champion's, with its interval `low` to `high`.
        margin: the part of the champion's rate, 0..1, by which the challenger's may be lower; slower is one whose whole interval is.
        binding: whether a slower challenger stays one; else the verdict is the same, with a warning.
    """
    slower = [
        f"over {each['protocol']} at concurrency {each['concurrency']} {each['ratio']:.2f} times the champion's requests a second "
        f"({each['low']:.2f} to {each['high']:.2f} with {each['confidence']:.0%} confidence), may be {1 - margin:.2f}"
        for each in comparisons
        if not each["invalid"] and each["high"] < 1 - margin
    ]
    if not slower:
        return verdict
    found = f"version {challenger.version} is slower than the champion: {', '.join(slower)}"
    if binding and verdict.promote:
        return Verdict(False, f"{found}; to promote it nevertheless: windtunnel deploy {challenger.name}@{challenger.version}")
    return replace(verdict, reason=f"{verdict.reason}; warning: {found}")


def tabulate(challenger: RegisteredVersion, champion: RegisteredVersion | None, verdict: Verdict) -> str:
    """Challenger against champion, as a table in Markdown."""
    rows = [
        ("version", lambda known: str(known.version)),
        ("test accuracy", lambda known: f"{known.accuracy:.2%}"),
        ("DAG run", lambda known: f"`{known.dag_run}`"),
        ("commit", lambda known: f"`{known.git_commit[:10]}`"),
        ("data", lambda known: f"`{known.data_fingerprint[:10]}`"),
        ("registered", lambda known: f"{known.created:%Y-%m-%d %H:%M} UTC"),
    ]
    lines = [f"**{challenger.name}**: {verdict.reason}", "", "| | challenger | champion |", "|---|---|---|"]
    lines += [f"| {what} | {show(challenger)} | {show(champion) if champion else 'none yet'} |" for what, show in rows]
    return "\n".join(lines) + "\n"
