"""The gRPC services: DLServer for old clients, and the extended service Speech."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np
from google.protobuf.empty_pb2 import Empty

from serving.speech_server.access import Access, Context
from serving.speech_server.batching import Batcher, Heard
from serving.speech_server.feedback.journal import Suggestion
from serving.speech_server.feedback.suggestions import Suggestions
from serving.speech_server.feedback.uploads import Uploads
from serving.speech_server.labels import LABELS, shared
from serving.speech_server.model import BATCH, Recognizer
from serving.speech_server.models import Models
from serving.speech_server.protos import dlserver_pb2, dlserver_pb2_grpc, speech_pb2, speech_pb2_grpc
from serving.speech_server.silence import SHORTEST, SILENCE_DBFS, is_silence
from serving.speech_server.status import CallError, Code
from windtunnel.data.clips import CLIP_SAMPLES, SAMPLE_RATE, WORDS, as_clip, as_pcm, scale_of
from windtunnel.errors import WindtunnelError

LONGEST_SECONDS = 60
HOP_MILLISECONDS = range(50, 1001)
DEFAULT_HOP_MILLISECONDS = 500
SILENCE, UNKNOWN = "silence", "unknown word"
LISTED = 1000
NAMES = tuple(
    file.services_by_name[name].full_name for file, name in ((dlserver_pb2.DESCRIPTOR, "DLServer"), (speech_pb2.DESCRIPTOR, "Speech"))
)
STATES = ("received", "claimed", "trained", "rejected", "undone")


class Ear:
    """What both services use to recognise words."""

    def __init__(self, models: Models, batcher: Batcher, uploads: Uploads | None, reject_below: float | None) -> None:
        self.models, self.batcher, self.uploads = models, batcher, uploads
        self._reject_below = reject_below

    def recognizer(self, number: int = 0) -> Recognizer:
        """Return a loaded version; 0 is the champion.

        Raises:
            CallError: there is no champion, or the version is not loaded.
        """
        if number:
            if found := self.models.loaded.get(number):
                return found
            raise CallError(Code.NOT_FOUND, f"version {number} is not loaded: choose {_listed(self.models.loaded)}, or 0 for the champion")
        if self.models.champion is None:
            why = "".join(f"; version {number} was refused: {reason}" for number, reason in self.models.refused.items())
            raise CallError(Code.UNAVAILABLE, f"there is no model yet. Publish one, and try again{why}")
        return self.models.champion

    def reject_below(self, recognizer: Recognizer) -> float:
        """Return the probability below which a version's answers are rejected: the configured value, otherwise the version's own."""
        return recognizer.reject_below if self._reject_below is None else self._reject_below

    async def hear(self, recognizer: Recognizer, clip: np.ndarray, context: Context, keep: bool = True) -> Heard:
        """Return a version's answer for a clip in -1..1. With `keep`, the clip is kept if inference audio is."""
        remaining = context.time_remaining()
        deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining
        heard = await self.batcher.hear(recognizer, clip, deadline)
        if keep and self.uploads is not None:
            self.uploads.keep(clip, recognizer.words[heard.logits.argmax()])
        return heard


class DLServer(dlserver_pb2_grpc.DLServerServicer):
    """The protocol of the first speech server."""

    def __init__(self, ear: Ear, suggestions: Suggestions, access: Access) -> None:
        self._ear, self._suggestions, self._access = ear, suggestions, access

    async def Infer(self, request: dlserver_pb2.InferenceRequest, context: Context) -> dlserver_pb2.InferenceResponse:
        """Return the word of this protocol that a clip is most like, even for silence: the protocol has no other answer."""
        clip = _clip(np.array(request.audio_samples, np.float32))
        del request  # while waiting for the model, the call keeps its clip but not the message as well
        recognizer = self._ear.recognizer()
        known = shared(recognizer.words)
        if known is None:
            found = f"the model knows {', '.join(recognizer.words)}, none of which is a word of this protocol"
            raise CallError(Code.FAILED_PRECONDITION, f"{found}. Use windtunnel.speech.v1.Speech/Recognize")
        heard = await self._ear.hear(recognizer, clip, context)
        return dlserver_pb2.InferenceResponse(label=known.labels[heard.logits[known.places].argmax()])

    async def Train(self, request: dlserver_pb2.TrainingRequest, context: Context) -> Empty:
        """Store a suggestion."""
        if not 0 <= request.label < len(WORDS):
            raise CallError(
                Code.INVALID_ARGUMENT, f"unknown label: found {request.label}, expected 0 ({WORDS[0]}) to {len(WORDS) - 1} ({WORDS[-1]})"
            )
        word = WORDS[request.label]
        if word not in self._ear.models.words:
            found = f"{word} is not a word of this server: expected one of {', '.join(self._ear.models.words)}"
            raise CallError(Code.FAILED_PRECONDITION, f"{found}. Suggest those with windtunnel.speech.v1.Speech/Suggest")
        await self._suggestions.add(word, _recording(np.array(request.audio_samples, np.float32)), self._access.caller(context))
        return Empty()


class Speech(speech_pb2_grpc.SpeechServicer):
    """Scores, rejection, longer recordings, models and suggestions."""

    def __init__(self, ear: Ear, suggestions: Suggestions, access: Access) -> None:
        self._ear, self._suggestions, self._access = ear, suggestions, access

    async def Recognize(self, request: speech_pb2.RecognizeRequest, context: Context) -> speech_pb2.RecognizeResponse:
        """Return the word in a clip, if any."""
        clip = _clip(_samples(request))
        recognizer = self._ear.recognizer(request.model_version)
        limit = self._limit(request, recognizer)
        if is_silence(clip):
            return speech_pb2.RecognizeResponse(rejected=True, reason=SILENCE, model_version=recognizer.number)
        heard = await self._ear.hear(recognizer, clip, context)
        response = speech_pb2.RecognizeResponse(model_version=recognizer.number)
        for word, probability, logit in zip(recognizer.words, heard.probabilities.tolist(), heard.logits.tolist(), strict=True):
            response.scores.add(word=word, probability=probability, logit=logit)
        best = int(heard.probabilities.argmax())
        if heard.probabilities[best] < limit:
            response.rejected, response.reason = True, UNKNOWN
        else:
            response.word = recognizer.words[best]
            if (label := LABELS.get(response.word)) is not None:
                response.label = label
        return response

    async def RecognizeLong(self, request: speech_pb2.RecognizeLongRequest, context: Context) -> AsyncIterator[speech_pb2.Segment]:
        """Stream the words in a longer recording, a batch of windows at a time, so that other calls get their turn in between."""
        hop = request.hop_milliseconds or DEFAULT_HOP_MILLISECONDS
        if hop not in HOP_MILLISECONDS:
            allowed = f"{HOP_MILLISECONDS.start} to {HOP_MILLISECONDS.stop - 1}"
            raise CallError(Code.INVALID_ARGUMENT, f"hop_milliseconds is {hop}, expected {allowed}, or 0 for {DEFAULT_HOP_MILLISECONDS}")
        samples = _from_pcm(request.pcm)
        if not 1 <= len(samples) <= LONGEST_SECONDS * SAMPLE_RATE:
            raise CallError(
                Code.INVALID_ARGUMENT,
                f"wrong length of the recording: found {len(samples)} samples, expected 1 to {LONGEST_SECONDS * SAMPLE_RATE}. Cut it first",
            )
        recognizer = self._ear.recognizer(request.model_version)
        limit = self._limit(request, recognizer)
        step = hop * SAMPLE_RATE // 1000
        starts = range(0, max(1, len(samples) - CLIP_SAMPLES + step), step)  # the last window is the first one that reaches the end
        for place in range(0, len(starts), BATCH):
            clips = [(start, _clip(samples[start : start + CLIP_SAMPLES])) for start in starts[place : place + BATCH]]
            spoken = [(start, clip) for start, clip in clips if not is_silence(clip)]
            for (start, _), heard in zip(spoken, await self._hear_all(recognizer, [clip for _, clip in spoken], context), strict=True):
                best = int(heard.probabilities.argmax())
                if heard.probabilities[best] >= limit:
                    end = min(start + CLIP_SAMPLES, len(samples))
                    yield speech_pb2.Segment(
                        start_seconds=start / SAMPLE_RATE,
                        end_seconds=end / SAMPLE_RATE,
                        word=recognizer.words[best],
                        probability=heard.probabilities[best],
                    )

    async def ListLabels(self, request: speech_pb2.ListLabelsRequest, context: Context) -> speech_pb2.ListLabelsResponse:
        """Return the words in the order of the scores."""
        labels = [speech_pb2.LabelName(label=LABELS.get(word), word=word) for word in self._ear.models.words]
        return speech_pb2.ListLabelsResponse(labels=labels)

    async def GetModel(self, request: speech_pb2.GetModelRequest, context: Context) -> speech_pb2.GetModelResponse:
        """Return which versions answer, which were refused, and when the champion rejects a clip."""
        models = self._ear.models
        response = speech_pb2.GetModelResponse(loaded=sorted(models.loaded), refused=models.refused)
        if models.champion is not None:
            response.champion, response.reject_below = models.champion.number, self._ear.reject_below(models.champion)
            for point in models.champion.operating_points:
                response.operating_points.add(**point.model_dump())
        return response

    async def Suggest(self, request: speech_pb2.SuggestRequest, context: Context) -> speech_pb2.SuggestResponse:
        """Store a suggestion."""
        if request.word not in self._ear.models.words:
            raise CallError(Code.INVALID_ARGUMENT, f"unknown word: found {request.word!r}, expected {', '.join(self._ear.models.words)}")
        stored = await self._suggestions.add(request.word, _recording(_samples(request)), self._access.caller(context))
        return speech_pb2.SuggestResponse(suggestion=_suggestion(stored))

    async def ListSuggestions(self, request: speech_pb2.ListSuggestionsRequest, context: Context) -> speech_pb2.ListSuggestionsResponse:
        """Return the caller's suggestions, the newest `LISTED`."""
        if request.state and request.state not in STATES:
            raise CallError(Code.INVALID_ARGUMENT, f"unknown state: found {request.state!r}, expected {', '.join(STATES)}, or '' for all")
        found = await self._suggestions.list(self._access.caller(context), request.state or None)
        return speech_pb2.ListSuggestionsResponse(suggestions=map(_suggestion, found[-LISTED:]))

    async def UndoSuggestions(self, request: speech_pb2.UndoSuggestionsRequest, context: Context) -> speech_pb2.UndoSuggestionsResponse:
        """Undo suggestions of the caller."""
        if not request.ids:
            raise CallError(Code.INVALID_ARGUMENT, "ids is empty. Give the ids of the suggestions, as ListSuggestions returns them")
        undone = await self._suggestions.undo(request.ids, self._access.caller(context))
        return speech_pb2.UndoSuggestionsResponse(suggestions=map(_suggestion, undone))

    def _limit(self, request: speech_pb2.RecognizeRequest | speech_pb2.RecognizeLongRequest, recognizer: Recognizer) -> float:
        """Return the probability below which an answer to the request is rejected."""
        if not request.HasField("reject_below"):
            return self._ear.reject_below(recognizer)
        if not 0 <= request.reject_below <= 1:
            found = f"reject_below is not a probability: found {request.reject_below:g}"
            raise CallError(Code.INVALID_ARGUMENT, f"{found}, expected 0 to 1, or not set for the server's own value")
        return request.reject_below

    async def _hear_all(self, recognizer: Recognizer, clips: Sequence[np.ndarray], context: Context) -> list[Heard]:
        """Return the answers for all clips; if one fails, the others are cancelled."""
        tasks = [asyncio.ensure_future(self._ear.hear(recognizer, clip, context, keep=False)) for clip in clips]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _recording(samples: np.ndarray) -> np.ndarray:
    """Convert the samples of a suggestion, int16 or float32 (N) as they were sent, to int16 (N).

    Raises:
        CallError: the samples contain no word, or are ambiguous.
    """
    clip = _clip(samples)
    if len(samples) < SHORTEST:
        found = f"the clip is too short: found {len(samples)} samples, expected at least {SHORTEST}"
        raise CallError(Code.INVALID_ARGUMENT, f"{found}. Record the whole word")
    if not scale_of(samples).sure:
        found = f"its samples reach {np.abs(samples).max():g}, expected -1..1 or 16-bit integers"
        raise CallError(Code.INVALID_ARGUMENT, f"the scale of the clip is ambiguous: {found}. Send one of these, unfiltered")
    if is_silence(clip):
        raise CallError(
            Code.INVALID_ARGUMENT, f"the clip is silent: it is nowhere louder than {SILENCE_DBFS:g} dBFS. Record it again, closer or louder"
        )
    return as_pcm(clip[: len(samples)])


def _samples(request: speech_pb2.RecognizeRequest | speech_pb2.SuggestRequest) -> np.ndarray:
    """Return the samples of a request, int16 or float32 (N)."""
    if request.pcm and request.samples:
        raise CallError(Code.INVALID_ARGUMENT, "the request has both pcm and samples. Send only one of them")
    return _from_pcm(request.pcm) if request.pcm else np.array(request.samples, np.float32)


def _clip(samples: np.ndarray) -> np.ndarray:
    try:
        return as_clip(samples)
    except WindtunnelError as error:
        raise CallError(Code.INVALID_ARGUMENT, str(error)) from error


def _from_pcm(pcm: bytes) -> np.ndarray:
    """Parse 16-bit little-endian samples to int16 (N)."""
    if len(pcm) % 2:
        raise CallError(Code.INVALID_ARGUMENT, f"pcm has an odd length: found {len(pcm)} bytes, expected two per sample")
    return np.frombuffer(pcm, "<i2")


def _suggestion(each: Suggestion) -> speech_pb2.Suggestion:
    return speech_pb2.Suggestion(
        id=each.id,
        label=LABELS.get(each.word),
        word=each.word,
        state=each.state,
        reason=each.reason or "",
        run=each.run or "",
        received=each.received,
    )


def _listed(numbers: "Sequence[int] | dict[int, Recognizer]") -> str:
    return ", ".join(map(str, sorted(numbers))) or "none"
