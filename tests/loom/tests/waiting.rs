//! Loom models of `LANE-1 (one-poller)` and `LANE-2 (no-lost-wake-up)`, and of bytes that wait to be written.
//!
//! The sources of the protocol, `turn.rs`, `wait.rs` and `unflushed.rs` of `aktis-lane`, are compiled here a second time, over loom's
//! primitives, and every interleaving (up to a bound of forced switches) is run. A wake-up that got lost is a thread that
//! never ends, which loom reports with the order of steps that led there. The kernel is a model: an inbox that wakes whoever
//! polls.
//!
//! Time never wakes a thread that waits without a limit, so nothing here passes because a time-out saved it.

use std::sync::Arc;
use std::time::Duration;

use lane::turn::{Asked, Kick, Turn, Waiter};
use lane::unflushed::{FLUSH_AFTER, Unflushed};
use lane::wait::{Interrupted, Limits, Poller, WaitEnd};
use sync::{AtomicBool, Mutex, Ordering};

#[allow(
    dead_code,
    unused_imports,
    reason = "the models do not need all of the protocol, and not its unit tests"
)]
#[path = "../../../lane/src"]
mod lane {
    #[path = "turn.rs"]
    pub(crate) mod turn;
    #[path = "unflushed.rs"]
    pub(crate) mod unflushed;
    #[path = "wait.rs"]
    pub(crate) mod wait;
}

/// Stands for `lane/src/sync.rs`.
mod sync {
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicU32;
    use std::time::{Duration, Instant};

    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    pub(crate) use loom::thread::{Thread, current as current_thread, park};

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("a model that panics is over")
        }
    }

    /// Rings at any time once it is set, or never.
    #[derive(Debug)]
    pub(crate) struct Alarm {
        is_set: loom::sync::Mutex<bool>,
        bell: loom::sync::Condvar,
    }

    impl Alarm {
        pub(crate) fn new() -> Result<Self, std::convert::Infallible> {
            Ok(Self {
                is_set: loom::sync::Mutex::new(false),
                bell: loom::sync::Condvar::new(),
            })
        }

        pub(crate) fn set(&self, delay: Option<Duration>) {
            *self.is_set.lock().expect("a model that panics is over") = delay.is_some();
            self.bell.notify_all();
        }

        pub(crate) fn wait(&self) {
            let mut is_set = self.is_set.lock().expect("a model that panics is over");
            while !*is_set {
                is_set = self.bell.wait(is_set).expect("a model that panics is over");
            }
            *is_set = false;
        }
    }

    /// Whether the limit is over is for [`now`] to say.
    pub(crate) fn park_timeout(_limit: Duration) {
        loom::thread::yield_now();
    }

    static LOOKS: AtomicU32 = AtomicU32::new(0);

    /// The clock goes on by a millisecond whenever somebody looks.
    pub(crate) fn now() -> Instant {
        static START: OnceLock<Instant> = OnceLock::new();
        let looks = LOOKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        *START.get_or_init(Instant::now) + Duration::from_millis(looks.into())
    }

    pub(crate) fn reset_clock() {
        LOOKS.store(0, std::sync::atomic::Ordering::Relaxed);
    }
}

/// What a thread that polls sleeps on.
struct Kernel {
    pending: loom::sync::Mutex<Pending>,
    bell: loom::sync::Condvar,
}

#[derive(Default)]
struct Pending {
    /// Answers that nobody has read, by whom they are awaited.
    answers: Vec<Arc<Waiter>>,
    is_kicked: bool,
}

impl Kernel {
    fn change(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending.lock().expect("a model that panics is over"));
        self.bell.notify_all();
    }
}

struct Reactor {
    turn: Turn,
    kernel: Arc<Kernel>,
    kick: Kick,
    is_polled: AtomicBool,
}

impl Reactor {
    fn new() -> Arc<Self> {
        let kernel = Arc::new(Kernel {
            pending: loom::sync::Mutex::new(Pending::default()),
            bell: loom::sync::Condvar::new(),
        });
        let kicked = Arc::clone(&kernel);
        Arc::new(Self {
            turn: Turn::new(sync::Alarm::new().expect("cannot fail")),
            kernel,
            kick: Kick::new(move || kicked.change(|pending| pending.is_kicked = true)),
            is_polled: AtomicBool::new(false),
        })
    }

    fn answer(&self, waiter: &Arc<Waiter>) {
        let waiter = Arc::clone(waiter);
        self.kernel
            .change(move |pending| pending.answers.push(waiter));
    }
}

impl Poller for Reactor {
    fn poll(&self, timeout: Option<Duration>) -> Result<(), Interrupted> {
        assert!(
            !self.is_polled.swap(true, Ordering::SeqCst),
            "LANE-1: two threads poll"
        );
        let mut pending = self
            .kernel
            .pending
            .lock()
            .expect("a model that panics is over");
        while pending.answers.is_empty() && !pending.is_kicked {
            // Only the lane thread and waits with a limit have one. It may be over at any time.
            if timeout.is_some() {
                break;
            }
            pending = self
                .kernel
                .bell
                .wait(pending)
                .expect("a model that panics is over");
        }
        let happened = std::mem::take(&mut *pending);
        drop(pending);
        happened
            .answers
            .iter()
            .for_each(|waiter| waiter.count_down());
        self.is_polled.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn poll_briefly(&self, _waiter: &Waiter) -> bool {
        false
    }

    fn kick(&self) -> &Kick {
        &self.kick
    }
}

type Slot = Arc<loom::sync::Mutex<Option<Arc<Waiter>>>>;

/// A thread that waits for one answer without a limit. The slot is filled as soon as the answer may come.
fn waiting_thread(reactor: &Arc<Reactor>, slot: &Slot) -> loom::thread::JoinHandle<()> {
    let (reactor, slot) = (Arc::clone(reactor), Arc::clone(slot));
    loom::thread::spawn(move || {
        let waiter = Waiter::new(1);
        *slot.lock().expect("a model that panics is over") = Some(Arc::clone(&waiter));
        let end = reactor.turn.wait(&*reactor, &waiter, Limits::default());
        assert_eq!(end, WaitEnd::Done);
    })
}

struct LaneThread {
    thread: loom::thread::JoinHandle<()>,
    is_over: Arc<Mutex<bool>>,
}

/// A lane thread without errands.
fn lane_thread(reactor: &Arc<Reactor>) -> LaneThread {
    lane_thread_with(reactor, || None)
}

fn lane_thread_with(
    reactor: &Arc<Reactor>,
    errands: impl Fn() -> Option<Duration> + 'static,
) -> LaneThread {
    let is_over = Arc::new(Mutex::new(false));
    let (reactor, over) = (Arc::clone(reactor), Arc::clone(&is_over));
    let thread = loom::thread::spawn(move || {
        let is_over = || *over.lock();
        while !is_over() {
            reactor.turn.lane_round(&*reactor, &errands, &is_over);
        }
    });
    LaneThread { thread, is_over }
}

impl LaneThread {
    fn end(self, reactor: &Reactor) {
        *self.is_over.lock() = true;
        if !reactor.turn.call_lane(Duration::ZERO) {
            reactor.kick().kick();
        }
        self.thread.join().expect("the lane thread ends");
    }
}

fn filled(slot: &Slot) -> Arc<Waiter> {
    loop {
        if let Some(waiter) = &*slot.lock().expect("a model that panics is over") {
            return Arc::clone(waiter);
        }
        loom::thread::yield_now();
    }
}

fn empty() -> Slot {
    Arc::new(loom::sync::Mutex::new(None))
}

fn answers_reach_two_waiting_threads_in_any_order() {
    let (reactor, first, second) = (Reactor::new(), empty(), empty());
    let threads = [
        waiting_thread(&reactor, &first),
        waiting_thread(&reactor, &second),
    ];
    reactor.answer(&filled(&second));
    reactor.answer(&filled(&first));
    for thread in threads {
        thread.join().expect("the thread ends");
    }
    assert_eq!(reactor.turn.ask(&Waiter::new(1)), Asked::Lead);
}

/// What another thread of the process brings about (a cancelled task, the end of the session) must wake the one that polls.
fn thread_that_polls_is_woken_by_another_thread() {
    let (reactor, slot) = (Reactor::new(), empty());
    let thread = waiting_thread(&reactor, &slot);
    filled(&slot).count_down();
    thread.join().expect("the thread ends");
}

fn follower_whose_time_is_over_does_not_take_the_turn_with_it() {
    let (reactor, slot) = (Reactor::new(), empty());
    let thread = waiting_thread(&reactor, &slot);
    let limits = Limits {
        deadline: Some(sync::now() + Duration::from_millis(2)),
        slice_end: None,
    };
    let (other, waiter) = (Arc::clone(&reactor), filled(&slot));
    let impatient = loom::thread::spawn(move || {
        let mine = Waiter::new(1);
        // The answer of the other thread wakes this one if it holds the turn.
        other.turn.wait(&*other, &mine, limits)
    });
    reactor.answer(&waiter);
    thread.join().expect("the thread ends");
    let end = impatient.join().expect("the thread ends");
    assert_eq!(end, WaitEnd::DeadlinePassed);
    assert_eq!(reactor.turn.ask(&Waiter::new(1)), Asked::Lead);
}

fn lane_thread_hands_over_and_ends() {
    let (reactor, slot) = (Reactor::new(), empty());
    let lane = lane_thread(&reactor);
    let thread = waiting_thread(&reactor, &slot);
    reactor.answer(&filled(&slot));
    thread.join().expect("the thread ends");
    lane.end(&reactor);
}

/// Nobody waits any more, but what comes must be read: the lane thread takes the turn that was left.
fn turn_that_was_left_comes_to_the_lane_thread() {
    let (reactor, slot) = (Reactor::new(), empty());
    let lane = lane_thread(&reactor);
    let thread = waiting_thread(&reactor, &slot);
    reactor.answer(&filled(&slot));
    thread.join().expect("the thread ends");
    let unattended = Waiter::new(1);
    reactor.answer(&unattended);
    while !unattended.is_done() {
        loom::thread::yield_now();
    }
    lane.end(&reactor);
}

/// Waits go in slices with one waiter: what was handed to it in one slice is not its own in the next.
fn waiter_that_waits_again_takes_no_turn_that_another_has() {
    let (reactor, slot) = (Reactor::new(), empty());
    let (sliced_reactor, sliced_slot) = (Arc::clone(&reactor), Arc::clone(&slot));
    let sliced = loom::thread::spawn(move || {
        let waiter = Waiter::new(1);
        // The first slice: another thread polls, hands the turn over, and the time is up.
        let other = Waiter::new(1);
        assert_eq!(sliced_reactor.turn.ask(&other), Asked::Lead);
        assert_eq!(sliced_reactor.turn.ask(&waiter), Asked::Follow);
        sliced_reactor.turn.pass();
        assert!(sliced_reactor.turn.leave(&waiter));
        sliced_reactor.turn.pass();
        *sliced_slot.lock().expect("a model that panics is over") = Some(Arc::clone(&waiter));
        let end = sliced_reactor
            .turn
            .wait(&*sliced_reactor, &waiter, Limits::default());
        assert_eq!(end, WaitEnd::Done);
    });
    let waiter = filled(&slot);
    let second = empty();
    let thread = waiting_thread(&reactor, &second);
    reactor.answer(&filled(&second));
    reactor.answer(&waiter);
    thread.join().expect("the thread ends");
    sliced.join().expect("the thread ends");
}

/// Questions that wait to be written. The kernel has the answer to one as soon as it is.
struct Questions {
    reactor: Arc<Reactor>,
    unflushed: Mutex<Unflushed<Arc<Waiter>>>,
}

impl Questions {
    fn new(reactor: &Arc<Reactor>) -> Arc<Self> {
        Arc::new(Self {
            reactor: Arc::clone(reactor),
            unflushed: Mutex::new(Unflushed::default()),
        })
    }

    /// As the worker's reactor adds a connection.
    fn ask_soon(&self, question: Arc<Waiter>) {
        let is_first = self.unflushed.lock().add(question);
        if is_first && !self.reactor.turn.call_lane(FLUSH_AFTER) {
            self.reactor.kick().kick();
        }
    }

    /// The errand of the lane thread, as in the worker's reactor.
    fn flush_overdue(&self) -> Option<Duration> {
        let overdue = self.unflushed.lock().take_overdue();
        match overdue {
            Ok(questions) => {
                questions
                    .iter()
                    .for_each(|question| self.reactor.answer(question));
                None
            }
            Err(left) => Some(left),
        }
    }
}

fn flushing_lane_thread(questions: &Arc<Questions>) -> LaneThread {
    let flushed = Arc::clone(questions);
    lane_thread_with(&questions.reactor, move || flushed.flush_overdue())
}

/// It sleeps while it polls, and only the lane thread can write what another thread sends.
fn question_for_a_thread_that_polls_is_written() {
    let (reactor, slot) = (Reactor::new(), empty());
    let questions = Questions::new(&reactor);
    let lane = flushing_lane_thread(&questions);
    let thread = waiting_thread(&reactor, &slot);
    questions.ask_soon(filled(&slot));
    thread.join().expect("the thread ends");
    lane.end(&reactor);
}

fn questions_of_threads_that_do_not_wait_are_written() {
    let reactor = Reactor::new();
    let questions = Questions::new(&reactor);
    let lane = flushing_lane_thread(&questions);
    for _ in 0..2 {
        let unattended = Waiter::new(1);
        questions.ask_soon(Arc::clone(&unattended));
        while !unattended.is_done() {
            loom::thread::yield_now();
        }
    }
    lane.end(&reactor);
}

fn main() {
    let models: [(&str, u8, fn()); 8] = [
        (
            "answers_reach_two_waiting_threads_in_any_order",
            3,
            answers_reach_two_waiting_threads_in_any_order,
        ),
        (
            "thread_that_polls_is_woken_by_another_thread",
            4,
            thread_that_polls_is_woken_by_another_thread,
        ),
        (
            "follower_whose_time_is_over_does_not_take_the_turn_with_it",
            2,
            follower_whose_time_is_over_does_not_take_the_turn_with_it,
        ),
        (
            "lane_thread_hands_over_and_ends",
            2,
            lane_thread_hands_over_and_ends,
        ),
        (
            "turn_that_was_left_comes_to_the_lane_thread",
            2,
            turn_that_was_left_comes_to_the_lane_thread,
        ),
        (
            "waiter_that_waits_again_takes_no_turn_that_another_has",
            2,
            waiter_that_waits_again_takes_no_turn_that_another_has,
        ),
        (
            "question_for_a_thread_that_polls_is_written",
            2,
            question_for_a_thread_that_polls_is_written,
        ),
        (
            "questions_of_threads_that_do_not_wait_are_written",
            2,
            questions_of_threads_that_do_not_wait_are_written,
        ),
    ];
    for (name, switches, model) in models {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(switches.into());
        let runs = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counted = Arc::clone(&runs);
        builder.check(move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            sync::reset_clock();
            model();
        });
        let runs = runs.load(std::sync::atomic::Ordering::Relaxed);
        println!("model {name} ... ok ({runs} orders)");
    }
}
