"""Vocabularies: the words that a recogniser distinguishes."""

import re
from typing import Annotated

from pydantic import AfterValidator

WORDS = ("down", "go", "left", "no", "right", "stop", "up", "yes")
"""The spoken commands, in the order of the enum `Label` of the old protocol. This is the default vocabulary."""

SPEECH_COMMANDS = "speech-commands"
"""The name of the registered model that recognises words."""

WORD = r"[^\W_]+(?:[-'_ ][^\W_]+)*"
"""The regular expression of a word or short phrase: letters and digits of any script. Words are also used in file names."""

LONGEST = 40  # characters
MOST = 200  # words


def check_word(word: str) -> str:
    """Return `word` if it is valid.

    Raises:
        ValueError: it is not a valid word.
    """
    if len(word) > LONGEST or not re.fullmatch(WORD, word) or word != word.lower():
        raise ValueError(f"{word!r} is not a valid word: use at most {LONGEST} letters and digits, in lower case")
    return word


def check_words(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return `words` if they are a valid vocabulary.

    Raises:
        ValueError: a word is not valid or is repeated, or there are too few or too many.
    """
    if not 2 <= len(words) <= MOST:
        raise ValueError(f"found {len(words)} words, expected 2 to {MOST}")
    for number, word in enumerate(words):
        if check_word(word) in words[:number]:
            raise ValueError(f"{word!r} is repeated: name each word once")
    return words


Words = Annotated[tuple[str, ...], AfterValidator(check_words)]
"""A vocabulary, in the order of the recogniser's outputs."""
