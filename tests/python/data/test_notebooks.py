"""Notebooks, executed: what their cells show."""

import re

import nbclient
import nbformat
import pytest

#: One session for all cells, by name. A cell that ends in an exception is followed by the others all the same.
CELLS = {
    "begin": """
        import logging, os, signal, threading, time
        import aktis, aktis.data, numpy
        # On a busy machine, workers take longer to start than somebody should have to wait without a word.
        logging.getLogger("aktis.data").setLevel("ERROR")
        aktis.init(num_cpus=2)
    """,
    "references": """
        @aktis.remote
        class Greeter:
            def greet(self, name):
                return name
        greeter = Greeter.remote()
        reference = aktis.put(1)
        aktis.get(greeter.greet.remote("you"))
    """,
    "actor": "greeter",
    "reference": "reference",
    "make": """
        def slow(batch):
            time.sleep(0.04)
            size = len(batch["id"])
            picture = numpy.zeros((size, 32, 16, 3), numpy.uint8) + batch["id"][:, None, None, None].astype(numpy.uint8)
            return {"<b>id</b>": batch["id"], "picture": picture, "said": ["<script>alert(1)</script>"] * size}
        ds = aktis.data.range(40).map_batches(slow, batch_size=1, concurrency=1)
    """,
    "before": "ds",
    "no statistics": "ds.stats()",
    "run": "len(ds.take_all())",
    "after": "ds",
    "statistics": "ds.stats()",
    "rows": "ds.show(2)",
    "kept": "ds.limit(3).materialize()",
    "failure": """
        def bad(batch):
            time.sleep(0.05)
            if batch["id"][0] >= 30:
                raise ValueError("row 30 is bad")
            return batch
        aktis.data.range(40).map_batches(bad, batch_size=1, concurrency=1).take_all()
    """,
    "interrupt": """
        threading.Timer(4, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        aktis.data.range(10_000).map_batches(slow, batch_size=1, concurrency=1).take_all()
    """,
    "switched off": """
        aktis.data.DataContext.get_current().enable_progress_bars = False
        len(ds.take_all())
    """,
    "read-only": "aktis.get(aktis.put(numpy.zeros(3)))[0] = 1",
    "afterwards": "aktis.get(greeter.greet.remote('still there'))",
}


class Client(nbclient.NotebookClient):
    """Counts how often outputs are replaced."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.replaced = {}

    def process_message(self, message, cell, cell_index):  # pyright: ignore[reportIncompatibleMethodOverride]
        if message["msg_type"] == "update_display_data":
            self.replaced[cell_index] = self.replaced.get(cell_index, 0) + 1
        return super().process_message(message, cell, cell_index)


@pytest.fixture(scope="module")
def notebook():
    """The outputs of each cell."""
    cells = [nbformat.v4.new_code_cell(re.sub(r"(?m)^ {8}", "", source).strip()) for source in CELLS.values()]
    made = nbformat.v4.new_notebook(cells=cells)
    client = Client(made, timeout=120, allow_errors=True, kernel_name="python3")
    client.execute()
    outputs = dict(zip(CELLS, [cell.outputs for cell in made.cells], strict=True))
    outputs["replaced"] = dict(zip(CELLS, [client.replaced.get(index, 0) for index in range(len(CELLS))], strict=True))
    return outputs


def is_progress(output):
    """Runs that take longer than a second show it, and any of them may."""
    return output.output_type == "display_data" and "<pre" in output.data.get("text/html", "")


def shown(outputs, kind="text/html"):
    """What the outputs show in one form, without progress."""
    outputs = [output for output in outputs if not is_progress(output)]
    return [output.data[kind] for output in outputs if "data" in output and kind in output.data]


def test_columns_are_unknown_before_a_run_and_shown_after_it(notebook):
    (before,) = shown(notebook["before"])
    assert "known once it has run" in before
    (after,) = shown(notebook["after"])
    assert "&lt;b&gt;id&lt;/b&gt;" in after and "<b>id</b>" not in after
    assert "int64" in after and "tensor of uint8, shape (32, 16, 3)" in after and "string" in after
    (kept,) = shown(notebook["kept"])
    assert "MaterializedDataset" in kept and "3 rows" in kept and "int64" in kept


def test_progress_is_one_line_that_changes_and_stays(notebook):
    outputs = notebook["run"]
    assert [output.output_type for output in outputs] == ["display_data", "execute_result"]
    line = outputs[0].data["text/plain"]
    assert (
        "MapBatches(slow)" in line and "100%" in line and "40 rows" in line and "done in" in line and "\n" not in line
    )
    assert "&gt;MapBatches(slow)" in outputs[0].data["text/html"], "it is escaped"
    assert notebook["replaced"]["run"] >= 2


def test_a_failed_and_an_interrupted_run_say_so(notebook):
    for cell, kind, error in (
        ("failure", "failed after", "ValueError"),
        ("interrupt", "interrupted after", "KeyboardInterrupt"),
    ):
        progress, raised = notebook[cell]
        assert kind in progress.data["text/plain"] and "done" not in progress.data["text/plain"]
        assert "100%" not in progress.data["text/plain"]
        assert raised.output_type == "error" and error in raised.ename
    assert shown(notebook["afterwards"], "text/plain") == ["'still there'"], "the session goes on"


def test_nothing_is_shown_where_progress_is_switched_off(notebook):
    assert [output.output_type for output in notebook["switched off"]] == ["execute_result"]


def test_writing_into_a_read_only_array_is_explained_below_the_traceback(notebook):
    raised, said = notebook["read-only"]
    assert raised.output_type == "error" and "read-only" in raised.evalue
    assert said.name == "stderr" and "array = array.copy()" in said.text


def test_statistics_can_be_read(notebook):
    assert "no run yet" in shown(notebook["no statistics"])[0]
    (table,) = shown(notebook["statistics"])
    assert "<td" in table and "MapBatches(slow)" in table and "Rows out" in table and "Read 0 B from storage" in table
    (text,) = shown(notebook["statistics"], "text/plain")
    assert len(text.splitlines()) == 5 and "\\n" not in text


def test_rows_are_a_table_with_pictures(notebook):
    (table,) = shown(notebook["rows"])
    assert table.count("<tr>") == 3
    assert len(re.findall(r'<img src="data:image/png;base64,', table)) == 2
    assert "&lt;script&gt;" in table and "<script>" not in table and "uint8 (32, 16, 3)" in table


def test_the_session_says_where_it_is(notebook):
    (session,) = shown(notebook["begin"])
    assert "Aktis session" in session and "session_dir" in session


def test_actors_say_what_can_be_called(notebook):
    (actor,) = shown(notebook["actor"])
    assert "Greeter" in actor and "greet.remote()" in actor and "__" not in actor


def test_references_say_whether_their_value_is_there(notebook):
    (reference,) = shown(notebook["reference"])
    assert "ObjectRef" in reference and "ready, or failed" in reference
