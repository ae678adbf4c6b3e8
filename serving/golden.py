"""Prove that a server answers what the trainer answered, on the golden set, through the real protocols."""

import time
from collections.abc import Mapping

import numpy as np
from safetensors.numpy import load_file

from serving.server import Server, Version
from windtunnel.errors import WindtunnelError

TOLERANCE = 1e-5  # absolute, and relative to what is large: float32 logits reach 40, where their last digit is 4e-6
LATE_SECONDS = 3.0  # a version that is warm answers in milliseconds


class WrongAnswerError(WindtunnelError):
    """A version answers otherwise than its trainer did, late, or not at all."""


def verify(server: Server, version: Version, addressed: bool = True) -> None:
    """Ask for the golden set, all of it at once and one image alone, over every protocol, and hold the answers against the trainer's.

    Args:
        server: the server.
        version: the version that must answer, which is ready.
        addressed: ask for it by its number; else as users do, who get the champion.

    Raises:
        WrongAnswerError: a label is another, a number is further away than the tolerance, or the answer came late.
        ServerError: there was no answer.
    """
    golden = load_file(version.directory / "golden.safetensors")
    number = version.number if addressed else None
    for protocol in server.protocols:
        for images in (slice(None), slice(0, 1)):
            about = f"{version} on {server.name}, asked over {protocol}{'' if addressed else ' as users ask'},"
            start = time.monotonic()
            found = server.predict(version.name, golden[asked(golden)][images], number, protocol)
            if (seconds := time.monotonic() - start) > LATE_SECONDS:
                raise WrongAnswerError(f"{about} took {seconds:.1f} s, may take {LATE_SECONDS:g} s; look for what it waits for")
            for name in ("logits", "probabilities"):
                compare(f"{about} answers {name}", found.get(name), golden[name][images])
            if wrong := int((found["logits"].argmax(axis=1) != golden["label"][images]).sum()):
                raise WrongAnswerError(f"{about} gives {wrong} images another label than the trainer did; train it again")


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
