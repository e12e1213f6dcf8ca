//! What jobs put goes with them (`KV-1`).

use aktis_proto::v1::{FinishJobRequest, KvPutRequest};

use super::*;

impl Scene {
    fn put(&mut self, key: &'static str, job: Option<JobId>) {
        let request = KvPutRequest {
            key: key.into(),
            value: "v".into(),
            overwrite: false,
            job_id: job.map_or(Bytes::new(), JobId::to_wire),
        };
        self.step(|core, turn| core.kv_put(request, turn));
    }

    fn finish(&mut self, job: JobId) {
        let request = FinishJobRequest {
            job_id: job.to_wire(),
            cause: String::new(),
        };
        self.step(|core, turn| core.finish_job(&request, turn))
            .unwrap();
    }

    fn has(&self, key: &str) -> bool {
        let kept = &(Table::KeyValues, Bytes::copy_from_slice(key.as_bytes()));
        let is_there = self.core.kv().get(key.as_bytes()).is_some();
        assert_eq!(is_there, self.kept.contains_key(kept), "GCS-2");
        is_there
    }
}

#[test]
fn definitions_go_with_the_last_job_that_put_them() {
    let mut scene = Scene::new();
    let (first, second) = (scene.job, JobId::random());
    scene.add_job(second, Address::default());
    scene.put("own", Some(first));
    scene.put("shared", Some(first));
    scene.put("shared", Some(second));
    scene.put("nobody's", None);
    let mut scene = scene.restarted();
    scene.finish(first);
    assert!(!scene.has("own"), "KV-1");
    assert!(scene.has("shared") && scene.has("nobody's"), "KV-1");
    scene.put("late", Some(first));
    assert!(!scene.has("late"), "KV-1");
    scene.finish(second);
    assert!(!scene.has("shared") && scene.has("nobody's"), "KV-1");
    let claims = scene
        .kept
        .keys()
        .filter(|(table, _)| *table == Table::KeyJobs);
    assert_eq!(claims.count(), 0);
}

#[test]
fn definitions_stay_for_detached_actors_until_they_are_dead() {
    let mut scene = Scene::new();
    scene.node(4);
    let job = scene.job;
    let options = ActorOptions {
        is_detached: true,
        ..named("keeper")
    };
    let (actor, ..) = scene.living(options);
    scene.put("class", Some(job));
    scene.finish(job);
    assert!(scene.has("class"), "it may be restarted");
    scene.kill(actor, true);
    assert!(!scene.has("class"), "KV-1");
}

#[test]
fn promises_that_were_not_kept_leave_no_trace() {
    let mut scene = Scene::new();
    scene.node(4);
    let request = KvPutRequest {
        key: "k".into(),
        value: "old".into(),
        overwrite: true,
        job_id: Bytes::new(),
    };
    scene.step(|core, turn| core.kv_put(request.clone(), turn));
    let newer = KvPutRequest {
        value: "new".into(),
        ..request
    };
    let actor = ActorId::random();
    let creation = creation(actor, scene.job, named("a"), 1);
    let undo = scene.step(|core, turn| {
        let undone = core.undo_of_put(&newer);
        core.kv_put(newer, turn);
        let unmade = core.undo_of_creation(&creation);
        core.create_actor(creation.clone(), turn).unwrap();
        move |core: &mut GcsCore| {
            unmade(core);
            undone(core);
        }
    });
    let is_start = |effect: &Effect| matches!(effect, Effect::StartActor { .. });
    assert!(
        scene.effects.iter().any(is_start),
        "the same turn has placed it"
    );
    scene.step(|core, _| undo(core));
    assert_eq!(scene.core.kv().get(b"k"), Some("old".into()), "GCS-1");
    assert_eq!(scene.core.actors(), [], "GCS-1");
    let owed = |table, key: Bytes| scene.core.owed_row(table, &key, Some("asked".into()));
    assert_eq!(owed(Table::KeyValues, "k".into()), Some("old".into()));
    assert_eq!(owed(Table::Actors, actor.to_wire()), None);
    let voided = scene
        .effects
        .iter()
        .filter(|effect| scene.core.is_void(effect));
    assert!(voided.count() >= 2, "its start, and the news of it");
    scene.effects.clear();
    // Its name and its place are free again.
    let (again, ..) = scene.living(named("a"));
    assert_ne!(again, actor);
}
