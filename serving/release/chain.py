"""The chain of digests that the lines of the audit log make.

A line ends with the digest of the line before it, `previous`, and with its own, `digest`: the SHA-256 over its bytes up to there. After
what has no digest, `previous` is the SHA-256 over all bytes of the file as they were found: over none for the first line; over the lines
that an older version of the project wrote; over everything up to a line that was cut off, which stays and gets a line break.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from mmap import mmap
from typing import Any

_LINE = re.compile(rb'(\{.*, "previous": "([0-9a-f]{64})"), "digest": "([0-9a-f]{64})"\}')
_NAMES = (b'"previous": "', b'"digest": "')  # JSON writes a quotation mark within a text with a backslash: no text has these
_CUT_OFF = "it is cut off, by a power cut or by somebody. The next change of a champion continues after it, and it stays as it is"


class BrokenChainError(Exception):
    """A line was changed, removed, added or put elsewhere. `number` is that of the first one, from 1."""

    def __init__(self, number: int, problem: str) -> None:
        super().__init__(problem)
        self.number = number


@dataclass(frozen=True)
class Link:
    """The digests of a line."""

    previous: str
    digest: str


@dataclass(frozen=True)
class Chain:
    """An unbroken chain: the numbers of its lines, from 1, by their digests; how many lines are older; which ones are cut off."""

    lines: dict[str, int]
    older: int
    cut_off: list[int]


class _After(Enum):
    """What a line follows."""

    LINE = "a line with a digest"
    FILE = "a file whose last line has no digest, or an empty one"
    CUT_OFF = "a file whose last line was cut off"


def addition(file: bytes | mmap, content: dict[str, Any]) -> bytes:
    """Return the bytes that add a line to the bytes of a file."""
    whole = file[-1:] in (b"", b"\n")
    end = len(file) - 1 if file[-1:] == b"\n" else len(file)
    last = _link(file[file.rfind(b"\n", 0, end) + 1 : end])
    previous = last.digest if last else hashlib.sha256(file).hexdigest()
    text = json.dumps(content | {"previous": previous}).removesuffix("}").encode()
    line = text + f', "digest": "{hashlib.sha256(text).hexdigest()}"}}\n'.encode()
    return line if whole else b"\n" + line


def split(file: bytes) -> list[bytes]:
    """Return the lines of a file, without their line breaks."""
    return file.removesuffix(b"\n").split(b"\n") if file else []


def cut_off(file: bytes) -> set[int]:
    """Return the numbers, from 1, of the lines that are cut off."""
    found = {number - 1 for number, _, after in _links(file) if after == _After.CUT_OFF}
    return found if file[-1:] in (b"", b"\n") else found | {len(split(file))}


def check(file: bytes) -> Chain:
    """Check all lines of a file.

    Raises:
        BrokenChainError: a line was changed, removed, added or put elsewhere, or the last one is cut off. Lines that were removed at the
            end leave no trace.
    """
    lines, chain, older = split(file), Chain({}, 0, []), 0
    others: list[int] = []  # lines without a right digest since the last one with
    for number, link, after in _links(file):
        if link is None:
            others.append(number)
            continue
        if after is None:
            raise _broken(number, link, others, lines, chain)
        if after == _After.CUT_OFF:
            chain.cut_off.append(others.pop())
        if wrong := _wrong(others, lines, chain):
            raise BrokenChainError(wrong, f"it was changed or added before line {number} was written")
        older += len(others)
        others = []
        chain.lines[link.digest] = number
    unfinished = file[-1:] not in (b"", b"\n")
    wrong = _wrong(others, lines, chain)
    if unfinished and wrong in (None, len(lines)):
        raise BrokenChainError(len(lines), _CUT_OFF)
    if wrong:
        raise BrokenChainError(wrong, "it was changed or added")
    return Chain(chain.lines, older + len(others), chain.cut_off)


def _links(file: bytes) -> Iterator[tuple[int, Link | None, _After | None]]:
    """Yield each line's number, its digests, if they are its own, and what it follows: None if that is not what is before it."""
    so_far = hashlib.sha256()
    known = {so_far.hexdigest(): _After.FILE}
    for number, line in enumerate(split(file), 1):
        link = _link(line)
        yield number, link, known.get(link.previous) if link else None
        so_far.update(line)
        until_here = so_far.hexdigest()
        so_far.update(b"\n")
        torn = {until_here: _After.CUT_OFF} if line else {}  # a line that is cut off is not empty
        known = {link.digest: _After.LINE} if link else torn | {so_far.hexdigest(): _After.FILE}


def _link(line: bytes) -> Link | None:
    """Return the digests of a line; None if it has none, or a wrong one."""
    found = _LINE.fullmatch(line)
    if found is None or hashlib.sha256(found[1]).hexdigest() != found[3].decode():
        return None
    return Link(found[2].decode(), found[3].decode())


def _wrong(others: list[int], lines: list[bytes], chain: Chain) -> int | None:
    """Return the first of some lines without a right digest that an older version of the project cannot have written before the chain."""
    wrong = next((number for number in others if chain.lines or any(name in lines[number - 1] for name in _NAMES)), None)
    while wrong and wrong - 1 in others and not _whole(lines[wrong - 1]) and not _whole(lines[wrong - 2]):
        wrong -= 1  # they may be parts of one line
    return wrong


def _whole(line: bytes) -> bool:
    """Whether a line is a JSON object."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _broken(number: int, link: Link, others: list[int], lines: list[bytes], chain: Chain) -> BrokenChainError:
    """Return the error about a line that does not follow what is before it."""
    if wrong := _wrong(others, lines, chain):
        return BrokenChainError(wrong, "it was changed or added")
    if others:
        which = f"of the lines {others[0]} to {others[-1]}, which are older than the digests,"
        return BrokenChainError(others[0], f"one {which} was changed, removed, added or put elsewhere")
    if link.previous in chain.lines:
        where = f"it was written after line {chain.lines[link.previous]}, not after the one before it"
        return BrokenChainError(number, f"{where}: it was put here, or lines were added before it")
    return BrokenChainError(number, "it was not written after the line before it: one was removed, changed or put elsewhere")
