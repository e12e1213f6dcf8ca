"""The checks of `make lint` that no compiler makes, each on a small violation."""

import importlib
import pathlib
import sys

import pytest

CHECKS = pathlib.Path(__file__).resolve().parents[3] / "xtask" / "checks"


@pytest.fixture(scope="module", autouse=True)
def modules():
    sys.path.insert(0, str(CHECKS))
    yield
    sys.path.remove(str(CHECKS))


def check(name):
    return importlib.import_module(name)


def sources(**texts):
    """Files by their paths, with `__` for `/`."""
    rust = check("rust")
    return rust.with_test_modules([rust.Source(path.replace("__", "/") + ".rs", text) for path, text in texts.items()])


STATED = "//! - `AB-1 (never-twice)`: nothing is there twice.\n"
KEPT = "/// Adds it, unless it is there (`AB-1`).\nfn add() {}\n"
TESTED = '#[cfg(test)]\nmod tests {\n    #[test]\n    fn twice() { assert!(true, "AB-1"); }\n}\n'
TABLE = "## Invariants\n| `AB-1` | things | `a/src` |\n"


def labels_of(lib, table=TABLE, **more):
    return check("labels").complaints(sources(a__src__lib=lib, **more), [], table)


class TestLabels:
    def test_label_that_is_stated_kept_and_tested_is_right(self):
        assert labels_of(STATED + KEPT + TESTED) == []

    def test_label_that_no_code_cites_is_seen(self):
        (complaint,) = labels_of(STATED + TESTED)
        assert "AB-1 (a/src/lib.rs:1) is kept nowhere" in complaint

    def test_looking_whether_it_holds_is_not_keeping_it(self):
        (complaint,) = labels_of(STATED + TESTED, a__src__check=KEPT)
        assert "AB-1 (a/src/lib.rs:1) is kept nowhere" in complaint

    def test_label_that_no_test_cites_is_seen(self):
        (complaint,) = labels_of(STATED + KEPT)
        assert "AB-1 (a/src/lib.rs:1) is cited by no test" in complaint

    def test_label_with_two_meanings_is_seen_across_crates(self):
        other = "//! - `AB-1 (always-there)`: it is there.\n"
        found = labels_of(STATED + KEPT + TESTED, b__src__lib=other)
        assert "AB-1 means 2 things: always-there (b/src/lib.rs:1), never-twice (a/src/lib.rs:1)" in found[0]

    def test_statement_that_the_list_in_lib_does_not_have_is_seen(self):
        (complaint,) = labels_of("//! Nothing.\n", a__src__one=STATED + KEPT + TESTED)
        assert "is not in its crate's lib.rs" in complaint

    def test_list_without_a_statement_is_seen(self):
        listed = "//! - `AB-1 (never-twice)`: [`one`]\n"
        assert labels_of(listed, a__src__one=STATED + KEPT + TESTED) == []
        (complaint,) = labels_of(listed + KEPT + TESTED)
        assert "is listed at a/src/lib.rs:1 and no module states it" in complaint

    def test_two_statements_are_seen(self):
        (complaint,) = labels_of(STATED + KEPT + TESTED, a__src__one=STATED)
        assert "AB-1 is stated 2 times: a/src/lib.rs:1, a/src/one.rs:1" in complaint

    def test_citation_of_nothing_is_seen(self):
        (complaint,) = labels_of(STATED + KEPT + TESTED + "// AB-2\n")
        assert "AB-2 is cited and stated nowhere" in complaint

    def test_table_of_the_architecture_has_what_is_stated_and_no_more(self):
        found = labels_of(STATED + KEPT + TESTED, table="## Invariants\n| `AB-2..3` | things | `a` |\n")
        assert [complaint.split(": ")[1][:5] for complaint in found] == ["AB-1 ", "the t", "the t"]


def callers_of(allowed=None, **texts):
    return check("callers").complaints(sources(**texts), {"a": {"a", "b"}, "b": {"b"}}, allowed or {})


class TestCallers:
    @pytest.mark.parametrize(
        "item",
        [
            "pub fn dead() {}",
            "pub(crate) struct Dead;\nimpl Dead {}",
            "struct It;\nimpl It {\n    pub(super) fn dead(&self) { self.dead() }\n}",
            "pub const DEAD: u8 = 1;",
            "pub enum Dead { One }",
        ],
    )
    def test_what_is_public_and_used_by_nobody_is_seen(self, item):
        text = item + "\n#[cfg(test)]\nmod tests {\n    fn it() { dead(); It.dead(); let _ = (DEAD, Dead); }\n}\n"
        (complaint,) = callers_of(
            a__src__lib=text, a__tests__it="fn it() { a::dead(); }", c__src__lib="fn it() { a::dead(); }"
        )
        assert "is public and nothing calls it but its own tests" in complaint

    def test_caller_in_a_crate_that_depends_on_it_counts_and_so_do_its_tests(self):
        assert callers_of(a__src__lib="pub fn alive() {}", b__src__lib="fn it() { a::alive(); }") == []
        assert callers_of(a__src__lib="pub fn alive() {}", b__tests__it="fn it() { a::alive(); }") == []

    def test_crate_does_not_see_what_is_for_another_crate_alone(self):
        assert len(callers_of(a__src__lib="pub(crate) fn dead() {}", b__src__lib="fn it() { dead(); }")) == 1

    def test_comments_imports_and_names_of_variables_are_no_callers(self):
        text = "pub fn dead() {}\n// dead()\nuse x::dead;\nfn it() { let dead = 1; }\n"
        assert len(callers_of(a__src__lib=text)) == 1

    def test_path_in_an_attribute_is_a_caller(self):
        assert callers_of(a__src__lib='pub fn alive() {}\n#[serde(default = "alive")]\nstruct It;') == []

    def test_file_that_another_one_declares_for_tests_is_no_caller(self):
        text = "pub fn dead() {}\n#[cfg(test)]\nmod one;\n"
        assert (
            len(callers_of(a__src__lib="mod two;", a__src__two__mod=text, a__src__two__one="fn it() { dead(); }")) == 1
        )

    def test_permission_that_nobody_needs_any_more_is_seen(self):
        assert callers_of({("a", "dead"): "why"}, a__src__lib="pub fn dead() {}") == []
        (complaint,) = callers_of({("a", "gone"): "why"}, a__src__lib="")
        assert "allows a: gone, which is gone" in complaint


class TestSettings:
    DECLARED = "settings! {\n    /// Says.\n    used: u32 = 1;\n    /// Says.\n    forgotten: Duration = of(2);\n}\n"

    def test_setting_that_nobody_reads_is_seen(self):
        config = {"common__src__config__declare": self.DECLARED + "fn it() { settings.forgotten; }"}
        texts = config | {
            "a__src__lib": "fn it() { settings.used; }",
            "a__tests__it": "fn it() { settings.forgotten; }",
        }
        (complaint,) = check("settings").complaints(sources(**texts))
        assert complaint.startswith("common/src/config/declare.rs:5: nothing reads the setting forgotten")


def lints_of(atomics=None, **texts):
    return check("lints").complaints(sources(**texts), atomics or {})


class TestLints:
    @pytest.mark.parametrize(
        ("code", "says"),
        [
            ("fn it() { let now = Instant::now(); }", "a clock in a core"),
            ("fn it() { let at = std::time::SystemTime::now(); }", "a clock in a core"),
            ("fn it() { let id = WorkerId::random(); }", "randomness in a core"),
            ("use rand::Rng;", "randomness in a core"),
            ("use tokio::sync::mpsc;", "a thread, file, socket or environment in a core"),
            ("use std::fs;", "a thread, file, socket or environment in a core"),
            ("fn it() { std::net::TcpStream::connect(at); }", "a thread, file, socket or environment in a core"),
        ],
    )
    def test_core_has_no_clock_chance_or_io(self, code, says):
        for core in ("gcs__src__core__it", "data__src__executor__core__it", "object-store__src__core__table__it"):
            found = lints_of(**{core: code})
            assert found and all(says in complaint for complaint in found), core
        assert lints_of(gcs__src__io__it=code) == []
        assert lints_of(gcs__src__core__it=f"#[cfg(test)]\nmod tests {{ {code} }}") == []

    @pytest.mark.parametrize(
        "code",
        [
            "fn it() { std::thread::spawn(work); }",
            "fn it() { thread::scope(|scope| { scope.spawn(work); }); }",
            "fn it() { std::thread::Builder::new().spawn(work); }",
        ],
    )
    def test_threads_have_names(self, code):
        (complaint,) = lints_of(raylet__src__io__it=code)
        assert complaint.startswith("raylet/src/io/it.rs:1: a thread without a name")
        named = 'fn it() { std::thread::Builder::new().name("aktis-it".to_owned()).spawn(work); }'
        assert lints_of(raylet__src__io__it=named) == []

    def test_atomics_are_where_loom_looks_or_have_a_reason(self):
        text = "use std::sync::atomic::AtomicU64;"
        (complaint,) = lints_of(worker__src__it=text)
        assert "atomics outside of what loom tries" in complaint
        assert lints_of({"worker/src/it.rs": "a counter"}, worker__src__it=text) == []
        (complaint,) = lints_of({"worker/src/it.rs": "a counter"}, worker__src__it="")
        assert "has no atomics: remove the line" in complaint

    def test_interpreter_lock_is_taken_in_its_gate(self):
        for code in ("Python::attach(|py| work(py))", "Python::try_attach(|py| work(py))", "py.detach(|| wait())"):
            text = f"fn it(py: Python) {{ {code}; }}"
            (complaint,) = lints_of(**{"python-bindings__src__it": text})
            assert "the interpreter lock outside its gate" in complaint
            assert lints_of(**{"python-bindings__src__interpreter_end": text}) == []

    def test_driver_is_the_users_program(self):
        (complaint,) = lints_of(cuda__src__it="enum CudaError { Driver }")
        assert "driver is the user's program" in complaint
        assert lints_of(cuda__src__it="use cudarc::driver::{CudaStream, DriverError};") == []
        assert lints_of(raylet__src__it="enum Role { Driver, Worker }") == []

    def test_name_of_a_type_stands_for_one_thing_in_a_crate(self):
        (complaint,) = lints_of(a__src__one="pub struct Claim;", a__src__two="enum Claim { One }")
        assert complaint.startswith("a/src/two.rs:1: the type Claim is another one than that of a/src/one.rs:1")
        assert lints_of(a__src__one="pub struct Claim;", b__src__two="enum Claim { One }") == []
        assert lints_of(a__src__one="struct Inner;", a__src__two="struct Inner;") == []

    def test_table_of_a_name_is_one_table_wherever_it_is(self):
        (complaint,) = lints_of(a__src__one="pub struct ClaimTable;", b__src__two="struct ClaimTable;")
        assert complaint.startswith("b/src/two.rs:1: the type ClaimTable is another one than that of a/src/one.rs:1")


class TestRust:
    def test_comments_and_strings_are_no_code_and_keep_their_places(self):
        text = 'let a = "x // {"; // }\nlet b = \'"\'; /* "\n */ let c = r#"a"b"#; let d: &\'static str = "";'
        code = check("rust").Source("a.rs", text).code
        assert len(code) == len(text) and code.count("\n") == text.count("\n")
        assert not set("x{}") & set(code) and "let c" in code and "&'static str" in code

    def test_end_of_an_item_is_found_behind_its_braces(self):
        code = "fn one(a: [u8; 2]) -> u8 { if a { b } } fn two() {}"
        assert code[check("rust").item_end(code, 0) :] == " fn two() {}"
