"""The spec: everything that decides a training run's result."""

import math
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from windtunnel.errors import WindtunnelError

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


class Spec(BaseModel):
    """What every framework of one run trains: the same bytes, as `spec.json`, for each.

    `mean` and `std` are those of the training pixels in 0..1; `samples` is how many training images are used, drawn at random
    under `seed`. Adam's defaults are those of Kingma and Ba (arXiv 1412.6980). One thread is the default: a step takes a
    millisecond or three, and threads that wait for each other that often are slower than one as soon as anything else, such as
    Airflow, needs the processor too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Literal["lenet5"] = "lenet5"
    dataset: str
    mean: float
    std: Positive
    samples: Annotated[int, Field(gt=0)]
    epochs: Annotated[int, Field(gt=0)] = 5
    batch_size: Annotated[int, Field(gt=0)] = 64
    learning_rate: Positive = 0.01
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    epsilon: Positive = 1e-8
    schedule: Schedule = "cosine"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    threads: Annotated[int, Field(gt=0)] = 1

    @model_validator(mode="after")
    def _fills_a_batch(self) -> "Spec":
        if self.samples < self.batch_size:
            raise ValueError(f"samples is {self.samples}, less than one batch of {self.batch_size}: ask for more, or a smaller batch_size")
        return self

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch; what does not fill the last one is left out of that epoch."""
        return self.samples // self.batch_size

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch


def load_spec(file: Path) -> Spec:
    """Read `spec.json`.

    Raises:
        WindtunnelError: the file is missing, is not JSON, or holds a value that cannot be trained with.
    """
    try:
        return Spec.model_validate_json(file.read_bytes())
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
