"""The configuration of the first speech server, unchanged: what this one makes of it, said in a line for each key.

The first server kept a TensorFlow model, an unpacked data set, and suggestions as `WORD/UUID.wav`. Nothing of that is written or removed.
"""

import logging
from pathlib import Path

from serving.speech.config import CONCURRENT, Config
from serving.speech.journal import Journal, QuotaError, content_digest
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import MANIFEST
from windtunnel.wav import read_wav
from windtunnel.wav_archive import word_files

_log = logging.getLogger(__name__)


def upgrade(config: Config, journal: Journal) -> Config:
    """Take in the suggestions of the first server; returns the configuration without a model that is of another kind.

    Raises:
        JournalError: the suggestions cannot be stored.
    """
    if config.max_concurrent_rpcs < CONCURRENT:
        _log.info("MaxConcurrentRPCs: %d calls run at a time, and others wait for their turn", config.max_concurrent_rpcs)
    if config.infer_uploads is not None and config.keep_days is None:
        _log.info("InferUploadPath: what is heard is kept in %s; nothing is removed, for KeepDays is not set", config.infer_uploads)
    if taken := _take_in(config.suggestions, journal):
        _log.info("TrainingUploadPath: %d suggestions below %s are taken in; the files stay", taken, config.suggestions)
    if config.base_samples is not None:
        _log.info("BaseSamplesPath: models are trained with the recordings in %s", config.base_samples)
    if any(config.models.glob("*/saved_model.pb")):
        _log.info("NewModelsPath: the TensorFlow models in %s are left alone", config.models)
    if config.model is None or (config.model / MANIFEST).exists():
        return config
    _log.warning(
        "ModelPath: %s is no version of this server's model: found no %s in it. Until a version is published there is no model; the first"
        " is trained from new weights when %d suggestions wait",
        *(config.model, MANIFEST, config.samples_before_train),
    )
    return config.model_copy(update={"model": None})


def _take_in(folder: Path, journal: Journal) -> int:
    """Store the WAVs in folders of words that the journal has never had, whatever became of them; returns how many."""
    files = word_files(folder)
    known = {(each.digest, each.word) for each in journal.list()} if files else set()
    taken = 0
    for word, file in files:
        try:
            pcm = read_wav(file.read_bytes(), str(file))
        except (WindtunnelError, OSError) as error:
            _log.warning("TrainingUploadPath: %s is left out: %s", file, error)
            continue
        if (content_digest(pcm), word) in known:
            continue
        try:
            journal.add(word, pcm, peer="")
        except QuotaError as error:
            _log.warning("TrainingUploadPath: %s and what follows are left for a later start: %s", file, error)
            return taken
        taken += 1
    return taken
