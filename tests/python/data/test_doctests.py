"""The examples in the docstrings."""

import doctest
import importlib

import pytest

MODULES = ["aktis.data", "aktis.data._compute", "aktis.data._computed", "aktis.data._context", "aktis.data._expr", "aktis.data._fingerprints", "aktis.data._folders", "aktis.data.checkpoint",
           "aktis.data._from_pyarrow", "aktis.data._lowering", "aktis.data._namespaces", "aktis.data._notebook", "aktis.data._numbers",
           "aktis.data._pictures", "aktis.data._progress_lines", "aktis.data._reading", "aktis.data._reading_blocks", "aktis.data._relational", "aktis.data._save_mode", "aktis.data._schema",
           "aktis.data._sql", "aktis.data._sql_calls", "aktis.data._sql_functions", "aktis.data._chosen_files", "aktis.data._stores.backend", "aktis.data._stores.choosing", "aktis.data._stores.finding", "aktis.data._stores.refused",
           "aktis.data._taking", "aktis.data._transforms", "aktis.data._trees", "aktis.data._formats.compressed", "aktis.data._formats.crc32c", "aktis.data._formats.write_webdataset", "aktis.data._partitioning",
           "aktis.data._writing", "aktis.data.dataset",
           "aktis.data.expressions",
           "aktis.data._groups", "aktis.data.llm", "aktis.data.llm._answers", "aktis.data.llm._bodies", "aktis.data.llm._carrying",
           "aktis.data.llm._configs", "aktis.data.llm._processor", "aktis.data.llm._stage_configs", "aktis.data.llm._vllm_config", "aktis.data.aggregate", "aktis.data.grouped_data"]  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_documentation_run(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0 and result.failed == 0
