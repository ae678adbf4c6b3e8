"""What tests put into a journal, and find in its folder."""

from pathlib import Path

import numpy as np

from serving.speech_server.feedback.journal import Limits

GENEROUS = Limits(per_peer_hour=10**6, disk_bytes=10**9, keep_days=30)


def clip(seed: int = 0, samples: int = 1600) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, samples).astype(np.int16)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if file.is_file()}
