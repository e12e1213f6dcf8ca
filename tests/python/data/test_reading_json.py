"""JSON files: lines, lists, objects over several lines; in parts, compressed, mixed, broken."""

import gzip
import json

import aktis
import aktis.data
import pyarrow
import pytest
from pyarrow import json as arrow_json


@pytest.fixture
def write(tmp_path):
    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    return write


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


ROWS = [{"id": 1, "tags": ["x", "y"], "more": {"a": 1.5}}, {"id": 2, "tags": [], "more": None}]


@pytest.mark.parametrize(
    "text", [lines(ROWS), json.dumps(ROWS), json.dumps(ROWS, indent=2)], ids=["lines", "list", "indented"]
)
def test_lines_and_lists_give_the_same_rows(write, text):
    assert aktis.data.read_json(write("a.json", text)).take_all() == ROWS


def test_objects_over_several_lines_are_rows(write):
    text = "\n".join(json.dumps({"id": number}, indent=2) for number in range(3))
    assert aktis.data.read_json(write("a.json", text)).take_all() == [{"id": 0}, {"id": 1}, {"id": 2}]


def test_keys_that_only_later_objects_have_are_kept(write):
    for text in (lines([{"a": 1}, {"b": "x"}]), json.dumps([{"a": 1}, {"b": "x"}])):
        assert aktis.data.read_json(write("a.json", text)).take_all() == [{"a": 1, "b": None}, {"a": None, "b": "x"}]


def test_large_file_is_read_in_parts_in_order(write):
    path = write("a.jsonl", lines({"id": number, "text": "x" * 20} for number in range(60_000)))
    assert aktis.data.read_json(path).count() == 60_000
    for parts in (3, 11):
        ds = aktis.data.read_json(path, override_num_blocks=parts)
        assert [row["id"] for row in ds.take_all()] == list(range(60_000))


def test_compressed_lines(write):
    path = write("a.jsonl.gz", gzip.compress(lines(ROWS * 100).encode()))
    assert aktis.data.read_json(path, lines=True).take_all() == ROWS * 100
    torn = write("b.jsonl.gz", gzip.compress(lines(ROWS * 100).encode())[:-9])
    with pytest.raises(OSError, match=f"{torn}: Truncated"):
        aktis.data.read_json(torn).count()


@pytest.mark.parametrize("parts", [None, 4])
def test_broken_line_is_named(write, parts):
    path = write("a.jsonl", lines([{"id": 1}] * 500) + '{"id": 2\n' + lines([{"id": 3}] * 500))
    with pytest.raises(ValueError, match=f"read {path}, line 501: it is no JSON"):
        aktis.data.read_json(path, override_num_blocks=parts).take_all()


def test_broken_documents_and_lists_of_other_things_are_named(write):
    path = write("a.json", '[{"id": 1},\n{"id": 2]')
    with pytest.raises(ValueError, match=f"read {path}, line 2"):
        aktis.data.read_json(path).take_all()
    path = write("b.json", "[1, 2]")
    with pytest.raises(ValueError, match="a list of objects is needed, and item 0 is int"):
        aktis.data.read_json(path).take_all()
    path = write("c.json", '{\n"a": 1\n}\n{\n"a": \n}')
    with pytest.raises(ValueError, match=f"read {path}, line 6"):
        aktis.data.read_json(path).take_all()
    path = write("d.jsonl", lines([{"id": 1}]) + "3\n")
    with pytest.raises(ValueError, match="line 2: an object is needed, not int"):
        aktis.data.read_json(path, lines=True).take_all()


def test_what_is_no_utf8_is_named_and_not_passed_on(write):
    path = write("a.jsonl", b'{"a": "x"}\n{"a": "\xff"}\n')
    with pytest.raises(ValueError, match=f"read {path}, line 2: it is not UTF-8"):
        aktis.data.read_json(path).take_all()


def test_types_of_the_first_rows_hold_or_are_widened(write):
    small = arrow_json.ReadOptions(block_size=200)
    path = write(
        "a.jsonl", lines([{"a": 1, "b": None, "c": {"x": None}}] * 100 + [{"a": 1.5, "b": "late", "c": {"x": [1]}}])
    )
    table = aktis.data.read_json(path, read_options=small).to_arrow()
    assert table.schema.field("a").type == pyarrow.float64()
    assert table.to_pylist()[-1] == {"a": 1.5, "b": "late", "c": {"x": [1]}}
    dates = write("b.jsonl", lines([{"a": "text"}] * 100 + [{"a": "2020-01-01"}] * 100))
    assert aktis.data.read_json(dates, read_options=small).take_all()[-1] == {"a": "2020-01-01"}


@pytest.mark.parametrize("parts", [None, 4])
def test_types_that_do_not_go_together_are_named_with_the_way_out(write, parts):
    path = write("a.jsonl", lines([{"a": "2020-01-01"}] * 400 + [{"a": "soon"}]))
    small = arrow_json.ReadOptions(block_size=200)
    with pytest.raises(ValueError, match=f"{path}: the column 'a' is .*explicit_schema"):
        aktis.data.read_json(path, read_options=small, override_num_blocks=parts).take_all()
    said = arrow_json.ParseOptions(explicit_schema=pyarrow.schema({"a": pyarrow.string()}))
    ds = aktis.data.read_json(path, read_options=small, parse_options=said, override_num_blocks=parts)
    assert ds.take_all()[-1] == {"a": "soon"}


def test_empty_files_have_no_rows(write, tmp_path):
    write("a.json", "")
    write("b.json", "\n \n")
    write("c.json", "[]")
    assert aktis.data.read_json(tmp_path).take_all() == []
    write("d.json", lines(ROWS))
    assert aktis.data.read_json(tmp_path).take_all() == ROWS


def test_other_files_of_a_folder_are_passed_over(write, tmp_path):
    write("a.json", lines(ROWS))
    write("a.txt", "no JSON")
    assert aktis.data.read_json(tmp_path).count() == 2


def test_value_of_another_type_is_told_with_its_line_and_what_helps(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1}\n\n{"n": null}\n{"n": "two"}\n')
    with pytest.raises(
        ValueError, match=r"a\.jsonl, line 4: 'n' is string here and number before, .*read_text\(path\)\.map"
    ):
        aktis.data.read_json(str(path)).take_all()
