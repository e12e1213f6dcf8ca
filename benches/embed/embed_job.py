"""The job: embed a Parquet column of text with all-MiniLM-L6-v2 and write Parquet. One process per system.

    python embed_job.py make --input FOLDER --rows 2000
    python embed_job.py run --system ray|aktis|loop|loop32 --model FOLDER --input FOLDER --output FOLDER
    python embed_job.py compare --output FOLDER --reference FOLDER

A run does the job twice in one session: over the first rows only, then over all. The difference of the two tells the
rate without imports and loading of the model. Prints one JSON object in its last line.
"""

import argparse
import concurrent.futures
import json
import pathlib
import time

FEW_ROWS = 64


class SentenceTransformerEmbedder:
    """The usual way with Ray Data: the model in the constructor, `encode` per batch."""

    def __init__(self, model, threads):
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self.model = SentenceTransformer(model, device="cpu")

    def __call__(self, batch):
        batch["embedding"] = self.model.encode(list(batch["text"]), show_progress_bar=False)
        return batch


def ray_job(options):
    import ray

    ray.init(num_cpus=options.cpus)

    def job(source, target):
        (
            ray.data.read_parquet(str(source))
            .map_batches(
                SentenceTransformerEmbedder, fn_constructor_args=(str(options.model), options.cpus), batch_size=64,
                compute=ray.data.ActorPoolStrategy(size=1),
            )
            .write_parquet(str(target))
        )  # fmt: skip

    return job, ray.shutdown


def aktis_job(options):
    import aktis
    import aktis.data
    import aktis.models

    aktis.init(num_cpus=options.cpus)

    def job(source, target):
        (
            aktis.data.read_parquet(str(source))
            .map_batches(
                aktis.models.TextEmbedder(str(options.model), column="text", backend="onnx"),
                compute=aktis.data.ActorPoolStrategy(size=1),
            )
            .write_parquet(str(target))
        )  # fmt: skip

    return job, aktis.shutdown


def loop_job(options, *, copies, threads, token_budget=None, batch_rows=None):
    """The floor: ONNX Runtime over length-sorted batches, no runtime. `copies` of the model compute side by side."""
    import numpy
    import pyarrow
    from pyarrow import parquet

    def job(source, target):
        import onnxruntime
        import tokenizers

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        graph = str(options.model / "model.onnx")
        sessions = [onnxruntime.InferenceSession(graph, settings, ["CPUExecutionProvider"]) for _ in range(copies)]
        tokenizer = tokenizers.Tokenizer.from_file(str(options.model / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(_max_tokens(options.model))
        table = parquet.read_table(source)
        encoded = tokenizer.encode_batch(table["text"].to_pylist())
        batches = sorted_batches([len(one.ids) for one in encoded], token_budget, batch_rows)
        result = numpy.empty((table.num_rows, _hidden_size(options.model)), dtype=numpy.float32)
        queue = iter(batches)

        def drain(session):
            for batch in queue:
                result[batch] = embed_batch(session, [encoded[i] for i in batch])

        with concurrent.futures.ThreadPoolExecutor(copies) as pool:
            list(pool.map(drain, sessions))
        column = pyarrow.FixedSizeListArray.from_arrays(result.reshape(-1), result.shape[1])
        target.mkdir(parents=True)
        parquet.write_table(table.append_column("embedding", column), target / "part-0.parquet")

    return job, lambda: None


def sorted_batches(lengths, token_budget, batch_rows):
    """Row numbers in batches of like length: as many rows as the padded tokens allow, or a fixed number."""
    batches, current = [], []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        full = (len(current) + 1) * lengths[row] > token_budget if token_budget else len(current) == batch_rows
        if current and full:
            batches.append(current)
            current = []
        current.append(row)
    return [*batches, current] if current else batches


def embed_batch(session, encoded):
    """Mean of the token vectors over the tokens that are no padding, scaled to length 1."""
    import numpy

    width = max(len(one.ids) for one in encoded)
    ids, mask = (numpy.zeros((len(encoded), width), dtype=numpy.int64) for _ in range(2))
    for row, one in enumerate(encoded):
        ids[row, : len(one.ids)] = one.ids
        mask[row, : len(one.ids)] = 1
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
    (hidden,) = session.run(["last_hidden_state"], inputs)
    weights = mask[:, :, None].astype(numpy.float32)
    mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
    return mean / numpy.linalg.norm(mean, axis=1, keepdims=True)


def _max_tokens(model):
    return json.loads((model / "sentence_bert_config.json").read_text())["max_seq_length"]


def _hidden_size(model):
    return json.loads((model / "config.json").read_text())["hidden_size"]


SYSTEMS = {
    "ray": ray_job,
    "aktis": aktis_job,
    # The batches that Aktis makes, on as many single-threaded copies as there are CPUs.
    "loop": lambda options: loop_job(options, copies=options.cpus, threads=1, token_budget=512),
    # What one writes by hand: one copy with all threads, 32 rows per batch.
    "loop32": lambda options: loop_job(options, copies=1, threads=options.cpus, batch_rows=32),
}


def run(options):
    job, shut_down = SYSTEMS[options.system](options)
    seconds = []
    for name in ("few", "all"):
        start = time.perf_counter()
        job(options.input / name, options.output / name)
        seconds.append(time.perf_counter() - start)
    shut_down()
    return {"few_s": seconds[0], "all_s": seconds[1]}


def make(options):
    """Writes the input: `all` rows, and the `few` first ones, as one Parquet file each."""
    import pyarrow
    import texts
    from pyarrow import parquet

    table = pyarrow.table({"id": range(options.rows), "text": texts.sample(options.rows)})
    for name, rows in (("few", FEW_ROWS), ("all", options.rows)):
        (options.input / name).mkdir(parents=True)
        parquet.write_table(table.slice(0, rows), options.input / name / "texts.parquet")
    return {"rows": table.num_rows}


def compare(options):
    """Cosines of the embeddings of one folder to those of another, row by row."""
    import numpy
    from pyarrow import parquet

    def vectors(folder):
        table = parquet.read_table(folder / "all").sort_by("id")
        return table["id"].to_numpy(), numpy.array(table["embedding"].to_pylist(), dtype=numpy.float64)

    (ids, ours), (other_ids, theirs) = vectors(options.output), vectors(options.reference)
    assert (ids == other_ids).all(), "the rows are not the same"
    norms = numpy.linalg.norm(ours, axis=1) * numpy.linalg.norm(theirs, axis=1)
    cosines = (ours * theirs).sum(axis=1) / norms
    return {"rows": len(ids), "cosine_min": float(cosines.min()), "cosine_mean": float(cosines.mean())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("make", "run", "compare"))
    parser.add_argument("--system", choices=SYSTEMS)
    for name in ("model", "input", "output", "reference"):
        parser.add_argument(f"--{name}", type=pathlib.Path)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args()
    print("\n" + json.dumps({"make": make, "run": run, "compare": compare}[options.action](options)), flush=True)


if __name__ == "__main__":
    main()
