//! Conditions of a status.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What is known about one aspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it holds.
    pub holds: bool,
    /// One word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Verdict {
    /// It holds.
    pub fn yes(reason: &'static str) -> Self {
        Self {
            holds: true,
            reason,
            message: String::new(),
        }
    }

    /// It does not hold.
    pub fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            holds: false,
            reason,
            message: message.into(),
        }
    }
}

/// Notes `verdict` as the condition `kind`. The time of the transition stays when whether it holds does.
pub fn note(
    conditions: &mut Vec<Condition>,
    kind: &str,
    verdict: Verdict,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = if verdict.holds { "True" } else { "False" };
    let earlier = conditions.iter().position(|known| known.type_ == kind);
    let since = earlier
        .map(|index| &conditions[index])
        .filter(|known| known.status == status)
        .map_or(Time(now), |known| known.last_transition_time.clone());
    let condition = Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.to_owned(),
        message: verdict.message,
        observed_generation: generation,
        last_transition_time: since,
    };
    match earlier {
        Some(index) => conditions[index] = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let time = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut conditions = Vec::new();
        let mut at = |verdict, seconds| {
            note(&mut conditions, "Ready", verdict, Some(1), time(seconds));
            (
                conditions[0].last_transition_time.0,
                conditions[0].reason.clone(),
            )
        };
        assert_eq!(at(Verdict::no("A", ""), 1), (time(1), "A".to_owned()));
        assert_eq!(at(Verdict::no("B", "x"), 2), (time(1), "B".to_owned()));
        assert_eq!(at(Verdict::yes("C"), 3), (time(3), "C".to_owned()));
        assert_eq!(conditions.len(), 1);
    }
}
