"""The design of the first speech server, for comparison: a pool of processes that call `model.predict` for each clip. Only for benchmarks.

python -m benchmarks.speech.process_pool HOST:PORT

The network is that of https://www.tensorflow.org/tutorials/audio/simple_audio. It is untrained, because its answers are ignored.
"""

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Annotated, Any

import grpc
import numpy as np
import typer

from serving.speech_server.protos import dlserver_pb2, dlserver_pb2_grpc
from windtunnel.data.clips import CLIP_SAMPLES, WORDS
from windtunnel.platform.child_processes import die_with_parent
from windtunnel.platform.program import run_program

_model: Any = None


def build() -> None:
    """Build the network in a process of the pool."""
    global _model
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras

    layers = keras.layers
    _model = keras.Sequential([
        keras.Input((124, 129, 1)),
        layers.Resizing(32, 32),
        layers.Normalization(mean=0.0, variance=1.0),
        *(layers.Conv2D(32, 3, activation="relu"), layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(), layers.Dropout(0.25)),
        *(layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dropout(0.5), layers.Dense(len(WORDS))),
    ])  # fmt: skip


def predict(samples: np.ndarray) -> int:
    """Return the label of a clip, float32 (16000)."""
    import tensorflow as tf

    spectrogram = tf.abs(tf.signal.stft(samples, frame_length=255, frame_step=128))
    return int(_model.predict(spectrogram[None, ..., None], verbose=0).argmax())


class Pool(dlserver_pb2_grpc.DLServerServicer):
    """Pass each clip to a process."""

    def __init__(self, processes: int) -> None:
        self._pool = ProcessPoolExecutor(processes, get_context("spawn"), build)
        list(self._pool.map(predict, [np.zeros(CLIP_SAMPLES, np.float32)] * 2 * processes))  # the first takes seconds

    def Infer(self, request: dlserver_pb2.InferenceRequest, context: grpc.ServicerContext) -> dlserver_pb2.InferenceResponse:
        """Wait for a process and its answer."""
        label = self._pool.submit(predict, np.array(request.audio_samples, np.float32)).result()
        return dlserver_pb2.InferenceResponse(label=dlserver_pb2.Label.Name(label))


def main(endpoint: Annotated[str, typer.Argument(help="HOST:PORT")], processes: int = 2) -> None:
    """Answer Infer with a pool of processes."""
    die_with_parent()
    pool = Pool(processes)
    server = grpc.server(ThreadPoolExecutor(100))
    dlserver_pb2_grpc.add_DLServerServicer_to_server(pool, server)
    server.add_insecure_port(endpoint)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    run_program(main)
