use std::io::Write;

use super::*;

const LIMIT: usize = 256 << 10;

struct Written {
    output: Output,
    file: File,
    now: Instant,
    _folder: tempfile::TempDir,
}

fn written(text: impl AsRef<[u8]>) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("worker.out");
    let mut options = File::options();
    let mut file = options.create(true).append(true).open(&path).unwrap();
    file.write_all(text.as_ref()).unwrap();
    Written {
        output: Output::new(path, false),
        file,
        now: Instant::now(),
        _folder: folder,
    }
}

impl Written {
    fn write(&mut self, text: &str) {
        self.file.write_all(text.as_bytes()).unwrap();
    }

    fn read(&mut self) -> Vec<(String, Vec<String>)> {
        pairs(self.output.read(LIMIT, u64::MAX, self.now))
    }

    fn lines(&mut self) -> Vec<String> {
        self.read()
            .into_iter()
            .flat_map(|(_, lines)| lines)
            .collect()
    }
}

fn pairs(round: Round) -> Vec<(String, Vec<String>)> {
    let bundles = round.bundles.into_iter();
    bundles
        .map(|bundle| (bundle.source, bundle.lines))
        .collect()
}

fn expect(pairs: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    let pairs = pairs.iter();
    pairs
        .map(|(source, lines)| ((*source).to_owned(), own(lines)))
        .collect()
}

#[test]
fn marks_name_the_lines_after_them_and_are_not_lines() {
    let text = format!("start\n{SOURCE_MARK}load\none\ntwo\n{SOURCE_MARK}save\nthree\nfo");
    let mut written = written(text);
    let expected: &[(&str, &[&str])] = &[
        ("", &["start"]),
        ("load", &["one", "two"]),
        ("save", &["three"]),
    ];
    assert_eq!(written.read(), expect(expected));
    written.write("ur\n");
    assert_eq!(written.lines(), ["four"]);
}

#[test]
fn mark_behind_a_line_without_an_end_is_not_shown() {
    let mut written = written(format!("{SOURCE_MARK}a\nfragment{SOURCE_MARK}b\nnext\n"));
    let expected: &[(&str, &[&str])] = &[("a", &["fragment"]), ("b", &["next"])];
    assert_eq!(written.read(), expect(expected));
}

#[test]
fn line_without_an_end_is_shown_after_a_while_and_only_once() {
    let mut written = written("name? ");
    assert!(written.lines().is_empty());
    written.now += FRAGMENT_PATIENCE;
    assert_eq!(written.lines(), ["name? "]);
    written.now += FRAGMENT_PATIENCE;
    assert!(written.lines().is_empty());
    written.write("Ada\n");
    assert_eq!(written.lines(), ["Ada"]);
}

#[test]
fn bar_is_shown_now_and_then_and_in_its_last_state() {
    let mut written = written("\r10 %\r20 %");
    assert!(written.lines().is_empty());
    written.now += FRAGMENT_PATIENCE;
    assert_eq!(written.lines(), ["20 %"], "without what it replaces");
    written.write("\r30 %\r100 %\n");
    assert_eq!(written.lines(), ["100 %"]);
}

#[test]
fn bar_that_ends_as_it_was_shown_is_not_shown_again() {
    let mut written = written("\r100 %");
    written.lines();
    written.now += FRAGMENT_PATIENCE;
    assert_eq!(written.lines(), ["100 %"]);
    written.write("\n");
    assert!(written.lines().is_empty());
}

#[test]
fn a_round_is_bounded_and_a_flood_is_left_out_by_name() {
    let line = "y".repeat(99) + "\n";
    let mut written = written(line.repeat(200_000));
    let round = written.output.read(LIMIT, u64::MAX, written.now);
    let bytes: usize = round
        .bundles
        .iter()
        .flat_map(|bundle| &bundle.lines)
        .map(String::len)
        .sum();
    assert!(bytes <= LIMIT + 200, "{bytes}");
    let first = &round.bundles[0].lines[0];
    assert!(first.contains("left out"), "{first}");
    assert!(
        round.bundles[0].lines[1..]
            .iter()
            .all(|other| other.len() == 99)
    );
}

#[test]
fn file_is_kept_below_its_limit_and_no_line_is_read_twice_or_lost() {
    let mut written = written("");
    let limit = 64 << 10;
    let mut seen = Vec::new();
    for number in 0..20_000 {
        written.write(&format!("line {number}\n"));
        if number % 500 == 499 {
            let round = written.output.read(LIMIT, limit, written.now);
            seen.extend(round.bundles.into_iter().flat_map(|bundle| bundle.lines));
            let length = written.file.metadata().unwrap().len();
            assert!(length <= limit + 16_000, "{length}");
        }
    }
    let expected: Vec<String> = (0..20_000).map(|number| format!("line {number}")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn the_rest_of_a_file_is_read_with_its_last_fragment() {
    let mut written = written("one\ntwo\nlast words");
    let round = written.output.read_to_end(4);
    let lines: Vec<String> = round
        .bundles
        .into_iter()
        .flat_map(|bundle| bundle.lines)
        .collect();
    assert_eq!(lines, ["one", "two", "last words"]);
}

#[test]
fn quote_has_the_last_lines_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut text: String = (0..1_000).map(|n| format!("line {n}\n")).collect();
    text.push_str(&format!("{SOURCE_MARK}f\n\r1 %\r2 %"));
    std::fs::write(&path, text).unwrap();
    let quoted = last_lines(&path, 20, 8 << 10);
    assert!(
        quoted.starts_with("line 981\n") && quoted.ends_with("line 999\n2 %"),
        "{quoted}"
    );
    assert_eq!(last_lines(&folder.path().join("none"), 20, 8 << 10), "");
    std::fs::write(&path, "ü".repeat(1000)).unwrap();
    let cut = format!("{} ...", "ü".repeat(300));
    assert_eq!(last_lines(&path, 20, 8 << 10), cut);
}
