"""Vocabularies: the words that a recogniser tells apart."""

import re
from typing import Annotated

from pydantic import AfterValidator

WORDS = ("down", "go", "left", "no", "right", "stop", "up", "yes")
"""The spoken commands, in the order of the enum `Label` of the old protocol: the vocabulary where nothing names another."""

WORD = r"[^\W_]+(?:[-'_ ][^\W_]+)*"
"""A word or a short phrase, as a regular expression: letters and digits of any script. It is also a part of file names."""

LONGEST = 40  # characters
MOST = 200  # words


def check_word(word: str) -> str:
    """The word itself.

    Raises:
        ValueError: it is none.
    """
    if len(word) > LONGEST or not re.fullmatch(WORD, word) or word != word.lower():
        raise ValueError(f"{word!r} is no word: write letters and digits in lower case, {LONGEST} at most")
    return word


def check_words(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words themselves.

    Raises:
        ValueError: one is none, or is there twice, or they are too few or too many.
    """
    if not 2 <= len(words) <= MOST:
        raise ValueError(f"{len(words)} words: expected 2 to {MOST}")
    for number, word in enumerate(words):
        if check_word(word) in words[:number]:
            raise ValueError(f"{word!r} is there twice: name each word once")
    return words


Words = Annotated[tuple[str, ...], AfterValidator(check_words)]
"""In the order of a recogniser's outputs."""
