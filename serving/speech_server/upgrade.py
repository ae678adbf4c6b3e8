"""Take over the configuration of the first speech server, unchanged, and log a line for each key about how it is used.

The first server kept a TensorFlow model, an unpacked data set, and suggestions as `WORD/UUID.wav`. These files are not changed or removed.
"""

import logging
from pathlib import Path

from serving.speech_server.feedback.journal import Journal, QuotaError, content_digest
from serving.speech_server.ini_file import CONCURRENT, Config
from windtunnel.data.recordings import has_recordings
from windtunnel.data.wav import read_wav
from windtunnel.data.wav_archive import word_files
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import MANIFEST

_log = logging.getLogger(__name__)


def upgrade(config: Config, journal: Journal) -> Config:
    """Import the suggestions of the first server. Returns the configuration without a model of another kind.

    Raises:
        JournalError: the suggestions cannot be stored.
    """
    if config.max_concurrent_rpcs < CONCURRENT:
        _log.info("MaxConcurrentRPCs: %d calls run at a time, further calls wait", config.max_concurrent_rpcs)
    if config.infer_uploads is not None and config.keep_days is None:
        _log.info("InferUploadPath: inference audio is kept in %s and never removed, because KeepDays is not set", config.infer_uploads)
    if taken := _take_in(config.suggestions, journal):
        _log.info("TrainingUploadPath: %d suggestions in %s are imported; the files stay", taken, config.suggestions)
    if config.base_samples is not None:
        if has_recordings(config.base_samples):
            _log.info("BaseSamplesPath: models are trained with the recordings in %s", config.base_samples)
        else:
            _log.warning(
                "BaseSamplesPath: %s has no recordings. The server answers, but cannot train a model itself. Put a zip or folders of"
                " recordings there, or correct BaseSamplesPath, and start the server again",
                config.base_samples,
            )
    if any(config.models.glob("*/saved_model.pb")):
        _log.info("NewModelsPath: the TensorFlow models in %s are ignored", config.models)
    if config.model is None or (config.model / MANIFEST).exists():
        return config
    _log.warning(
        "ModelPath: %s is not a version of this server's model: found no %s in it. There is no model until a version is published; the"
        " first one is trained from new weights when %d suggestions wait",
        *(config.model, MANIFEST, config.samples_before_train),
    )
    return config.model_copy(update={"model": None})


def _take_in(folder: Path, journal: Journal) -> int:
    """Store the WAVs in folders of words that were never in the journal, whatever their state; returns how many."""
    files = word_files(folder)
    known = {(each.digest, each.word) for each in journal.list()} if files else set()
    taken = 0
    for word, file in files:
        try:
            pcm = read_wav(file.read_bytes(), str(file))
        except (WindtunnelError, OSError) as error:
            _log.warning("TrainingUploadPath: %s is skipped: %s", file, error)
            continue
        if (content_digest(pcm), word) in known:
            continue
        try:
            journal.add(word, pcm, peer="")
        except QuotaError as error:
            _log.warning("TrainingUploadPath: %s and the following files are left for a later start: %s", file, error)
            return taken
        taken += 1
    return taken
