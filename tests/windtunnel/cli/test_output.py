import sys

import pytest

from windtunnel.cli.output import print_table

TABLE = """\
╭───────┬────────────╮
│ model │ run        │
├───────┼────────────┤
│ lenet │ manual     │
│ other │ 2026-11-29 │
╰───────┴────────────╯
"""
RECORDS = """\
model  lenet
run    manual

model  other
run    2026-11-29
"""


@pytest.mark.parametrize(("terminal", "columns", "printed"), [(True, 22, TABLE), (True, 21, RECORDS), (False, 21, TABLE)])
def test_a_table_that_has_no_room_on_a_terminal_is_printed_row_by_row(capsys, monkeypatch, terminal, columns, printed):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    print_table(["model", "run"], [["lenet", "manual"], ["other", "2026-11-29"]])
    assert capsys.readouterr().out == printed


def test_brackets_in_a_cell_are_printed(capsys):
    print_table(["why"], [["[red]it[/] is [late]"]])
    assert "│ [red]it[/] is [late] │" in capsys.readouterr().out
