//! What an execution did, as text: one line per operator, and what is worth a line besides.

use std::fmt::Write as _;

use super::{
    ExecutionStats, KindStats, OperatorStats, StageStats, bytes_text, duration_text, givers_text,
};

impl ExecutionStats {
    /// As text, one line per operator.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (index, stage) in self.stages.iter().enumerate() {
            stage.write(index, &mut text);
        }
        let _ = writeln!(
            text,
            "Read {} from storage, wrote {} files; at most {} of blocks at once (budget {}); {} in all",
            bytes_text(self.bytes_read),
            self.files.len(),
            bytes_text(self.most_block_bytes),
            bytes_text(self.budget_bytes),
            duration_text(self.elapsed)
        );
        if self.relational_bytes > 0 {
            let bytes = bytes_text(self.relational_bytes);
            let _ = writeln!(
                text,
                "Sorts, joins and groups may hold {bytes}; the rest of their rows is put into files"
            );
        }
        if self.most_exchange_bytes > 0 {
            let most = bytes_text(self.most_exchange_bytes);
            let _ = writeln!(text, "Exchanged between stages: at most {most} at once");
        }
        text
    }
}

impl StageStats {
    /// Where its rows are written, if there are several places.
    fn place_text(&self) -> String {
        let place = self.place.as_deref();
        place.map_or_else(String::new, |place| format!(" into {place}"))
    }

    fn write(&self, index: usize, text: &mut String) {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "Stage {index} {}{}{}: {} inputs, {} blocks ({})",
            self.name,
            givers_text(&self.givers),
            self.place_text(),
            self.inputs.0,
            self.blocks,
            bytes_text(self.block_bytes)
        );
        for operator in &self.operators {
            operator.write(text);
        }
        if self.cut_partitions.0 > 0 {
            let (partitions, inputs) = self.cut_partitions;
            let keys: Vec<&str> = self.hot_keys.iter().map(String::as_str).collect();
            let keys = match keys.as_slice() {
                [] => String::new(),
                keys => format!("; keys with many rows: {}", keys.join("; ")),
            };
            let _ = writeln!(
                text,
                "  {partitions} partitions were much larger than others and became {inputs} inputs{keys}"
            );
        }
        if self.time.workers > 0 {
            let _ = writeln!(
                text,
                "  {} workers for {}: {}",
                self.time.workers,
                duration_text(self.time.held()),
                self.time.to_text()
            );
        }
        for kind in &self.kinds {
            kind.write(text);
        }
        if self.time.rows_repeated > 0 {
            let rows = self.time.rows_repeated;
            let _ = writeln!(text, "  {rows} rows were read again after losses");
        }
        if self.deaths > 0 {
            let _ = writeln!(text, "  {} workers died and were replaced", self.deaths);
        }
    }
}

impl KindStats {
    fn write(&self, text: &mut String) {
        let name = self.name();
        if let Some(called) = self.called().filter(|_| self.time.workers > 0) {
            let _ = writeln!(
                text,
                "    {name}: {} rows in {} batches, busy {}; {} workers for {}",
                called.rows_in,
                called.batches_out,
                duration_text(called.wall),
                self.time.workers,
                duration_text(self.time.held()),
            );
        }
        for rows in self.operators.iter().filter_map(|one| one.most_rows) {
            let _ = writeln!(text, "    {name}: {}", most_rows_text(rows));
        }
        if let Some(why) = &self.waits {
            let _ = writeln!(text, "    {name}: waits: {why}");
        }
    }
}

fn most_rows_text(rows: u64) -> String {
    let row = if rows == 1 { "row" } else { "rows" };
    format!(
        "its calls have at most {rows} {row}: with more, workers held more memory than they may"
    )
}

impl OperatorStats {
    fn write(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "  {}: {} rows in, {} rows out, {} out, {} batches, wall {}, cpu {}",
            self.name,
            self.rows_in,
            self.rows_out,
            bytes_text(self.bytes_out),
            self.batches_out,
            duration_text(self.wall),
            duration_text(self.cpu),
        );
        if self.cache_hits + self.cache_misses > 0 {
            let _ = writeln!(
                text,
                "    {} rows came from its cache, it was called with {}",
                self.cache_hits, self.cache_misses
            );
        }
        if !self.waited.is_zero() {
            let _ = writeln!(
                text,
                "    its calls waited {} for their turns (rate_limit)",
                duration_text(self.waited)
            );
        }
        if self.rows_failed > 0 {
            let _ = writeln!(
                text,
                "    {} rows failed and were left out",
                self.rows_failed
            );
        }
        if let Some(rows) = self.most_rows {
            let _ = writeln!(text, "    {}", most_rows_text(rows));
        }
        for chosen in &self.chosen {
            let _ = writeln!(text, "{}", chosen.to_text());
        }
        if let Some(expectation) = &self.expectation {
            let _ = writeln!(text, "    {}", expectation.to_text());
        }
    }
}
