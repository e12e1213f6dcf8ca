//! Calls of functions that tests know, one by one.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::graph::MapCall;
use crate::operators::failing::notes::Notes;
use crate::operators::failing::{FailingInput, Watch};
use crate::operators::stream::Batches;
use crate::operators::udf::BatchFunction;
use crate::plan::FailurePolicy;
use crate::testing::{rows, test_map};
use crate::wire::failing::{FailingSpec, NotedCall};

/// Passes on what is noted. The process is not ended: the note takes for ever.
struct Passes(Mutex<Sender<NotedCall>>);

impl Notes for Passes {
    fn note(&self, _key: &Bytes, _call: &NotedCall) -> Result<(), TaskFailure> {
        Ok(())
    }

    fn note_last(&self, _key: &Bytes, call: &NotedCall) -> Result<(), TaskFailure> {
        self.0.lock().send(call.clone()).expect("somebody waits");
        loop {
            std::thread::park();
        }
    }
}

/// Takes one batch; for another one there is no room until something is noted.
struct FullQueue {
    noted: Receiver<NotedCall>,
    seen: Arc<Mutex<Option<NotedCall>>>,
    taken: usize,
}

impl BatchFunction for FullQueue {
    fn calls_ahead(&self) -> usize {
        16
    }

    fn begin(&mut self, _batch: RecordBatch) -> Result<(), TaskFailure> {
        self.taken += 1;
        if self.taken == 2 {
            *self.seen.lock() = self.noted.recv_timeout(Duration::from_secs(30)).ok();
        }
        Ok(())
    }

    fn next_output(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        Ok(None)
    }

    fn forget_calls(&mut self) {}
}

#[test]
fn model_that_takes_no_more_batches_is_late_for_the_first_one() {
    let (sender, noted) = channel();
    let seen = Arc::default();
    let function = FullQueue {
        noted,
        seen: Arc::clone(&seen),
        taken: 0,
    };
    let mut spec = test_map("full");
    spec.failures = FailurePolicy {
        timeout: Some(Duration::from_millis(100)),
        ..FailurePolicy::default()
    };
    let step = MapCall::of(&spec);
    let input = FailingInput::new(
        FailingSpec::default(),
        0,
        "here".into(),
        Arc::new(Passes(Mutex::new(sender))),
        Arc::<Watch>::default(),
        false,
    );
    let guard = Guard::new(&Arc::new(input), 0, &step, None, &[]);
    let batches = Box::new(Batches(vec![rows(0, 20)].into_iter()));
    let rebatch = Rebatch::new(batches, Some(5), 1 << 20, false);
    let function: SharedFunction = Arc::new(Mutex::new(Box::new(function)));
    let mut map = GuardedMap::new(Shape { step }, function, rebatch, guard);
    assert!(map.next().expect("goes on").is_none());
    let call = seen.lock().take().expect("it was late");
    assert_eq!((call.first, call.last, call.is_late), (0, 4, true));
}
