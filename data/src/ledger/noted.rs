//! What was found of rows that journals have: whoever goes on with these neither judges them nor calls functions with them.

use prost::Message;

use super::left_out::{LeftOut, LeftOutByStep};
use super::record::JudgedRows;

/// Of the rows before a place, by the steps that it counts the rows of and those behind.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct FoundInRows {
    /// By expectations.
    #[prost(message, repeated, tag = "1")]
    pub(crate) judged: Vec<JudgedRows>,
    /// What steps have left out.
    #[prost(message, repeated, tag = "2")]
    pub(crate) left_out: Vec<LeftOutByStep>,
}

impl FoundInRows {
    pub(crate) fn is_empty(&self) -> bool {
        self.judged.is_empty() && self.left_out.is_empty()
    }

    /// The same was found of more rows.
    pub(crate) fn add(&mut self, more: Self) {
        for judged in more.judged {
            let known = self.judged.iter_mut();
            match known
                .into_iter()
                .find(|one| one.operator == judged.operator)
            {
                Some(known) => {
                    known.rows += judged.rows;
                    known.violations += judged.violations;
                }
                None => self.judged.push(judged),
            }
        }
        for left_out in more.left_out {
            let known = self.left_out.iter_mut();
            match known.into_iter().find(|one| one.step == left_out.step) {
                Some(known) => known.add(left_out),
                None => self.left_out.push(left_out),
            }
        }
    }

    /// As what the attempt with this number has found in an input of a job of several stages.
    pub(super) fn of_attempt(self, attempt: u64) -> (Vec<JudgedRows>, Option<LeftOut>) {
        let of_attempt = |rows| JudgedRows {
            attempt: Some(attempt),
            ..rows
        };
        let judged = self.judged.into_iter().map(of_attempt).collect();
        let steps = self.left_out;
        let left_out = (!steps.is_empty()).then(|| LeftOut {
            attempt,
            steps,
            ..LeftOut::default()
        });
        (judged, left_out)
    }
}
