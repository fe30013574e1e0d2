"""The result on disk: what is saved is loaded again, and what cannot be read is refused by name."""

from pathlib import Path

import msgspec
import pytest
from synthetic_campaign import campaign

from duress.reports import UnreadableResult, load, schema, store


def test_a_campaign_survives_the_disk(tmp_path: Path) -> None:
    red = campaign(runs=5, red=True)
    paths = store.save(red, tmp_path)
    assert [path.name for path in paths] == ["result.json", "result.schema.json"]
    assert load(tmp_path) == red
    assert load(tmp_path / "result.json") == red
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.json", "result.schema.json"]


def test_another_version_is_refused_by_its_number(tmp_path: Path) -> None:
    store.save(campaign(runs=1), tmp_path)
    file = tmp_path / "result.json"
    content = msgspec.json.decode(file.read_bytes())
    content |= {"version": 7, "duress": "9.1", "from": "the future"}
    file.write_bytes(msgspec.json.encode(content))
    with pytest.raises(
        UnreadableResult, match=r"result\.json is a result of version 7, written by duress 9\.1.*version 1"
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is not a duress result"),
        (b'{"version": 1, "scenario"', "is not a duress result.*cut short"),
        (b"[]", "is not a duress result"),
        (b'{"version": "1"}', "is not a duress result"),
        (b'{"version": 1, "scenario": 3}', r"does not hold one.*\$\.scenario"),
        (b'{"version": 1, "surprise": 3}', "does not hold one.*surprise"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "result.json"
    file.write_bytes(content)
    with pytest.raises(UnreadableResult, match=complaint):
        load(file)


def test_a_missing_result_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UnreadableResult, match=r"nowhere.*Give the folder"):
        load(tmp_path / "nowhere")


def test_the_schema_names_every_field_of_the_result(tmp_path: Path) -> None:
    described = msgspec.json.decode(schema())
    assert described["$schema"].startswith("https://json-schema.org/")
    store.save(campaign(runs=2, red=True), tmp_path)
    content = msgspec.json.decode((tmp_path / "result.json").read_bytes())
    parts = {"Campaign": content, "Run": content["runs"][0], "FaultRecord": content["runs"][0]["faults"][0]}
    for name, part in parts.items():
        assert set(part) == set(described["$defs"][name]["properties"]), name
