//! Which workers of a group stay, go and come.

use super::super::names::{HEAD_UID, SPEC_HASH};
use super::super::pods::PodFacts;

/// A worker group and its pods.
pub(super) struct Group<'a> {
    /// All of them, those on their way out too.
    pub(super) pods: Vec<PodFacts<'a>>,
    pub(super) wanted: usize,
    /// What its pods are made from today.
    pub(super) hash: String,
    /// The head they have to belong to; none means that none may stay.
    pub(super) head_uid: Option<&'a str>,
}

/// What happens to a group.
pub(super) struct Sorted<'a> {
    pub(super) to_delete: Vec<(PodFacts<'a>, &'static str)>,
    /// Numbers of new pods.
    pub(super) to_create: Vec<usize>,
}

impl<'a> Group<'a> {
    /// Deletes what is outdated or has ended (where `may_be_replaced`), then brings the number to what is wanted. Those
    /// that are not ready go first, then the newest.
    pub(super) fn sort(self, mut may_be_replaced: impl FnMut(PodFacts<'a>) -> bool) -> Sorted<'a> {
        let mut to_delete = Vec::new();
        let mut staying = Vec::new();
        for pod in self.pods.iter().copied().filter(|pod| !pod.is_leaving()) {
            match self.reason_to_go(pod, &mut may_be_replaced) {
                Some(reason) => to_delete.push((pod, reason)),
                None => staying.push(pod),
            }
        }
        staying.sort_by_key(|pod| (!pod.is_ready(), pod.created(), pod.name()));
        let surplus = staying.drain(self.wanted.min(staying.len())..);
        to_delete.extend(surplus.map(|pod| (pod, "its group has become smaller")));
        let to_create = self.free_numbers(self.wanted - staying.len());
        Sorted {
            to_delete,
            to_create,
        }
    }

    fn reason_to_go(
        &self,
        pod: PodFacts<'a>,
        may_be_replaced: &mut impl FnMut(PodFacts<'a>) -> bool,
    ) -> Option<&'static str> {
        if pod.annotation(SPEC_HASH) != self.hash {
            return Some("its template changed");
        }
        if self.head_uid != Some(pod.annotation(HEAD_UID)) {
            return Some("its head is gone");
        }
        (pod.has_ended() && may_be_replaced(pod)).then_some("it has ended")
    }

    /// The lowest numbers that no pod of the group has, leaving ones included: their names are not free yet.
    fn free_numbers(&self, count: usize) -> Vec<usize> {
        let taken: Vec<Option<usize>> = self
            .pods
            .iter()
            .map(|pod| pod.name().rsplit('-').next()?.parse().ok())
            .collect();
        (0..)
            .filter(|number| !taken.contains(&Some(*number)))
            .take(count)
            .collect()
    }
}
