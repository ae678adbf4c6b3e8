import json

from serving import audit


def test_a_line_is_added_with_its_time(tmp_path):
    assert audit.read(tmp_path / "serving") == []
    audit.note(tmp_path / "serving", model="lenet5-pytorch", why="a\nb")
    audit.note(tmp_path / "serving", model="lenet5-libtorch", who=None)
    first, second = audit.read(tmp_path / "serving")
    assert (first["model"], first["why"], second["who"]) == ("lenet5-pytorch", "a\nb", None)
    assert first["time"] <= second["time"]
    assert [json.loads(line) for line in (tmp_path / "serving" / audit.LOG).read_text().splitlines()] == [first, second]
