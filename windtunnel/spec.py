"""The spec: everything that decides a training run's result."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from windtunnel.errors import WindtunnelError
from windtunnel.vocabulary import WORDS, Words

Framework = Literal["libtorch", "pytorch", "tensorflow"]
Schedule = Literal["constant", "cosine"]
FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"must be a finite number, found {value}")
    return value


Positive = Annotated[float, Field(gt=0), AfterValidator(_finite)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Training(BaseModel):
    """What decides the result of training, whatever the model. `samples` is how many training samples are used.

    One thread is the default: a step takes a millisecond or three, and threads that wait for each other that often are slower than one
    as soon as anything else, such as Airflow, needs the processor too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    dataset: str
    samples: Annotated[int, Field(gt=0)]
    epochs: Annotated[int, Field(gt=0)] = 5
    batch_size: Annotated[int, Field(gt=0)] = 64
    learning_rate: Positive = 0.01
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    threads: Annotated[int, Field(gt=0)] = 1

    @model_validator(mode="after")
    def _fills_a_batch(self) -> Self:
        if self.samples < self.batch_size:
            raise ValueError(f"samples is {self.samples}, less than one batch of {self.batch_size}: ask for more, or a smaller batch_size")
        return self

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The spec as numbers and words, for tables in which runs are compared."""
        return self.model_dump()

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch; what does not fill the last one is left out of that epoch."""
        return self.samples // self.batch_size

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch


class Spec(Training):
    """What every framework of one run of `lenet5` trains: the same bytes, as `spec.json`, for each.

    `mean` and `std` are those of the training pixels in 0..1; the `samples` images are drawn at random under `seed`. Adam's defaults are
    those of Kingma and Ba (arXiv 1412.6980).
    """

    model: Literal["lenet5"] = "lenet5"
    mean: float
    std: Positive
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    epsilon: Positive = 1e-8
    schedule: Schedule = "cosine"


class SpeechSpec(Training):
    """What a run of `speech_commands` trains.

    `words` are those of the data set, in the order of the outputs. `suggestions` are the SHA-256 of the users' clips among the samples,
    beside the data set's; `initial` is the SHA-256 of the weights that training starts from, those of a version before, or else they are
    drawn under `seed`. `others` are the fingerprints of the data sets of other words that a network learns to reject, by name.
    """

    model: Literal["speech_commands"] = "speech_commands"
    words: Words = WORDS
    network: Literal["ds_resnet", "ds_cnn", "tutorial"] = "ds_resnet"  # ds_cnn: of versions before it
    learning_rate: Positive = 0.004
    weight_decay: Decay = 0.02
    suggestions: tuple[str, ...] = ()
    initial: str | None = None
    others: dict[str, str] = {}

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The spec, the words as one text, of the suggestions their number."""
        told = {"words": ", ".join(self.words), "suggestions": len(self.suggestions), "initial": self.initial or "drawn"}
        told["others"] = ", ".join(self.others)
        return self.model_dump() | told


AnySpec = Annotated[Spec | SpeechSpec, Field(discriminator="model")]
_SPEC: TypeAdapter[Spec] = TypeAdapter(Spec)
_ANY_SPEC: TypeAdapter[Spec | SpeechSpec] = TypeAdapter(AnySpec)
_Kind = TypeVar("_Kind")


def load_spec(file: Path) -> Spec:
    """Read `spec.json` of a run of `lenet5`.

    Raises:
        WindtunnelError: the file is missing, is not JSON, or holds a value that cannot be trained with.
    """
    return _load(file, _SPEC)


def load_any_spec(file: Path) -> Spec | SpeechSpec:
    """Read `spec.json`, whatever the model, as `load_spec` does."""
    return _load(file, _ANY_SPEC)


def _load(file: Path, kind: TypeAdapter[_Kind]) -> _Kind:
    try:
        return kind.validate_json(file.read_bytes())
    except OSError as error:
        raise WindtunnelError(f"spec {file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise WindtunnelError(f"spec {file}: {first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """The first thing pydantic found, as one line: field, what is wrong, the value found."""
    problem = error.errors()[0]
    field = ".".join(map(str, problem["loc"]))
    found = "" if isinstance(problem["input"], dict) else f" (found {problem['input']!r})"
    message = problem["msg"].removeprefix("Value error, ") + found
    return f"{field}: {message}" if field else message
