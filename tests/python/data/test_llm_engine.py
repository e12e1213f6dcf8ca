"""vLLM's engine over rows: stages, order, room, errors of rows and of the engine. The engine is a stand-in with vLLM's signatures."""

import pathlib
from typing import Any

import aktis.data
import numpy
import pyarrow
import pytest
from aktis.data._fingerprints import fingerprint
from aktis.data.llm import ChatTemplateStageConfig, build_processor, vLLMEngineProcessorConfig
from aktis.data.llm._text_stages import DetokenizeStage

STAND_INS = pathlib.Path(__file__).parents[1] / "stand_ins"


@pytest.fixture(autouse=True)
def engines(monkeypatch):
    """Workers import from where the driver does."""
    monkeypatch.syspath_prepend(str(STAND_INS))


def made(prompts, sampling=None, *, postprocess=None, preprocess=None, **config):
    """A dataset of what an engine makes of prompts, without the stages that make them."""
    bare = {"chat_template_stage": False, "tokenize_stage": False, "detokenize_stage": False}
    processor = build_processor(
        vLLMEngineProcessorConfig(**{"model_source": "m", **bare, **config}),
        preprocess=preprocess or (lambda row: {"sampling_params": {"max_tokens": 100, **(sampling or {})}}),
        postprocess=postprocess or (lambda row: {"id": row["id"], "said": row["generated_text"]}),
    )
    return processor(aktis.data.from_items([{"id": i, "prompt": prompt} for i, prompt in enumerate(prompts)]))


def test_messages_become_prompts_tokens_and_text():
    processor = build_processor(
        vLLMEngineProcessorConfig(model_source="m", batch_size=2),
        preprocess=lambda row: {
            "messages": [{"role": "system", "content": "s"}, *([{"role": "assistant", "content": "x"}] if row["id"] == 1 else [])],
            # Only the first row says what the others leave out.
            "sampling_params": {"max_tokens": 50, "detokenize": False} | ({"temperature": 0.5} if row["id"] == 0 else {}),
        },
    )  # fmt: skip
    assert processor.list_stage_names() == ["ChatTemplateStage", "TokenizeStage", "vLLMEngineStage", "DetokenizeStage"]
    rows = processor(aktis.data.range(3)).take_all()
    prompts = ["<system>s<assistant>", "<system>s<assistant>x", "<system>s<assistant>"]
    assert [row["prompt"] for row in rows] == prompts
    assert [row["generated_text"] for row in rows] == [prompt[::-1] for prompt in prompts]
    first = rows[0]
    assert list(first["tokenized_prompt"]) == [ord(letter) for letter in prompts[0]] == list(first["prompt_token_ids"])
    assert (first["num_input_tokens"], first["num_generated_tokens"], first["finish_reason"]) == (20, 20, "stop")
    assert "temperature=0.5" in first["params"] and "temperature=1.0" in rows[1]["params"]


def test_texts_are_made_of_tokens_where_the_engine_was_asked_for_none():
    rows = made(
        ["ab", "cd"], tokenize_stage=False, detokenize_stage=True,
        preprocess=lambda row: {"sampling_params": {"n": 1 + row["id"], "detokenize": False}},
        postprocess=lambda row: {"said": row["generated_text"], "all": row.get("generated_texts")},
    ).take_all()  # fmt: skip
    assert [row["said"] for row in rows] == ["ba", "dc"]
    assert rows[0]["all"] is None and list(rows[1]["all"]) == ["dc", "dc"]


def test_a_text_that_is_rightly_empty_stays_so():
    row = {"generated_text": "", "generated_tokens": [35, 35], "sampling_params": {"stop": "##"}}
    # The second has columns of a processor before this one.
    again = {**row, "generated_tokens_of_texts": [[1], [2]], "sampling_params": {"detokenize": False}}
    assert DetokenizeStage("m", False).work([row, again]) == [{}, {"generated_text": "##"}]


def test_a_row_without_messages_is_named():
    processor = build_processor(
        vLLMEngineProcessorConfig(model_source="m", should_continue_on_error=True),
        preprocess=lambda row: {"messages": [{"role": "user", "content": "a"}] * (row["id"] != 1), "sampling_params": {}},
    )  # fmt: skip
    ds = processor(aktis.data.range(3, override_num_blocks=1))
    assert [row["id"] for row in ds.take_all()] == [0, 2]
    (letter,) = ds.dead_letters().take_all()
    assert letter["row"] == {"id": 1} and "'messages' is empty" in letter["message"]
    processor.config.should_continue_on_error = False
    with pytest.raises(ValueError, match=r"'messages' is empty(?s:.*)raised for row 1 of a batch of 3: \{'id': 1"):
        processor(aktis.data.range(3, override_num_blocks=1)).take_all()


def test_templates_get_what_they_were_given():
    def prompt(chat_template_stage: Any = True, **options):
        processor = build_processor(
            vLLMEngineProcessorConfig(
                model_source="m", chat_template_stage=chat_template_stage, tokenize_stage=False, detokenize_stage=False
            ),
            preprocess=lambda row: {"messages": [{"role": "user", "content": "a"}], "sampling_params": {}},
            postprocess=lambda row: {"prompt": row["prompt"]},
            **options,
        )
        return processor(aktis.data.range(1)).take_all()[0]["prompt"]

    thinking = {"chat_template_kwargs": {"enable_thinking": False}}
    assert prompt(builder_kwargs=thinking) == "{'enable_thinking': False}<user>a<assistant>"
    assert prompt({"chat_template": "T:"}) == "T:<user>a<assistant>"
    own = ChatTemplateStageConfig(chat_template_kwargs={"a": 1})
    assert prompt(own, builder_kwargs=thinking) == "{'a': 1}<user>a<assistant>"


def test_stages_share_workers_unless_they_ask_for_others():
    def plan(**config):
        processor = build_processor(vLLMEngineProcessorConfig(model_source="m", **config))
        return processor(aktis.data.range(3)).explain().partition("Optimised")[0]

    assert plan().count("TextStages") == 2
    apart = plan(tokenize_stage={"num_cpus": 0.5, "batch_size": 7})
    assert apart.count("TextStages") == 3 and "batch_size=7" in apart and "CPU=0.5" in apart
    assert "Map(vLLMEngineStage) actors=1..3 GPU=1" in plan(concurrency=3)


def test_the_engine_is_full_and_rows_keep_their_order():
    # Rows that take long are among others; whoever waits for a batch as a whole never has so many under way.
    prompts = ["sleep 0.2" if i % 16 == 0 else "meet 18" for i in range(64)] + ["most"]
    rows = made(prompts, engine_kwargs={"max_num_seqs": 16}, batch_size=4, max_concurrent_batches=6).take_all()
    assert [row["id"] for row in rows] == list(range(65))
    # A tenth more than it computes with: 18.
    assert rows[-1]["said"][::-1] == "18"


@pytest.mark.parametrize(
    ("config", "most"), [({"max_pending_requests": 3}, 3), ({"batch_size": 5, "max_concurrent_batches": 1}, 5)]
)
def test_no_more_rows_are_with_the_engine_than_were_asked_for(config, most):
    rows = made([*["sleep 0.002"] * 30, "most"], **config).take_all()
    assert int(rows[-1]["said"][::-1]) <= most


def test_rows_that_the_engine_refuses_are_dead_letters():
    prompts = ["ab", "a long one", "cd"]
    ds = made(prompts, should_continue_on_error=True)
    assert [(row["id"], row["said"]) for row in ds.take_all()] == [(0, "ba"), (2, "dc")]
    (letter,) = ds.dead_letters().take_all()
    assert (letter["row"]["id"], letter["error"]) == (1, "ValueError")
    assert letter["message"] == "the prompt is longer than the model's 4096 tokens" and letter["attempts"] == 1
    with pytest.raises(ValueError, match="longer than the model's 4096 tokens"):
        made(prompts).take_all()


def test_dead_letters_of_a_later_stage_can_be_tried_again():
    def processor(limit):
        return build_processor(
            vLLMEngineProcessorConfig(model_source="m", on_error="dead_letter"),
            preprocess=lambda row: {
                "messages": [{"role": "user", "content": f" {row['text'][:limit]} "}], "sampling_params": {},
            },
            postprocess=lambda row: {"text": row["text"], "tokens": row["num_input_tokens"]},
        )  # fmt: skip

    texts = aktis.data.from_items([{"text": "a"}, {"text": "b long"}])
    ds = processor(99)(texts)
    assert [row["text"] for row in ds.take_all()] == ["a"]
    letters = ds.dead_letters()
    assert letters.take_all()[0]["operator"] == "Map(vLLMEngineStage)"
    again = processor(1)(letters.map(lambda letter: letter["row"]))
    assert again.take_all() == [{"text": "b long", "tokens": 20}]


def test_an_engine_that_dies_is_begun_anew_and_its_rows_are_done_again(tmp_path):
    ds = made(["ab", f"die once {tmp_path / 'mark'}", "cd"], on_error="dead_letter")
    assert [row["id"] for row in ds.take_all()] == [0, 1, 2]
    assert (tmp_path / "mark").exists() and ds.dead_letters().count() == 0


def test_a_row_that_kills_each_engine_is_found():
    ds = made(["ab", "die", "cd"], on_error="dead_letter")
    assert [row["id"] for row in ds.take_all()] == [0, 2]
    (letter,) = ds.dead_letters().take_all()
    assert (letter["row"]["id"], letter["error"]) == (1, "WorkerCrashedError")


def test_an_engine_that_cannot_be_made_ends_the_job_with_its_own_error():
    with pytest.raises(OSError, match="there is no model 'missing'"):
        made(["a"], model_source="missing", on_error="dead_letter").take_all()


def test_parameters_of_rows_reach_the_engine():
    def parameters(row):
        kinds = [
            {"guided_decoding": {"choice": numpy.array(["yes"])}},
            {"structured_outputs": {"choice": ["no"]}},
            {"max_tokens": 1},
        ]
        return {"sampling_params": kinds[row["id"]]}

    rows = made(
        ["a", "b", "cd"], preprocess=parameters, postprocess=lambda row: row | {"sampling_params": None}
    ).take_all()
    assert [row["generated_text"] for row in rows] == ["yes", "no", "d"]
    assert [row["finish_reason"] for row in rows] == ["stop", "stop", "length"]
    assert all("FINAL_ONLY" in row["params"] for row in rows)


def test_several_texts_and_probabilities_are_columns():
    rows = made(["ab", "c"], {"n": 2, "logprobs": 1, "prompt_logprobs": 1}, postprocess=lambda row: row).take_all()
    assert list(rows[0]["generated_texts"]) == ["ba", "ba"]

    def told(token):
        return [{"token_id": ord(token), "logprob": -0.5, "rank": 1, "decoded_token": token}]

    assert [list(each) for each in rows[0]["logprobs"]] == [told("b"), told("a")]
    # Nothing goes before the first token of a prompt.
    assert [each and list(each) for each in rows[0]["prompt_logprobs"]] == [None, told("b")]
    assert list(rows[1]["prompt_logprobs"]) == [None]


ORDINARY = {
    "large_string": pyarrow.array(["a", "b"], pyarrow.large_string()),
    "large_binary": pyarrow.array([b"a", b"b"], pyarrow.large_binary()),
    "list": pyarrow.array([[1], [2, 3]]),
    "fixed_list": pyarrow.array([[1.0, 2.0], None], pyarrow.list_(pyarrow.float32(), 2)),
    "dictionary": pyarrow.array(["a", "b"]).dictionary_encode(),
    "map": pyarrow.array([[("a", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
    "nothing": pyarrow.array([None, None], pyarrow.int32()),
    "struct": pyarrow.array([{"a": 1}, {"a": None}]),
}


def test_columns_of_all_kinds_go_through_the_stages_of_texts():
    processor = build_processor(
        vLLMEngineProcessorConfig(model_source="m"),
        preprocess=lambda row: {"messages": [{"role": "user", "content": "q"}], "sampling_params": {}},
    )
    table = pyarrow.table(ORDINARY)
    # Blocks and batches of several chunks, too.
    ds = processor(aktis.data.from_arrow(pyarrow.concat_tables([table, table])))
    rows = ds.take_all()
    assert [row["generated_text"] for row in rows] == [">tnatsissa<q>res"] * 4
    assert [(row["large_string"], row["dictionary"], row["nothing"], list(row["list"])) for row in rows[2:]] == [
        ("a", "a", None, [1]), ("b", "b", None, [2, 3]),
    ]  # fmt: skip


def test_embeddings_are_numbers():
    rows = made(
        ["ab", "cde"],
        task_type="embed",
        engine_kwargs={"task_type": "embed"},
        preprocess=lambda row: {
            "pooling_params": {"dimensions": 2}, "tokenization_kwargs": {"truncation": True, "max_length": 2},
        },
        postprocess=lambda row: {"embedding": row["embeddings"], "tokens": row["num_input_tokens"]},
    ).take_all()  # fmt: skip
    assert [list(row["embedding"]) for row in rows] == [[97.0, 98.0], [99.0, 100.0]]
    assert [row["tokens"] for row in rows] == [2, 2]


def test_a_row_may_name_its_lora():
    rows = made(
        ["a", "b", "c"],
        dynamic_lora_loading_path="/loras",
        preprocess=lambda row: {"sampling_params": {"max_tokens": 99}, "model": ["m", "one", "two"][row["id"]]},
    ).take_all()
    assert [row["said"] for row in rows] == ["a", "one 1 /loras/one", "two 2 /loras/two"]


def test_what_is_missing_of_a_row_is_said():
    with pytest.raises(ValueError, match="needs the column 'sampling_params'"):
        made(["a"], preprocess=lambda row: {}).take_all()
    with pytest.raises(
        ValueError, match="needs the column 'prompt' or 'tokenized_prompt', and the row has 'id', 'prompt', "
    ):
        made([""]).take_all()


def test_a_package_that_is_missing_is_named(monkeypatch):
    # A module that cannot be imported, in the place of the stand-in.
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if path != str(STAND_INS)])
    with pytest.raises(ImportError, match=r"vLLMEngineProcessorConfig\(\) needs vllm: pip install vllm"):
        made(["a"]).take_all()


@pytest.mark.parametrize(
    ("config", "resources"),
    [
        ({}, {"num_gpus": 1}),
        ({"engine_kwargs": {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}}, {"num_gpus": 8}),
        ({"placement_group_config": {"bundles": [{"GPU": 0.5, "CPU": 2, "H100": 1}]}},
         {"num_cpus": 2, "num_gpus": 0.5, "resources": {"H100": 1}}),
        ({"placement_group_config": {"bundle_per_worker": {"GPU": 1}, "strategy": "PACK"}, "engine_kwargs": {"tensor_parallel_size": 2}},
         {"num_gpus": 2}),
    ],
)  # fmt: skip
def test_workers_get_the_gpus_of_their_engine(config, resources):
    processor = build_processor(vLLMEngineProcessorConfig(model_source="m", **config))
    stage = processor.get_stage_by_name("vLLMEngineStage")
    assert stage.resources == resources
    many = config.get("engine_kwargs", {}).get("tensor_parallel_size", 1) > 1
    assert stage.arguments[0].arguments["distributed_executor_backend"] == ("mp" if many else "uni")


def test_more_rows_at_once_are_the_same_job_and_another_model_is_not():
    def sign(**config):
        return fingerprint(
            build_processor(vLLMEngineProcessorConfig(**{"model_source": "m", **config}))
            .get_stage_by_name("vLLMEngineStage")
            .arguments
        )

    assert sign() == sign(max_concurrent_batches=2, batch_size=8)
    assert sign() != sign(model_source="n") and sign() != sign(engine_kwargs={"seed": 1})


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"model_source": ""}, ValueError, "model_source is a folder or the name of a model"),
        ({"task_type": "score"}, ValueError, "vLLM has it no more, and says 'classify'"),
        ({"task_type": "embd"}, ValueError, "task_type is one of 'generate', 'embed', 'classify', not 'embd'"),
        ({"engine_kwargs": {"model": "other"}}, ValueError, "model_source says 'm'"),
        ({"engine_kwargs": {"runner": "pooling"}}, ValueError, "task_type says 'generate'"),
        ({"engine_kwargs": {"tensor_parallel_size": 0}}, ValueError, "tensor_parallel_size must be a whole number"),
        ({"engine_kwargs": {"distributed_executor_backend": "ray"}}, NotImplementedError, "there is no Ray"),
        ({"engine_kwargs": {"distributed_executor_backend": "external_launcher"}}, NotImplementedError, "for each GPU"),
        ({"apply_chat_template": True}, NotImplementedError, "chat_template_stage=True or False"),
        ({"has_image": True}, NotImplementedError, "multimodal_data"),
        ({"prepare_multimodal_stage": True}, NotImplementedError, "'multimodal_data' with a 'prompt'"),
        ({"log_engine_metrics": True}, NotImplementedError, "no endpoint of metrics"),
        ({"runtime_env": {"pip": ["x"]}}, NotImplementedError, "where the nodes are started"),
        ({"max_pending_requests": "a"}, ValueError, "max_pending_requests is a whole number"),
        ({"max_tasks_in_flight_per_actor": 0}, ValueError, "max_tasks_in_flight_per_actor must be a whole number"),
        ({"placement_group_config": [{"GPU": 1}]}, TypeError, "is a dict, as {'bundles'"),
        ({"placement_group_config": {"bundles": []}}, ValueError, r"and has {'bundles': \[\]}"),
        ({"placement_group_config": {"bundle_per_worker": 1}}, ValueError, "and has {'bundle_per_worker': 1}"),
        ({"placement_group_config": {"bundles": [{"GPU": "a"}]}}, ValueError, "and has {'bundles': .*'a'"),
        (
            {"placement_group_config": {"bundles": [{"GPU": 1}] * 2}, "engine_kwargs": {"tensor_parallel_size": 4}},
            ValueError,
            "has 2 GPU in all, .* multiply to 4",
        ),
        ({"placement_group_config": {}}, ValueError, "either 'bundles' or 'bundle_per_worker'"),
        (
            {"placement_group_config": {"bundles": [{"GPU": 1}], "strategy": "SPREAD"}},
            NotImplementedError,
            "on one node",
        ),
        ({"modle_source": "m"}, TypeError, "did you mean 'model_source'"),
        ({"chat_template_stage": 3}, TypeError, "True, False, a dict or a ChatTemplateStageConfig, not 3"),
        ({"tokenize_stage": {"batchsize": 3}}, TypeError, "did you mean 'batch_size'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_where_they_are_made(options, error, told):
    with pytest.raises(error, match=told):
        build_processor(vLLMEngineProcessorConfig(**{"model_source": "m", **options}))


def test_arguments_of_the_builder_are_looked_at():
    config = vLLMEngineProcessorConfig(model_source="m", chat_template_stage=False)
    with pytest.raises(ValueError, match="chat_template_stage is False"):
        build_processor(config, builder_kwargs={"chat_template_kwargs": {"a": 1}})
    with pytest.raises(TypeError, match="did you mean 'chat_template_kwargs'"):
        build_processor(config, builder_kwargs={"chat_template_kwarg": {"a": 1}})
