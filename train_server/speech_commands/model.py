"""The declaration of the spoken commands: their spec, and the framework that trains them."""

from typing import Any, Literal

from pydantic import Field

from windtunnel.metric import ACCURACY
from windtunnel.model import Framework, Input, Model, Output, python_module
from windtunnel.spec import Decay, Positive, Training
from windtunnel.vocabulary import SPEECH_COMMANDS as REGISTERED
from windtunnel.vocabulary import WORDS, Words

SMALLEST_BATCH = 8
"""Clips in a batch. The trainer adds a quarter as many without a command: in a smaller batch, not both other words and made ones."""


class SpeechSpec(Training):
    """The spec of a run of `speech_commands`.

    `words` are the words of the data set, in the order of the outputs. `suggestions` are the SHA-256 of the users' clips that are used
    in addition to the data set. `initial` is the SHA-256 of the weights of an earlier version that training starts from; if it is None,
    weights are drawn with `seed`. `others` are the fingerprints, by name, of the data sets of other words that the network learns to
    reject.
    """

    model: Literal["speech_commands"] = "speech_commands"
    words: Words = WORDS
    network: Literal["ds_resnet", "ds_cnn", "tutorial"] = "ds_resnet"  # ds_cnn: in older versions
    learning_rate: Positive = 0.004
    weight_decay: Decay = 0.02
    suggestions: tuple[str, ...] = ()
    initial: str | None = None
    others: dict[str, str] = Field(default_factory=dict)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The spec, with the words as one text and the number of suggestions."""
        told = {"words": ", ".join(self.words), "suggestions": len(self.suggestions), "initial": self.initial or "drawn"}
        told["others"] = ", ".join(self.others)
        return self.model_dump() | told


PYTORCH = Framework(
    "pytorch",
    python_module("train_server.speech_commands.pytorch"),
    "model.onnx",
    "speech",
    ("torch", "onnxruntime"),
    colour="#009E73",
    marker="D",
)

SPEECH_COMMANDS = Model(
    name="speech_commands",
    title="spoken commands",
    spec=SpeechSpec,
    data="windtunnel.data.recordings:locate_recordings",
    conditions="train_server.speech_commands.conditions:draw_alone",
    metric=ACCURACY,
    sample="clip",
    frameworks=(PYTORCH,),
    input=Input("audio", (16_000,), codec="array", reader="windtunnel.data.wav:read_clips"),  # a second, in -1..1
    outputs=(Output("logits", (None,)), Output("probabilities", (None,))),  # as many as the version has words
    registered=REGISTERED,
)
