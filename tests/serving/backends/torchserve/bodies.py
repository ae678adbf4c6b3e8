"""Bodies of requests to TorchServe's handler."""

import io
import json
from typing import Any

import numpy as np


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()
