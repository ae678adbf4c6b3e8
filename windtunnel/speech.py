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


class Recognizer(BaseModel):
    """Its words in the order of its outputs, what it hears, and the probability below which a clip is no command to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: Words
    sample_rate: int = SAMPLE_RATE
    samples: int = CLIP_SAMPLES
    reject_below: Annotated[float, Field(ge=0, le=1)]


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
