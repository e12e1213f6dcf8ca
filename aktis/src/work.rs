//! The main loop of a worker that runs Rust code and nothing else.

use std::sync::Arc;

use aktis_worker::native::{NativeHost, NativeRegistry};
use aktis_worker::{Runtime, Work};

/// Shows the GPUs of the lease, and no others, to CUDA.
#[allow(unsafe_code, reason = "there is no safe way to change the environment")]
fn show_devices(work: &Work) {
    let held = match work {
        Work::Call(call) => call.accelerators(),
        Work::StartActor(start) => start.start().accelerators.clone(),
        Work::Exit(_) | Work::ExitForGood(_) => return,
    };
    let devices = held.map(|held| held.visible_devices).unwrap_or_default();
    // SAFETY: no user code has run yet, and the only other thread, that of the lanes, reads no environment.
    unsafe { std::env::set_var("CUDA_DEVICE_ORDER", "PCI_BUS_ID") };
    // SAFETY: as above.
    unsafe { std::env::set_var("CUDA_VISIBLE_DEVICES", devices) };
}

/// Runs what comes until the process is to end. Returns why it ends.
pub(crate) fn run_worker(runtime: &Runtime, registry: Arc<NativeRegistry>) -> String {
    let mut host = NativeHost::new(registry);
    let mut shows_devices = false;
    loop {
        let work = runtime.next_work(None);
        if let Some(work) = &work
            && !shows_devices
        {
            // A worker serves leases of the same GPUs as long as it lives.
            shows_devices = true;
            show_devices(work);
        }
        match work {
            None => {}
            Some(Work::Call(call)) => {
                let is_over = host.run(runtime, call);
                if is_over {
                    return "it has run as often as max_calls allows".to_owned();
                }
            }
            Some(Work::StartActor(start)) => {
                let is_alive = host.start_actor(runtime, start);
                if !is_alive {
                    return "the actor's constructor failed".to_owned();
                }
            }
            Some(Work::Exit(reason)) => return reason,
            Some(Work::ExitForGood(reason)) => {
                runtime.linger_no_more();
                return reason;
            }
        }
    }
}
