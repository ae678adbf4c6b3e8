"""When the server asks Airflow for a run. That a run comes of it, tests/e2e/test_speech.py shows on a real platform."""

from datetime import timedelta

import pytest

from serving.speech_server.feedback.retraining import pause, read_password
from windtunnel.errors import WindtunnelError


@pytest.mark.parametrize(("failures", "minutes"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (1000, 60)])
def test_the_pause_doubles_after_each_failure_in_a_row(failures, minutes):
    assert pause(failures) == timedelta(minutes=minutes)


@pytest.mark.parametrize("text", ["secret\n", '{"admin": "secret", "ann": "other"}', "\ufeffsecret\n"], ids=["text", "JSON", "mark"])
def test_a_password_is_all_of_a_file_or_airflows_of_that_user(tmp_path, text):
    file = tmp_path / "password"
    file.write_text(text)
    assert read_password(file, "admin") == "secret"


def test_a_password_that_is_not_there_is_said(tmp_path):
    with pytest.raises(WindtunnelError, match="PasswordFile is missing"):
        read_password(None, "admin")
    with pytest.raises(WindtunnelError, match="nowhere cannot be read"):
        read_password(tmp_path / "nowhere", "admin")
    (tmp_path / "picture").write_bytes(b"\x89PNG")
    with pytest.raises(WindtunnelError, match="picture cannot be read"):
        read_password(tmp_path / "picture", "admin")
    (tmp_path / "passwords").write_text('{"ann": "other"}')
    with pytest.raises(WindtunnelError, match="has no password for admin"):
        read_password(tmp_path / "passwords", "admin")
