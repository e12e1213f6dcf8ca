"""What house style forbids and clippy cannot say, since it depends on where the code is."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from rust import Source, item_end


@dataclasses.dataclass(frozen=True)
class Rule:
    """A pattern that may not occur in the code of some files, tests apart."""

    pattern: re.Pattern[str]
    applies: Callable[[Source], bool]
    says: str


_CORE = re.compile(r"^(?:gcs|raylet|worker|object-store|data|inference|operator)/src/(?:.*/)?core/")
_PROCESSES = re.compile(r"^(?:cuda|lane|object-store|inference)/")

#: Atomics with an order of their own that loom does not try. Each is alone: nothing else is read because of what it says,
#: or the order is argued where it stands.
ATOMICS = {
    "common/src/end_deadline.rs": "one status, read by the thread that ends the process",
    "common/src/fork/kept.rs": "the child of a fork has one thread and no lock that it may take",
    "common/src/fork/mod.rs": "the child of a fork has one thread and no lock that it may take",
    "common/src/ids.rs": "a counter: each number is given once, in any order",
    "common/src/marks.rs": "a switch and a counter of measurements",
    "cuda/src/pinned.rs": "how far pinning is, and a wish to stop: both may be seen late",
    "data/src/executor/pool/runtime.rs": "a counter of what is under way, alone",
    "data/src/operators/group/hold.rs": "a sum that is compared with a limit; what is held is read through nothing else",
    "data/src/sinks/parquet/alike.rs": "a counter that shares out work; the threads are joined",
    "data/src/stage_worker/meter.rs": "measurements",
    "data/src/storage/meter.rs": "measurements",
    "gcs/src/service/mod.rs": "a counter: each number is given once",
    "lane/src/sync.rs": "the layer that loom stands in for",
    "object-store/src/arena/sweep.rs": "a counter: each number is given once",
    "object-store/src/client/residency.rs": "what is known of each page: a value seen late costs a page fault",
    "proto/src/transport/door.rs": "two facts of a connection that are set once, and a waker of futures that orders itself",
    "python-bindings/src/interpreter_end.rs": "sequentially consistent, argued in the module",
    "python-bindings/src/worker_output.rs": "a counter of lost lines",
    "raylet/src/inbox.rs": "a counter: each number is given once",
    "raylet/src/transfer/place.rs": "missing bytes: who takes the last ones sees all, by acquire and release",
    "worker/src/core/objects/getters.rs": "a wish to look again under the core's lock, which orders what is seen",
    "worker/src/life.rs": "two facts of a process that are set once; waiters are woken through the lane",
    "worker/src/node_link.rs": "a counter: each number is given once",
    "worker/src/runtime/incoming.rs": "a fact of a lane that is set once",
    "worker/src/runtime/lane_table.rs": "a count that says whether something was said; what was is behind the table's lock",
    "worker/src/runtime/waiting.rs": "a wish to look again under the core's lock, which orders what is seen",
}

#: The gate of the interpreter lock.
GATE = "python-bindings/src/interpreter_end.rs"

RULES = [
    Rule(
        re.compile(r"\b(?:Instant|SystemTime)::now\b|\.elapsed\(\)"),
        lambda source: bool(_CORE.search(source.path)),
        "a clock in a core: take the time as an argument of the event (`now: Instant`)",
    ),
    Rule(
        re.compile(r"\b(?:rand|fastrand|getrandom)::|\b[A-Z]\w*Id::random\(|\bRandomState\b|\bthread_rng\b"),
        lambda source: bool(_CORE.search(source.path)),
        "randomness in a core: make the value outside and pass it with the event",
    ),
    Rule(
        re.compile(
            r"\btokio::|\bstd::(?:fs|net|process|thread|env)\b|\bstd::os::unix::net\b|\b(?:File|Tcp\w+|Unix\w+)::(?:open|create|bind|connect)\b"
        ),
        lambda source: bool(_CORE.search(source.path)),
        "a thread, file, socket or environment in a core: return an effect, and carry it out in io/",
    ),
    Rule(
        re.compile(r"(?<!loom::)\bthread::(?:spawn|scope_spawn)\b|\bscope\s*\.\s*spawn\("),
        lambda source: not source.path.startswith("benches/"),
        'a thread without a name: `thread::Builder::new().name("aktis-WHAT".to_owned()).spawn(...)`, or `.spawn_scoped(scope, ...)`',
    ),
    Rule(
        re.compile(r"\bPython::(?:attach|try_attach|with_gil|assume_attached)\b|\.\s*(?:detach|allow_threads)\("),
        lambda source: source.path.startswith("python-bindings/src/") and source.path != GATE,
        "the interpreter lock outside its gate: `attached` and `detached` of interpreter_end.rs, since an interpreter that ends unwinds "
        "threads that want its lock through frames of Rust",
    ),
    Rule(
        re.compile(r"(?<!cudarc::)\b\w*[dD]river(?!Error)\w*\b(?!::)"),
        lambda source: bool(_PROCESSES.match(source.path)),
        "driver is the user's program, which this crate does not know: say what it is instead (the loop, the store, libcuda)",
    ),
]


def complaints(files: list[Source], atomics: dict[str, str] | None = None) -> list[str]:
    """What breaks a rule, one sentence each."""
    atomics = ATOMICS if atomics is None else atomics
    found = []
    for source in files:
        for rule in RULES:
            if rule.applies(source):
                found += [
                    f"{source.place(match.start())}: {rule.says}"
                    for match in rule.pattern.finditer(source.code)
                    if not source.is_test(match.start())
                ]
        found += _unnamed(source)
    return found + _atomics(files, atomics) + _twice(files)


def _unnamed(source: Source) -> list[str]:
    """Threads made by a builder that is given no name."""
    if "thread" not in source.code or source.path.startswith("benches/"):
        return []
    return [
        f'{source.place(found.start())}: a thread without a name: add `.name("aktis-WHAT".to_owned())` to the builder'
        for found in re.finditer(r"\b(?:thread::)?Builder::new\(\)", source.code)
        if (
            found.group().startswith("thread") or re.search(r"use std::thread::(?:Builder|\{[^}]*Builder)", source.code)
        )
        and not source.is_test(found.start())
        and ".name(" not in source.code[found.start() : item_end(source.code, found.start())]
    ]


def _atomics(files: list[Source], atomics: dict[str, str]) -> list[str]:
    using = {}
    for source in files:
        for found in re.finditer(r"\bsync::atomic\b", source.code):
            if not source.is_test(found.start()):
                using.setdefault(source.path, source.place(found.start()))
    return [
        f"{place}: atomics outside of what loom tries: use a lock or a channel, take them from `lane`'s sync and model them in tests/loom, "
        "or list the file with its reason in xtask/checks/lints.py"
        for path, place in using.items()
        if path not in atomics
    ] + [
        f"xtask/checks/lints.py lists {path}, which has no atomics: remove the line"
        for path in atomics
        if path not in using
    ]


_TYPE = re.compile(r"^[ \t]*(?:pub(?:\([^)]*\))?[ \t]+)?(?:struct|enum|trait|union)[ \t]+([A-Z]\w*)", re.MULTILINE)
#: What may be there twice in a crate, since everybody knows what it means where it stands.
IDIOMS = {"Inner": "what a handle shares", "State": "where the one thing of its file is"}
TWICE = {("data", "NamedExpression"): "the one on the wire is the message of the other"}
#: What stands for the whole of something, and is spoken of without its crate.
_SPOKEN_OF = re.compile(r"\w+(?:Table|Pool|Port|Loop|Effect)")


def _twice(files: list[Source]) -> list[str]:
    """Names of types that mean two things in one crate; of tables, pools and the like, anywhere."""
    known: dict[tuple[str, str], str] = {}
    found = []
    for source in files:
        if source.path.startswith(("tests/", "benches/")):
            continue
        for match in _TYPE.finditer(source.code):
            name, place = match.group(1), source.place(match.start(1))
            if source.is_test(match.start()) or name in IDIOMS or (source.crate, name) in TWICE:
                continue
            crate = "" if _SPOKEN_OF.fullmatch(name) else source.crate
            other = known.setdefault((crate, name), place)
            if other != place:
                found.append(
                    f"{place}: the type {name} is another one than that of {other}: name it for what sets it apart"
                )
    return found
