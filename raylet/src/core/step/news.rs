//! Who hears of what happened in a table.

use aktis_proto::v1::NodeDied;
use aktis_proto::v1::node_frame::Kind;

use crate::core::RayletCore;
use crate::core::claims::ClaimEvent;
use crate::core::deaths::DeathEvent;
use crate::core::effect::Effect;
use crate::core::hosting::HostingEvent;
use crate::core::keys::ReplyTo;
use crate::core::node::NodeEvent;
use crate::core::out::{Out, TableEvent};
use crate::core::pool::PoolEvent;
use crate::core::processes::{ProcessEvent, Role};
use crate::core::pulls::PullEvent;

impl RayletCore {
    /// Passes on what tables tell, until none has anything to tell.
    pub(super) fn pass_on(&mut self, out: &mut Out) {
        while let Some(event) = out.next_event() {
            match event {
                TableEvent::Process(ProcessEvent::Gone(process)) => {
                    let cause = "its owner died";
                    self.claims
                        .owners_gone(|owner| owner.worker == process.worker, cause, out);
                    self.claims.waiter_gone(process.connection, out);
                    match process.role {
                        Role::Worker => self.pool.connection_ended(&process, out),
                        Role::Driver => self.processes.driver_gone(&process, out),
                    }
                }
                TableEvent::Pool(event) => self.on_pool(event, out),
                TableEvent::Claim(event) => self.on_claims(event, out),
                TableEvent::Hosting(event) => self.on_hosting(event, out),
                TableEvent::Death(DeathEvent::Told(report)) => {
                    self.processes.tell_death(report, out);
                }
                TableEvent::Pull(PullEvent::Arrived) => self.node.want_report(),
                TableEvent::Node(event) => self.on_node(event, out),
            }
        }
    }

    fn on_pool(&mut self, event: PoolEvent, out: &mut Out) {
        match event {
            PoolEvent::StartFailed { worker, cause } => {
                self.claims.fail_first(Some(worker), &cause, out);
                // After the claim, whose failure quotes it.
                out.push(Effect::EndLog {
                    worker,
                    epitaph: None,
                });
            }
            PoolEvent::NoneCanStart { cause } => self.claims.fail_all(&cause, out),
            PoolEvent::CutOff(worker) => {
                // A retiring worker has no duty any more, but still hosts its actor.
                let actor = self.hosting.of_worker(worker.id);
                self.deaths.expect(&worker, actor, out);
            }
            PoolEvent::Ended { worker, exit } => {
                self.claims.worker_ended(worker);
                self.node.want_report();
                self.deaths.process_ended(worker, &exit, out);
                self.hosting.worker_gone(worker);
                self.start_held(out);
            }
            PoolEvent::Lingers {
                worker,
                holds_devices,
                cause,
                is_intended,
            } => {
                self.claims.worker_lingers(worker, holds_devices);
                self.node.want_report();
                if let Some(actor) = self.hosting.worker_gone(worker) {
                    self.deaths
                        .tell_end_of_actor(actor, worker, cause, is_intended, out);
                    self.start_held(out);
                }
            }
        }
    }

    fn on_claims(&mut self, event: ClaimEvent, out: &mut Out) {
        match event {
            ClaimEvent::Demand => self.pool.note_demand(),
            ClaimEvent::HasRoom(call) => self.hosting.has_room(call, out),
            ClaimEvent::Infeasible(call) => self.hosting.give_up(call, out),
            ClaimEvent::Failed(call) => self.hosting.leave(call),
            ClaimEvent::Orphaned { worker, cause } => self.pool.end_orphan(worker, &cause, out),
            ClaimEvent::GivenBack {
                lease,
                worker,
                is_unusable,
            } => {
                if self.pool.take_back(worker, is_unusable, out) {
                    self.claims.end(lease);
                    self.node.want_report();
                }
            }
            ClaimEvent::AskedBack { owner, reclaim } => {
                self.processes.ask_back(owner, reclaim, out);
            }
        }
    }

    fn on_hosting(&mut self, event: HostingEvent, out: &mut Out) {
        match event {
            HostingEvent::Wanted { call, claim } => {
                self.pool.note_demand();
                self.pool.share_modules(claim.shared_modules());
                self.claims.submit(ReplyTo::Call(call), *claim);
            }
            HostingEvent::GivenUp(call) => self.claims.cancel(ReplyTo::Call(call), out),
            HostingEvent::Constructed(lease) => {
                self.claims.end_startup(lease);
                self.node.want_report();
            }
            HostingEvent::Broken(worker) => {
                self.pool
                    .ask_to_end(worker, "the actor's constructor failed", out);
                self.node.want_report();
            }
        }
    }

    fn on_node(&mut self, event: NodeEvent, out: &mut Out) {
        match event {
            NodeEvent::Listed(views) => self.claims.set_other_nodes(views, out.now()),
            NodeEvent::Seen { node, resources } => {
                self.claims
                    .set_other_node(node, Some(*resources), out.now());
            }
            NodeEvent::Lost { node, cause } => {
                self.claims.set_other_node(node, None, out.now());
                let owner_cause = "its owner's node died";
                self.claims
                    .owners_gone(|owner| owner.node == node, owner_cause, out);
                let node_id = node.to_wire();
                let died = Kind::NodeDied(NodeDied { node_id, cause });
                self.processes.tell_all(&died, out);
            }
            NodeEvent::LostBefore { view, ago } => {
                self.claims.note_lost_node(*view, ago, out.now());
            }
            NodeEvent::WorkerDied { worker, died } => {
                self.claims
                    .owners_gone(|owner| owner.worker == worker, "its owner died", out);
                self.processes.tell_all(&Kind::WorkerDied(died), out);
            }
            NodeEvent::OwnersDied(dead) => {
                let is_dead = |owner: crate::core::claims::Owner| dead.contains(&owner.worker);
                self.claims.owners_gone(is_dead, "its owner died", out);
            }
            NodeEvent::GivenUp => {
                let here = self.node.id();
                let cause = "the head declared this node dead, and its owner gave it up";
                self.claims
                    .owners_gone(|owner| owner.node != here, cause, out);
                self.hosting.give_up_all(out);
            }
            NodeEvent::Kept(actors) => {
                for worker in self.hosting.keep_only(&actors, out) {
                    self.pool.end_given_up(worker, out);
                }
            }
            NodeEvent::InStep => {
                self.watches.fetch_anew(out);
                self.start_held(out);
            }
        }
    }
}
