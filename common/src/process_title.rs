//! How a process is called in `ps` and `top`.
//!
//! ```text
//!  /proc/<pid>/comm       what `top` shows: the first 15 bytes of the title
//!  /proc/<pid>/cmdline    what `ps` shows: the memory that the arguments of the process lie in, from arg_start to arg_end,
//!                         which a process may write to
//! ```
//! A title is for people, so whatever is in the way (no `/proc`, a kernel that refuses) leaves the old one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use parking_lot::Mutex;

static AREA: Mutex<Option<Area>> = Mutex::new(None);

/// Gives this process a title. Must be called on its main thread if threads are to keep their names.
pub fn show(title: &str) {
    // A fork may have been made while another thread held it.
    let Some(mut area) = AREA.try_lock() else {
        return;
    };
    if area
        .as_ref()
        .is_none_or(|area| area.pid != std::process::id())
    {
        // The files of the process that this one was forked from are that one's memory; the addresses are the same.
        let addresses = area.as_ref().map(|area| area.start..area.end);
        *area = addresses.or_else(arguments).and_then(Area::at);
    }
    if let Some(area) = area.as_ref() {
        area.write(title);
    }
}

/// Where this process's title lies.
struct Area {
    pid: u32,
    memory: File,
    name: File,
    start: u64,
    end: u64,
}

impl Area {
    fn at(addresses: Range<u64>) -> Option<Self> {
        let open = |path| OpenOptions::new().write(true).open(path).ok();
        Some(Self {
            pid: std::process::id(),
            memory: open("/proc/self/mem")?,
            name: open("/proc/self/comm")?,
            start: addresses.start,
            end: addresses.end,
        })
    }

    fn write(&self, title: &str) {
        let title: String = title
            .chars()
            .map(|each| if each.is_control() { ' ' } else { each })
            .collect();
        // At no position: this file knows none.
        let _ = (&self.name).write(title.as_bytes());
        // The last byte stays 0: with another one, the kernel looks for the end beyond the arguments.
        let bytes = usize::try_from(self.end - self.start).unwrap_or(0);
        let mut arguments = title.into_bytes();
        arguments.truncate(bytes.saturating_sub(1));
        arguments.resize(bytes, 0);
        let _ = self.memory.write_at(&arguments, self.start);
    }
}

/// Addresses of the first byte of the arguments and of the one behind them.
fn arguments() -> Option<Range<u64>> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the name, may hold anything; behind it, the third is the first.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(48 - 3);
    let start = fields.next()?.parse().ok()?;
    let end = fields.next()?.parse().ok()?;
    (start != 0 && start <= end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    fn shown() -> (String, String) {
        let read = |name: &str| std::fs::read(format!("/proc/self/{name}")).unwrap();
        let arguments = read("cmdline");
        let end = arguments.iter().position(|byte| *byte == 0);
        (
            String::from_utf8_lossy(&arguments[..end.unwrap()]).into_owned(),
            String::from_utf8_lossy(&read("comm")).trim_end().to_owned(),
        )
    }

    // One test: they would write over each other.
    #[test]
    fn title_is_what_ps_and_top_show() {
        super::show("aktis::preprocess_images");
        assert_eq!(
            shown(),
            (
                "aktis::preprocess_images".to_owned(),
                "aktis::preproce".to_owned()
            )
        );
        super::show("two\nlines");
        assert_eq!(shown(), ("two lines".to_owned(), "two lines".to_owned()));
        super::show(&"long".repeat(100_000));
        assert!(shown().0.starts_with("longlong"));
    }
}
