"""Requests to an endpoint for each row: order, tries, waits, bad answers, secrets."""

import asyncio
import datetime
import email.utils
import json
import logging
import os
import shutil
import subprocess
import time
from typing import Any

import aktis
import aktis.data
import aktis.testing
import numpy
import pytest
from aktis.data._fingerprints import fingerprint
from aktis.data.llm import (
    HttpRequestError,
    HttpRequestProcessorConfig,
    HttpRequestStageConfig,
    _connections,
    build_processor,
)
from aktis.data.llm._answers import asked_wait_s
from aktis.data.llm._connections import Connections
from aktis.data.llm._pace import Pace

from .endpoint import serving


@pytest.fixture
def server():
    with serving() as endpoint:
        yield endpoint


def asked(server, words, config=None, **options):
    """A dataset of the answers to requests, to which the server does what ``words`` say, request by request."""
    options = {"base_retry_wait_time_in_s": 0.01, "timeout_s": 30, **options}
    processor = build_processor(
        config or HttpRequestProcessorConfig(**{"url": server.url, **options}),
        preprocess=lambda row: {
            "payload": {"key": row["id"], "do": row["do"], "messages": [{"role": "user", "content": f"row {row['id']}"}]}
        },
        postprocess=lambda row: {
            "id": row["id"], "said": row["http_response"]["choices"][0]["message"]["content"]
        },
    )  # fmt: skip
    return processor(aktis.data.from_items([{"id": i, "do": list(each)} for i, each in enumerate(words)]))


def test_rows_keep_their_order_and_columns_while_many_requests_are_under_way(server):
    ds = asked(server, [["meet 24"]] * 40, batch_size=24)
    assert ds.take_all() == [{"id": i, "said": f"ROW {i}"} for i in range(40)]
    # The server answers none before so many are there.
    assert server.most_present >= 24 and len(server.seen) == 40


def test_connections_are_used_again(server):
    assert len(asked(server, [[]] * 50, batch_size=4).take_all()) == len(server.seen) == 50
    assert server.connections <= 4


@pytest.mark.parametrize("max_retries", [0, 1])
def test_a_connection_that_the_server_has_closed_meanwhile_is_no_failure(server, max_retries):
    assert len(asked(server, [["bye"]] * 5, batch_size=1, max_retries=max_retries).take_all()) == 5


def sent(server, words, **options):
    """The statuses of answers to requests, one behind the other, on a thread of this process."""

    async def all_of_them():
        connections = Connections(server.url, **{"timeout_s": 30, **options})
        bodies = [json.dumps({"key": i, "do": each}).encode() for i, each in enumerate(words)]
        return [(await connections.post(body, {"Content-Type": "application/json"})).status for body in bodies]

    return asyncio.run(all_of_them())


def test_a_request_that_met_the_end_of_its_connection_is_sent_once_more(server, monkeypatch):
    # As if the end came just behind the look for it.
    monkeypatch.setattr(_connections, "_is_silent", lambda sock: True)
    assert sent(server, [[], ["drop"], []]) == [200] * 3
    assert (server.times(1), server.connections) == (2, 2)


def test_without_tries_no_request_is_sent_twice(server):
    words = [[], ["drop"], []]
    ds = asked(server, words, batch_size=1, max_retries=0, on_error="skip")
    assert [row["id"] for row in ds.take_all()] == [0, 2]
    assert [server.times(i) for i in range(3)] == [1, 1, 1] and server.connections == 3


def test_a_request_that_takes_too_long_leaves_no_thread_that_reads(server):
    for _ in range(2):
        with pytest.raises(TimeoutError):
            sent(server, [["drip", "drip close"]], timeout_s=0.2)
    deadline = time.monotonic() + 30
    # The server cannot write any more.
    while server.present and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.present == 0


def test_interim_answers_are_not_taken_for_the_answer(server):
    # One connection: an answer that were left on it would be that of the next row.
    ds = asked(server, [[], ["hints"], [], ["hints"], []], batch_size=1, max_retries=1)
    assert [row["said"] for row in ds.take_all()] == [f"ROW {i}" for i in range(5)]


def test_what_a_server_sends_behind_its_answer_is_the_answer_to_nothing(server):
    ds = asked(server, [[], ["more"], [], ["more"], []], batch_size=1, max_retries=1)
    assert [row["said"] for row in ds.take_all()] == [f"ROW {i}" for i in range(5)]
    assert len(server.seen) == 5


def test_what_passes_is_tried_again(server):
    words = [["429"], ["500", "502", "503"], ["529"], ["408"], ["torn"], ["cut"], ["drop"], ["torn", "drop", "504"]]
    assert [row["id"] for row in asked(server, words).take_all()] == list(range(len(words)))
    assert [server.times(i) for i in range(len(words))] == [len(each) + 1 for each in words]


def test_tries_have_an_end(server):
    with pytest.raises(HttpRequestError) as caught:
        asked(server, [["503"] * 9], max_retries=2).take_all()
    text = str(caught.value)
    assert "POST http://127.0.0.1" in text and "503 Service Unavailable: no: " in text
    assert "after 3 attempts in " in text and "max_retries=2" in text
    assert "raised for row 0 of a batch of 1: {'do': ['503'" in text
    assert (caught.value.status, caught.value.attempts) == (503, 3) and server.times(0) == 3


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("400", "400 Bad Request: no: "),
        ("401", "401 Unauthorized"),
        ("501", "501 Not Implemented"),
        ("302", "302 Found: give 'another address' as url"),
        ("html", "the answer (200, text/html) is not JSON: <html>down for maintenance</html>"),
    ],
)
def test_what_no_try_helps_is_tried_once(server, word, told):
    with pytest.raises(HttpRequestError) as caught:
        asked(server, [[word]]).take_all()
    assert told in str(caught.value) and server.times(0) == 1


def test_silence_is_ended_and_tried_again(server):
    ds = asked(server, [["hang"], [], ["drip"]], timeout_s=0.3)
    assert [row["id"] for row in ds.take_all()] == [0, 1, 2]
    with pytest.raises(HttpRequestError, match=r"no answer within timeout_s=0\.3 \(after 2 attempts"):
        asked(server, [["hang"] * 9], timeout_s=0.3, max_retries=1).take_all()


def test_nobody_at_the_address_is_said():
    config = HttpRequestProcessorConfig(url="http://127.0.0.1:9/v1", max_retries=1, base_retry_wait_time_in_s=0)
    with pytest.raises(HttpRequestError, match=r"POST http://127.0.0.1:9/v1: .*Connection refused \(after 2 attempts"):
        asked(None, [[]], config).take_all()


def test_bad_rows_go_to_dead_letters_and_good_ones_say_that_they_are(server):
    words = [[], ["400"], ["html"], [], ["500"] * 9]
    ds = asked(server, words, max_retries=1, should_continue_on_error=True)
    good = {"__inference_error__": ""}
    assert ds.take_all() == [{"id": 0, "said": "ROW 0", **good}, {"id": 3, "said": "ROW 3", **good}]
    dead = {letter["row"]["id"]: letter for letter in ds.dead_letters().take_all()}
    assert sorted(dead) == [1, 2, 4]
    assert {letter["error"] for letter in dead.values()} == {"HttpRequestError"}
    assert {letter["operator"] for letter in dead.values()} == {"Map(HttpRequestStage)"}
    assert "400 Bad Request" in dead[1]["message"] and "is not JSON" in dead[2]["message"]


def test_rows_of_functions_that_fail_are_dead_letters_too(server):
    def ask(row):
        if row["id"] == 1:
            raise ValueError("nothing to ask")
        return {"payload": {"n": row["id"]}}

    def answer(row):
        return {"n": 1 // (row["http_response"]["payload"]["n"] - 2)}

    config = HttpRequestProcessorConfig(url=server.url, on_error="dead_letter")
    ds = build_processor(config, preprocess=ask, postprocess=answer)(aktis.data.range(4))
    assert ds.take_all() == [{"n": -1}, {"n": 1}]
    told = {letter["row"]["id"]: letter["error"] for letter in ds.dead_letters().take_all()}
    assert told == {1: "ValueError", 2: "ZeroDivisionError"}


def test_a_wait_that_the_server_asks_for_is_kept(server):
    assert len(asked(server, [["429 after 0.7"]]).take_all()) == 1
    first, second = (when for when, _, _ in server.seen)
    assert second - first >= 0.6


def test_a_wait_may_be_a_date():
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    wait_s = asked_wait_s({"retry-after": email.utils.format_datetime(soon, usegmt=True)})
    assert wait_s is not None and 3000 < wait_s <= 3600
    assert asked_wait_s({"retry-after": "Fri, 01 Jan 2021 00:00:00 GMT"}) == 0


def test_a_wait_that_one_request_was_asked_for_is_kept_by_all():
    async def waits():
        clock = asyncio.get_running_loop().time
        pace = Pace(None)
        await pace.turn()
        began = clock()
        pace.hold(0.2)
        await asyncio.gather(pace.turn(), pace.turn())
        return clock() - began

    assert asyncio.run(waits()) >= 0.2


def test_a_wait_that_is_too_long_fails_the_row(server):
    with pytest.raises(HttpRequestError, match="asks to wait 3600 s, more than max_retry_wait_time_in_s=60"):
        asked(server, [["429 after 3600"]]).take_all()
    assert server.times(0) == 1


def test_no_more_requests_are_sent_in_a_second_than_were_asked_for(server):
    began = time.monotonic()
    assert len(asked(server, [[]] * 5, qps=8).take_all()) == 5
    assert max(when for when, _, _ in server.seen) - began >= 0.5


def test_turns_come_at_their_pace():
    async def takes(turns):
        clock = asyncio.get_running_loop().time
        pace = Pace(100)
        began = clock()
        await asyncio.gather(*(pace.turn() for _ in range(turns)))
        return clock() - began

    assert asyncio.run(takes(21)) >= 0.2


def test_workers_share_what_may_be_sent(server):
    config = HttpRequestProcessorConfig(url=server.url, qps=20, concurrency=2)
    (endpoint,) = build_processor(config).get_stage_by_name("HttpRequestStage").arguments
    assert endpoint.per_second == 10


def test_a_key_is_sent_and_never_told(server, caplog):
    caplog.set_level(logging.DEBUG)
    ds = asked(server, [["400"], []], api_key="sk-very-secret", on_error="dead_letter")
    assert len(ds.take_all()) == 1
    assert [headers["Authorization"] for _, _, headers in server.seen] == ["Bearer sk-very-secret"] * 2
    (letter,) = ds.dead_letters().take_all()
    assert "400 Bad Request: no: ***" in letter["message"]
    hidden = {"url": server.url + "?key=a%2Dvery%2Dsecret&b=2", "headers": {"X-Auth": "hunter-very-2"}}
    told = asked(server, [["", "echo"], []], **hidden, on_error="dead_letter")
    assert len(told.take_all()) == 1 and server.seen[-1][2]["X-Auth"] == "hunter-very-2"
    (other,) = told.dead_letters().take_all()
    assert "400 Bad Request: ***, ***, /v1/chat/completions?key=***&b=2" in other["message"]
    stage = {"runtime_env": {"env_vars": {"TOKEN": "very"}}}
    headers = {"X-Api-Key": "very"}
    config = HttpRequestProcessorConfig(url=server.url, api_key="sk-very-secret", headers=headers)
    config.http_request_stage = stage
    seen = [
        repr(config),
        repr(build_processor(config).stages),
        repr(HttpRequestProcessorConfig(**hidden)),
        repr(build_processor(HttpRequestProcessorConfig(**hidden)).stages),
        str(letter),
        str(other),
        ds.stats(),
        ds.explain() or "",
        caplog.text,
    ]
    assert not [text for text in seen if "very" in text]


def test_a_key_may_lie_in_the_environment_of_the_driver(server, monkeypatch):
    monkeypatch.setenv("A_KEY_OF_A_TEST", "sk-1")
    assert len(asked(server, [[]], api_key_env="A_KEY_OF_A_TEST").take_all()) == 1
    assert server.seen[0][2]["Authorization"] == "Bearer sk-1"
    # As it comes out of a file; http.client would say it in an error.
    monkeypatch.setenv("A_KEY_OF_A_TEST", " sk-1\n")
    assert len(asked(server, [[]], api_key_env="A_KEY_OF_A_TEST").take_all()) == 1
    assert server.seen[1][2]["Authorization"] == "Bearer sk-1"
    monkeypatch.setenv("A_KEY_OF_A_TEST", "sk-1\nsk-2")
    with pytest.raises(ValueError, match="'A_KEY_OF_A_TEST': the environment variable has a character") as caught:
        asked(server, [[]], api_key_env="A_KEY_OF_A_TEST")
    assert "sk-" not in str(caught.value)
    monkeypatch.delenv("A_KEY_OF_A_TEST")
    with pytest.raises(ValueError, match="'A_KEY_OF_A_TEST': the environment variable is not set"):
        asked(server, [[]], api_key_env="A_KEY_OF_A_TEST")


def test_another_key_is_the_same_job_and_another_address_is_not():
    def sign(**options):
        config = HttpRequestProcessorConfig(**{"url": "http://localhost/v1", **options})
        return fingerprint(build_processor(config).get_stage_by_name("HttpRequestStage").arguments)

    assert sign(api_key="a") == sign(api_key="b", qps=3, max_retries=1)
    query = "http://localhost/v1?key="
    assert sign(url=query + "a", headers={"X-Auth": "a"}) == sign(url=query + "b", headers={"X-Auth": "b"})
    assert sign() != sign(url="http://localhost/v1?model=b")
    assert sign() != sign(url="http://localhost/v2") != sign(headers={"OpenAI-Beta": "x"})


def test_payloads_may_have_any_shape_and_are_sent_as_they_are(server):
    payloads = [
        {"n": numpy.float32(0.5), "list": numpy.arange(3), "date": datetime.date(2026, 1, 2)},
        {"parts": [{"content": "a"}, {"content": [{"type": "text", "text": "b"}]}]},
        {"parts": "text", "nested": {"only": "here"}},
    ]
    processor = build_processor(
        HttpRequestProcessorConfig(url=server.url, batch_size=1),
        preprocess=lambda row: {"payload": payloads[row["id"]]},
        postprocess=lambda row: {"id": row["id"]},
        # Between workers they travel as they are, too.
        preprocess_map_kwargs={"num_cpus": 0.5},
        postprocess_map_kwargs={"num_cpus": 0.5},
    )
    assert processor(aktis.data.range(3)).take_all() == [{"id": i} for i in range(3)]
    assert [payload for _, payload, _ in server.seen] == [
        {"n": 0.5, "list": [0, 1, 2], "date": "2026-01-02"}, payloads[1], payloads[2],
    ]  # fmt: skip


def test_dicts_with_a_text_as_content_are_json(server):
    payload = {"document": {"type": "PLAIN_TEXT", "content": "a text"}, "message": {"role": "user", "content": "b"}}
    processor = build_processor(HttpRequestProcessorConfig(url=server.url), preprocess=lambda row: {"payload": payload})
    assert len(processor(aktis.data.range(1)).take_all()) == 1
    assert server.seen[0][1] == payload


def test_files_are_sent_as_a_form(server):
    processor = build_processor(
        HttpRequestProcessorConfig(url=server.url, headers={"Content-Type": "application/json", "X-A": "b"}),
        preprocess=lambda row: {"payload": {"model": "whisper", "file": {"content": b"RIFF\0", "filename": 'a".wav'}}},
        postprocess=lambda row: {"form": row["http_response"]["payload"]["form"]},
    )
    (row,) = processor(aktis.data.range(1)).take_all()
    assert 'name="model"\r\n\r\nwhisper\r\n' in row["form"]
    assert 'name="file"; filename="a%22.wav"\r\nContent-Type: application/octet-stream\r\n\r\nRIFF\0\r\n' in row["form"]
    headers = server.seen[0][2]
    assert headers["Content-Type"].startswith("multipart/form-data; boundary=") and headers["X-A"] == "b"


def test_all_columns_come_out_without_postprocess(server):
    processor = build_processor(HttpRequestProcessorConfig(url=server.url))
    (row,) = processor(aktis.data.from_items([{"id": 7, "payload": {"n": 1}}])).take_all()
    assert (row["id"], row["payload"], row["http_response"]["payload"]) == (7, {"n": 1}, {"n": 1})


def test_variables_and_a_proxy_reach_the_workers(server):
    stage = HttpRequestStageConfig(runtime_env={"env_vars": {"http_proxy": server.url.replace("//", "//me:pass@")}})
    config = HttpRequestProcessorConfig(url="http://no.such.host.invalid/v1?a=b", http_request_stage=stage)
    ds = build_processor(
        config, postprocess=lambda row: {"said": row["http_response"]["choices"][0]["message"]["content"]}
    )
    assert ds(aktis.data.from_items([{"payload": {"messages": [{"content": "a"}]}}])).take_all() == [{"said": "A"}]
    headers = server.seen[0][2]
    assert headers["Host"] == "no.such.host.invalid" and headers["Proxy-Authorization"] == "Basic bWU6cGFzcw=="
    assert "http_proxy" not in os.environ


@pytest.fixture
def certificate(tmp_path):
    """A certificate for `localhost` that nobody trusts yet, and its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not installed")
    path = tmp_path / "localhost.pem"
    options = [
        "-x509",
        "-nodes",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(tmp_path / "key"), "-out", str(path)]
    subprocess.run(["openssl", "req", *options, *names], check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "key").read_text())
    return path


def test_an_endpoint_behind_tls_is_asked_if_it_is_trusted(certificate):
    with serving(certificate) as server:
        with pytest.raises(
            HttpRequestError, match="certificate verify failed.*the variable SSL_CERT_FILE names a file"
        ):
            asked(server, [[]]).take_all()
        assert not server.seen
        stage = {"runtime_env": {"env_vars": {"SSL_CERT_FILE": str(certificate)}}}
        assert asked(server, [[], ["torn"]], http_request_stage=stage).take_all() == [
            {"id": 0, "said": "ROW 0"}, {"id": 1, "said": "ROW 1"},
        ]  # fmt: skip
        before = server.connections
        # What TLS itself says between two answers is no answer to nothing.
        assert len(asked(server, [[]] * 10, batch_size=1, http_request_stage=stage).take_all()) == 10
        assert server.connections == before + 1


class Session:
    """As one of aktis's users has: the part of a session of aiohttp that is used."""

    status, reason = 200, "OK"
    headers = {"Content-Type": "application/json"}  # noqa: RUF012 - it is never changed

    def post(self, url, *, data, headers):
        self.body = data
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def read(self):
        return b'{"sent": %s}' % self.body


def test_a_session_of_ones_own_sends_the_requests():
    config = HttpRequestProcessorConfig(url="http://nowhere", session_factory=Session)
    processor = build_processor(config, postprocess=lambda row: row["http_response"])
    assert processor(aktis.data.from_items([{"payload": {"n": 1}}])).take_all() == [{"sent": {"n": 1}}]


def test_variables_of_workers_are_taken_back_from_a_test_in_one_process(monkeypatch):
    monkeypatch.setenv("OF_BOTH", "before")
    stage = {"runtime_env": {"env_vars": {"OF_BOTH": "within", "OF_A_WORKER": "within"}}}
    config = HttpRequestProcessorConfig(url="http://nowhere", session_factory=Session, http_request_stage=stage)
    names = ("OF_BOTH", "OF_A_WORKER")
    processor = build_processor(config, postprocess=lambda row: {name: os.environ.get(name) for name in names})
    with aktis.testing.local():
        assert processor(aktis.data.from_items([{"payload": 1}])).take_all() == [dict.fromkeys(names, "within")]
    assert [os.environ.get(name) for name in names] == ["before", None]


@pytest.mark.parametrize(
    ("row", "options", "told"),
    [
        (
            {"id": 1},
            {},
            "HttpRequestStage needs the column 'payload' (what is sent, as JSON), and the row has 'id': give",
        ),
        ({"id": 1}, {"preprocess": lambda row: 3}, "preprocess must return a dict of columns, not int"),
        ({"payload": {"n": 1}}, {"postprocess": lambda row: 3}, "postprocess must return a dict of columns, not int"),
        (
            {"id": 1},
            {"preprocess": lambda row: {"payload": {"x": {1}}}},
            "the payload has a set, which JSON has no word for",
        ),
        ({"__data": b"x"}, {}, "the column '__data' is where a processor keeps what it adds to rows: rename yours"),
    ],
)
def test_mistakes_are_told_with_the_way_out(server, row, options, told):
    processor = build_processor(HttpRequestProcessorConfig(url=server.url), **options)
    with pytest.raises((TypeError, ValueError)) as caught:
        processor(aktis.data.from_items([row])).take_all()
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"url": "ftp://a"}, ValueError, "url must begin with http:// or https://"),
        ({"url": "http://u:p@a"}, ValueError, "no user and password"),
        ({"url": "http://a/b c"}, ValueError, "must be written as %XX"),
        ({"url": "http://a:99999/"}, ValueError, "url cannot be read .*[Pp]ort out of range"),
        ({"url": "ftp://u:p@a?key=k"}, ValueError, r"not 'ftp://\*\*\*@a\?key=\*\*\*'"),
        ({"url": 3}, TypeError, "url is a text, not 3"),
        ({"headers": {"X-Api-Key": None}}, TypeError, "the header 'X-Api-Key' is NoneType, not a text"),
        ({"headers": {"a:": "b"}}, ValueError, "'a:' is no name of a header"),
        ({"headers": ["a"]}, TypeError, "headers is a dict, not list"),
        ({"qps": 0}, ValueError, "qps must be a number above 0"),
        ({"max_retries": -1}, ValueError, "max_retries must be a whole number of at least 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be a whole number of at least 1"),
        ({"concurrency": (3, 2)}, ValueError, r"concurrency is a number of workers, or \(least, most\)"),
        ({"headers": {"A": "b\nc"}}, ValueError, "has a character that no header may have"),
        ({"headers": {"authorization": "x"}, "api_key": "y"}, ValueError, "has an Authorization already"),
        ({"api_key": "x", "api_key_env": "y"}, ValueError, "either api_key or api_key_env"),
        ({"should_continue_on_error": True, "on_error": "skip"}, ValueError, "means on_error='dead_letter'"),
        ({"max_errors": 1}, ValueError, "on_error='skip' or 'dead_letter'"),
        ({"accelerator_type": "H100"}, NotImplementedError, "resources"),
        ({"experimental": {}}, NotImplementedError, "Ray 2.60 has it no more"),
        ({"max_retry": 3}, TypeError, "did you mean 'max_retries'"),
        ({"session_factory": 3}, TypeError, "session_factory is a function"),
        ({"api_key": 3}, TypeError, "api_key is a text, not int"),
        ({"api_key_env": 3}, TypeError, "api_key_env is the name of an environment variable, not 3"),
        ({"should_continue_on_error": "no"}, TypeError, "should_continue_on_error is True or False, not 'no'"),
        ({"http_request_stage": {"enabled": "no"}}, TypeError, "enabled is True or False, not 'no'"),
        ({"http_request_stage": {"num_cpus": "2"}}, ValueError, "num_cpus must be a number"),
        ({"http_request_stage": {"memory": -1}}, ValueError, "memory must be a number"),
        ({"http_request_stage": {"runtime_env": {"pip": ["a"]}}}, NotImplementedError, "where the nodes are started"),
        ({"http_request_stage": False}, ValueError, "without its one stage"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_where_they_are_made(options, error, told):
    with pytest.raises(error, match=told):
        build_processor(HttpRequestProcessorConfig(**{"url": "http://a", **options}))


def test_what_is_no_dataset_and_no_options_is_refused():
    processor = build_processor(HttpRequestProcessorConfig(url="http://a"))
    with pytest.raises(TypeError, match="a processor takes a dataset, .* not list"):
        processor([{"payload": 1}])  # pyright: ignore[reportArgumentType]
    for name in ("preprocess_map_kwargs", "postprocess_map_kwargs", "builder_kwargs"):
        wrong: dict[str, Any] = {name: [1]}
        with pytest.raises(TypeError, match=rf"build_processor\({name}=...\) is a dict of options, not \[1\]"):
            build_processor(HttpRequestProcessorConfig(url="http://a"), **wrong)


def test_settings_that_were_assigned_are_looked_at_too():
    config = HttpRequestProcessorConfig(url="http://a")
    config.max_retries = -1
    with pytest.raises(ValueError, match="max_retries"):
        build_processor(config)


def test_columns_that_are_needed_are_logged(caplog):
    caplog.set_level(logging.INFO, logger="aktis.data.llm")
    build_processor(HttpRequestProcessorConfig(url="http://a")).log_input_column_names()
    assert "The first stage of the processor is HttpRequestStage.\nRequired input columns:\n\tpayload: " in caplog.text


def test_names_of_ray_are_there_as_ray_writes_them():
    import aktis as ray

    assert ray.data.llm.build_processor is build_processor is ray.data.llm.build_llm_processor
    with pytest.raises(ImportError, match="ServeDeploymentProcessorConfig of Ray is not in Aktis yet: .* over HTTP"):
        __import__("aktis.data.llm", fromlist=["ServeDeploymentProcessorConfig"])
