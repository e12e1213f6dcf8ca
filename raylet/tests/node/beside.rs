//! What runs beside the loop does not hold it up: here it stands still altogether.

use std::sync::mpsc;

use aktis_common::resources::CPU;
use aktis_raylet::Raylet;
use tokio::runtime::{Builder, Runtime};

use crate::sandbox::{Sandbox, driver, eventually};
use crate::two_nodes::node_of;

/// Threads of the runtime beside.
const THREADS: usize = 2;

/// A runtime whose threads can be stopped.
struct Beside {
    runtime: Option<Runtime>,
    /// Dropped: they go on.
    gates: Vec<mpsc::Sender<()>>,
}

impl Beside {
    fn new() -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .build();
        Self {
            runtime: Some(runtime.unwrap()),
            gates: Vec::new(),
        }
    }

    fn handle(&self) -> tokio::runtime::Handle {
        self.runtime.as_ref().unwrap().handle().clone()
    }

    /// Each thread is in a step that does not end, as a copy, a log or a disk could be.
    async fn stop(&mut self) {
        let (stopped, mut are_stopped) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..THREADS {
            let (gate, is_open) = mpsc::channel::<()>();
            self.gates.push(gate);
            let stopped = stopped.clone();
            self.handle().spawn(async move {
                stopped.send(()).unwrap();
                let _ = is_open.recv();
            });
        }
        for _ in 0..THREADS {
            are_stopped.recv().await.unwrap();
        }
    }

    fn go_on(&mut self) {
        self.gates.clear();
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.go_on();
        self.runtime.take().unwrap().shutdown_background();
    }
}

#[tokio::test]
async fn leases_objects_and_signs_of_life_go_on_while_all_beside_the_loop_stands_still() {
    let sandbox = Sandbox::new().await;
    let mut beside = Beside::new();
    let mut config = sandbox.config(1, 0);
    config.beside = Some(beside.handle());
    let node = Raylet::start(config).await.unwrap();
    let mut driver = driver(&node).await;
    // From now on there is a worker.
    let first = driver.lease(&[(CPU, 1.0)]).await;
    driver.return_lease(&first).await;
    beside.stop().await;
    let reports = || sandbox.gcs.gcs.memory.lock().reports;
    let reports_before = reports();
    for round in 0..100u8 {
        let grant = driver.lease(&[(CPU, 1.0)]).await;
        assert_eq!(node_of(&grant), node.node_id());
        driver.return_lease(&grant).await;
        let object = driver.put(&[round; 1000]).await;
        let request = driver.request_object(object, &[]).await;
        assert_eq!(driver.object(request).await.unwrap(), [round; 1000]);
    }
    eventually("the gcs hears that the node lives", || {
        reports() >= reports_before + 3
    })
    .await;
    beside.go_on();
    node.shutdown().await;
}
