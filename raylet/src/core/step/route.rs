//! Which table takes an event.

use std::time::Instant;

use aktis_common::checks::insist;
use aktis_common::ids::JobId;
use aktis_proto::v1::{Publication, publication};

use crate::core::RayletCore;
use crate::core::effect::Effect;
use crate::core::event::{Event, Exit};
use crate::core::keys::{ConnectionId, ReplyTo};
use crate::core::out::Out;

impl RayletCore {
    /// Takes note of an event, and says what is to be done.
    pub fn handle(&mut self, event: Event, now: Instant, effects: &mut Vec<Effect>) {
        let mut out = Out::new(now, effects);
        self.route(event, &mut out);
        self.pass_on(&mut out);
        self.settle(&mut out);
        if self
            .lookout
            .is_due(now.saturating_duration_since(self.began))
        {
            insist(self.check());
        }
    }

    fn route(&mut self, event: Event, out: &mut Out) {
        match event {
            Event::Frame {
                connection,
                request_id,
                kind,
                payload,
            } => self.on_frame(connection, request_id, kind, payload, out),
            Event::Disconnected { connection } => self.on_disconnected(connection, out),
            Event::ClientEnded { connection } => self.processes.client_ended(connection, out),
            Event::ProcessEnded { pid } => {
                self.pool
                    .process_ended(pid, Exit::of("ended with the zygote"), out);
            }
            Event::DeadLookedAt { worker, has_ended } => {
                self.deaths.looked_at(worker, has_ended, out);
            }
            Event::LogEnded { worker, last_words } => {
                self.deaths.log_ended(worker, last_words, out);
            }
            Event::Overgrown(overgrown) => self.pool.end_overgrown(&overgrown, out),
            Event::StoreUseChanged => self.node.want_report(),
            Event::OutOfDescriptors { cause } => self.pool.on_out_of_descriptors(&cause, out),
            Event::NotWelcomed { connection, cause } => {
                self.pool.not_welcomed(connection, &cause, out);
            }
            Event::LaneOpen { worker } => self.pool.lane_open(worker, out.now()),
            Event::Zygote(news) => self.pool.on_zygote(news, out),
            Event::Call { call, request } => self.on_call(call, request, out),
            Event::CallDropped { call } => {
                self.hosting.leave(call);
                self.claims.cancel(ReplyTo::Call(call), out);
            }
            Event::GrantUntaken { lease } => self.claims.give_back(lease, false, out),
            Event::ForwardEnded {
                reply_to,
                claim_id,
                outcome,
            } => self.claims.forward_ended(reply_to, claim_id, outcome, out),
            Event::Published(publication) => self.on_publication(publication, out),
            Event::Registered(registration) => self.node.on_registered(*registration, out),
            Event::ActorFetched { actor_id, outcome } => {
                self.watches.on_fetched(&actor_id, outcome, out);
            }
            Event::Store(news) => self.pulls.on_store(news, out),
            Event::Tick => {
                self.pool.do_chores(out);
                self.deaths.tell_overdue(out);
                let is_collecting = |call| self.claims.is_collecting_for(ReplyTo::Call(call));
                self.hosting.give_up_overdue(is_collecting, out);
            }
        }
    }

    fn on_disconnected(&mut self, connection: ConnectionId, out: &mut Out) {
        self.pulls.forget_reader(connection, out);
        self.watches.forget(connection);
        self.processes.connection_ended(connection, out);
    }

    fn on_publication(&mut self, publication: Publication, out: &mut Out) {
        match publication.kind {
            Some(publication::Kind::Node(node)) => self.node.on_node(node, out),
            Some(publication::Kind::NodeDied(died)) => self.node.on_node_died(&died, out),
            Some(publication::Kind::WorkerDied(died)) => self.node.on_worker_died(died, out),
            Some(publication::Kind::Actor(update)) => self.watches.on_published(&update, out),
            Some(publication::Kind::JobFinished(finished)) => {
                if let Ok(job) = JobId::from_bytes(&finished.job_id) {
                    self.claims.job_over(job, out);
                    self.pool.job_over(job, out);
                }
            }
            // A lost publication ends the subscription: the link registers and subscribes anew.
            Some(publication::Kind::Lagged(_)) | None => {}
        }
    }
}
