//! Whatever happens to a cluster: `OPR-1`, `OPR-2` and `OPR-3`.

use std::collections::BTreeMap;

use aktis_operator::api::{AktisCluster, ClusterState};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use crate::fixtures::{cluster, template};
use crate::pretended::{Pretended, failed, phase, ready};

#[derive(Debug, Clone)]
enum Event {
    Scale { group: usize, replicas: i32 },
    Suspend(bool),
    ChangeTemplate { group: Option<usize>, image: u8 },
    Become { pod: usize, what: Fate },
    Leave { pod: usize },
    LeavingAreGone,
    NewCredentials,
    Pass(u64),
    Round,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Ready,
    NotReady,
    Failed,
    Vanished,
}

fn event() -> impl Strategy<Value = Event> {
    let fate = prop_oneof![
        Just(Fate::Ready),
        Just(Fate::NotReady),
        Just(Fate::Failed),
        Just(Fate::Vanished)
    ];
    prop_oneof![
        (0..2usize, 0..5i32).prop_map(|(group, replicas)| Event::Scale { group, replicas }),
        any::<bool>().prop_map(Event::Suspend),
        (prop::option::of(0..2usize), 0..3u8)
            .prop_map(|(group, image)| Event::ChangeTemplate { group, image }),
        (0..10usize, fate).prop_map(|(pod, what)| Event::Become { pod, what }),
        (0..10usize).prop_map(|pod| Event::Leave { pod }),
        Just(Event::LeavingAreGone),
        Just(Event::NewCredentials),
        (0..20u64).prop_map(Event::Pass),
        Just(Event::Round),
        Just(Event::Round),
        Just(Event::Round),
    ]
}

fn happen(event: &Event, world: &mut Pretended, cluster: &mut AktisCluster) {
    let pod_at = |world: &Pretended, index: usize| {
        let names = world.names();
        (!names.is_empty()).then(|| names[index % names.len()].to_owned())
    };
    match event {
        Event::Scale { group, replicas } => {
            cluster.spec.worker_group_specs[*group].replicas = Some(*replicas);
        }
        Event::Suspend(suspend) => cluster.spec.suspend = *suspend,
        Event::ChangeTemplate { group, image } => {
            let template = template(&format!("image:{image}"));
            match group {
                Some(group) => cluster.spec.worker_group_specs[*group].template = template,
                None => cluster.spec.head_group_spec.template = template,
            }
        }
        Event::Become { pod, what } => {
            let Some(name) = pod_at(world, *pod) else {
                return;
            };
            let at = world.now;
            match what {
                Fate::Ready => world.set_status(&name, ready()),
                Fate::NotReady => world.set_status(&name, phase("Running")),
                Fate::Failed => world.set_status(&name, failed(1, at)),
                Fate::Vanished => {
                    world.pods.remove(&name);
                }
            }
        }
        Event::Leave { pod } => {
            let Some(name) = pod_at(world, *pod) else {
                return;
            };
            let pod = world.pods.get_mut(&name).unwrap();
            pod.metadata.deletion_timestamp = Some(Time(world.now));
        }
        Event::LeavingAreGone => world.finish_leaving(),
        Event::NewCredentials => world.credentials = None,
        Event::Pass(seconds) => world.pass(*seconds),
        Event::Round => {
            world.cluster_round(cluster);
            check(world, cluster);
        }
    }
}

fn label<'a>(pod: &'a Pod, key: &str) -> &'a str {
    &pod.metadata.labels.as_ref().unwrap()[key]
}

/// `OPR-1 (one-head)`, `OPR-2 (bounded)`.
fn check(world: &Pretended, cluster: &AktisCluster) {
    let heads = world
        .pods
        .values()
        .filter(|pod| label(pod, "aktis.dev/node-type") == "head");
    assert!(heads.count() <= 1, "OPR-1: {:?}", world.names());
    let mut staying: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in world.pods.values() {
        if pod.metadata.deletion_timestamp.is_none()
            && label(pod, "aktis.dev/node-type") == "worker"
        {
            *staying.entry(label(pod, "aktis.dev/group")).or_default() += 1;
        }
    }
    // Without credentials nothing is decided about workers.
    let is_decided = cluster.status.as_ref().is_some_and(|status| {
        let mut conditions = status.conditions.iter();
        conditions.any(|known| known.type_ == "CredentialsReady" && known.status == "True")
    });
    for group in &cluster.spec.worker_group_specs {
        let count = staying.get(&*group.group_name).copied().unwrap_or(0);
        if is_decided || cluster.spec.suspend {
            assert!(count <= group.wanted(), "OPR-2: {:?}", world.names());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_there_is_one_head_and_what_was_asked_for_comes(events in prop::collection::vec(event(), 0..60)) {
        let (mut world, mut cluster) = (Pretended::new(), cluster(&[("a", 2), ("b", 0)]));
        for event in &events {
            happen(event, &mut world, &mut cluster);
        }
        // What runs unready may become ready now; then `OPR-3 (settles)`.
        let names: Vec<String> = world.names().into_iter().map(str::to_owned).collect();
        for name in names {
            let phase = world.pods[&name].status.as_ref().unwrap().phase.clone();
            if phase.as_deref() == Some("Running") {
                world.set_status(&name, ready());
            }
        }
        world.settle(&mut cluster);
        check(&world, &cluster);
        let state = cluster.status.as_ref().unwrap().state;
        if cluster.spec.suspend {
            prop_assert_eq!(state, Some(ClusterState::Suspended));
            prop_assert!(world.pods.is_empty());
        } else {
            let workers: usize = cluster.spec.worker_group_specs.iter().map(|group| group.wanted()).sum();
            prop_assert_eq!(state, Some(ClusterState::Ready));
            prop_assert_eq!(world.pods.len(), 1 + workers);
            for group in &cluster.spec.worker_group_specs {
                let image = group.template.0["spec"]["containers"][0]["image"].as_str();
                for pod in world.pods.values().filter(|pod| label(pod, "aktis.dev/group") == group.group_name) {
                    prop_assert_eq!(pod.spec.as_ref().unwrap().containers[0].image.as_deref(), image);
                }
            }
        }
    }
}
