"""Write TensorBoard event files without TensorFlow: scalars, pictures, graphs and hyperparameters."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb, hparams_pb
from tensorboard.plugins.image.metadata import create_summary_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_tensor_proto

from windtunnel.platform.tensorboard import leave_tensorflow_out

OUTCOMES = {
    "final/seconds": "training time, s",
    "final/rest_requests_per_second": "REST, requests/s",
    "final/grpc_requests_per_second": "gRPC, requests/s",
}
"""The scalars that TensorBoard's table of hyperparameters shows as metrics beside the model's own metric, with their headings."""


class EventLog:
    """An event file in a directory. TensorBoard shows the directory as a run."""

    def __init__(self, directory: Path) -> None:
        leave_tensorflow_out()
        self._writer = EventFileWriter(str(directory))

    def add_scalar(self, tag: str, value: float, step: int, wall_time: float | None = None) -> None:
        """Add a point of a curve; `wall_time` in seconds since 1970, now if it is None."""
        self._add(scalar_pb(tag, value), step, wall_time)

    def add_picture(self, tag: str, png: bytes, width: int, height: int) -> None:
        """Add a picture, encoded as PNG."""
        # https://github.com/tensorflow/tensorboard/blob/master/tensorboard/plugins/image/summary_v2.py
        tensor = make_tensor_proto(np.array([str(width).encode(), str(height).encode(), png], dtype=object))
        metadata = create_summary_metadata(display_name=None, description="")
        self._add(Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)]))

    def add_graph(self, graph: GraphDef) -> None:
        """Add the graph of the run's model. TensorBoard shows one graph per run."""
        self._writer.add_event(Event(graph_def=graph.SerializeToString()))

    def add_hyperparameters(self, values: Mapping[str, bool | float | str], row: str, metric: str) -> None:
        """Add a row with a unique name to the table of hyperparameters.

        Its metrics are the run's scalars in `OUTCOMES` and `final/METRIC`, the value of the model's `metric`.
        """
        outcomes = {f"final/{metric}": f"test {metric}", **OUTCOMES}
        metrics = [Metric(tag, display_name=heading) for tag, heading in outcomes.items()]
        self._add(hparams_config_pb([HParam(name) for name in values], metrics))
        self._add(hparams_pb(dict(values), trial_id=row))

    def flush(self) -> None:
        """Write what has been added, so that TensorBoard shows it."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()

    def _add(self, summary: Summary, step: int = 0, wall_time: float | None = None) -> None:
        self._writer.add_event(Event(step=step, wall_time=time.time() if wall_time is None else wall_time, summary=summary))
