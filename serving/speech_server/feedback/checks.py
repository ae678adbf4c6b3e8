"""The checks of suggestions before training: first their form, then whether the champion and the sender's record support the label."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from serving.speech_server.feedback.evidence import STRANGER, believed, reliability
from serving.speech_server.feedback.journal import Journal, Suggestion
from serving.speech_server.model import BATCH, Recognizer
from serving.speech_server.silence import SHORTEST, is_silence
from windtunnel.data.clips import CLIP_SAMPLES, SAMPLE_RATE, as_clip
from windtunnel.data.wav import read_wav

REMEMBERED = 50
"""The number of a sender's latest suggestions that determine their record.

It is limited because the champion was trained with some of them and now recognises those as suggested; the limit bounds what a sender can
gain from that.
"""


def read(suggestions: Sequence[Suggestion]) -> tuple[np.ndarray, list[int]]:
    """Return the clips, int16 (N,16000), padded with zeros, and each clip's number of samples: 0 if it has been undone in the meantime."""
    clips, lengths = np.zeros((len(suggestions), CLIP_SAMPLES), np.int16), [0] * len(suggestions)
    for row, each in enumerate(suggestions):
        with suppress(FileNotFoundError):
            samples = read_wav(each.file.read_bytes())
            lengths[row] = len(samples)
            clips[row, : len(samples)] = samples
    return clips, lengths


def check(suggestions: Sequence[Suggestion], clips: np.ndarray, lengths: Sequence[int], words: Sequence[str]) -> dict[int, str]:
    """Return the reasons why suggestions cannot be used for training, by id.

    Args:
        suggestions: the suggestions that wait.
        clips, lengths: their audio, as `read` returns it.
        words: the vocabulary.
    """
    reasons: dict[int, str] = {}
    said = defaultdict(set)
    for each, clip, length in zip(suggestions, clips, lengths, strict=True):
        if not length:
            reasons[each.id] = "undone in the meantime"
            continue
        said[each.digest].add(each.word)
        if each.word not in words:
            reasons[each.id] = f'"{each.word}" is not a word of this server: expected one of {", ".join(words)}'
        elif length < SHORTEST:
            reasons[each.id] = f"too short: found {length / SAMPLE_RATE:.2f} s, expected at least {SHORTEST / SAMPLE_RATE:g} s"
        elif is_silence(as_clip(clip[:length])):
            reasons[each.id] = "silence"
    for each in suggestions:
        if len(said[each.digest]) > 1:
            reasons.setdefault(each.id, f"the same clip was suggested as {' and '.join(sorted(said[each.digest]))}")
    return reasons


def record(journal: Journal, suggestions: Sequence[Suggestion]) -> list[Suggestion]:
    """Return earlier suggestions of the same senders, trained or rejected, whose WAV exists: the latest of each sender."""
    senders = {each.peer for each in suggestions} - {""}
    settled = [each for state in ("trained", "rejected") for each in journal.list(state=state) if each.peer in senders]
    found: dict[str, list[Suggestion]] = defaultdict(list)
    for each in sorted(settled, key=lambda each: -each.id):
        if len(found[each.peer]) < REMEMBERED and each.file.exists():
            found[each.peer].append(each)
    return [each for peer in found.values() for each in peer]


def doubts(
    suggestions: Sequence[Suggestion], clips: np.ndarray, lengths: Sequence[int], before: Sequence[Suggestion], champion: Recognizer
) -> dict[int, str]:
    """Return the reasons why labels are not believed, by id of the suggestion.

    Each label is judged by the champion's probability and the sender's record.

    Args:
        suggestions: the suggestions that wait.
        clips, lengths: their audio, as `read` returns it.
        before: their senders' earlier suggestions.
        champion: the version that users get.
    """
    before = [each for each in before if each.word in champion.words]
    earlier, earlier_lengths = read(before)
    heard = np.concatenate([hear(champion, clips, lengths), hear(champion, earlier, earlier_lengths)])
    own = np.array([_own(champion, row, each) for row, each in zip(heard, (*suggestions, *before), strict=True)])
    # suggestions undone in the meantime, or of words outside this vocabulary, are not part of a sender's record
    senders = [
        each.peer if length and each.word in champion.words else ""
        for each, length in zip((*suggestions, *before), (*lengths, *earlier_lengths), strict=True)
    ]
    shares = reliability(own, senders)
    refused = np.flatnonzero(~believed(own, shares)[: len(suggestions)]).tolist()
    return {suggestions[row].id: reason(champion, heard[row], suggestions[row], shares[row]) for row in refused}


def _own(champion: Recognizer, heard: np.ndarray, suggestion: Suggestion) -> float:
    """Return the probability of the suggested word, from the probabilities of all words, (K)."""
    return float(heard[champion.words.index(suggestion.word)]) if suggestion.word in champion.words else 0.0


def hear(recognizer: Recognizer, clips: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """Return the probability of each word, float32 (N,K), in clips as `read` returns them; 0 for all words if a clip is silent."""
    heard = np.zeros((len(clips), len(recognizer.words)), np.float32)
    audio = [as_clip(clip) for clip in clips]
    audible = [row for row, clip in enumerate(audio) if lengths[row] >= SHORTEST and not is_silence(clip)]
    for start in range(0, len(audible), BATCH):
        rows = audible[start : start + BATCH]
        heard[rows] = recognizer(np.stack([audio[row] for row in rows]))[1]
    return heard


def reason(champion: Recognizer, heard: np.ndarray, suggestion: Suggestion, share: float) -> str:
    """Explain why a label is not believed.

    Args:
        champion: the version that users get.
        heard: its probability for each word, (K).
        suggestion: the suggestion.
        share: the share of right labels in the sender's suggestions, 0..1.
    """
    own, best = _own(champion, heard, suggestion), int(heard.argmax())
    if heard[best] < champion.reject_below:
        why = f'version {champion.number} hears no command (probability {own:.2f} of "{suggestion.word}")'
    else:
        why = f"version {champion.number} hears {champion.words[best]} with probability {heard[best]:.2f}"
    if believed(np.array(own), STRANGER):
        why += f", and {share:.0%} of the suggestions of {suggestion.peer} are right"
    return why
