# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Spoken commands: hear them, train a model, start the server with it
#
# *Down, go, left, no, right, stop, up, yes*: eight words, a second of sound each. This notebook shows what a model gets to hear of them,
# trains one with the platform's own trainer, looks at what it has learned from speakers it has never heard, and starts the speech server
# with it. It needs no platform that is up, nor any server.
#
# Training for 40 epochs takes some eight minutes on one core; five are enough to look around, and the platform's own runs take 60. Open it
# in any editor of notebooks, or run it as it is, with other parameters for instance:
#
# ```sh
# papermill notebooks/speech_commands_training.ipynb mine.ipynb -p epochs 60
# ```

# %%
import os
import subprocess
import sys
import warnings
from configparser import ConfigParser
from datetime import datetime
from pathlib import Path

import grpc
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Audio, Markdown, display

from serving.speech_server.protos.dlserver_pb2 import InferenceRequest
from serving.speech_server.protos.dlserver_pb2_grpc import DLServerStub
from serving.speech_server.protos.speech_pb2 import RecognizeRequest
from serving.speech_server.protos.speech_pb2_grpc import SpeechStub
from train_server.reporting.plots import STYLE
from train_server.speech_commands.features import LogMel
from train_server.speech_commands.model import PYTORCH, SpeechSpec
from train_server.speech_commands.plots import certainty, draw_clips, plots
from windtunnel.cli.output import print_table
from windtunnel.data.clips import CLIP_SAMPLES, FULL_SCALE, SAMPLE_RATE, WORDS
from windtunnel.data.other_words import locate_others
from windtunnel.data.recordings import locate_recordings
from windtunnel.data.wav import wav_bytes
from windtunnel.manifest import verify_version
from windtunnel.platform.child_processes import ending_with_parent
from windtunnel.platform.ports import free_ports
from windtunnel.run import Run
from windtunnel.settings import ROOT
from windtunnel.tables import render

with warnings.catch_warnings(action="ignore"):  # tqdm's, which misses widgets that nothing here shows
    from train_server.speech_commands.conditions import write_conditions
    from train_server.speech_commands.evaluate import CONDITIONS, evaluate, listener, other_sounds, tabulate
    from train_server.train import run_trainer

# %% tags=["parameters"]
dataset = "auto"  # mini_speech_commands, demonstration, free_spoken_digits, or auto: the first where it can be had
epochs = 40  # passes through the training clips
batch_size = 64
seed = 1
out = "speech_models"  # a folder: each training makes one in it

# %%
# %matplotlib inline
plt.rcParams.update(STYLE | {"figure.dpi": 60})
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the commands lie beside their Python

# %% [markdown]
# ## The recordings
# `mini_speech_commands`, people who said the words into their own microphones, is looked for, and downloaded where it is not found. Where
# it cannot be had, a synthesiser speaks the words instead: that is *the demonstration set*, enough to see all of this work, and no measure
# of how real speech is recognised. The line below says which one it is.

# %%
recordings = locate_recordings(dataset)
words = recordings.words
print(f"{recordings.title}: {len(recordings.clips)} clips, fingerprint {recordings.fingerprint[:12]}")

# %% [markdown]
# They are split by speaker, never at random: a model that has heard a speaker say *left* knows more about her *right* than it will know
# about a stranger's. A fifth of the speakers are to test with, for ever, and a tenth to choose with how unsure is too unsure.

# %%
rows = []
for part in ("train", "validation", "test"):
    counts = np.bincount(recordings.split(part)[1], minlength=len(words))
    rows.append([part, *map(str, (recordings.speakers_of(part), counts.sum(), *counts))])
print_table(["part", "speakers", "clips", *words], rows)

# %% [markdown]
# ## What a model hears
# A clip of each word by test speakers: its waveform, and below it what the network is given instead, the *log-mel spectrogram*: the energy
# from moment to moment in 40 bands, which are spaced as the ear hears pitch, on a logarithmic scale. How loud a clip is as a whole is
# taken out of it, so whoever speaks softly looks like who shouts. These features are the first layers of the model that is exported:
# training and serving cannot differ in them.

# %%
clips, labels = recordings.split("test")
chosen = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
features = LogMel()(torch.from_numpy(clips[chosen] / np.float32(FULL_SCALE))).numpy()

figure = plt.figure(figsize=(12, 3.6), layout="constrained")
draw_clips(figure, clips[chosen], features, [words[label] for label in labels[chosen]])
display(figure)
plt.close(figure)

# %% [markdown]
# Listen to one; take another number for another word.

# %%
Audio(clips[chosen[0]], rate=SAMPLE_RATE)

# %% [markdown]
# ## Training
# The platform's trainer, in a process of its own, keeps the contract that it keeps for a run of the DAG `speech_commands`: a spec and
# conditions go in, a version comes out, verified in a fresh process. There are no suggestions of users here, and no weights to start
# from. The accuracy after each epoch is that on the test speakers.

# %%
run = Run(Path(out, f"{datetime.now():%Y-%m-%dT%H-%M-%S}"))
run.directory.mkdir(parents=True)
samples = len(recordings.split("train")[1])
others = locate_others(words)
sizes = {"samples": samples, "epochs": epochs, "batch_size": batch_size}
spec = SpeechSpec(dataset=recordings.name, words=words, seed=seed, others=others.fingerprints, **sizes)
no_suggestions = {"clips": np.empty((0, CLIP_SAMPLES), np.int16), "labels": np.empty(0, np.uint8)}
write_conditions(run, spec, recordings, no_suggestions)

version = run.version("pytorch")
run_trainer(PYTORCH, run.spec_file, recordings, run.conditions, version)

# %% [markdown]
# ## What it has learned
# All figures are of the test speakers: as recorded, and as clips may come. A command is *rejected* when the version is too unsure of it,
# which should be rare; of what is no command, the more is rejected the better. Both follow from the limit: the table has some to choose
# from.

# %%
sounds = other_sounds(clips, others)
evaluation = {
    "dataset": recordings.name,
    "clips": len(clips),
    "speakers": recordings.speakers_of("test"),
    "words": words,
    "conditions": list(CONDITIONS),
    "sounds": list(sounds),
    "versions": [{"name": "trained here"} | evaluate(version, clips, labels, sounds)],
}
print("".join(map(render, tabulate(evaluation))), end="")

# %%
for plot in plots(evaluation, version):
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    plot.draw(axes)
    display(Markdown(f"### {plot.title}\n{plot.caption}"), figure)
    plt.close(figure)

# %% [markdown]
# ## What it rejects
# The richer of the server's two protocols answers *unknown word* where the version is not sure enough. The limit is such that of the
# validation speakers' commands that are heard right, 95 in 100 are kept.

# %%
audio, hear = clips / np.float32(FULL_SCALE), listener(version)
answers, backwards = hear(audio), hear(audio[:, ::-1])
heard, sure = answers.argmax(1), answers.max(1)
right = heard == labels
kinds = {"heard right": sure[right], "taken for another word": sure[~right], "played backwards": backwards.max(1)}

plot = certainty(kinds, evaluation["versions"][0]["reject_below"])
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
plot.draw(axes)
display(Markdown(plot.caption), figure)
plt.close(figure)

# %% [markdown]
# ## What it gets wrong
# The mistakes it is surest of. Listen before you blame it: some recordings are cut off, some hold next to nothing, and some another word
# than they should.

# %%
mistakes = np.flatnonzero(~right)
surest = mistakes[np.argsort(-sure[mistakes])][:3]
print(f"{len(mistakes)} of {len(clips)} clips are taken for another word")

# %%
if len(surest):
    features = LogMel()(torch.from_numpy(audio[surest])).numpy()
    titles = [f"{words[labels[each]]}, heard as {words[heard[each]]} ({sure[each]:.2f})" for each in surest]
    figure = plt.figure(figsize=(3.5 * len(surest), 3.2), layout="constrained")
    draw_clips(figure, clips[surest], features, titles)
    display(figure)
    plt.close(figure)
    for each, title in zip(surest, titles, strict=True):
        display(Markdown(title), Audio(clips[each], rate=SAMPLE_RATE))

# %% [markdown]
# ## The server, with this model
# The version is a directory: the network as ONNX, the limit below which is rejected, a golden set with what the trainer itself answered,
# and a manifest with the SHA-256 of every file. A server that is given it as `ModelPath` verifies all of that before it answers.

# %%
manifest = verify_version(version)
print_table(["file", "bytes"], [[name, f"{(version / name).stat().st_size:,}"] for name in ("manifest.json", *sorted(manifest.files))])

# %% [markdown]
# The project's `server.ini` explains every key. Here two get other values, and the file is written beside the version:
# `dlserver server.ini`, in that folder, starts the server again whenever you like. This version answers as long as no other is published
# below `NewModelsPath`, as the retraining with suggestions does.

# %%
ini = ConfigParser()
ini.optionxform = str  # keys as people write them
ini.read(ROOT / "server.ini")
address = ini["RPCServer"]["Endpoint"] = f"127.0.0.1:{free_ports(1)[0]}"
ini["DLServer"]["ModelPath"] = version.name
with (run.directory / "server.ini").open("w") as file:
    ini.write(file)

log = run.directory / "dlserver.log"
with log.open("w") as file:
    server = subprocess.Popen(
        ending_with_parent(["dlserver", "server.ini"]), cwd=run.directory, stdout=subprocess.PIPE, stderr=file, text=True
    )
print(server.stdout.readline() or log.read_text(), end="")

# %% [markdown]
# The command-line client asks about a file:

# %%
wav = run.directory / f"{words[labels[chosen[0]]]}.wav"
wav.write_bytes(wav_bytes(clips[chosen[0]]))
# !dlserver_testclient {address} < {wav}

# %% [markdown]
# It prints why, if the server rejects the clip. The protocol of the first speech server rejects nothing. Of its clients, the one for the
# command line sends samples on the scale of 16-bit integers, the one for Android in -1..1. Both must hear what this notebook heard. That
# protocol has the eight words; of others the richer one is asked.

# %%
rows = []
with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
    for each in chosen:
        pair = (clips[each], audio[each])
        if words == WORDS:
            replies = [DLServerStub(channel).Infer(InferenceRequest(audio_samples=sent), timeout=60) for sent in pair]
            found = [words[reply.label] for reply in replies]
        else:
            replies = [SpeechStub(channel).Recognize(RecognizeRequest(samples=sent), timeout=60) for sent in pair]
            found = [reply.word or reply.reason for reply in replies]
        rows.append([words[labels[each]], words[heard[each]], *found])
print_table(["said", "heard here", "by the server, of 16-bit integers", "by the server, of -1..1"], rows)

# %% [markdown]
# It ends as it would under any supervisor: on a SIGTERM, when everything that was asked has been answered.

# %%
server.terminate()
print(f"dlserver ended with status {server.wait()}")
