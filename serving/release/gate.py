"""The gate: decide whether a challenger may replace the champion, by their metric on the test set and, if configured, their speed."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from windtunnel.metric import ACCURACY
from windtunnel.registered import RegisteredVersion


@dataclass(frozen=True)
class Verdict:
    """The gate's decision and its reason, a sentence. `worse`: worse than the champion by more than the margin allows."""

    promote: bool
    reason: str
    worse: bool = False


def judge(challenger: RegisteredVersion, champion: RegisteredVersion | None, margin: float) -> Verdict:
    """Judge a challenger by the metric of its model.

    Args:
        challenger: the verified version.
        champion: the version that users get, if there is one.
        margin: how much worse the challenger may be than the champion, such as 0.005 for half a point of accuracy.
    """
    if champion is None:
        return Verdict(True, f"{challenger.name} has no champion yet")
    if challenger.version == champion.version:
        return Verdict(True, f"version {champion.version} is the champion already")
    metric = challenger.metric
    if challenger.data_fingerprint != champion.data_fingerprint:
        values = "accuracies" if metric == ACCURACY else f"values of {metric.name}"
        return Verdict(
            False,
            f"version {challenger.version} and the champion, version {champion.version}, were tested on different data: their {values} "
            f"cannot be compared. To promote it nevertheless: windtunnel deploy {challenger.name}@{challenger.version}",
        )
    worse = metric.shortfall(challenger.value, champion.value)
    # accuracies are counts of images, so the last bit of a float must not decide
    if not worse <= margin and not math.isclose(worse, margin, abs_tol=1e-9):
        return Verdict(
            False,
            f"version {challenger.version} has {challenger.measured}, {metric.difference(worse)} "
            f"{'below' if metric.higher_is_better else 'above'} the champion's, expected at most {metric.difference(margin)}. "
            f"To promote it nevertheless: windtunnel deploy {challenger.name}@{challenger.version}",
            worse=True,
        )
    return Verdict(True, f"{challenger.measured}, the champion's {metric.text(champion.value)}")


def judge_speed(
    verdict: Verdict, challenger: RegisteredVersion, comparisons: Iterable[Mapping[str, Any]], margin: float, binding: bool
) -> Verdict:
    """Include the benchmark's comparison of challenger and champion in the verdict.

    Args:
        verdict: the verdict by the metric.
        challenger: the version that was measured.
        comparisons: as in `benchmark.json`: the `ratio` of the challenger's rate to the champion's, with its interval `low` to `high`.
        margin: fraction of the champion's rate, 0..1, by which the challenger may be slower; it is slower if the whole interval is below.
        binding: whether a slower challenger is not promoted; otherwise the verdict stays the same, with a warning.
    """
    slower = [
        f"over {each['protocol']} at concurrency {each['concurrency']} {each['ratio']:.2f} times the champion's requests per second "
        f"({each['low']:.2f} to {each['high']:.2f} with {each['confidence']:.0%} confidence), expected at least {1 - margin:.2f}"
        for each in comparisons
        if not each["invalid"] and each["high"] < 1 - margin
    ]
    if not slower:
        return verdict
    found = f"version {challenger.version} is slower than the champion: {', '.join(slower)}"
    if binding and verdict.promote:
        return Verdict(False, f"{found}. To promote it nevertheless: windtunnel deploy {challenger.name}@{challenger.version}")
    return replace(verdict, reason=f"{verdict.reason}; warning: {found}")


def tabulate(challenger: RegisteredVersion, champion: RegisteredVersion | None, verdict: Verdict) -> str:
    """Format challenger and champion as a Markdown table."""
    metric = challenger.metric
    rows = [
        ("version", lambda known: str(known.version)),
        (f"test {metric.name}", lambda known: metric.text(known.value)),
        ("DAG run", lambda known: f"`{known.dag_run}`"),
        ("commit", lambda known: f"`{known.git_commit[:10]}`"),
        ("data", lambda known: f"`{known.data_fingerprint[:10]}`"),
        ("registered", lambda known: f"{known.created:%Y-%m-%d %H:%M} UTC"),
    ]
    lines = [f"**{challenger.name}**: {verdict.reason}", "", "| | challenger | champion |", "|---|---|---|"]
    lines += [f"| {what} | {show(challenger)} | {show(champion) if champion else 'none yet'} |" for what, show in rows]
    return "\n".join(lines) + "\n"
