"""What is held against suggestions before anything is trained with them: first their form, then what the champion and their senders say."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from serving.speech.evidence import STRANGER, believed, reliability
from serving.speech.journal import Journal, Suggestion
from serving.speech.model import BATCH, Recognizer
from serving.speech.silence import SHORTEST, is_silence
from windtunnel.clips import CLIP_SAMPLES, SAMPLE_RATE, as_clip
from windtunnel.wav import read_wav

REMEMBERED = 50
"""Of what a sender suggested before, the newest so many tell how often they are right.

No more: the champion has been trained with some of them, and hears those as it was told to. What a sender gains by it is bounded so.
"""


def read(suggestions: Sequence[Suggestion]) -> tuple[np.ndarray, list[int]]:
    """Their clips, int16 (N,16000), zeros after what is shorter, and how many samples each has: none where it was taken back meanwhile."""
    clips, lengths = np.zeros((len(suggestions), CLIP_SAMPLES), np.int16), [0] * len(suggestions)
    for row, each in enumerate(suggestions):
        with suppress(FileNotFoundError):
            samples = read_wav(each.file.read_bytes())
            lengths[row] = len(samples)
            clips[row, : len(samples)] = samples
    return clips, lengths


def check(suggestions: Sequence[Suggestion], clips: np.ndarray, lengths: Sequence[int], words: Sequence[str]) -> dict[int, str]:
    """The reasons of those suggestions that nobody could train with, by id.

    Args:
        suggestions: those that wait.
        clips, lengths: theirs, as `read` gives them.
        words: the vocabulary.
    """
    reasons: dict[int, str] = {}
    said = defaultdict(set)
    for each, clip, length in zip(suggestions, clips, lengths, strict=True):
        if not length:
            reasons[each.id] = "taken back meanwhile"
            continue
        said[each.digest].add(each.word)
        if each.word not in words:
            reasons[each.id] = f'"{each.word}" is no word of this server, which has {", ".join(words)}'
        elif length < SHORTEST:
            reasons[each.id] = f"too short: {length / SAMPLE_RATE:.2f} s, a word takes {SHORTEST / SAMPLE_RATE:g} s at least"
        elif is_silence(as_clip(clip[:length])):
            reasons[each.id] = "silence"
    for each in suggestions:
        if len(said[each.digest]) > 1:
            reasons.setdefault(each.id, f"the same clip was suggested as {' and '.join(sorted(said[each.digest]))}")
    return reasons


def record(journal: Journal, suggestions: Sequence[Suggestion]) -> list[Suggestion]:
    """What the senders of suggestions suggested before, trained with or rejected, as far as its WAV is there: the newest of each."""
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
    """The reasons of those suggestions whose label is not believed, by id; the champion is asked of each, and of their senders' record.

    Args:
        suggestions: those that wait.
        clips, lengths: theirs, as `read` gives them.
        before: their senders' earlier ones.
        champion: the version users get.
    """
    before = [each for each in before if each.word in champion.words]
    earlier, earlier_lengths = read(before)
    heard = np.concatenate([hear(champion, clips, lengths), hear(champion, earlier, earlier_lengths)])
    own = np.array([_own(champion, row, each) for row, each in zip(heard, (*suggestions, *before), strict=True)])
    # what was taken back meanwhile says nothing of its sender, nor does a word that is not of this vocabulary
    senders = [
        each.peer if length and each.word in champion.words else ""
        for each, length in zip((*suggestions, *before), (*lengths, *earlier_lengths), strict=True)
    ]
    shares = reliability(own, senders)
    refused = np.flatnonzero(~believed(own, shares)[: len(suggestions)]).tolist()
    return {suggestions[row].id: reason(champion, heard[row], suggestions[row], shares[row]) for row in refused}


def _own(champion: Recognizer, heard: np.ndarray, suggestion: Suggestion) -> float:
    """The probability that a version gives the suggested word, of those of each word, (K)."""
    return float(heard[champion.words.index(suggestion.word)]) if suggestion.word in champion.words else 0.0


def hear(recognizer: Recognizer, clips: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """The probability of each word, float32 (N,K), in clips as `read` gives them; 0 for all where nothing can be heard."""
    heard = np.zeros((len(clips), len(recognizer.words)), np.float32)
    audio = [as_clip(clip) for clip in clips]
    audible = [row for row, clip in enumerate(audio) if lengths[row] >= SHORTEST and not is_silence(clip)]
    for start in range(0, len(audible), BATCH):
        rows = audible[start : start + BATCH]
        heard[rows] = recognizer(np.stack([audio[row] for row in rows]))[1]
    return heard


def reason(champion: Recognizer, heard: np.ndarray, suggestion: Suggestion, share: float) -> str:
    """Why a label is not believed.

    Args:
        champion: the version users get.
        heard: the probability that it gives each word, (K).
        suggestion: the suggestion.
        share: in how many of their suggestions its sender is right, 0..1.
    """
    own, best = _own(champion, heard, suggestion), int(heard.argmax())
    if heard[best] < champion.reject_below:
        why = f'no command to version {champion.number} (probability {own:.2f} of "{suggestion.word}")'
    else:
        why = f"version {champion.number} hears {champion.words[best]} with probability {heard[best]:.2f}"
    if believed(np.array(own), STRANGER):
        why += f", and of what {suggestion.peer} suggests {share:.0%} is right"
    return why
