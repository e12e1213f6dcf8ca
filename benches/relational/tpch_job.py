"""Answers questions of TPC-H with one system, and prints what it took.

    python tpch_job.py SYSTEM FOLDER ANSWERS [--questions q01,q06] [--memory BYTES]

SYSTEM is `aktis`, `datafusion` or `duckdb`; FOLDER holds `<table>.parquet` of all eight tables. Each answer becomes
`ANSWERS/<question>.parquet`. The last line printed is JSON: seconds per question, or the error of one that failed.
"""

import argparse
import json
import pathlib
import re
import resource
import time

from pyarrow import parquet

TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")


def questions(scale):
    """Name and text of each question."""
    text = (pathlib.Path(__file__).parent / "tpch.sql").read_text()
    parts = re.split(r"-- name: (q\d\d)\n", text)[1:]
    # The one parameter that depends on the size of the tables.
    return {
        name: sql.strip().replace("{fraction}", f"{0.0001 / scale:.12f}")
        for name, sql in zip(parts[::2], parts[1::2], strict=True)
    }


class Aktis:
    def __init__(self, folder, memory):
        import aktis
        import aktis.data

        aktis.init(**({"object_store_memory": memory} if memory else {}))
        self._data = aktis.data
        self._paths = {table: str(folder / f"{table}.parquet") for table in TABLES}

    def answer(self, sql):
        used = [table for table in TABLES if re.search(rf"\b{table}\b", sql)]
        tables = {table: self._data.read_parquet(self._paths[table]) for table in used}
        return self._data.sql(sql, **tables).to_arrow()


class DataFusion:
    def __init__(self, folder, memory):
        import datafusion

        runtime = datafusion.RuntimeEnvBuilder().with_disk_manager_os()
        if memory:
            runtime = runtime.with_fair_spill_pool(memory)
        self._context = datafusion.SessionContext(runtime=runtime)
        for table in TABLES:
            self._context.register_parquet(table, str(folder / f"{table}.parquet"))

    def answer(self, sql):
        return self._context.sql(sql).to_arrow_table()


class DuckDB:
    def __init__(self, folder, memory):
        import duckdb

        self._connection = duckdb.connect()
        if memory:
            self._connection.execute(f"set memory_limit = '{memory}B'")
        for table in TABLES:
            self._connection.execute(f"create view {table} as select * from '{folder / table}.parquet'")

    def answer(self, sql):
        return self._connection.sql(sql).to_arrow_table()


SYSTEMS = {"aktis": Aktis, "datafusion": DataFusion, "duckdb": DuckDB}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("answers", type=pathlib.Path)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--questions", default="")
    parser.add_argument("--memory", type=int, default=0)
    arguments = parser.parse_args()
    arguments.answers.mkdir(parents=True, exist_ok=True)
    system = SYSTEMS[arguments.system](arguments.folder, arguments.memory)
    asked = questions(arguments.scale)
    chosen = arguments.questions.split(",") if arguments.questions else sorted(asked)
    seconds, errors = {}, {}
    for name in chosen:
        begin = time.perf_counter()
        try:
            answer = system.answer(asked[name])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this question's
            errors[name] = f"{type(error).__name__}: {error}"
            continue
        seconds[name] = time.perf_counter() - begin
        parquet.write_table(answer, arguments.answers / f"{name}.parquet")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "errors": errors, "peak_rss_bytes": peak}))


if __name__ == "__main__":
    main()
