"""MCAP files: messages by topic, time and type."""

import gzip
import json

import aktis.data
import pytest

# The package need not be there, and arguments are wrong on purpose.
# pyright: reportMissingImports=false, reportArgumentType=false
writer = pytest.importorskip("mcap.writer", reason="mcap is not installed: requirements-formats.txt")


@pytest.fixture
def drive(tmp_path):
    """A hundred messages of two topics, the later ones written first."""
    path = tmp_path / "drive.mcap"
    with path.open("wb") as file:
        made = writer.Writer(file)
        made.start()
        schema = made.register_schema(name="Pose", encoding="jsonschema", data=b"{}")
        pose = made.register_channel(schema_id=schema, topic="/pose", message_encoding="json")
        raw = made.register_channel(schema_id=0, topic="/raw", message_encoding="bytes")
        for number in reversed(range(50)):
            data = json.dumps({"x": number}).encode()
            made.add_message(pose, log_time=number * 10, data=data, publish_time=number, sequence=number)
            made.add_message(raw, log_time=number * 10 + 5, data=bytes([number]), publish_time=number, sequence=number)
        made.finish()
    return path


def test_messages_come_by_time_decoded_and_with_what_is_known_of_them(drive):
    rows = aktis.data.read_mcap(drive, topics=["/pose"]).take_all()
    assert [row["data"] for row in rows] == [{"x": number} for number in range(50)]
    assert rows[3] == {
        "data": {"x": 3}, "topic": "/pose", "log_time": 30, "publish_time": 3, "sequence": 3, "channel_id": rows[0]["channel_id"],
        "message_encoding": "json", "schema_name": "Pose", "schema_encoding": "jsonschema", "schema_data": b"{}",
    }  # fmt: skip
    raw = aktis.data.read_mcap(drive, topics=["/raw"], include_metadata=False).take_all()
    assert raw[1] == {"data": b"\x01", "topic": "/raw", "log_time": 15, "publish_time": 1, "sequence": 1}


def test_times_and_types_choose_messages_of_folders_and_compressed_files(drive):
    drive.with_suffix(".mcap.gz").write_bytes(gzip.compress(drive.read_bytes()))
    some = {"time_range": (100, 200), "message_types": ["Pose"]}
    assert [row["sequence"] for row in aktis.data.read_mcap(drive.parent, **some).take_all()] == list(range(10, 20))
    packed = aktis.data.read_mcap(drive.with_suffix(".mcap.gz"), **some, include_paths=True)
    assert packed.count() == 10 and "path" in packed.columns()


def test_what_is_no_such_file_or_time_is_named(drive, tmp_path):
    (tmp_path / "cut.mcap").write_bytes(drive.read_bytes()[:300])
    (tmp_path / "other.mcap").write_bytes(b"something else")
    for name in ("cut.mcap", "other.mcap"):
        with pytest.raises((ValueError, OSError), match=name):
            aktis.data.read_mcap(tmp_path / name).take_all()
    with pytest.raises(ValueError, match="the earlier one first"):
        aktis.data.read_mcap(drive, time_range=(5, 5))
    with pytest.raises(TypeError, match=r"give \['/pose'\]"):
        aktis.data.read_mcap(drive, topics="/pose")
