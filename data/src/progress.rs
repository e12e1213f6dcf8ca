//! Progress as text: one line per stage, plain enough for notebooks and log files.

use std::time::Duration;

use crate::stats::{ExecutionStats, StageStats, duration_text};

/// Width of a bar in characters.
const BAR_WIDTH: usize = 20;

/// One line per stage: how far, how fast, how long still.
pub fn progress_lines(stats: &ExecutionStats) -> Vec<String> {
    let mut done = 1.0;
    let mut rows_before: Option<u64> = None;
    let mut lines = Vec::with_capacity(stats.stages.len());
    for stage in &stats.stages {
        // A stage can be as far as the one before, times what it has taken of that one's rows.
        let whole = rows_before.unwrap_or(stats.source_rows);
        done = if stage.is_done {
            1.0
        } else {
            (done * ratio(stage.rows_in(), whole)).min(1.0)
        };
        rows_before = Some(stage.rows_out());
        lines.push(stage_line(stage, done, stats.elapsed));
    }
    lines
}

fn ratio(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let ratio = part as f64 / whole.max(1) as f64;
    ratio
}

fn stage_line(stage: &StageStats, done: f64, elapsed: Duration) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the width"
    )]
    let filled = (done * BAR_WIDTH as f64) as usize;
    let bar = format!("{}{}", "#".repeat(filled), "-".repeat(BAR_WIDTH - filled));
    let rows = stage.rows_out().max(if stage.rows_out() == 0 {
        stage.rows_in()
    } else {
        0
    });
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = rows as f64 / elapsed.as_secs_f64().max(1e-3);
    let rest = if stage.is_done {
        "done".to_owned()
    } else if stage.workers > 0 && stage.starting == stage.workers {
        "starting workers".to_owned()
    } else if done > 0.0 {
        format!(
            "ETA {}",
            duration_text(elapsed.mul_f64((1.0 - done) / done))
        )
    } else {
        "ETA unknown".to_owned()
    };
    format!(
        "{} [{bar}] {:3.0}%  {rows} rows  {rate:.0} rows/s  {} workers  {rest}",
        stage.name,
        done * 100.0,
        stage.workers
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::stats::OperatorStats;

    fn stage(name: &str, rows_in: u64, rows_out: u64) -> StageStats {
        let operator = |rows_out| OperatorStats {
            rows_out,
            ..OperatorStats::default()
        };
        StageStats {
            name: name.to_owned(),
            operators: vec![operator(rows_in), operator(rows_out)],
            workers: 2,
            ..StageStats::default()
        }
    }

    #[test]
    fn later_stage_is_as_far_as_its_share_of_the_stage_before() {
        let stats = ExecutionStats {
            stages: vec![stage("Read", 500, 1000), stage("Embed", 250, 250)],
            rows_sunk: 0,
            source_rows: 1000,
            bytes_read: 0,
            files: Vec::new(),
            most_block_bytes: 0,
            budget_bytes: 0,
            elapsed: Duration::from_secs(10),
            is_done: false,
            began: Instant::now(),
        };
        let lines = progress_lines(&stats);
        assert!(
            lines[0].contains(" 50%") && lines[0].contains("100 rows/s"),
            "{}",
            lines[0]
        );
        assert!(lines[0].contains("ETA 10.0 s"), "{}", lines[0]);
        // A quarter of what came out of half of the source is an eighth of all.
        assert!(
            lines[1].contains(" 12%") && lines[1].contains("ETA 70.0 s"),
            "{}",
            lines[1]
        );
    }
}
