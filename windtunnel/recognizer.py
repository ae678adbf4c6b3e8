"""Read `recognizer.json`, the description of a version of the speech model. It lies beside the manifest."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from windtunnel.data.clips import CLIP_SAMPLES, SAMPLE_RATE
from windtunnel.errors import WindtunnelError
from windtunnel.spec import first_problem
from windtunnel.vocabulary import Words

Share = Annotated[float, Field(ge=0, le=1)]


class OperatingPoint(BaseModel):
    """A rejection threshold with its cost and benefit, measured on speakers that the version was not trained on.

    Attributes:
        reject_below: clips with a best probability below this are rejected.
        commands_lost: the share of commands rejected at this threshold.
        others_rejected: the share of other words rejected at this threshold; None if there were no recordings of other words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reject_below: Share
    commands_lost: Share
    others_rejected: Share | None = None


class Recognizer(BaseModel):
    """The description of a version of the speech model.

    Attributes:
        labels: its words in the order of its outputs.
        sample_rate, samples: the sample rate in Hz and the length of its input.
        reject_below: the default threshold: clips with a best probability below it are rejected as no command.
        operating_points: thresholds to choose from, sorted by `commands_lost`; empty in versions older than this field.
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
        WindtunnelError: the file is missing, or is not valid.
    """
    file = directory / "recognizer.json"
    try:
        return Recognizer.model_validate_json(file.read_bytes())
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read ({error.strerror}): this is not a version of the speech model; train one") from error
    except ValidationError as error:
        raise WindtunnelError(f"{file}: {first_problem(error)}; train the version again") from error
