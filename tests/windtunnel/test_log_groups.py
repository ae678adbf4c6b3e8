"""The lines that fold a part of a task's log."""

import pytest

from windtunnel.log_groups import MANY, folded, folded_if_long


def test_what_is_printed_is_between_the_lines_of_the_group_also_after_an_error(capsys):
    def measure():
        print("round 1")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), folded("rounds"):
        measure()
    assert capsys.readouterr().out.splitlines() == ["::group::rounds", "round 1", "::endgroup::"]


def test_what_fits_on_a_screen_is_not_folded(capsys):
    for lines in (MANY, MANY + 1):
        with folded_if_long(f"{lines} epochs", lines):
            print("an epoch")
    assert capsys.readouterr().out.splitlines() == ["an epoch", f"::group::{MANY + 1} epochs", "an epoch", "::endgroup::"]
