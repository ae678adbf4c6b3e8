"""Prove that a server answers what the trainer answered, on the golden set, through the real protocols."""

import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from safetensors.numpy import load_file

from serving.server import Outputs, Server, Version
from windtunnel.errors import WindtunnelError

TOLERANCE = 1e-5  # absolute, and relative to what is large: float32 logits reach 40, where their last digit is 4e-6
LATE_SECONDS = 3.0  # a version that is warm answers in milliseconds
TRIES = 3  # a version is late if all its answers are; where the machine is busy, one or two may be


class WrongAnswerError(WindtunnelError):
    """A version answers otherwise than its trainer did, late, or not at all."""


def verify(server: Server, version: Version, addressed: bool = True, in_time: bool = True) -> None:
    """Ask for the golden set, all of it at once and one image alone, over every protocol, and hold the answers against the trainer's.

    Args:
        server: the server.
        version: the version that must answer, which is ready.
        addressed: ask for it by its number; else as users do, who get the champion.
        in_time: whether it must answer in time.

    Raises:
        WrongAnswerError: a label is another, a number is further away than the tolerance, or every try came late.
        ServerError: there was no answer.
    """
    golden = load_file(version.directory / "golden.safetensors")
    number = version.number if addressed else None
    for protocol in server.protocols:
        for images in (slice(None), slice(0, 1)):
            about = f"{version} on {server.name}, asked over {protocol}{'' if addressed else ' as users ask'},"
            ask = partial(server.predict, version.name, golden[asked(golden)][images], number, protocol)
            found = _in_time(about, ask) if in_time else ask()
            for name in ("logits", "probabilities"):
                compare(f"{about} answers {name}", found.get(name), golden[name][images])
            if wrong := int((found["logits"].argmax(axis=1) != golden["label"][images]).sum()):
                raise WrongAnswerError(f"{about} gives {wrong} images another label than the trainer did; train it again")


def _in_time(about: str, ask: Callable[[], Outputs]) -> Outputs:
    """The first answer that is not late.

    Raises:
        WrongAnswerError: all of them are late.
    """
    taken = []
    for _ in range(TRIES):
        start = time.monotonic()
        found = ask()
        taken.append(time.monotonic() - start)
        if taken[-1] <= LATE_SECONDS:
            return found
    raise WrongAnswerError(
        f"{about} took {min(taken):.1f} s or more in {TRIES} tries, expected at most {LATE_SECONDS:g} s; look for what it waits for"
    )


def asked(golden: Mapping[str, np.ndarray]) -> str:
    """The name of what a golden set asks with: what its model takes."""
    (name,) = golden.keys() - {"logits", "probabilities", "label"}
    return name


def compare(what: str, found: np.ndarray | None, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Hold an answer against the trainer's; `tolerance` is absolute, and relative to what is large.

    Raises:
        WrongAnswerError: it is missing, of another shape, or further away.
    """
    if found is None or found.shape != expected.shape:
        shape = "nothing" if found is None else f"shape {list(found.shape)}"
        raise WrongAnswerError(f"{what} of {shape}, the trainer {list(expected.shape)}; export it again, as the contract says")
    far = ~np.isclose(found, expected, rtol=tolerance, atol=tolerance)  # NaN is far from everything
    if far.any():
        place = tuple(int(index[0]) for index in far.nonzero())
        raise WrongAnswerError(
            f"{what} {found[place]} at {list(place)}, the trainer {expected[place]}: {int(far.sum())} of {far.size} numbers are "
            f"further away than {tolerance:g}; it is not what was trained, train it again"
        )
