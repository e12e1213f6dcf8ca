//! Chains of stages whose functions give any number of rows, cut and mixed in any way: what is told at any moment is whole.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A row, by the rows of the source that it may hang on.
type Sources = BTreeSet<(u64, u64)>;

const INPUTS: u64 = 4;
const PLACES: u64 = 14;
/// Numbers of what was left out begin here.
const LEFT_OUT: u64 = 1 << 32;

/// Chance that can be had again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }

    fn pick<T>(&mut self, from: &mut Vec<T>) -> T {
        let index = usize::try_from(self.below(from.len() as u64)).expect("small");
        from.swap_remove(index)
    }
}

/// What a stage makes of an input: rows, and marks as a worker tells them.
struct Made {
    input: InputKey,
    /// All that came.
    came: Sources,
    rows: Vec<Sources>,
    marks: Vec<Mark>,
    given: usize,
    told: usize,
}

fn called(chance: &mut Chance, input: InputKey, came: &[(u64, Sources)]) -> Made {
    let (mut rows, mut marks): (Vec<Sources>, Vec<Mark>) = (Vec::new(), Vec::new());
    let mut left = came;
    while !left.is_empty() {
        let batch = usize::try_from(1 + chance.below(4)).expect("small");
        let (batch, rest) = left.split_at(batch.min(left.len()));
        let sources: Sources = batch.iter().flat_map(|(_, from)| from.clone()).collect();
        (0..chance.below(4)).for_each(|_| rows.push(sources.clone()));
        let (row, place) = (rows.len() as u64, batch[batch.len() - 1].0 + 1);
        if row > 0 && chance.below(4) > 0 {
            marks.push(Mark { row, place });
        }
        left = rest;
    }
    Made {
        input,
        came: came.iter().flat_map(|(_, from)| from.clone()).collect(),
        rows,
        marks,
        given: 0,
        told: 0,
    }
}

/// A run: what was told, one after another, and all rows that came out in the end, by output.
struct Run {
    chance: Chance,
    stages: usize,
    /// Of each stage: those that its rows go to.
    takers: Vec<Vec<usize>>,
    /// The stage that leaves rows out: it tells no marks, and what it has left out of an input counts as an output does.
    losing: usize,
    origins: Origins<u64>,
    blocks: BTreeMap<BlockKey, Vec<Sources>>,
    /// Of each stage: blocks that wait for it.
    waiting: Vec<Vec<BlockKey>>,
    under_way: Vec<Made>,
    next_input: u64,
    told: Vec<Settled<u64>>,
    outputs: BTreeMap<u64, Vec<Sources>>,
}

impl Run {
    /// `from`: of each stage behind the first, which one its rows come from.
    fn of(
        seed: u64,
        from: &[usize],
        losing: usize,
        done_before: &HashMap<u64, DoneRanges>,
    ) -> Self {
        let stages = from.len() + 1;
        let mut takers = vec![Vec::new(); stages];
        for (giver, taker) in from.iter().zip(1..) {
            takers[*giver].push(taker);
        }
        let counts = takers.iter().map(|takers| takers.len() as u64).collect();
        let mut run = Self {
            chance: Chance(seed),
            stages,
            takers,
            losing,
            origins: Origins::new(counts, done_before.clone(), &[], std::iter::empty()),
            blocks: BTreeMap::new(),
            waiting: vec![Vec::new(); stages],
            under_way: Vec::new(),
            next_input: INPUTS,
            told: Vec::new(),
            outputs: BTreeMap::new(),
        };
        for input in 0..INPUTS {
            let places = (0..PLACES).filter(|&place| {
                let done = done_before.get(&input);
                !done.is_some_and(|done| done.contains(place))
            });
            let came: Vec<_> = places
                .map(|place| (place, Sources::from([(input, place)])))
                .collect();
            run.origins.begin((0, input), Comes::Source(input));
            let made = called(&mut run.chance, (0, input), &came);
            run.under_way.push(made);
        }
        while run.step() {}
        run
    }

    fn step(&mut self) -> bool {
        let waits = (1..self.stages).filter(|&stage| !self.waiting[stage].is_empty());
        let mut waits: Vec<usize> = waits.collect();
        if !waits.is_empty() && (self.under_way.is_empty() || self.chance.below(3) == 0) {
            let stage = self.chance.pick(&mut waits);
            self.begin(stage);
        } else if self.under_way.is_empty() {
            return false;
        } else {
            let made = self.chance.pick(&mut self.under_way);
            self.go_on(made);
        }
        true
    }

    fn begin(&mut self, stage: usize) {
        let count = 1 + self.chance.below(3);
        let mut blocks = Vec::new();
        while blocks.len() < count as usize && !self.waiting[stage].is_empty() {
            blocks.push(self.chance.pick(&mut self.waiting[stage]));
        }
        let rows = blocks.iter().flat_map(|block| &self.blocks[block]);
        let came: Vec<_> = (0..).zip(rows.cloned()).collect();
        let input = (stage, self.next_input);
        self.next_input += 1;
        self.origins.begin(input, Comes::Blocks(blocks));
        let made = called(&mut self.chance, input, &came);
        if !self.takers[stage].is_empty() {
            return self.under_way.push(made);
        }
        self.check_spans(input, &came);
        self.outputs.insert(input.1, made.rows);
        let settled = self.origins.written(input, input.1);
        self.told.extend(settled);
    }

    /// Rows that a journal may count: nobody else has rows of what they are made of.
    fn check_spans(&self, input: InputKey, came: &[(u64, Sources)]) {
        let mut own = came.iter().map(|(_, sources)| sources);
        for (span, _) in self.origins.spans(input) {
            let sources: Sources = (0..span.rows)
                .flat_map(|_| own.next().expect("has them").clone())
                .collect();
            assert_eq!(sources.difference(&places(&span.ranges)).count(), 0);
            let others = self.blocks.values().flatten();
            let with_these = others.filter(|row| !row.is_disjoint(&sources)).count() as u64;
            assert!(with_these >= span.rows);
        }
    }

    fn go_on(&mut self, mut made: Made) {
        let left = made.rows.len() - made.given;
        let size = usize::try_from(1 + self.chance.below(4))
            .expect("small")
            .min(left);
        let rows = made.rows[made.given..made.given + size].to_vec();
        made.given += size;
        // A worker may know of more than it gives.
        let known = made.given as u64 + self.chance.below(3);
        let news = made.marks[made.told..].iter();
        let news: Vec<Mark> = news.take_while(|mark| mark.row <= known).copied().collect();
        made.told += news.len();
        let is_losing = made.input.0 == self.losing;
        let news = if is_losing { Vec::new() } else { news };
        let marks: Vec<u64> = news
            .iter()
            .flat_map(|mark| [mark.row, mark.place])
            .collect();
        let is_last = made.given == made.rows.len() && self.chance.below(2) == 0;
        if is_last && is_losing {
            let left_out = LEFT_OUT + made.input.1;
            self.outputs.insert(left_out, vec![made.came.clone()]);
            self.origins.attach(made.input, left_out);
        }
        let block = (size > 0).then(|| {
            let key = BlockKey(self.blocks.len() as u64);
            self.blocks.insert(key, rows);
            for &taker in &self.takers[made.input.0] {
                self.waiting[taker].push(key);
            }
            (key, size as u64)
        });
        let settled = self.origins.made(made.input, block, &marks, is_last);
        self.told.extend(settled);
        if !is_last {
            self.under_way.push(made);
        }
    }
}

fn places(ranges: &[SourceRange]) -> Sources {
    let of = |range: &SourceRange| {
        let input = range.input;
        (range.from..range.to.min(PLACES)).map(move |place| (input, place))
    };
    ranges.iter().flat_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// LED-2 (all-or-made-again).
    #[test]
    fn what_is_told_is_all_that_becomes_of_rows_of_the_source(seed: u64, stages in 2usize..5, losing in 0usize..4, holes in holes()) {
        let chain: Vec<usize> = (0..stages - 1).collect();
        check(Run::of(seed, &chain, losing, &done(holes.clone())), holes)?;
    }

    /// The same where rows of a stage go to several, in any tree.
    #[test]
    fn what_is_told_is_all_that_becomes_of_rows_in_all_outputs(seed: u64, from in prop::collection::vec(any::<prop::sample::Index>(), 2..6), losing in 0usize..6, holes in holes()) {
        let from: Vec<usize> = from.iter().enumerate().map(|(index, from)| from.index(index + 1)).collect();
        check(Run::of(seed, &from, losing, &done(holes.clone())), holes)?;
    }
}

type Holes = Vec<(u64, u64, u64)>;

fn holes() -> impl Strategy<Value = Holes> {
    prop::collection::vec((0..INPUTS, 0..PLACES, 1u64..5), 0..4)
}

fn done(holes: Holes) -> HashMap<u64, DoneRanges> {
    let mut done_before: HashMap<u64, DoneRanges> = HashMap::new();
    for (input, from, rows) in holes {
        done_before.entry(input).or_default().add(from, from + rows);
    }
    done_before
}

fn check(run: Run, holes: Holes) -> Result<(), TestCaseError> {
    let done_before = done(holes);
    let (mut outputs, mut sources) = (BTreeSet::new(), Sources::new());
    for told in &run.told {
        outputs.extend(told.outputs.iter().copied());
        let more = places(&told.ranges);
        prop_assert!(more.is_disjoint(&sources), "told twice");
        sources.extend(more);
        for (output, rows) in &run.outputs {
            for row in rows.iter().filter(|row| !row.is_empty()) {
                prop_assert_eq!(outputs.contains(output), row.is_subset(&sources));
                prop_assert_eq!(outputs.contains(output), !row.is_disjoint(&sources));
            }
        }
    }
    prop_assert_eq!(outputs.len(), run.outputs.len());
    let before: u64 = done_before
        .values()
        .map(|done| (0..PLACES).filter(|&place| done.contains(place)).count() as u64)
        .sum();
    prop_assert_eq!(sources.len() as u64, INPUTS * PLACES - before);
    prop_assert_eq!(run.origins.rest(), Vec::<u64>::new());
    Ok(())
}
