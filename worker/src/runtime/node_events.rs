//! What comes from the raylet of this node: answers, grants of workers, news of actors, workers and nodes.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, NodeId};
use aktis_lane::{Connection, Frame, Handler, Urgency};
use aktis_proto::v1 as wire;
use bytes::Bytes;
use prost::Message;
use wire::node_frame::Kind as NodeKind;

use super::Runtime;
use super::incoming::{address_of, id_error};
use super::lane_table::LaneRole;
use super::obituaries::Death;
use crate::core::actors::CallLimits;
use crate::core::leases::LeaseRequestKey;
use crate::error::TaskFailure;
use crate::execution::Work;
use crate::node_link::Unclaimed;

pub(super) struct NodeHandler {
    pub(super) runtime: Runtime,
}

impl Handler for NodeHandler {
    fn on_frame(&self, _connection: &Arc<Connection>, frame: Frame<'_>) -> Result<(), String> {
        let header = wire::NodeFrame::decode(frame.header)
            .map_err(|error| format!("bad header: {error}"))?;
        let kind = header
            .kind
            .ok_or("frame of an unknown kind: all processes must run the same Aktis version")?;
        if header.request_id != 0 {
            let unclaimed =
                self.runtime
                    .0
                    .node
                    .take(header.request_id, kind, frame.payload.into_bytes());
            if let Unclaimed::Lease(key, answer) = unclaimed {
                self.runtime
                    .on_lease_answer(key, answer.map(|(kind, _)| kind));
            }
            return Ok(());
        }
        self.runtime.on_node_event(kind, frame.payload.into_bytes())
    }

    fn on_closed(&self, _connection: &Arc<Connection>) {
        self.runtime.on_raylet_gone();
    }
}

impl Runtime {
    fn on_lease_answer(&self, key: LeaseRequestKey, answer: Result<NodeKind, TaskFailure>) {
        use wire::lease_reply::Outcome;
        let outcome = match answer {
            Ok(NodeKind::LeaseReply(reply)) => reply.outcome,
            Ok(_) => return,
            Err(failure) => Some(Outcome::Failure(failure.to_wire())),
        };
        match outcome {
            Some(Outcome::Grant(grant)) => self.on_grant(key, grant),
            // The request stays where it is, and `aktis status` says why.
            Some(Outcome::Infeasible(_)) if self.assignment().waits_when_infeasible => {}
            Some(Outcome::Infeasible(infeasible)) => self.with_core(|core, effects| {
                core.lease_infeasible(key, &infeasible.message, effects);
            }),
            Some(Outcome::Failure(failure)) => {
                let failure = TaskFailure::from_wire(failure);
                self.with_core(|core, effects| core.lease_refused(key, &failure, effects));
            }
            None => {}
        }
    }

    fn on_grant(&self, key: LeaseRequestKey, grant: wire::LeaseGrant) {
        let Ok(worker) = address_of(grant.worker.as_ref()) else {
            return;
        };
        let resources = self
            .0
            .core
            .look(|core| core.leases.requested_resources(key));
        let is_wanted = resources.is_some();
        let hello = wire::LaneHello {
            lease_id: grant.lease_id,
            accelerators: grant.accelerators,
            resources,
            ..self.plain_hello()
        };
        let lane = is_wanted.then(|| self.open_lane(worker, LaneRole::Lease, hello));
        match lane {
            Some(Ok(lane)) => self.with_core(|core, effects| {
                core.lease_granted(key, grant.lease_id, worker, lane, effects);
            }),
            unreached => {
                let is_short = unreached.is_some_and(|unreached| {
                    unreached.is_err_and(|unreachable| unreachable.is_shortage())
                });
                let returned = wire::LeaseReturn {
                    lease_id: grant.lease_id,
                    node_id: worker.node.to_wire(),
                    // A worker whose lane cannot be opened has just died.
                    is_worker_unusable: is_wanted && !is_short,
                };
                self.0
                    .node
                    .tell(NodeKind::LeaseReturn(returned), Urgency::Now);
                if is_short {
                    // It lives, and another would not be reached either.
                    return self.postpone_lease(key);
                }
                self.with_core(|core, effects| core.leases.retracted(key, effects));
            }
        }
    }

    fn on_node_event(&self, kind: NodeKind, payload: Bytes) -> Result<(), String> {
        match kind {
            NodeKind::StartActor(start) => {
                self.queue()
                    .push(Work::StartActor(Box::new(super::ActorStart::new(
                        self.clone(),
                        start,
                        payload,
                    )?)))
            }
            NodeKind::ActorUpdate(update) => self.on_actor_update(&update)?,
            NodeKind::WorkerDied(died) => {
                let worker = address_of(died.worker.as_ref())?;
                let death = Death {
                    cause: died.cause,
                    last_words: died.last_words,
                    is_out_of_memory: died.is_out_of_memory,
                };
                self.on_worker_died(worker, &death);
            }
            NodeKind::NodeDied(died) => {
                let node = NodeId::from_bytes(&died.node_id).map_err(|error| id_error(&error))?;
                self.on_node_died(node, &died.cause);
            }
            NodeKind::LeaseReclaim(reclaim) => {
                let node = NodeId::from_bytes(&reclaim.node_id).ok();
                self.with_core(|core, effects| {
                    core.leases.reclaimed(reclaim.lease_id, node, effects)
                });
            }
            NodeKind::Exit(exit) if exit.is_final => {
                self.queue().push(Work::ExitForGood(exit.reason));
            }
            NodeKind::Exit(exit) => self.queue().push(Work::Exit(exit.reason)),
            NodeKind::LogLines(lines) => {
                if let Some(sink) = &self.0.log_sink {
                    sink(lines);
                }
            }
            other => tracing::debug!(?other, "ignoring a frame that is not an event"),
        }
        Ok(())
    }

    fn on_node_died(&self, node: NodeId, cause: &str) {
        let lanes = self.0.lanes.lock();
        let to_close: Vec<_> = lanes
            .iter()
            .filter(|lane| lane.peer.is_some_and(|peer| peer.node == node))
            .map(|lane| Arc::clone(&lane.connection))
            .collect();
        drop(lanes);
        to_close.iter().for_each(|connection| connection.close());
        self.with_core(|core, effects| {
            core.node_died(node, cause, effects);
        });
    }

    fn on_raylet_gone(&self) {
        if self.is_closed() {
            return;
        }
        self.0.node.fail_all();
        self.queue().push(Work::ExitForGood(
            "the raylet of this node ended".to_owned(),
        ));
        self.end_waits();
    }

    /// Everything that waits is told that the session is over.
    pub(super) fn end_waits(&self) {
        self.0.node.fail_all();
        let failure = crate::node_link::raylet_gone();
        self.with_core(|core, effects| core.fail_everything(&failure, effects));
    }

    fn on_actor_update(&self, update: &wire::ActorUpdate) -> Result<(), String> {
        let actor = ActorId::from_bytes(&update.actor_id).map_err(|error| id_error(&error))?;
        match update.state() {
            wire::ActorState::Alive => {
                let limits = update.options.as_ref().map(call_limits);
                let address = address_of(update.address.as_ref())?;
                self.on_actor_alive(actor, address, limits.unwrap_or_default());
            }
            wire::ActorState::Dead => {
                let failure = update.failure.clone().map_or_else(
                    || TaskFailure::new(ErrorCode::ActorDied, format!("actor {actor} is dead")),
                    TaskFailure::from_wire,
                );
                let failure = super::actors::as_actor_death(actor, &update.class_name, failure);
                self.with_core(|core, effects| core.actor_dead(actor, failure, effects));
            }
            wire::ActorState::Pending => self.on_actor_pending(actor, update.failure.as_ref()),
            wire::ActorState::Restarting => {
                self.with_core(|core, effects| core.actor_restarting(actor, effects));
            }
            wire::ActorState::Unspecified => {}
        }
        Ok(())
    }
}

fn call_limits(options: &wire::ActorOptions) -> CallLimits {
    let groups = options.concurrency_groups.iter();
    CallLimits {
        default_group: options.calls_at_once,
        groups: groups
            .map(|group| (group.name.clone(), group.calls_at_once))
            .collect(),
    }
}
