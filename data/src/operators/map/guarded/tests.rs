//! Calls of functions that tests know, one by one.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use aktis_common::error::ErrorCode;
use arrow::array::{ArrayRef, Int64Array};
use bytes::Bytes;
use parking_lot::Mutex;

use super::super::sizes::{Limits, SharedSizer};
use super::super::{Circumstances, open};
use super::*;
use crate::graph::MapCall;
use crate::operators::failing::notes::{NoNotes, Notes};
use crate::operators::failing::{FailingInput, Watch};
use crate::operators::stream::{Batches, is_pause};
use crate::operators::udf::BatchFunction;
use crate::plan::{Batching, FailurePolicy, MapSpec, OnError};
use crate::testing::{ids, rows, test_map};
use crate::wire::failing::{FailingSpec, MostRows, NotedCall};
use crate::wire::sizes::SizesSpec;

/// Passes on what is noted. The process is not ended: the note takes for ever.
struct Passes(Mutex<Sender<NotedCall>>);

impl Notes for Passes {
    fn note(&self, _key: &Bytes, _call: &NotedCall) -> Result<(), TaskFailure> {
        Ok(())
    }

    fn note_beside(&self, _key: &Bytes, call: &NotedCall) -> Result<(), TaskFailure> {
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

/// Passes rows on, unless it has something against them.
struct Choosy {
    against: fn(&[i64]) -> Option<&'static str>,
    asked: Option<usize>,
    takes: Duration,
    begun: VecDeque<RecordBatch>,
}

impl Choosy {
    fn new(against: fn(&[i64]) -> Option<&'static str>) -> Self {
        Self {
            against,
            asked: None,
            takes: Duration::ZERO,
            begun: VecDeque::new(),
        }
    }
}

impl BatchFunction for Choosy {
    fn begin(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        std::thread::sleep(self.takes);
        match (self.against)(&ids(std::slice::from_ref(&batch))) {
            Some(why) => Err(TaskFailure::new(ErrorCode::Application, why)),
            None => {
                self.begun.push_back(batch);
                Ok(())
            }
        }
    }

    fn next_output(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        Ok(self.begun.pop_front())
    }

    fn forget_calls(&mut self) {
        self.begun.clear();
    }

    fn rows_asked(&self) -> Option<usize> {
        self.asked
    }
}

/// Eight rows as one frame, through a function whose batches are as large as pays; those that come out, and what was found.
fn framed(function: Choosy) -> (Vec<i64>, Option<SizesSpec>) {
    let mut spec = test_map("choosy");
    spec.failures.on_error = Some(OnError::Skip);
    let step = MapCall::of(&spec);
    let input = FailingInput::new(
        FailingSpec::default(),
        0,
        "here".into(),
        Arc::new(NoNotes),
        Arc::<Watch>::default(),
        false,
    );
    let guard = Guard::new(&Arc::new(input), 0, &step, None, &[]);
    let batches = Box::new(Batches(vec![rows(0, 8)].into_iter()));
    let rebatch = Rebatch::new(batches, Some(8), 1 << 20, false);
    let function: SharedFunction = Arc::new(Mutex::new(Box::new(function)));
    let sizer = SharedSizer::default();
    let pieces = FramePieces::new(Some(Arc::clone(&sizer)), Limits::default(), None, false);
    let map = GuardedMap::new(Shape { step }, function, rebatch, guard);
    let mut map = map.in_pieces(Some(pieces));
    let mut whole = Vec::new();
    while let Some(batch) = map.next().expect("goes on") {
        if !is_pause(&batch) {
            whole.push(batch);
        }
    }
    let found = sizer.lock().tell(0, "CPU");
    (ids(&whole), found)
}

/// Both halves of it must fit.
#[test]
fn pieces_of_a_half_that_failed_for_a_row_say_nothing_of_the_whole() {
    let (left, found) = framed(Choosy::new(|ids| match ids {
        ids if ids.contains(&6) => Some("MemoryError: "),
        ids if ids.contains(&1) => Some("ValueError: one"),
        _ => None,
    }));
    assert_eq!(left, [0, 2, 3, 4, 5, 7]);
    let found = found.expect("found no memory");
    assert!(found.out_of_memory > 0);
    assert_eq!(found.too_large, None, "row 6 is what is too large");
}

#[test]
fn rows_whose_results_were_kept_make_no_size_look_cheap() {
    let kept = |asked| Choosy {
        asked: Some(asked),
        takes: Duration::from_millis(5),
        ..Choosy::new(|_| None)
    };
    let (_, found) = framed(kept(0));
    assert_eq!(found, None, "it was not called");
    let (_, found) = framed(kept(2));
    let trials = found.expect("was tried").trials;
    assert!(trials[0].nanos >= 20_000_000, "{trials:?}");
}

/// Gives what it is called with in pieces of two rows.
#[derive(Default)]
struct InTwos(VecDeque<RecordBatch>);

impl BatchFunction for InTwos {
    fn is_lazy(&self) -> bool {
        false
    }

    fn begin(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        let rows = batch.num_rows();
        let pieces = (0..rows).step_by(2);
        self.0 = pieces
            .map(|first| batch.slice(first, 2.min(rows - first)))
            .collect();
        Ok(())
    }

    fn next_output(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        Ok(self.0.pop_front())
    }

    fn forget_calls(&mut self) {
        self.0.clear();
    }
}

/// The rows of the batches that come out of two calls with five rows each, where the attempt knows this.
fn in_twos(known: Option<FailingSpec>) -> Vec<usize> {
    let step = MapCall::of(&MapSpec {
        batch_rows: Some(5),
        ..test_map("in twos")
    });
    let guard = known.map(|known| {
        let input = FailingInput::new(
            known,
            0,
            "here".into(),
            Arc::new(NoNotes),
            Arc::<Watch>::default(),
            false,
        );
        Guard::new(&Arc::new(input), 0, &step, None, &[])
    });
    let circumstances = Circumstances {
        block_bytes: 1 << 20,
        input_rows: 10,
        position: Some(0),
        is_noted: false,
        is_careful: false,
        guard,
        frame_rows: 0,
        sizer: None,
    };
    let function: SharedFunction = Arc::new(Mutex::new(Box::new(InTwos::default())));
    let batches = Box::new(Batches(vec![rows(0, 10)].into_iter()));
    let mut map = open(&step, function, batches, circumstances);
    let (mut sizes, mut all, mut place) = (Vec::new(), Vec::new(), None);
    while let Some(batch) = map.next().expect("goes on") {
        sizes.push(batch.num_rows());
        all.push(batch);
        place = map.position();
    }
    assert_eq!(ids(&all), (0..10).collect::<Vec<_>>());
    assert_eq!(place, Some(10));
    sizes
}

/// STG-2 (same-cut-every-time): an attempt that knows more gives the same batches.
#[test]
fn outputs_of_a_call_that_is_suspected_come_one_by_one_as_before() {
    let before = in_twos(None);
    assert_eq!(before, [2, 2, 1, 2, 2, 1]);
    let careful = FailingSpec {
        is_careful: true,
        ..FailingSpec::default()
    };
    assert_eq!(in_twos(Some(careful)), before);
    let most_rows = |rows| {
        let limit = MostRows { step: 0, rows };
        in_twos(Some(FailingSpec {
            most_rows: vec![limit],
            ..FailingSpec::default()
        }))
    };
    assert_eq!(most_rows(5), before);
    // There are no such outputs where the batch was cut.
    assert_eq!(most_rows(3), [5, 5]);
}

/// The function of a group gets all of it, also where workers have died of calls with fewer rows.
#[test]
fn calls_of_groups_are_cut_between_groups_alone() {
    let step = MapCall::of(&MapSpec {
        batching: Batching {
            group_keys: vec!["group".to_owned()],
            ..Batching::default()
        },
        ..test_map("groups")
    });
    let known = FailingSpec {
        most_rows: vec![MostRows { step: 0, rows: 2 }],
        ..FailingSpec::default()
    };
    let input = FailingInput::new(
        known,
        0,
        "here".into(),
        Arc::new(NoNotes),
        Arc::<Watch>::default(),
        false,
    );
    let mut guard = Guard::new(&Arc::new(input), 0, &step, None, &[]);
    let groups: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 3, 3, 3, 3, 4]));
    let batch = RecordBatch::try_from_iter([("group", groups)]).expect("is a batch");
    let pieces = guard.enter(batch, 0).expect("can be cut");
    let sizes: Vec<usize> = pieces.iter().map(CallPiece::num_rows).collect();
    assert_eq!(sizes, [2, 5, 1]);
}
