"""Shows the progress of a run that is made up: python progress_program.py CASE. No session is needed."""

import logging
import sys
import threading
import time

from aktis._session.worker_logs import print_worker_lines
from aktis.data import DataContext, _progress, _running

_progress.QUIET_S = 0.0
CASE = sys.argv[1]
POLLS = 30


class Run:
    """As the native execution, with stages whose names are as long as they are in practice."""

    def __init__(self):
        names = ["Read->MapBatches(<lambda>)->MapBatches(EmbedSentences)->Write"]
        if CASE == "two stages":
            names = ["Read->MapBatches(Decode)", "MapBatches(Classify)->Write"]
        self.names, self.polls, self.is_cancelled = names, 0, False

    def next(self, _seconds):
        time.sleep(0.03)
        self.polls += 1
        if CASE == "failure" and self.polls > POLLS // 2:
            raise ValueError("row 7 is bad")
        if CASE == "for ever":
            self.polls = min(self.polls, POLLS // 2)
        return self.polls > POLLS, f"block {self.polls}"

    def stats(self):
        share = min(self.polls / POLLS, 1)
        rows = round(share * 1_000_000)
        operators = [{"name": "Read", "rows_in": 0, "rows_out": rows}, {"name": "f", "rows_in": rows, "rows_out": rows}]
        stage = {"inputs": 0, "known_inputs": 0, "workers": 12, "starting": 0, "is_done": False, "operators": operators}
        stages = [
            {**stage, "name": name, "givers": [index - 1] if index else []} for index, name in enumerate(self.names)
        ]
        return {"source_rows": 1_000_000, "elapsed_s": 12.3, "stages": stages}

    def expectations(self):
        return []

    def read(self, block):
        return [block]

    def cancel(self):
        self.is_cancelled = True

    def has_ended(self, _seconds):
        return self.is_cancelled

    def waiting_stages(self):
        return []

    def waiting_kinds(self):
        return []


def print_as_workers():
    """Sixty lines, from the thread that prints the lines of workers, while the bar moves."""
    for number in range(0, 60, 3):
        time.sleep(0.02)
        print_worker_lines({"pid": 7, "source": "f", "lines": [f"line {number + i}" for i in range(3)]})


def main():
    if CASE == "switched off":
        DataContext.get_current().enable_progress_bars = False
    if CASE == "no tqdm":
        sys.modules["tqdm"] = None  # pyright: ignore[reportArgumentType]
    if CASE == "worker lines":
        threading.Thread(target=print_as_workers).start()
    if CASE in ("failure", "for ever"):
        _running.run(Run())
    elif CASE == "loop":
        logging.basicConfig(level="INFO", format="%(message)s")
        for number, _ in enumerate(_running.batches(Run())):
            print("printed", number)
            print("in two ", end="", flush=True)
            time.sleep(0.05)
            print("pieces", number)
            logging.getLogger("program").info("logged %d", number)
            print("to error", number, file=sys.stderr)
    elif CASE == "tqdm":
        from tqdm import tqdm

        for number, _ in enumerate(tqdm(_running.batches(Run()), desc="mine", total=POLLS)):
            if number % 3 == 0:
                print_worker_lines({"pid": 7, "source": "f", "lines": [f"line {number}"]})
    elif CASE == "inner tqdm":
        from tqdm import tqdm

        for number, _ in enumerate(_running.batches(Run())):
            for _ in tqdm(range(3), desc=f"inner {number}", leave=number % 10 == 0):
                time.sleep(0.02)
    elif CASE == "question":
        answers = [input("really? ") for number, _ in enumerate(_running.batches(Run())) if number == POLLS // 2]
        print("the answer", *answers)
    elif CASE == "given up":
        for _ in zip(range(POLLS // 2), _running.batches(Run()), strict=False):
            pass
    else:
        _running.blocks(Run())
    print("the end", type(sys.stdout).__name__)


main()
