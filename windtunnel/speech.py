"""What a version of the speech model says of itself, beside its manifest: `recognizer.json`."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from windtunnel.clips import CLIP_SAMPLES, SAMPLE_RATE
from windtunnel.errors import WindtunnelError
from windtunnel.spec import first_problem
from windtunnel.vocabulary import Words

SPEECH_COMMANDS = "speech-commands"
"""The registered model."""


Share = Annotated[float, Field(ge=0, le=1)]


class OperatingPoint(BaseModel):
    """What rejecting below a probability costs and gains, measured on speakers that the version was not trained on.

    Attributes:
        reject_below: a clip whose best probability is below it is rejected.
        commands_lost: the share of commands that are rejected then.
        others_rejected: the share of what is no command that is; None where there were no such recordings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reject_below: Share
    commands_lost: Share
    others_rejected: Share | None = None


class Recognizer(BaseModel):
    """What a version says of itself.

    Attributes:
        labels: its words in the order of its outputs.
        sample_rate, samples: what it hears.
        reject_below: the probability below which a clip is no command to it, where nobody chooses another.
        operating_points: what to choose from, by `commands_lost`; none where the version is older than they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: Words
    sample_rate: int = SAMPLE_RATE
    samples: int = CLIP_SAMPLES
    reject_below: Share
    operating_points: tuple[OperatingPoint, ...] = ()


def read_recognizer(directory: Path) -> Recognizer:
    """Read `recognizer.json` of the version in `directory`.

    Raises:
        WindtunnelError: there is none, or it is of another kind of model.
    """
    file = directory / "recognizer.json"
    try:
        return Recognizer.model_validate_json(file.read_bytes())
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read ({error.strerror}): this is no version of the speech model; train one") from error
    except ValidationError as error:
        raise WindtunnelError(f"{file}: {first_problem(error)}; train the version again") from error
