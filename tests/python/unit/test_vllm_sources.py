"""The stand-in of vLLM has the names and signatures of vLLM's own sources.

They are read and not imported, so no GPU is needed: those of the installed package, or of a wheel that `AKTIS_TEST_VLLM` names (`pip download
vllm --no-deps`). Last compared with vLLM 0.33.0.
"""

import ast
import importlib.util
import os
import pathlib
import zipfile

import pytest

STAND_IN = pathlib.Path(__file__).parents[1] / "stand_ins" / "vllm"
#: A name that is used, and where vLLM has it: in the first place for those who import it, in the second as it is written.
NAMES = [
    ("__init__.py:AsyncEngineArgs", "engine/arg_utils.py:EngineArgs"),
    ("__init__.py:TextPrompt", "inputs/llm.py:TextPrompt"),
    ("__init__.py:TokensPrompt", "inputs/llm.py:TokensPrompt"),
    ("sampling_params.py:SamplingParams", "sampling_params.py:SamplingParams"),
    ("sampling_params.py:StructuredOutputsParams", "sampling_params.py:StructuredOutputsParams"),
    ("sampling_params.py:RequestOutputKind", "sampling_params.py:RequestOutputKind"),
    ("pooling_params.py:PoolingParams", "pooling_params.py:PoolingParams"),
    ("outputs.py:CompletionOutput", "outputs.py:CompletionOutput"),
    ("outputs.py:RequestOutput", "outputs.py:RequestOutput"),
    ("outputs.py:PoolingOutput", "outputs.py:PoolingOutput"),
    ("outputs.py:PoolingRequestOutput", "outputs.py:PoolingRequestOutput"),
    ("outputs.py:Logprob", "logprobs.py:Logprob"),
    ("lora/request.py:LoRARequest", "lora/request.py:LoRARequest"),
    ("v1/engine/async_llm.py:AsyncLLM", "v1/engine/async_llm.py:AsyncLLM"),
    ("v1/engine/exceptions.py:EngineDeadError", "v1/engine/exceptions.py:EngineDeadError"),
]
#: Of the class, these methods are vLLM's; others are the stand-in's own, and its constructor is never called by name.
METHODS = {"AsyncLLM": {"from_engine_args", "generate", "encode", "shutdown"}}


def sources():
    """Reads a file of vLLM by its path in the package; None without any vLLM."""
    wheel = os.environ.get("AKTIS_TEST_VLLM")
    if wheel:
        return lambda path: zipfile.ZipFile(wheel).read(f"vllm/{path}").decode()
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        return None
    folder = pathlib.Path(found.origin).parent
    return lambda path: (folder / path).read_text()


def class_of(source, name):
    classes = {node.name: node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)}
    fields = {}
    # Keys of a prompt are those of the classes that it is made of, too.
    for base in [
        *(classes[each.id] for each in classes[name].bases if isinstance(each, ast.Name) and each.id in classes),
        classes[name],
    ]:
        for node in base.body:
            if isinstance(node, ast.AnnAssign):
                fields[ast.unparse(node.target)] = None if node.value is None else ast.unparse(node.value)
            elif isinstance(node, ast.Assign):
                fields[ast.unparse(node.targets[0])] = ast.unparse(node.value)
    methods = {
        node.name: node for node in classes[name].body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }  # fmt: skip
    return fields, methods


def signature(method):
    """Names of arguments by their places, whether each may be left out, and those that are given by name alone."""
    arguments = method.args
    placed = [each.arg for each in [*arguments.posonlyargs, *arguments.args]]
    first_default = len(placed) - len(arguments.defaults)
    named = {
        each.arg: default is not None for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    }
    return [(name, place >= first_default) for place, name in enumerate(placed)], named


@pytest.mark.parametrize(("own", "theirs"), NAMES, ids=[own for own, _ in NAMES])
def test_names_and_signatures_of_the_stand_in_are_those_of_vllm(own, theirs):
    read = sources()
    if read is None:
        pytest.skip("vLLM is not installed, and AKTIS_TEST_VLLM names no wheel")
    (own_path, _, name), (path, _, their_name) = own.partition(":"), theirs.partition(":")
    fields, methods = class_of((STAND_IN / own_path).read_text(), name)
    their_fields, their_methods = class_of(read(path), their_name)
    # Fields that are given by their names need no order; those that are read only have to be there.
    assert set(fields) <= set(their_fields)
    assert {each for each in fields if their_fields[each] is None} == {
        each for each in fields if fields[each] is None
    } or name == "AsyncEngineArgs"
    for method in METHODS.get(name, {"__init__"} & set(methods)):
        placed, named = signature(methods[method])
        their_placed, their_named = signature(their_methods[method])
        assert placed == their_placed[: len(placed)], method
        # What nobody gives here may be left out there.
        assert all(may_be_left_out for _, may_be_left_out in their_placed[len(placed) :]), method
        assert all(their_named[each] for each in their_named if each not in named), method
        assert set(named) <= set(their_named), method
        is_generator = [
            any(isinstance(node, ast.Yield) for node in ast.walk(each[method])) for each in (methods, their_methods)
        ]
        assert is_generator[0] == is_generator[1], method


def test_names_of_the_package_are_there():
    read = sources()
    if read is None:
        pytest.skip("vLLM is not installed, and AKTIS_TEST_VLLM names no wheel")
    (their_all,) = (
        ast.literal_eval(node.value)
        for node in ast.walk(ast.parse(read("__init__.py")))
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    )
    stand_in = (STAND_IN / "__init__.py").read_text()
    (own_all,) = (ast.literal_eval(node.value) for node in ast.parse(stand_in).body if isinstance(node, ast.Assign))
    assert set(own_all) <= set(their_all)


def test_what_the_stage_reads_of_an_engine_is_there():
    read = sources()
    if read is None:
        pytest.skip("vLLM is not installed, and AKTIS_TEST_VLLM names no wheel")
    assert "self.vllm_config = vllm_config" in read("v1/engine/async_llm.py")
    assert "max_num_seqs" in class_of(read("config/scheduler.py"), "SchedulerConfig")[0]
    assert "pipeline_parallel_size" in class_of(read("config/parallel.py"), "ParallelConfig")[0]
    assert {"scheduler_config", "parallel_config"} <= set(class_of(read("config/vllm.py"), "VllmConfig")[0])
