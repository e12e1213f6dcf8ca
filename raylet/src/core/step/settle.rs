//! What is brought into order after every event: claims, workers, the report of the node.

use aktis_common::ids::WorkerId;

use crate::core::RayletCore;
use crate::core::claims::{Placed, Purpose};
use crate::core::effect::Effect;
use crate::core::hosting::actor_of;
use crate::core::out::Out;
use crate::core::pool::{Duty, Offer, Wish};

impl RayletCore {
    pub(super) fn settle(&mut self, out: &mut Out) {
        if self.claims.needs_pump(out.now()) {
            self.claims.serve(out);
            self.node.want_report();
            self.pass_on(out);
        }
        let without_worker = self.seat_claims(out);
        if self.claims.are_reclaims_due() {
            self.claims.ask_all_back(out);
        }
        self.pool.fork_what_is_short(without_worker, out);
        self.pass_on(out);
        if self.node.take_due_report(out.now()) {
            out.push(Effect::ReportNode(Box::new(self.node_info())));
        }
    }

    /// Gives idle workers to the claims that hold resources. Gives how many of these still need a worker to be forked; the
    /// others have one, and wait for their GPUs.
    fn seat_claims(&mut self, out: &mut Out) -> usize {
        let mut position = 0;
        let mut without_worker = 0;
        while let Some(wish) = self.claims.wish(position) {
            let in_use = self.claims.devices_in_use(&wish.devices);
            match self.pool.offer(&wish, &in_use, out) {
                Offer::Worker(worker) => {
                    let placed = self.claims.attach(position, worker);
                    self.seat(placed, &wish, worker, out);
                    continue;
                }
                Offer::Nothing => without_worker += 1,
                Offer::NotYet => {}
            }
            position += 1;
        }
        without_worker
    }

    fn seat(&mut self, placed: Placed, wish: &Wish, worker: WorkerId, out: &mut Out) {
        let Placed {
            reply_to,
            claim,
            lease,
        } = placed;
        match claim.purpose {
            Purpose::Tasks { .. } => {
                let seat = self.pool.give_away(worker, Duty::Lease(lease), wish, None);
                self.claims.answer_grant(reply_to, lease, &seat, out);
            }
            Purpose::Actor {
                mut start,
                args_payload,
                ..
            } => {
                start.accelerators = Some(self.claims.accelerators(lease));
                start.held_nanos = self.claims.held_nanos(lease, out.now());
                let duty = Duty::Actor(actor_of(&start), lease);
                let options = start.options.as_ref();
                let label = options.map_or("", |options| &options.class_name);
                let seat = self.pool.give_away(worker, duty, wish, Some(label));
                self.hosting
                    .begin(reply_to, &seat, *start, args_payload, out);
            }
        }
    }
}
