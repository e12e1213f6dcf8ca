"""Pages of PDF documents, which are put together here by hand. These tests need pypdfium2."""

import hashlib
import itertools
import zlib

import aktis.data
import numpy
import pytest
from aktis.data._formats.reading import Part
from pyarrow import fs

pytest.importorskip("pypdfium2")

_PAD = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
_ID = b"0123456789abcdef"


def document(texts, *, password=None, junk=0):
    """A page of 300 x 200 points for each text, the left half of which is red. `junk`: bytes in an object that nobody uses."""
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        3: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    }
    kids = []
    key, lock = _locked(password) if password is not None else (None, b"")
    for text in texts:
        number = len(objects) + 2
        kids.append(b"%d 0 R" % (number + 1))
        body = b"1 0 0 rg 0 0 150 200 re f 0 g BT /F1 12 Tf 20 100 Td 14 TL " + b" ".join(
            b"(%s) Tj T*" % line.encode() for line in text.split("\n")
        ) + b" ET"  # fmt: skip
        packed = zlib.compress(body)
        if key is not None:
            packed = _rc4(hashlib.md5(key + number.to_bytes(3, "little") + b"\0\0").digest()[:10], packed)
        objects[number] = b"<< /Length %d /Filter /FlateDecode >> stream\n%s\nendstream" % (len(packed), packed)
        objects[number + 1] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents %d 0 R /Resources << /Font << /F1 3 0 R >> >> >>"
            % number
        )
    objects[2] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    if junk:
        objects[len(objects) + 1] = b"<< /Length %d >> stream\n%s\nendstream" % (junk, bytes(junk))
    out, places = bytearray(b"%PDF-1.4\n"), {}
    for number, content in sorted(objects.items()):
        places[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1)
    out += b"".join(b"%010d 00000 n \n" % places[number] for number in sorted(places))
    out += b"trailer << /Size %d /Root 1 0 R %s>>\nstartxref\n%d\n%%%%EOF\n" % (len(places) + 1, lock, table)
    return bytes(out)


def _locked(password):
    """The key of the standard lock with 40 bits, and what the trailer says of it."""
    padded = (password.encode() + _PAD)[:32]
    owner = _rc4(hashlib.md5(padded).digest()[:5], padded)
    key = hashlib.md5(padded + owner + (0xFFFFFFFC).to_bytes(4, "little") + _ID).digest()[:5]
    entries = (owner.hex().encode(), _rc4(key, _PAD).hex().encode(), _ID.hex().encode(), _ID.hex().encode())
    return key, b"/Encrypt << /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P -4 >> /ID [<%s> <%s>] " % entries


def _rc4(key, data):
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.pdf").write_bytes(document(["one\ntwo", "three"]))
    (tmp_path / "b.pdf").write_bytes(document(["four"]))
    return tmp_path


def test_pages_are_rows_with_text_number_and_path(folder):
    ds = aktis.data.read_pdfs(folder)
    assert ds.columns() == ["text", "page_number", "path"]
    rows = ds.take_all()
    assert [(row["text"], row["page_number"], row["path"]) for row in rows] == [
        ("one\ntwo", 1, f"{folder}/a.pdf"),
        ("three", 2, f"{folder}/a.pdf"),
        ("four", 1, f"{folder}/b.pdf"),
    ]
    assert aktis.data.read_pdfs(folder, include_paths=False).columns() == ["text", "page_number"]
    far = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
    assert [row["text"] for row in aktis.data.read_pdfs("", filesystem=far).take_all()] == ["one\ntwo", "three", "four"]


def test_documents_are_rows_of_all_their_pages(folder):
    ds = aktis.data.read_pdfs(folder, by="document", include_paths=False)
    assert ds.count() == 2
    assert ds.take_all() == [{"text": "one\ntwo\fthree", "num_pages": 2}, {"text": "four", "num_pages": 1}]


def test_pages_are_pictures_in_the_size_and_colours_that_were_asked_for(folder):
    (row,) = aktis.data.read_pdfs(folder / "b.pdf", dpi=36).take_all()
    assert (row["image"].shape, row["image"].dtype, row["text"]) == ((100, 150, 3), numpy.uint8, "four")
    assert row["image"][5, 10].tolist() == [255, 0, 0]
    assert row["image"][5, 140].tolist() == [255, 255, 255]
    grey = aktis.data.read_pdfs(folder, dpi=72, mode="L").take_all()
    assert [row["image"].shape for row in grey] == [(200, 300)] * 3
    assert grey[0]["image"][5, 290] == 255 and 40 < grey[0]["image"][5, 10] < 120


def test_a_large_file_is_read_in_parts_each_page_once_and_in_order(tmp_path):
    texts = [f"page {number}" for number in range(1, 10)]
    (tmp_path / "a.pdf").write_bytes(document(texts, junk=5 << 20))
    ds = aktis.data.read_pdfs(tmp_path, override_num_blocks=4)
    rows = ds.take_all()
    assert [(row["text"], row["page_number"]) for row in rows] == list(zip(texts, range(1, 10), strict=True))
    assert ds.get_stats_summary()["stages"][0]["inputs"] == 4


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_every_page_belongs_to_one_part(count):
    from aktis.data._formats.pdfs import _pages_in

    for size in (10, 999, 5 << 20):
        for parts in (1, 2, 3, 10):
            ends = [size * number // parts for number in range(parts + 1)]
            shares = [Part("a", size, start, end, None) for start, end in itertools.pairwise(ends)]
            assert [page for share in shares for page in _pages_in(share, count)] == list(range(count))


def test_what_is_broken_is_named_or_passed_over(folder):
    (folder / "c.pdf").write_bytes(b"no document")
    (folder / "d.pdf").write_bytes(document(["locked"], password="secret"))
    for name in ("c.pdf", "d.pdf"):
        with pytest.raises(ValueError, match=rf"{name}: it is broken, or no PDF .*errors='ignore'.*password="):
            aktis.data.read_pdfs(folder / name).take_all()
    texts = [row["text"] for row in aktis.data.read_pdfs(folder, errors="ignore").take_all()]
    assert texts == ["one\ntwo", "three", "four"]
    with pytest.raises(ValueError, match=r"c.pdf: it is broken"):
        aktis.data.read_pdfs(folder, by="document", password="secret").take_all()
    assert aktis.data.read_pdfs(folder / "d.pdf", password="secret").take(1)[0]["text"] == "locked"


def test_a_page_that_would_be_too_large_is_named_or_passed_over(folder):
    ds = aktis.data.read_pdfs(folder / "a.pdf", dpi=1e5)
    with pytest.raises(ValueError, match=r"a.pdf, page 1: it would have 416667 x 277778 pixels; give a lower dpi"):
        ds.take_all()
    assert aktis.data.read_pdfs(folder / "a.pdf", dpi=1e5, errors="ignore").take_all() == []


def test_arguments_that_make_no_sense_are_refused():
    for arguments, text in (
        ({"by": "chapter"}, "by must be 'page' or 'document', not 'chapter'"),
        ({"mode": "CMYK"}, "mode must be 'RGB' or 'L'"),
        ({"errors": "skip"}, "errors must be 'raise' or 'ignore'"),
        ({"dpi": 0}, "dpi must be None or a number above 0"),
        ({"dpi": 100, "by": "document"}, "images are those of pages"),
    ):
        with pytest.raises(ValueError, match=text):
            aktis.data.read_pdfs("nowhere", **arguments)  # pyright: ignore[reportArgumentType]


def test_a_job_goes_on_behind_the_pages_that_are_done(tmp_path):
    source, mark = tmp_path / "in", tmp_path / "mended"
    source.mkdir()
    for number in range(4):
        (source / f"{number}.pdf").write_bytes(document([f"{number} {page}" for page in range(3)]))

    def checked(row):
        if row["text"] == "3 1" and not mark.exists():
            raise ValueError("not yet")
        return {**row, "before": not mark.exists()}

    def job():
        ds = aktis.data.read_pdfs(source, override_num_blocks=4, include_paths=False).map(
            checked, compute=aktis.data.TaskPoolStrategy(1)
        )
        ds.write_parquet(tmp_path / "out", resume="auto")

    with pytest.raises(ValueError, match="not yet"):
        job()
    mark.touch()
    job()
    rows = aktis.data.read_parquet(tmp_path / "out").take_all()
    assert sorted(row["text"] for row in rows) == [f"{number} {page}" for number in range(4) for page in range(3)]
    assert any(row["before"] for row in rows)
