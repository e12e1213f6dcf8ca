use super::*;

#[test]
fn silent_node_dies_and_the_others_hear_of_it() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    scene.pass(Duration::from_secs(9));
    assert!(scene.core.nodes()[0].is_alive);
    scene.pass(Duration::from_secs(1));
    let info = scene.core.nodes().remove(0);
    assert!(!info.is_alive);
    assert_eq!(info.death_cause, "it was not heard of for 10.0 s");
    let is_told = |effect: &Effect| match effect {
        Effect::Publish(publication) => matches!(
            &publication.kind, Some(Kind::NodeDied(died)) if died.node_id == node.to_wire()
        ),
        _ => false,
    };
    assert!(scene.effects.iter().any(is_told));
}

#[test]
fn reporting_node_stays_alive() {
    let mut scene = Scene::new();
    let node = NodeId::random();
    let generation = scene.register(node, 4);
    for _ in 0..10 {
        scene.now += Duration::from_secs(9);
        assert!(!scene.report(node, generation, 4));
    }
    assert!(scene.core.nodes()[0].is_alive);
}

#[test]
fn node_with_a_closed_connection_dies_sooner_unless_it_comes_back() {
    let mut scene = Scene::new();
    let node = NodeId::random();
    let generation = scene.register(node, 4);
    scene.step(|core, _| core.subscription_opened(node, 1));
    scene.step(|core, _| core.subscription_opened(node, 2));
    // The old connection's end comes late: it says nothing about the new one.
    scene.step(|core, turn| core.subscription_closed(node, 1, turn));
    scene.pass(Duration::from_secs(3));
    assert!(scene.core.nodes()[0].is_alive);
    assert!(!scene.report(node, generation, 4));
    scene.step(|core, turn| core.subscription_closed(node, 2, turn));
    scene.pass(Duration::from_millis(1900));
    assert!(scene.core.nodes()[0].is_alive);
    scene.pass(Duration::from_millis(200));
    assert!(!scene.core.nodes()[0].is_alive);
}

#[test]
fn nodes_are_not_blamed_for_a_stall_of_the_gcs() {
    let mut scene = Scene::new();
    scene.node(4);
    scene.now += Duration::from_secs(60);
    scene.core.stalled(Duration::from_secs(60));
    scene.pass(Duration::from_secs(9));
    assert!(scene.core.nodes()[0].is_alive);
    scene.pass(Duration::from_secs(2));
    assert!(!scene.core.nodes()[0].is_alive);
}

#[test]
fn reports_of_older_generations_are_refused() {
    let mut scene = Scene::new();
    let node = NodeId::random();
    let first = scene.register(node, 4);
    let second = scene.register(node, 4);
    assert!(second > first, "NODE-G1");
    assert!(scene.report(node, first, 4));
    assert!(!scene.report(node, second, 4));
    assert!(
        scene.report(NodeId::random(), 1, 4),
        "an unknown node must register"
    );
}

#[test]
fn news_of_a_busy_node_are_bundled_and_the_last_one_comes() {
    let mut scene = Scene::new();
    let node = NodeId::random();
    let generation = scene.register(node, 4);
    scene.effects.clear();
    let told = |scene: &Scene| -> Vec<NodeInfo> {
        let news = scene.effects.iter().filter_map(|effect| match effect {
            Effect::Publish(publication) => match &publication.kind {
                Some(Kind::Node(info)) => Some(info.clone()),
                _ => None,
            },
            _ => None,
        });
        news.collect()
    };
    for free in [3, 2, 1, 2, 1, 0] {
        scene.now += Duration::from_millis(2);
        assert!(!scene.report(node, generation, free));
    }
    assert!(told(&scene).is_empty());
    let next = scene.core.next_wake().unwrap();
    assert!(next <= Duration::from_millis(25), "{next:?}");
    scene.now = next;
    scene.step(|_, _| {});
    let [last] = &told(&scene)[..] else {
        panic!("{:?}", told(&scene))
    };
    assert_eq!(last.available, info(node, 0).available);
}

#[test]
fn job_ends_with_the_node_of_its_driver() {
    let mut scene = Scene::new();
    let node = scene.node(4);
    let job = JobId::random();
    scene.add_job(job, Address::of(node, WorkerId::random()));
    scene
        .step(|core, turn| core.unregister_node(node.as_bytes(), "shut down", turn))
        .unwrap();
    let jobs = scene.core.jobs();
    let job = jobs
        .iter()
        .find(|info| info.job_id == job.to_wire())
        .unwrap();
    assert_eq!(job.cause, "the node of its driver died: shut down");
    assert!(!job.is_running);
}
