"""Spoken commands in PyTorch: `python -m train_server.speech_commands.pytorch --help`. The contract is `train_server/README.md`."""

import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from train_server.contract import note_epoch, report_start, run_trainer_program, verify_golden
from train_server.speech_commands.augmentation import augment, made_unknown, mask
from train_server.speech_commands.calibration import LOST, USUAL, fit, operating_points
from train_server.speech_commands.model import PYTORCH, SPEECH_COMMANDS, SpeechSpec
from train_server.speech_commands.networks import NETWORKS, Served
from windtunnel.data.clips import CLIP_SAMPLES, as_audio
from windtunnel.data.other_words import Others, locate_others
from windtunnel.data.recordings import Recordings, source_of
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_json
from windtunnel.golden import Tensors, read_golden
from windtunnel.model import load_any_spec
from windtunnel.recognizer import OperatingPoint, Recognizer

MODULE = "train_server.speech_commands.pytorch"
GOLDEN = 32  # test clips in the golden set
AUDIBLE = 0.001  # RMS: quieter clips, which a server may treat as silence, are not in the golden set
OUTLIERS = 4  # commands per clip without a command in a batch
MADE = 0.4  # fraction of the clips without a command that is made from commands; the rest is other words
SMOOTHING = 0.1  # label smoothing
MIXUP = 0.2  # mixes pairs of clips and their labels with weights from Beta(MIXUP, MIXUP) (Zhang et al., arXiv 1710.09412)


class Part(NamedTuple):
    """Clips, float32 (N,16000) in -1..1, and the indices of their words, int64 (N)."""

    clips: Tensor
    labels: Tensor


def train(spec_file: Path, data: Path, conditions: Path, out: Path) -> None:
    """Train and export into the directory `out`."""
    spec = load_any_spec(spec_file)
    if not isinstance(spec, SpeechSpec):
        raise WindtunnelError(f"{spec_file} has the wrong model: found {spec.model}, expected speech_commands")
    recordings, initial, suggestions, others = read_conditions(spec, data, conditions)
    torch.set_num_threads(spec.threads)
    torch.manual_seed(spec.seed)
    training, validation, test = (as_part(*recordings.split(name)) for name in ("train", "validation", "test"))
    training = Part(*(torch.cat(both) for both in zip(training, suggestions, strict=True)))
    make_features, make_classifier = NETWORKS[spec.network]
    features, classifier = make_features(), make_classifier(len(spec.words))
    # channels-last reduces the time of a step by a third; PyTorch's stubs lack the keyword
    classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    classifier.load_state_dict(initial or classifier.state_dict())
    setup_seconds = report_start(spec, f"{spec.network} in PyTorch {version('torch')}")

    average = AveragedModel(classifier, avg_fn=moving_average, use_buffers=True)
    trainer = Trainer(spec, features, classifier, average, others.train)
    for epoch in range(1, spec.epochs + 1):
        start = time.perf_counter()
        losses = trainer.train_epoch(training)
        seconds = time.perf_counter() - start
        served = Served(features, average.module, len(spec.words)).eval()
        accuracy = float((predict(served, test.clips)["logits"].argmax(1) == test.labels.numpy()).mean())
        note_epoch(out, spec, epoch, losses, accuracy, seconds, setup_seconds)

    points = calibrate(served, validation, as_clips(others.validation))
    facts = Recognizer(labels=spec.words, reject_below=points[LOST.index(USUAL)].reject_below, operating_points=points)
    write_json(out / "recognizer.json", facts.model_dump())
    save(served, out / PYTORCH.export)
    weights = {name: values.contiguous().numpy() for name, values in average.module.state_dict().items()}
    save_file(weights, out / "weights.safetensors")
    audible = test.clips[test.clips.square().mean(1).sqrt() > AUDIBLE]
    audio = audible[:: max(1, len(audible) // GOLDEN)][:GOLDEN].contiguous()  # safetensors writes views incorrectly
    golden = predict(served, audio)
    save_file({"audio": audio.numpy(), "label": golden["logits"].argmax(1), **golden}, out / "golden.safetensors")


def read_conditions(spec: SpeechSpec, data: Path, directory: Path) -> tuple[Recordings, dict[str, Tensor], Part, Others]:
    """Read the recordings, the initial weights (empty if there are none), the users' clips, and the other words.

    Raises:
        WindtunnelError: a file is missing or malformed, or the other words differ from those in the spec.
    """
    try:
        recordings = source_of(spec.dataset).read(spec.dataset, data)
        others = locate_others(spec.words)
        if others.fingerprints != spec.others:
            raise WindtunnelError(
                f"the data sets of other words differ from the spec: found {', '.join(others.fingerprints)}, expected "
                f"{', '.join(spec.others)}. Draw the conditions again"
            )
        suggestions = load_file(directory / "suggestions.safetensors")
        weights = load_file(directory / "initial.safetensors") if spec.initial else {}
    except (OSError, KeyError, ValueError) as error:
        raise WindtunnelError(f"the conditions in {directory} cannot be read ({error!r}): draw them again") from error
    return (
        recordings,
        {name: torch.from_numpy(values) for name, values in weights.items()},
        as_part(suggestions["clips"], suggestions["labels"]),
        others,
    )


def as_clips(clips: np.ndarray) -> Tensor:
    """Convert clips, int16 (N,16000), to float32 in -1..1."""
    return torch.from_numpy(as_audio(clips))


def as_part(clips: np.ndarray, labels: np.ndarray) -> Part:
    """Convert clips, int16 (N,16000), and their labels to a `Part`."""
    return Part(as_clips(clips), torch.from_numpy(labels.astype(np.int64)))


FEWEST_STEPS = 20  # of a schedule, which a shorter training does not finish


class Trainer:
    """Trains with AdamW and a learning rate that rises for a tenth of the steps, then falls (Smith and Topin, arXiv 1708.07120)."""

    def __init__(self, spec: SpeechSpec, features: nn.Module, classifier: nn.Module, average: AveragedModel, others: np.ndarray) -> None:
        self.spec, self.others = spec, others
        self.features, self.classifier, self.average = features, classifier, average
        self.generator, self.random = torch.Generator().manual_seed(spec.seed), np.random.default_rng(spec.seed)
        groups = [
            {"params": [weight for weight in classifier.parameters() if weight.ndim > 1], "weight_decay": spec.weight_decay},
            {"params": [weight for weight in classifier.parameters() if weight.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=spec.learning_rate)
        # with fewer steps, PyTorch's schedule would have nothing to rise in, and divide by zero
        steps = max(spec.steps + 1, FEWEST_STEPS)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, spec.learning_rate, total_steps=steps, pct_start=0.1)
        self.loss = self.loss_plain if spec.network == "tutorial" else self.loss_robust

    def train_epoch(self, part: Part) -> np.ndarray:
        """Take a step for each full batch of the part's clips, in a new order; return the losses (steps)."""
        self.classifier.train()
        order = torch.randperm(len(part.clips), generator=self.generator)
        losses = []
        for batch in order.split(self.spec.batch_size)[: self.spec.steps_per_epoch]:
            loss = self.loss(part.clips[batch], part.labels[batch])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.average.update_parameters(self.classifier)
            losses.append(loss.item())
        return np.array(losses)

    def loss_plain(self, clips: Tensor, labels: Tensor) -> Tensor:
        """Compute the tutorial's loss, without augmentation."""
        return F.cross_entropy(self.classifier(self.features(clips)), labels)

    def loss_robust(self, clips: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of augmented clips, mixed in pairs, and of clips without a command, which are a class of their own."""
        count, words = len(clips), len(self.spec.words)
        unknown = self.unknown(clips)
        with torch.no_grad():
            features = mask(self.features(augment(torch.cat([clips, unknown]), self.generator)), self.generator)
        known = torch.cat([labels, torch.full((len(unknown),), words)])
        targets = F.one_hot(known, words + 1) * (1 - SMOOTHING) + SMOOTHING / (words + 1)
        part, others = self.random.beta(MIXUP, MIXUP), torch.randperm(count, generator=self.generator)
        partners = torch.cat([others, torch.arange(count, len(features))])  # clips without a command are not mixed
        mixed, targets = (part * values + (1 - part) * values[partners] for values in (features, targets))
        return F.cross_entropy(self.classifier(mixed), targets)

    def unknown(self, clips: Tensor) -> Tensor:
        """Return a clip without a command for every OUTLIERS commands: other words and sounds made from commands, (N // OUTLIERS,16000)."""
        count = len(clips) // OUTLIERS
        made = round(count * MADE)
        others = self.others[self.random.integers(len(self.others), size=count - made)]
        return torch.cat([as_clips(others), made_unknown(clips[:made], self.generator)])


def moving_average(average: Tensor, now: Tensor, steps: Tensor | int) -> Tensor:
    """Update the exported weights: a moving average over about 500 steps, over fewer at the beginning."""
    return average + (now - average) * max(0.002, 9 / (10 + int(steps)))


@torch.inference_mode()
def predict(served: nn.Module, clips: Tensor) -> Tensors:
    """Compute `logits` and `probabilities`, float32 (N,K), of clips (N,16000)."""
    outputs = [served(batch) for batch in clips.split(256)]
    return {name: torch.cat(values).numpy() for name, values in zip(("logits", "probabilities"), zip(*outputs, strict=True), strict=True)}


@torch.inference_mode()
def calibrate(served: Served, commands: Part, others: Tensor) -> tuple[OperatingPoint, ...]:
    """Calibrate the probabilities of a model, and return its operating points.

    A small data set may have no validation speakers. Then the probabilities are not calibrated, and nothing is rejected.

    Args:
        served: the model, which is changed in place.
        commands: the commands of the validation speakers.
        others: sounds without a command, float32 (M,16000), of speakers that were not used for training.
    """
    audio = torch.cat([commands.clips, others])
    logits = torch.cat([served.classifier(served.features(batch)) for batch in audio.split(256)])
    if logits.shape[1] > served.words and len(commands.clips):
        with torch.inference_mode(False):
            scale, offset = fit(logits.clone(), torch.cat([commands.labels, torch.full((len(others),), served.words)]))
        served.scale.fill_(scale)
        served.offset.fill_(offset)
    probabilities = served.probabilities(logits).numpy()
    count = len(commands.clips)
    return operating_points(probabilities[:count], commands.labels.numpy(), probabilities[count:])


def save(served: nn.Module, file: Path) -> None:
    """Write the model as one ONNX file that accepts any number of clips."""
    names = ["logits", "probabilities"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the newer exporter needs another package
        torch.onnx.export(
            served,
            (torch.zeros(2, CLIP_SAMPLES),),
            file,
            input_names=["audio"],
            output_names=names,
            dynamic_axes={name: {0: "N"} for name in ("audio", *names)},
            opset_version=17,
            dynamo=False,
        )


def verify(directory: Path) -> None:
    """Reload the export in `directory` with ONNX Runtime and compare its outputs with the golden set.

    Raises:
        WindtunnelError: they differ.
    """
    golden, file = read_golden(directory, SPEECH_COMMANDS), directory / PYTORCH.export
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = ["logits", "probabilities"]
    verify_golden(file, dict(zip(names, session.run(names, {"audio": golden["audio"]}), strict=True)), golden, SPEECH_COMMANDS)


if __name__ == "__main__":
    run_trainer_program(MODULE, "Train a network on spoken commands in PyTorch.", train, verify)
