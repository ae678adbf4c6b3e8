"""The manifest of a data set of recordings. It defines the words, the pattern of file names, the sample rate and the split.

It is the file `recordings.json` in a folder or zip of recordings, or `NAME.json` beside `NAME.zip`:

    {"title": "Ten digits", "words": {"0": "zero", "1": "one"}, "sample_rate": 8000,
     "recording": "{word}_{speaker}_{n}.wav", "test": ["theo"], "validation": ["lucas"]}
"""

import functools
import hashlib
import json
import re
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from windtunnel.data.wav import RATES
from windtunnel.errors import WindtunnelError
from windtunnel.spec import first_problem
from windtunnel.vocabulary import check_words

FILE = "recordings.json"
_PLACEHOLDERS = {"{speaker}": "(?P<speaker>[^/]+)", "{n}": "[0-9]+", "*": "[^/]*"}

Speakers = Annotated[tuple[str, ...], Field(min_length=1)]


class Named(NamedTuple):
    """The word and the speaker in the path of a recording, and the part of the path that contains them. An unknown speaker is ""."""

    word: str
    speaker: str
    name: str


class RecordingsManifest(BaseModel):
    """The description of a data set of recordings.

    `words` maps a name in file paths to its word; in the JSON it can be a list of words that are used as names. The order is that of
    the recogniser's outputs. `recording` is the pattern of the end of a recording's path: `{word}`, `{speaker}`, `{n}` for a number
    and `*` for any characters but a slash. `test` and `validation` are the speakers to test and to validate with; without them,
    `windtunnel.data.recordings.part_of` splits the speakers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: Annotated[str, Field(min_length=1, max_length=200)]
    words: dict[str, str]
    sample_rate: Annotated[int, Field(ge=RATES.start, lt=RATES.stop)]
    recording: str
    test: Speakers | None = None
    validation: Speakers | None = None

    @field_validator("words", mode="before")
    @classmethod
    def _by_name(cls, words: Any) -> Any:
        if isinstance(words, list | tuple) and all(isinstance(word, str) for word in words):
            return dict(zip(words, check_words(tuple(words)), strict=True))
        return words

    @field_validator("words")
    @classmethod
    def _enough(cls, words: dict[str, str]) -> dict[str, str]:
        check_words(tuple(dict.fromkeys(words.values())))
        if wrong := [name for name in words if not name or "/" in name]:
            raise ValueError(f"has the name {wrong[0]!r}, which a file name cannot contain")
        return words

    @field_validator("recording")
    @classmethod
    def _names_a_word(cls, recording: str) -> str:
        for found in re.findall(r"\{[^{}]*\}", recording):
            if found not in ("{word}", *_PLACEHOLDERS):
                raise ValueError(f"has the unknown placeholder {found}: use {{word}}, {{speaker}}, {{n}} and *")
        if recording.count("{word}") != 1 or recording.count("{speaker}") > 1:
            raise ValueError("must have {word} once, and {speaker} at most once, such as {word}/{speaker}_{n}.wav")
        if not recording.lower().endswith(".wav") or recording.startswith("/"):
            raise ValueError("must be the end of a relative path, and end with .wav")
        return recording

    @model_validator(mode="after")
    def _split_whole(self) -> Self:
        if (self.test is None) != (self.validation is None):
            raise ValueError("names only one of test and validation: name the speakers of both, or of neither")
        if self.test is not None and "{speaker}" not in self.recording:
            raise ValueError("names speakers to test with, but recording has no {speaker}: add it where the file names have the speaker")
        if both := sorted({*(self.test or ())} & {*(self.validation or ())}):
            raise ValueError(f"names {', '.join(both)} in both test and validation: a speaker can only be in one part")
        return self

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words, in the order of the recogniser's outputs."""
        return tuple(dict.fromkeys(self.words.values()))

    @property
    def digest(self) -> str:
        """The SHA-256 of all fields but the title, which does not change what is read."""
        return hashlib.sha256(json.dumps(self.model_dump(exclude={"title"})).encode()).hexdigest()

    def named(self, path: str) -> Named | None:
        """Parse the path of a recording. Return None if its word is not in the vocabulary: the recording is skipped.

        Raises:
            WindtunnelError: the path does not match `recording`.
        """
        parts = self.recording.count("/") + 1
        name = "/".join(path.split("/")[-parts:])
        known, any_word = self._patterns
        if found := known.fullmatch(name):
            groups = found.groupdict()
            return Named(self.words[groups["word"]], groups.get("speaker", ""), name)
        if any_word.fullmatch(name):
            return None
        raise WindtunnelError(f"{path!r} does not match {self.recording}: rename or remove it, or correct `recording` in the manifest")

    @functools.cached_property
    def _patterns(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """The patterns of paths of recordings: of the words in the vocabulary, and of any word."""
        names = "|".join(map(re.escape, sorted(self.words, key=len, reverse=True)))
        known, any_word = (
            "".join(
                word if part == "{word}" else _PLACEHOLDERS.get(part, re.escape(part))
                for part in re.split(r"(\{\w+\}|\*)", self.recording[: -len(".wav")])
            )
            + r"(?i:\.wav)"
            for word in (f"(?P<word>{names})", "[^/]+")
        )
        return re.compile(known), re.compile(any_word)


def parse(content: bytes, called: str) -> RecordingsManifest:
    """Parse a manifest. `called` is its name for error messages.

    Raises:
        WindtunnelError: it is not JSON, or not a valid manifest.
    """
    try:
        return RecordingsManifest.model_validate_json(content)
    except ValidationError as error:
        raise WindtunnelError(f"{called} is not a valid manifest of recordings: {first_problem(error)}; correct it") from error
