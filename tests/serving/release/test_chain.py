"""The chain of the audit log as bytes: whatever is done to a file, the check finds it."""

import hashlib
import json
import re
from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from serving.release import chain
from serving.release.chain import BrokenChainError

TEXTS = st.text(max_size=20) | st.sampled_from(['", "digest": "', "\n", "\u2028", "previous"])
BYTES = st.integers(0, 255).map(lambda each: bytes([each])) | st.sampled_from([b"\n", b'"', b"}"])


def older(text):
    return json.dumps({"time": "2026-01-01T00:00:00.000+00:00", "why": text}).encode() + b"\n"


def written(texts, file=b""):
    for text in texts:
        file += chain.addition(file, {"time": "2026-01-02T00:00:00.000+00:00", "why": text})
    return file


def lines_of(file):
    return re.findall(rb"[^\n]*\n|[^\n]+", file)


@st.composite
def files(draw):
    """A log: lines of an older version, which may be cut off, then lines with digests, after any of which the power was cut."""
    file = b"".join(map(older, draw(st.lists(TEXTS, max_size=3))))
    if file and draw(st.booleans()):
        file = file[: -draw(st.integers(1, 20))]
    for text in draw(st.lists(TEXTS, max_size=3)):
        start = len(file)
        file = written([text], file)
        if draw(st.booleans()):
            file = file[: draw(st.integers(start + 2, len(file) - 1))]
            file = written(["after the power cut"], file)
    return written(draw(st.lists(TEXTS, min_size=1, max_size=3)), file)


@dataclass(frozen=True)
class Edit:
    """What somebody does to lines, which have their line breaks."""

    kind: str
    one: float
    other: float
    byte: bytes

    def of(self, lines):
        file = b"".join(lines)
        place = int(self.one * len(file))
        if self.kind == "replace a byte":
            return file[:place] + self.byte + file[place + 1 :]
        if self.kind == "remove a byte":
            return file[:place] + file[place + 1 :]
        if self.kind == "insert a byte":
            place = int(self.one * (len(file) + 1))
            return file[:place] + self.byte + file[place:]
        return b"".join(self.lines(lines))

    def lines(self, lines):
        first, second = int(self.one * len(lines)), int(self.other * len(lines))
        edited = list(lines)
        if self.kind == "remove a line":
            del edited[first]
        elif self.kind == "copy a line":
            edited.insert(second, lines[first])
        else:
            edited[first], edited[second] = edited[second], edited[first]
        return edited


PART = st.floats(0, 1, exclude_max=True)
KINDS = ("replace a byte", "remove a byte", "insert a byte", "remove a line", "copy a line", "swap two lines")
EDITS = st.builds(Edit, st.sampled_from(KINDS), PART, PART, BYTES)


@given(files(), EDITS)
def test_an_edit_of_a_byte_and_a_line_removed_copied_or_swapped_is_found(file, edit):
    whole = chain.check(file)
    edited = edit.of(lines_of(file))
    assume(edited != file)
    if file.startswith(edited) and edited[-1:] in (b"", b"\n"):  # the last line was removed
        assert next(reversed(whole.lines)) not in chain.check(edited).lines
        return
    with pytest.raises(BrokenChainError) as found:
        chain.check(edited)
    assert 1 <= found.value.number <= len(chain.split(edited))


@given(st.lists(TEXTS, min_size=2, max_size=5), EDITS)
def test_the_first_line_that_differs_is_named(texts, edit):
    lines = lines_of(written(texts))
    edited = edit.of(lines)
    now = lines_of(edited)
    differ = next((number for number, (one, other) in enumerate(zip(lines, now, strict=False), 1) if one != other), len(lines) + 1)
    assume(now != lines and differ <= len(now))
    with pytest.raises(BrokenChainError) as found:
        chain.check(edited)
    assert found.value.number == differ


@pytest.mark.parametrize("place", [0, 7])
def test_a_line_that_was_split_is_named_by_its_first_part(place):
    file = bytearray(written(["one", "two"]))
    file[place] = ord("\n")
    with pytest.raises(BrokenChainError) as found:
        chain.check(bytes(file))
    assert found.value.number == 1


@given(files())
def test_a_file_is_a_chain_whatever_it_has_been_through(file):
    found = chain.check(file)
    numbers = {*found.lines.values(), *found.cut_off}
    assert numbers == set(range(found.older + 1, len(chain.split(file)) + 1))
    assert chain.cut_off(file) == set(found.cut_off)


def test_the_digest_is_what_the_documentation_says():
    first, second = chain.split(written(["one", "two"]))
    assert json.loads(first)["previous"] == hashlib.sha256(b"").hexdigest()
    for line in (first, second):
        assert json.loads(line)["digest"] == hashlib.sha256(line[: line.index(b', "digest"')]).hexdigest()
    assert json.loads(second)["previous"] == json.loads(first)["digest"]
    before = older("one")
    assert json.loads(written(["two"], before)[len(before) :])["previous"] == hashlib.sha256(before).hexdigest()


def test_what_was_changed_before_the_next_line_was_written_is_found_too():
    first, second = lines_of(written(["one", "two"]))
    for changed in (first.replace(b"one", b"0ne"), first.replace(b'"digest"', b'"digesu"'), first.replace(b'"previous"', b'"Previous"')):
        with pytest.raises(BrokenChainError, match="it was changed or added before line 2 was written") as found:
            chain.check(written(["two"], changed))
        assert found.value.number == 1
    with pytest.raises(BrokenChainError, match="it was changed or added before line 4 was written") as found:
        chain.check(written(["three"], first + second + older("by an older version")))
    assert found.value.number == 3


@pytest.mark.parametrize(
    ("order", "number", "said"),
    [
        ((0, 2, 3), 2, "it was not written after the line before it: one was removed, changed or put elsewhere"),
        ((1, 2, 3), 1, "it was not written after the line before it: one was removed, changed or put elsewhere"),
        ((0, 1, 2, 2, 3), 4, "it was written after line 2, not after the one before it: it was put here, or lines were added before it"),
        ((0, 2, 1, 3), 2, "it was not written after the line before it: one was removed, changed or put elsewhere"),
    ],
)
def test_what_happened_to_a_line_is_said(order, number, said):
    lines = lines_of(written("abcd"))
    with pytest.raises(BrokenChainError, match=said) as found:
        chain.check(b"".join(lines[each] for each in order))
    assert found.value.number == number


def test_lines_of_an_older_version_are_covered_as_they_were_found():
    before = [older("one"), older("two"), older("three")]
    file = written(["four"], b"".join(before))
    found = chain.check(file)
    assert (list(found.lines.values()), found.older, found.cut_off) == ([4], 3, [])
    with pytest.raises(BrokenChainError, match="one of the lines 1 to 3, which are older than the digests, was changed, removed, added"):
        chain.check(file.replace(b"two", b"2wo"))
    assert chain.check(b"".join(before)).older == 3
