"""The declaration of LeNet-5: its spec, and the frameworks that train it."""

from typing import Literal, get_args

from windtunnel.metric import ACCURACY
from windtunnel.model import Example, Framework, Input, Model, Output, python_module
from windtunnel.settings import ROOT
from windtunnel.spec import Decay, Positive, Training

Schedule = Literal["constant", "cosine"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


class Spec(Training):
    """The spec of a run of `lenet5`. Every framework of the run reads the same bytes, `spec.json`.

    `mean` and `std` are the mean and standard deviation of the training pixels in 0..1. The `samples` images are drawn at random with
    `seed`. Adam's defaults are those of Kingma and Ba (arXiv 1412.6980).
    """

    model: Literal["lenet5"] = "lenet5"
    mean: float
    std: Positive
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    epsilon: Positive = 1e-8
    schedule: Schedule = "cosine"


CPP = str(ROOT / "libtorch_cpp/build/lenet5")

LENET5 = Model(
    name="lenet5",
    title="LeNet-5",
    spec=Spec,
    data="windtunnel.data.datasets:locate",
    conditions="train_server.lenet5.conditions:draw",
    parity="train_server.lenet5.parity",
    metric=ACCURACY,
    sample="image",
    loss="cross-entropy",
    example=Example("img/digit.png", "mnist"),
    frameworks=(
        # The colours are Okabe and Ito's: told apart with any colour vision, and on paper.
        Framework("libtorch", (CPP,), "model.pt", "torchserve", ("torch",), colour="#0072B2", marker="o"),
        Framework(
            "pytorch", python_module("train_server.lenet5.pytorch"), "model.pt", "torchserve", ("torch",), colour="#D55E00", marker="s"
        ),
        Framework(
            "tensorflow",
            python_module("train_server.lenet5.tensorflow"),
            "saved_model",
            "tfserving",
            ("tensorflow", "tensorflow-serving-api", "ai-edge-litert"),
            colour="#E69F00",
            marker="^",
        ),
        Framework(
            "native",
            (CPP, "--framework", "native"),
            "model.pt",
            "torchserve",
            ("torch",),
            colour="#CC79A7",
            marker="v",
            default=False,
        ),
    ),
    input=Input("image", (28, 28, 1), codec="image", reader="serving.backends.images:read_images", dark_background=True),
    outputs=(Output("logits", (10,)), Output("probabilities", (10,))),
)
