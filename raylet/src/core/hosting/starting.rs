//! Actors begin here, or are given up.

use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, InvalidId, JobId, WorkerId};
use aktis_common::resources::ResourceRequest;
use aktis_proto::convert::{ConvertError, placement_request};
use aktis_proto::v1::{
    ActorStarted, Address, Failure, ReportActorStartedRequest, StartActor, StartActorRequest,
    node_frame, start_actor_reply,
};
use bytes::Bytes;

use super::{ActorHosting, Hosted, HostingEvent, Waiting};
use crate::core::claims::{Claim, Purpose};
use crate::core::effect::{Effect, GcsReport};
use crate::core::keys::{CallId, LeaseId, ReplyTo};
use crate::core::out::Out;
use crate::core::pool::Seat;
use crate::core::processes::Process;

impl ActorHosting {
    /// The worker that is the actor which is to be started.
    pub fn host_of(&self, request: &StartActorRequest) -> Option<WorkerId> {
        let spec = request.start.as_ref()?.spec.as_ref()?;
        let actor = ActorId::from_bytes(&spec.actor_id).ok()?;
        Some(self.get(actor)?.worker)
    }

    /// The gcs wants an actor to start in the incarnation of this node that it calls `request.generation`; this node believes
    /// to be `generation`. `is_ending`: the worker that was the actor is about to end.
    pub fn start(
        &mut self,
        call: CallId,
        request: StartActorRequest,
        generation: u64,
        is_ending: bool,
        out: &mut Out,
    ) {
        if request.generation < generation {
            // It is for an incarnation of this node that the gcs has given up: to be placed anew.
            return out.answer_start(call, start_actor_reply::Outcome::NoRoom(true), 0);
        }
        if request.generation > generation || is_ending {
            // The gcs has taken this node in again, but this node does not know yet what it is to keep; or the worker that was
            // the actor is killed but not gone, and must not be taken for the new one (`HOST-1`).
            return self.held.push((call, request));
        }
        let patience = Duration::from_millis(request.patience_ms);
        let (actor, claim) = match actor_claim(request, out.now()) {
            Ok(claim) => claim,
            Err(error) => {
                let failure = Failure::of(ErrorCode::InvalidArgument, error.to_string());
                return out.answer_start(call, start_actor_reply::Outcome::Failure(failure), 0);
            }
        };
        // The gcs asks again when it did not get the first answer; who is here does not wait to be, and waits in one call (`HOST-2`).
        if let Some(Hosted { worker, pid, .. }) = self.get(actor) {
            let place = Address::of(self.here, worker);
            return out.answer_start(call, start_actor_reply::Outcome::Address(place), pid);
        }
        let mut waiting = self.waiting.iter();
        let earlier = waiting.find(|(_, waiting)| waiting.actor == actor);
        if let Some(earlier) = earlier.map(|(call, _)| *call) {
            self.give_up(earlier, out);
        }
        let until = out.now() + self.patience;
        let at_most = out.now() + patience.max(self.patience);
        let waiting = Waiting {
            actor,
            until,
            at_most,
        };
        self.waiting.insert(call, waiting);
        let claim = Box::new(claim);
        // What waits here has a claim there, and goes with it (`HOST-3`).
        out.tell(HostingEvent::Wanted { call, claim });
    }

    /// A start that waits is withdrawn, and answered: the gcs is to place the actor anew.
    pub fn give_up(&mut self, call: CallId, out: &mut Out) {
        self.leave(call);
        out.tell(HostingEvent::GivenUp(call));
        out.answer_start(call, start_actor_reply::Outcome::NoRoom(true), 0);
    }

    /// Starts for which nothing became free in time. Those go on waiting that have more time, if `is_collecting` says that room is
    /// made for them.
    pub fn give_up_overdue(&mut self, is_collecting: impl Fn(CallId) -> bool, out: &mut Out) {
        let (now, patience) = (out.now(), self.patience);
        for (call, waiting) in &mut self.waiting {
            if waiting.until <= now && now < waiting.at_most && is_collecting(*call) {
                waiting.until = waiting.at_most.min(now + patience);
            }
        }
        self.give_up_where(|waiting| waiting.until <= now, out);
    }

    /// The actor is not to be: its start waits no longer, if it does.
    pub fn withdraw(&mut self, actor: ActorId, out: &mut Out) {
        self.give_up_where(|waiting| waiting.actor == actor, out);
    }

    /// All starts that wait.
    pub fn give_up_all(&mut self, out: &mut Out) {
        self.give_up_where(|_| true, out);
    }

    pub(super) fn give_up_where(&mut self, is_meant: impl Fn(&Waiting) -> bool, out: &mut Out) {
        let waiting = self.waiting.iter();
        let meant = waiting.filter(|(_, waiting)| is_meant(waiting));
        let meant: Vec<CallId> = meant.map(|(call, _)| *call).collect();
        for call in meant {
            self.give_up(call, out);
        }
    }

    /// An actor has got a worker (`HOST-1`): it is told to begin, and the gcs where.
    pub fn begin(
        &mut self,
        reply_to: ReplyTo,
        seat: &Seat,
        start: StartActor,
        args_payload: Bytes,
        out: &mut Out,
    ) {
        let Seat { worker, pid, .. } = *seat;
        let actor = actor_of(&start);
        let hosted = Hosted {
            worker,
            pid,
            restarts: start.restarts,
        };
        let before = self.hosted.insert(actor, hosted);
        debug_assert!(before.is_none(), "HOST-1: {actor} {before:?}");
        if let Some(connection) = seat.connection {
            out.push(Effect::Send {
                connection,
                request_id: 0,
                kind: node_frame::Kind::StartActor(start),
                payload: args_payload,
            });
        }
        if let ReplyTo::Call(call) = reply_to {
            self.leave(call);
            let place = Address::of(self.here, worker);
            out.answer_start(call, start_actor_reply::Outcome::Address(place), pid);
        }
    }

    /// A worker that is busy as `actor` under `lease` says how the constructor has ended.
    pub fn constructed(
        &mut self,
        actor: ActorId,
        lease: LeaseId,
        process: &Process,
        started: ActorStarted,
        out: &mut Out,
    ) {
        let worker = process.worker;
        if started.actor_id != actor.as_bytes()[..] {
            return;
        }
        let restarts = self.get(actor).map_or(0, |hosted| hosted.restarts);
        if started.failure.is_some() {
            self.worker_gone(worker);
            out.tell(HostingEvent::Broken(worker));
        } else {
            out.tell(HostingEvent::Constructed(lease));
        }
        out.push(Effect::Report(GcsReport::ActorStarted(
            ReportActorStartedRequest {
                actor_id: started.actor_id,
                address: Some(Address::of(self.here, worker)),
                pid: process.pid,
                failure: started.failure,
                restarts,
            },
        )));
    }
}

/// The actor that a start is for. Checked where the start came in.
pub fn actor_of(start: &StartActor) -> ActorId {
    let spec = start.spec.as_ref();
    spec.and_then(|spec| ActorId::from_bytes(&spec.actor_id).ok())
        .unwrap_or(ActorId::NIL)
}

/// The claim that the start of an actor makes.
fn actor_claim(request: StartActorRequest, now: Instant) -> Result<(ActorId, Claim), ConvertError> {
    let start = request.start.unwrap_or_default();
    let spec = start.spec.as_ref();
    let id = |bytes: Option<&bytes::Bytes>| bytes.map_or(&[][..], |bytes| &bytes[..]).to_vec();
    let actor = ActorId::from_bytes(&id(spec.map(|spec| &spec.actor_id))).map_err(wrong_id)?;
    let job = JobId::from_bytes(&id(spec.map(|spec| &spec.job_id))).map_err(wrong_id)?;
    let wanted = spec
        .and_then(|spec| spec.resources.clone())
        .unwrap_or_default();
    let placement = placement_request(&wanted)?;
    let running = start
        .options
        .as_ref()
        .and_then(|options| options.running_resources.as_ref())
        .map(ResourceRequest::try_from)
        .transpose()
        .map_err(ConvertError::Request)?;
    let claim = Claim {
        job,
        placement,
        is_here_only: true,
        claim_id: 0,
        since: now,
        is_told_infeasible: false,
        is_hopeless: false,
        waits_for: String::new(),
        purpose: Purpose::Actor {
            start: Box::new(start),
            args_payload: request.args_payload,
            running,
        },
    };
    Ok((actor, claim))
}

fn wrong_id(error: InvalidId) -> ConvertError {
    ConvertError::Id(error)
}
