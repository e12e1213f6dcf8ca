//! What must hold is seen when it does not.

use super::*;
use crate::core::actors::table::Phase;
use crate::core::departed::Departure;
use crate::core::jobs::table::Away;
use aktis_proto::v1::{JobInfo, KvPutRequest};

/// A head with a node, and an actor that lives there.
struct Small {
    scene: Scene,
    actor: ActorId,
    node: NodeId,
    worker: WorkerId,
}

fn small() -> Small {
    let mut scene = Scene::new();
    scene.node(4);
    let (actor, node, worker) = scene.living(ActorOptions::default());
    Small {
        scene,
        actor,
        node,
        worker,
    }
}

/// The label of what is broken once `spoil` has changed the head.
fn broken(spoil: impl FnOnce(&mut Small)) -> &'static str {
    let mut small = small();
    assert_eq!(small.scene.core.check(), Ok(()));
    spoil(&mut small);
    small.scene.core.check().unwrap_err().label
}

#[test]
fn dead_actor_that_is_not_buried_is_seen() {
    let label = broken(|it| {
        let record = it.scene.core.actors.get_mut(it.actor).unwrap();
        record.phase = Phase::Dead;
    });
    assert_eq!(label, "ACT-1");
}

#[test]
fn name_that_does_not_lead_to_its_actor_is_seen() {
    let label = broken(|it| {
        let record = it.scene.core.actors.get_mut(it.actor).unwrap();
        record.options.name = "somebody".to_owned();
    });
    assert_eq!(label, "ACT-2");
}

#[test]
fn process_that_is_two_actors_is_seen() {
    let label = broken(|it| {
        let (other, ..) = it.scene.living(ActorOptions::default());
        let (node, worker) = (it.node, it.worker);
        let record = it.scene.core.actors.get_mut(other).unwrap();
        record.phase = Phase::Alive { node, worker };
    });
    assert_eq!(label, "ACT-3");
}

#[test]
fn actor_that_began_anew_too_often_is_seen() {
    let label = broken(|it| {
        it.scene.core.actors.get_mut(it.actor).unwrap().restarts = 1;
    });
    assert_eq!(label, "ACT-4");
}

#[test]
fn actor_that_outlives_its_maker_or_its_job_is_seen() {
    let maker_gone = broken(|it| {
        let maker = WorkerId::random();
        it.scene.made_by(it.node, maker, 0);
        let end = Departure {
            cause: "ended".to_owned(),
            is_intended: true,
            is_ending: false,
        };
        it.scene.core.departed.note(maker, end);
    });
    assert_eq!(maker_gone, "ACT-5");
    let job_over = broken(|it| {
        it.scene.core.jobs.finish(it.scene.job, "over", 1);
    });
    assert_eq!(job_over, "ACT-5");
}

#[test]
fn queued_actor_that_does_not_wait_is_seen() {
    let forgotten = broken(|it| {
        let queued = it.scene.create(ActorOptions::default(), 100);
        it.scene.core.waiting.remove(&queued);
    });
    assert_eq!(forgotten, "GCS-5");
    let idle_reason = broken(|it| {
        it.scene.core.reasons.insert(it.actor, "none".to_owned());
    });
    assert_eq!(idle_reason, "GCS-5");
    let withheld = broken(|it| it.scene.core.withheld.push(it.actor));
    assert_eq!(withheld, "GCS-5");
}

#[test]
fn actor_that_lives_and_whose_start_has_no_answer_is_seen() {
    let label = broken(|it| {
        it.scene.core.unanswered.insert(it.actor, it.scene.now);
    });
    assert_eq!(label, "GCS-7");
}

#[test]
fn actor_on_a_dead_node_is_seen() {
    let label = broken(|it| {
        it.scene.core.nodes.die(it.node, "gone", it.scene.now, 1);
    });
    assert_eq!(label, "GCS-6");
}

#[test]
fn number_that_two_nodes_have_is_seen() {
    let label = broken(|it| {
        let id = NodeId::random();
        let twice = NodeInfo {
            generation: it.scene.core.nodes.last_generation(),
            is_alive: true,
            ..info(id, 1)
        };
        it.scene.core.nodes.restore(id, twice, it.scene.now);
    });
    assert_eq!(label, "NODE-G1");
}

#[test]
fn job_that_is_away_with_another_node_or_runs_after_its_end_is_seen() {
    let elsewhere = broken(|it| {
        let away = Away {
            node: NodeId::random(),
            cause: "lost".to_owned(),
            until: it.scene.now,
        };
        it.scene.core.jobs.set_away(it.scene.job, away);
    });
    assert_eq!(elsewhere, "JOB-1");
    let ended = broken(|it| {
        let job = JobInfo {
            is_running: true,
            cause: "finished".to_owned(),
            ..JobInfo::default()
        };
        it.scene.core.jobs.restore(JobId::random(), job);
    });
    assert_eq!(ended, "JOB-2");
}

#[test]
fn keys_of_a_job_that_is_over_are_seen() {
    let label = broken(|it| {
        it.scene.kill(it.actor, true);
        let put = KvPutRequest {
            key: Bytes::from_static(b"key"),
            job_id: it.scene.job.to_wire(),
            ..KvPutRequest::default()
        };
        it.scene.step(|core, turn| core.kv_put(put, turn));
        it.scene.core.jobs.finish(it.scene.job, "over", 1);
    });
    assert_eq!(label, "KV-1");
}
