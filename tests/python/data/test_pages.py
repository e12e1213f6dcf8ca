"""The examples of the pages about datasets run, in the order of the page."""

import doctest
import pathlib
import re

import pytest

PAGES = sorted((pathlib.Path(__file__).parents[3] / "docs" / "data").glob("*.md"))


@pytest.mark.usefixtures("session_again")
@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_examples_of_the_page_give_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    # One example of a page uses what those before it have made.
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page.name, str(page), 0)
    assert test.examples
    told = []
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append)
    assert results.failed == 0, "".join(told)
