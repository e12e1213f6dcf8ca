//! What happened in a run, in order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::clock;

/// The events of a run. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Log {
    lines: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl Log {
    /// Notes that something happened now.
    pub fn note(&self, what: impl Into<String>) {
        let line = (clock::elapsed(), what.into());
        self.lines.lock().unwrap().push(line);
    }

    /// All of it, a line each.
    pub fn text(&self) -> String {
        text_of(&self.lines.lock().unwrap())
    }

    /// The same for a thread that may be writing to it right now, and then gets nothing.
    pub fn text_if_free(&self) -> String {
        let lines = self.lines.try_lock();
        lines.map(|lines| text_of(&lines)).unwrap_or_default()
    }
}

fn text_of(lines: &[(Duration, String)]) -> String {
    let line = |(at, what): &(Duration, String)| format!("{:>9.3} s  {what}\n", at.as_secs_f64());
    lines.iter().map(line).collect()
}
