"""Verify on the golden set, over the real protocols, that a server answers what the trainer answered."""

import time
from collections.abc import Callable
from functools import partial

from serving.answers import WrongAnswerError, compare
from serving.backends.base import Outputs, Server, Version, served_model
from windtunnel.golden import read_golden, wrong_labels

LATE_SECONDS = 3.0  # a warm version answers within milliseconds
TRIES = 3  # a version is late if all its answers are; on a busy machine one or two may be


def verify(server: Server, version: Version, addressed: bool = True, in_time: bool = True) -> None:
    """Send the golden set, as a whole and as a single sample, over every protocol, and compare the answers with the trainer's.

    Args:
        server: the server.
        version: the version that must answer; it is ready.
        addressed: request it by its number; otherwise as users do, who get the champion.
        in_time: whether a late answer is an error.

    Raises:
        WindtunnelError: the golden set lacks a declared input or output.
        WrongAnswerError: a label differs, a number differs by more than the tolerance, or all tries were late.
        ServerError: there was no answer.
    """
    model = served_model(version.name)
    golden = read_golden(version.directory, model)
    number = version.number if addressed else None
    for protocol in server.protocols:
        for chosen in (slice(None), slice(0, 1)):
            expected = {name: values[chosen] for name, values in golden.items()}
            about = f"{version} on {server.name}, asked over {protocol}{'' if addressed else ' as users ask'},"
            ask = partial(server.predict, version.name, expected[model.input.name], number, protocol)
            found = _in_time(about, ask) if in_time else ask()
            for output in model.outputs:
                compare(f"{about} answers {output.name}", found.get(output.name), expected[output.name])
            if wrong := wrong_labels(model, found, expected):
                raise WrongAnswerError(f"{about} gives wrong labels to {wrong} samples, expected the trainer's. Train it again")


def _in_time(about: str, ask: Callable[[], Outputs]) -> Outputs:
    """Return the first answer that is not late.

    Raises:
        WrongAnswerError: all answers are late.
    """
    taken = []
    for _ in range(TRIES):
        start = time.monotonic()
        found = ask()
        taken.append(time.monotonic() - start)
        if taken[-1] <= LATE_SECONDS:
            return found
    raise WrongAnswerError(
        f"{about} took {min(taken):.1f} s or more in {TRIES} tries, expected at most {LATE_SECONDS:g} s. Look for what delays it"
    )
