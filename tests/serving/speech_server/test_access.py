"""Files of tokens. That a call needs one is shown in test_speech_service.py."""

import pytest

from serving.speech_server.access import read_tokens
from windtunnel.errors import WindtunnelError


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_a_line_is_a_name_and_its_token(tmp_path, mark):
    file = tmp_path / "tokens"
    file.write_text(f"{mark}# Who may call\n\nann secret\nbob other\n", "utf-8")
    assert sorted(read_tokens(file).values()) == ["ann", "bob"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "contains no token"), (b"ann\n", "found 1 words in entry 1"), (b"\xff\xfea\0", "cannot be read"), (None, "cannot be read")],
    ids=["empty", "no token", "UTF-16", "missing"],
)
def test_what_is_no_such_file_is_said(tmp_path, content, says):
    file = tmp_path / "tokens"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(WindtunnelError, match=says):
        read_tokens(file)
