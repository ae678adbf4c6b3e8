"""The gRPC services: DLServer, which old clients speak, and Speech, the richer one beside it."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import grpc
import numpy as np
from google.protobuf.empty_pb2 import Empty

from serving.speech.batching import Batcher, Heard
from serving.speech.calls import CallError, Calls, Code, Context, handler, streaming, unary
from serving.speech.journal import Suggestion
from serving.speech.labels import LABELS, shared
from serving.speech.model import BATCH, Recognizer
from serving.speech.models import Models
from serving.speech.protos import dlserver_pb2, dlserver_pb2_grpc, speech_pb2, speech_pb2_grpc
from serving.speech.silence import SHORTEST, SILENCE_DBFS, is_silence
from serving.speech.suggestions import Suggestions
from serving.speech.uploads import Uploads
from windtunnel.clips import CLIP_SAMPLES, SAMPLE_RATE, WORDS, as_clip, as_pcm, scale_of
from windtunnel.errors import WindtunnelError

LONGEST_SECONDS = 60
HOP_MILLISECONDS = range(50, 1001)
DEFAULT_HOP_MILLISECONDS = 500
SILENCE, UNKNOWN = "silence", "unknown word"
LISTED = 1000
STATES = ("received", "claimed", "trained", "rejected", "undone")


class Ear:
    """What both services hear with."""

    def __init__(self, models: Models, batcher: Batcher, uploads: Uploads | None, reject_below: float | None) -> None:
        self.models, self.batcher, self.uploads = models, batcher, uploads
        self._reject_below = reject_below

    def recognizer(self, number: int = 0) -> Recognizer:
        """A loaded version, the champion with 0.

        Raises:
            CallError: there is none, or not this one.
        """
        if number:
            if found := self.models.loaded.get(number):
                return found
            raise CallError(Code.NOT_FOUND, f"version {number} is not loaded: choose {_listed(self.models.loaded)}, or 0, the champion")
        if self.models.champion is None:
            why = "".join(f"; version {number} was refused: {reason}" for number, reason in self.models.refused.items())
            raise CallError(Code.UNAVAILABLE, f"there is no model yet: publish one, and ask again{why}")
        return self.models.champion

    def reject_below(self, recognizer: Recognizer) -> float:
        """Below which probability a version's answers are rejected: the configuration's word, or else the version's own."""
        return recognizer.reject_below if self._reject_below is None else self._reject_below

    async def hear(self, recognizer: Recognizer, clip: np.ndarray, context: Context, keep: bool = True) -> Heard:
        """What a version hears in a clip in -1..1, which is kept if inference audio is, and `keep`."""
        remaining = context.time_remaining()
        deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining
        heard = await self.batcher.hear(recognizer, clip, deadline)
        if keep and self.uploads is not None:
            self.uploads.keep(clip, recognizer.words[heard.logits.argmax()])
        return heard


class DLServer(dlserver_pb2_grpc.DLServerServicer):
    """The protocol of the first speech server."""

    def __init__(self, calls: Calls, ear: Ear, suggestions: Suggestions) -> None:
        self.calls, self._ear, self._suggestions = calls, ear, suggestions

    @unary
    async def Infer(self, clip: np.ndarray, context: Context) -> dlserver_pb2.InferenceResponse:
        """The word of this protocol that a clip is most like, silence too: it has no other answer."""
        recognizer = self._ear.recognizer()
        known = shared(recognizer.words)
        if known is None:
            found = f"the model knows {', '.join(recognizer.words)}, and no word of this protocol"
            raise CallError(Code.FAILED_PRECONDITION, f"{found}: ask windtunnel.speech.v1.Speech/Recognize")
        heard = await self._ear.hear(recognizer, clip, context)
        return dlserver_pb2.InferenceResponse(label=known.labels[heard.logits[known.places].argmax()])

    @unary
    async def Train(self, request: dlserver_pb2.TrainingRequest, context: Context) -> Empty:
        """Store a suggestion."""
        if not 0 <= request.label < len(WORDS):
            raise CallError(
                Code.INVALID_ARGUMENT, f"label {request.label} is unknown: send 0, {WORDS[0]}, to {len(WORDS) - 1}, {WORDS[-1]}"
            )
        word = WORDS[request.label]
        if word not in self._ear.models.words:
            found = f"{word} is no word of this server, which has {', '.join(self._ear.models.words)}"
            raise CallError(Code.FAILED_PRECONDITION, f"{found}: suggest those by windtunnel.speech.v1.Speech/Suggest")
        await _store(self.calls, self._suggestions, word, np.array(request.audio_samples, np.float32), context)
        return Empty()


class Speech(speech_pb2_grpc.SpeechServicer):
    """Scores, rejection, longer recordings, models and suggestions."""

    def __init__(self, calls: Calls, ear: Ear, suggestions: Suggestions) -> None:
        self.calls, self._ear, self._suggestions = calls, ear, suggestions

    @unary
    async def Recognize(self, request: speech_pb2.RecognizeRequest, context: Context) -> speech_pb2.RecognizeResponse:
        """What word a clip holds, if any."""
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

    @streaming
    async def RecognizeLong(self, request: speech_pb2.RecognizeLongRequest, context: Context) -> AsyncIterator[speech_pb2.Segment]:
        """The words in a longer recording, window after window, a batch of them at a time: others have their turn between."""
        hop = request.hop_milliseconds or DEFAULT_HOP_MILLISECONDS
        if hop not in HOP_MILLISECONDS:
            allowed = f"{HOP_MILLISECONDS.start} to {HOP_MILLISECONDS.stop - 1}"
            raise CallError(Code.INVALID_ARGUMENT, f"hop_milliseconds is {hop}: send {allowed}, or 0 for {DEFAULT_HOP_MILLISECONDS}")
        samples = _from_pcm(request.pcm)
        if not 1 <= len(samples) <= LONGEST_SECONDS * SAMPLE_RATE:
            raise CallError(
                Code.INVALID_ARGUMENT, f"a recording has 1 to {LONGEST_SECONDS * SAMPLE_RATE} samples; found {len(samples)}: cut it first"
            )
        recognizer = self._ear.recognizer(request.model_version)
        limit = self._limit(request, recognizer)
        step = hop * SAMPLE_RATE // 1000
        starts = range(0, max(1, len(samples) - CLIP_SAMPLES + step), step)  # the last window is the first that reaches the end
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

    @unary
    async def ListLabels(self, request: speech_pb2.ListLabelsRequest, context: Context) -> speech_pb2.ListLabelsResponse:
        """The words, in the order of the scores."""
        labels = [speech_pb2.LabelName(label=LABELS.get(word), word=word) for word in self._ear.models.words]
        return speech_pb2.ListLabelsResponse(labels=labels)

    @unary
    async def GetModel(self, request: speech_pb2.GetModelRequest, context: Context) -> speech_pb2.GetModelResponse:
        """Which versions answer, which were refused, and when the champion rejects."""
        models = self._ear.models
        response = speech_pb2.GetModelResponse(loaded=sorted(models.loaded), refused=models.refused)
        if models.champion is not None:
            response.champion, response.reject_below = models.champion.number, self._ear.reject_below(models.champion)
            for point in models.champion.operating_points:
                response.operating_points.add(**point.model_dump())
        return response

    @unary
    async def Suggest(self, request: speech_pb2.SuggestRequest, context: Context) -> speech_pb2.SuggestResponse:
        """Store a suggestion."""
        if request.word not in self._ear.models.words:
            raise CallError(Code.INVALID_ARGUMENT, f"word {request.word!r} is unknown: send one of {', '.join(self._ear.models.words)}")
        stored = await _store(self.calls, self._suggestions, request.word, _samples(request), context)
        return speech_pb2.SuggestResponse(suggestion=_suggestion(stored))

    @unary
    async def ListSuggestions(self, request: speech_pb2.ListSuggestionsRequest, context: Context) -> speech_pb2.ListSuggestionsResponse:
        """The caller's suggestions, the newest `LISTED`."""
        if request.state and request.state not in STATES:
            raise CallError(Code.INVALID_ARGUMENT, f"state {request.state!r} is unknown: send {', '.join(STATES)}, or nothing for all")
        found = await self._suggestions.list(self.calls.peer(context), request.state or None)
        return speech_pb2.ListSuggestionsResponse(suggestions=map(_suggestion, found[-LISTED:]))

    @unary
    async def UndoSuggestions(self, request: speech_pb2.UndoSuggestionsRequest, context: Context) -> speech_pb2.UndoSuggestionsResponse:
        """Take suggestions of the caller's back."""
        if not request.ids:
            raise CallError(Code.INVALID_ARGUMENT, "ids is empty: name the suggestions to take back, as ListSuggestions numbers them")
        undone = await self._suggestions.undo(request.ids, self.calls.peer(context))
        return speech_pb2.UndoSuggestionsResponse(suggestions=map(_suggestion, undone))

    def _limit(self, request: speech_pb2.RecognizeRequest | speech_pb2.RecognizeLongRequest, recognizer: Recognizer) -> float:
        """The probability below which an answer to the request is rejected."""
        if not request.HasField("reject_below"):
            return self._ear.reject_below(recognizer)
        if not 0 <= request.reject_below <= 1:
            found = f"reject_below is {request.reject_below:g}, which is no probability"
            raise CallError(Code.INVALID_ARGUMENT, f"{found}: send 0 to 1, or nothing for the server's own")
        return request.reject_below

    async def _hear_all(self, recognizer: Recognizer, clips: Sequence[np.ndarray], context: Context) -> list[Heard]:
        """What is heard in each clip; where one fails, nobody waits for the others."""
        tasks = [asyncio.ensure_future(self._ear.hear(recognizer, clip, context, keep=False)) for clip in clips]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _store(calls: Calls, suggestions: Suggestions, word: str, samples: np.ndarray, context: Context) -> Suggestion:
    """Store a suggestion for good.

    Args:
        calls: who sends it, and its count.
        suggestions: where.
        word: what is said in it, a word that is known.
        samples: int16 or float32 (N), as they were sent.
        context: the call.

    Raises:
        CallError: the samples hold no word, or cannot be understood.
    """
    clip = _clip(samples)
    if len(samples) < SHORTEST:
        found = f"the clip has {len(samples)} samples, which is too short: a word takes {SHORTEST} at least"
        raise CallError(Code.INVALID_ARGUMENT, f"{found}. Record it whole")
    if not scale_of(samples).sure:
        found = f"its samples reach {np.abs(samples).max():g}, and fit neither -1..1 nor 16-bit integers"
        raise CallError(Code.INVALID_ARGUMENT, f"the scale of the clip cannot be told: {found}. Send one of them, unfiltered")
    if is_silence(clip):
        raise CallError(
            Code.INVALID_ARGUMENT, f"the clip is silence, nowhere louder than {SILENCE_DBFS:g} dBFS: record it again, closer or louder"
        )
    stored = await suggestions.add(word, as_pcm(clip[: len(samples)]), calls.peer(context))
    calls.metrics.suggestions.labels(word).inc()
    return stored


def _samples(request: speech_pb2.RecognizeRequest | speech_pb2.SuggestRequest) -> np.ndarray:
    """The samples of a request, int16 or float32 (N)."""
    if request.pcm and request.samples:
        raise CallError(Code.INVALID_ARGUMENT, "the request has both pcm and samples: send one of them")
    return _from_pcm(request.pcm) if request.pcm else np.array(request.samples, np.float32)


def _clip(samples: np.ndarray) -> np.ndarray:
    try:
        return as_clip(samples)
    except WindtunnelError as error:
        raise CallError(Code.INVALID_ARGUMENT, str(error)) from error


def _from_pcm(pcm: bytes) -> np.ndarray:
    """16-bit little-endian samples, int16 (N)."""
    if len(pcm) % 2:
        raise CallError(Code.INVALID_ARGUMENT, f"pcm has {len(pcm)} bytes: send two for each sample")
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


def add_services(server: grpc.aio.Server, dlserver: DLServer, speech: Speech) -> tuple[str, ...]:
    """Have a server serve both; returns their full names."""
    services = (
        (dlserver_pb2.DESCRIPTOR.services_by_name["DLServer"], dlserver),
        (speech_pb2.DESCRIPTOR.services_by_name["Speech"], speech),
    )
    takes = {"Infer": lambda request: _clip(np.array(request.audio_samples, np.float32))}
    server.add_generic_rpc_handlers([handler(descriptor, servicer, takes) for descriptor, servicer in services])
    return tuple(descriptor.full_name for descriptor, _ in services)
