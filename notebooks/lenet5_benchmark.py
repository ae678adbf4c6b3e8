# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # LeNet-5 three ways: ask it, measure it, look
#
# LeNet-5 was trained in libtorch C++, in PyTorch and in TensorFlow, under the same conditions, and is served by TorchServe and by
# TensorFlow Serving. This notebook asks what users get, its *champions*, over REST and over gRPC, measures how fast they answer, and
# shows how they were trained. Everything goes through the servers, the registry and MLflow; no framework is imported.
#
# It needs a platform that is up and has champions: `make run`, or `docker compose up -d` and a run of the DAG `lenet5`. Where that
# is, the `WINDTUNNEL_…` variables say, as everywhere. Open it in any editor of notebooks, or run it as it is, with shorter
# measurements for instance:
#
# ```sh
# papermill notebooks/lenet5_benchmark.ipynb mine.ipynb -p rounds 1 -p seconds 0.1
# ```

# %%
import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import grpc
import httpx
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from PIL import Image
from safetensors.numpy import load_file

from serving.backends.catalog import server_of
from serving.backends.tfserving.client import from_tensor, to_tensor
from serving.backends.tfserving.declaration import TFServingSettings
from serving.backends.torchserve.backend import TorchServe
from serving.backends.torchserve.declaration import TorchServeSettings
from serving.backends.torchserve.stubs import PredictionsRequest, predictions
from serving.tfserving_protos import ModelSpec, PredictionServiceStub, PredictRequest
from train_server.reporting.plots import STYLE, serving_plots, training_plots
from windtunnel.benchmark_result import Benchmark
from windtunnel.cli.output import print_table
from windtunnel.model import find_model
from windtunnel.settings import load_settings

with warnings.catch_warnings(action="ignore"):  # tqdm's, which misses widgets that nothing here shows
    from serving.release.release import Release
    from windtunnel.registry import list_versions
    from windtunnel.tracking import client

# %% tags=["parameters"]
rounds = 5  # how often everything is measured; fewer for a quick look
seconds = 0.3  # of each measurement
concurrency = [1, 10, 50]  # clients at once
batch = [1, 8, 32]  # images in a request
requests = 1000  # that ApacheBench sends

# %%
# %matplotlib inline
plt.rcParams.update(STYLE | {"figure.dpi": 60})
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # `windtunnel` lies beside its Python
settings = load_settings()
torchserve, tfserving = settings.server(TorchServeSettings), settings.server(TFServingSettings)
mlflow = client(settings)

# %% [markdown]
# ## What is served
# The registry knows every version; the alias `champion` says which of them users get.

# %%
lenet5 = find_model("lenet5")
champions = {known.name: known for known in list_versions(mlflow) if known.name.startswith("lenet5-") and "champion" in known.aliases}
header = ["model", "version", "test accuracy", "trained by the run"]
print_table(header, [[known.name, str(known.version), f"{known.value:.2%}", known.dag_run] for known in champions.values()])
on_torchserve = [name for name in champions if server_of(name) == "torchserve"]
on_tfserving = [name for name in champions if server_of(name) == "tfserving"]

# %% [markdown]
# ## Digits to ask for
# With every version lies its *golden set*: a few dozen images of the test set, and what the trainer itself answered to them before
# anything was exported. A served model must give the same answers. Here is one image of each class that is among them.

# %%
versions = {name: Release(settings, name).fetch(known.version) for name, known in champions.items()}
golden = {name: load_file(version.directory / "golden.safetensors") for name, version in versions.items()}
some = next(iter(golden.values()))
chosen = [int(np.flatnonzero(some["label"] == label)[0]) for label in np.unique(some["label"])]
images = some["image"][chosen]

figure, grid = plt.subplots(1, len(images), figsize=(10, 1.4))
for axes, image, label in zip(grid, images, some["label"][chosen], strict=True):
    axes.imshow(image[:, :, 0], cmap="gray_r")
    axes.set_title(f"{label}")
    axes.set_axis_off()
display(figure)
plt.close(figure)

# %% [markdown]
# ## TorchServe over REST
# It takes a picture and answers in JSON. Each request carries a token, which TorchServe keeps in a file for its owner alone,
# `serving/torchserve/key_file.json` in the platform's home; this client reads it there, and has it renewed when it has expired.

# %%
token = TorchServe(settings).tokens.get("inference")
pictures = []
for image in images:
    picture = io.BytesIO()
    Image.fromarray(image[:, :, 0].astype(np.uint8)).save(picture, "PNG")
    pictures.append(picture.getvalue())

answers = {}  # probabilities of each image, by model and protocol
http = httpx.Client(headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60)
for name in on_torchserve:
    replies = [http.post(f"{torchserve.address}/predictions/{name}", content=picture) for picture in pictures]
    answers[name, "REST"] = [reply.raise_for_status().json()["probabilities"] for reply in replies]

print(json.dumps({name: value for name, value in replies[0].json().items() if name != "logits"}, indent=1))

# %% [markdown]
# ## TorchServe over gRPC
# The same picture in a message, the same JSON in the answer.

# %%
with grpc.insecure_channel(torchserve.grpc, [("grpc.enable_http_proxy", 0)]) as channel:
    ask = predictions(channel)
    for name in on_torchserve:
        messages = [PredictionsRequest(model_name=name, input={"data": picture}) for picture in pictures]
        replies = [ask(message, metadata=[("authorization", f"Bearer {token}")], timeout=60) for message in messages]
        answers[name, "gRPC"] = [json.loads(reply.prediction)["probabilities"] for reply in replies]

print(f"a message of {messages[0].ByteSize()} bytes, an answer of {replies[0].ByteSize()}")

# %% [markdown]
# ## TensorFlow Serving over REST
# Pixels as nested lists in JSON, any number of images a request. It asks for no token.

# %%
for name in on_tfserving:
    reply = httpx.post(f"{tfserving.address}/v1/models/{name}:predict", json={"instances": images.tolist()}, trust_env=False, timeout=60)
    rows = reply.raise_for_status().json()["predictions"]
    answers[name, "REST"] = [row["probabilities"] for row in rows]

print(f"{len(reply.request.content):,} bytes of JSON for {len(images)} images, {len(reply.content):,} bytes for their predictions")

# %% [markdown]
# ## TensorFlow Serving over gRPC
# The pixels as bytes of float32, so that nothing has to be written as text.

# %%
with grpc.insecure_channel(tfserving.grpc, [("grpc.enable_http_proxy", 0)]) as channel:
    for name in on_tfserving:
        request = PredictRequest(model_spec=ModelSpec(name=name), inputs={"image": to_tensor(images)})
        response = PredictionServiceStub(channel).Predict(request, timeout=60)
        answers[name, "gRPC"] = from_tensor(response.outputs["probabilities"])

print(f"{request.ByteSize():,} bytes for {len(images)} images, {response.ByteSize():,} bytes for their predictions")

# %% [markdown]
# ## What they say
# Below each digit the probabilities that every model gave it over every protocol. Bars that stand alone on the digit's own number are a
# model that is sure; bars on several numbers one that is not. A title in red would be a wrong answer.

# %%
figure, grid = plt.subplots(2, len(images), figsize=(12, 3), height_ratios=(1, 1.6), layout="constrained", sharey="row")
for index, (top, bottom) in enumerate(grid.T):
    label = some["label"][chosen[index]]
    found = {int(np.argmax(probabilities[index])) for probabilities in answers.values()}
    top.imshow(images[index, :, :, 0], cmap="gray_r")
    top.set_title("/".join(map(str, sorted(found))), color="black" if found == {label} else "red")
    top.set_axis_off()
    for number, ((model, protocol), probabilities) in enumerate(sorted(answers.items())):
        colour = lenet5.framework(model.removeprefix("lenet5-")).colour
        places = np.arange(10) + 0.13 * (number - 2.5)
        label = f"{model.removeprefix('lenet5-')} {protocol}"
        bottom.bar(places, probabilities[index], 0.13, color=(colour, 1 if protocol == "REST" else 0.4), label=label)
    bottom.set_xticks(range(10), range(10), fontsize=7)
grid[1, 0].set_ylabel("probability")
figure.legend(*grid[1, 0].get_legend_handles_labels(), ncols=6, loc="outside lower center")
display(figure)
plt.close(figure)

labels = {asked: np.argmax(probabilities, axis=1) for asked, probabilities in answers.items()}
right = {asked: int((found == golden[asked[0]]["label"][chosen]).sum()) for asked, found in labels.items()}
print_table(["model", "protocol", "as the trainer said"], [[*asked, f"{count} of {len(images)}"] for asked, count in sorted(right.items())])

# %% [markdown]
# ## ApacheBench, as people know it
# `ab` sends one request again and again, here from ten clients that keep their connections. Read `Failed requests` and
# `Non-2xx responses` before `Requests per second`: an error is answered fast too. What `ab` cannot see is an error with status 200, or a
# wrong label; that is why the benchmark below looks into the answers.

# %%
folder = tempfile.mkdtemp()
png, rows = Path(folder, "digit.png"), Path(folder, "digit.json")
png.write_bytes(pictures[0])
rows.write_text(json.dumps({"instances": images[:1].tolist()}))
bearer = f"Authorization: Bearer {token}"
torchserve_url = f"{torchserve.address}/predictions/{on_torchserve[0]}"
tfserving_url = f"{tfserving.address}/v1/models/{on_tfserving[0]}:predict"

# %%
# !ab -q -l -k -c 10 -n {requests} -p {png} -T image/png -H "{bearer}" {torchserve_url}

# %%
# !ab -q -l -k -c 10 -n {requests} -p {rows} -T application/json {tfserving_url}

# %% [markdown]
# ## The benchmark
# `windtunnel bench` measures every champion over both protocols, in rounds, so that a machine that slows down slows all of them. It
# compares the label in the answers with the trainer's: a single wrong one, and there is a sentence instead of a figure. Beside each figure
# it measures the *ceiling*, what the same file computes in a process of its own, and the *baseline*, what the same server answers without a
# model. It is the command that people type; `--json` makes it a result to draw from.

# %%
flags = ["--rounds", str(rounds), "--seconds", str(seconds), "--concurrency", ",".join(map(str, concurrency))]
flags += ["--batch", ",".join(map(str, batch))]
done = subprocess.run(["windtunnel", "bench", *champions, *flags, "--json"], capture_output=True, text=True)
if done.returncode:
    print(done.stderr.splitlines()[-1])
benchmark = Benchmark.model_validate_json(done.stdout)

machine = benchmark.machine
print(f"{machine['cpu']}, {machine['cores']} cores, {machine['load_before']:.0f} % busy before; {rounds} rounds of {seconds:g} s each")
for row in benchmark.rows:
    if row.invalid:
        print(f"no figure for {row.model} over {row.protocol}: {row.invalid}")

# %%
header = ["model", "protocol", "clients", "images a request", "requests/s", "p50, ms", "p99, ms", "of ceiling", "of baseline"]
print_table(
    header,
    [
        [
            *(row.model, row.protocol, str(row.concurrency), str(row.batch), f"{row.rate:,.0f}"),
            *(f"{1000 * np.median(values):.1f}" for values in (row.p50, row.p99)),
            *("" if share is None else f"{share:.0%}" for share in (row.share_of_limit, row.share_of_floor)),
        ]
        for row in benchmark.closed()
        if not row.invalid
    ],
)

# %%
for plot in serving_plots(benchmark):
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    plot.draw(axes)
    display(Markdown(f"### {plot.title}\n{plot.caption}"), figure)
    plt.close(figure)

# %% [markdown]
# ## How they were trained
# The newest run that MLflow holds of each framework: the curves of its epochs. All start from the same weights and see the same images
# in the same order, so their curves should lie on each other; what differs is the time.

# %%
experiment = mlflow.get_experiment_by_name("lenet5")
curves = {}
for framework in lenet5.framework_names:
    filter_string = f"params.framework = '{framework}' and attributes.status = 'FINISHED'"
    newest = mlflow.search_runs([experiment.experiment_id], filter_string, max_results=1)
    history = {name: mlflow.get_metric_history(run.info.run_id, name) for run in newest for name in ("accuracy", "loss", "seconds")}
    if history:
        epochs = zip(*(sorted(each, key=lambda metric: metric.step) for each in history.values()), strict=True)
        curves[framework] = [{"epoch": each[0].step, **{metric.key: metric.value for metric in each}} for each in epochs]

for plot in training_plots(lenet5, curves):
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    plot.draw(axes)
    display(Markdown(f"### {plot.title}\n{plot.caption}"), figure)
    plt.close(figure)
