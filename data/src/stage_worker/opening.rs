//! From an input to the rows that come out of the last step: feeds are opened, and steps put one behind the other.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;

use super::meter::StageMeters;
use super::{StageWorker, sizing};
use crate::graph::{GroupTask, Operator, PartitionBy};
use crate::operators::expect::{self, Judge};
use crate::operators::failing::{FailingInput, Guard};
use crate::operators::feeds::{self, FeedInput, FeedStream};
use crate::operators::fragment::{Environment, HotKeys};
use crate::operators::function::SharedFunction;
use crate::operators::map::Circumstances;
use crate::operators::relational::first_row_of;
use crate::operators::stream::{BatchStream, Prefetched};
use crate::operators::{fragment, group, map, relational, sample, unnest};
use crate::sources::{Opened, Places};
use crate::wire::failing::FailingSpec;
use crate::wire::spec::InputSpec;

/// What looks after functions, and where the rows of the input lie.
pub(super) type Failing = (Arc<FailingInput>, Option<Arc<Places>>);

impl StageWorker {
    /// What relational work over rows of this partition may use.
    fn environment(&self, input: &InputSpec, hot_keys: Option<&HotKeys>) -> Environment {
        Environment {
            row_bytes: input.row_bytes,
            block_bytes: self.task.block_bytes,
            memory_bytes: usize::try_from(self.task.memory_bytes).unwrap_or(usize::MAX),
            spill: self.spill.clone(),
            partition: input.partition,
            hot_keys: hot_keys.cloned(),
        }
    }

    /// What looks after the functions of the stage while they work on this input, and where its rows lie.
    pub(super) fn failing(
        &self,
        input: &mut InputSpec,
        opened: &Opened,
    ) -> Result<Option<Failing>, TaskFailure> {
        let is_guarded = |step: &Operator| match step {
            Operator::Map(call) => call.is_guarded(),
            Operator::Expect(_) => true,
            _ => false,
        };
        let members = self.task.group.iter().flat_map(|group| &group.members);
        let mut steps = members
            .flat_map(|member| &member.steps)
            .chain(&self.task.steps);
        let is_known = |spec: &FailingSpec| spec.is_careful || !spec.most_rows.is_empty();
        if !steps.any(is_guarded) && !input.failing.as_ref().is_some_and(is_known) {
            return Ok(None);
        }
        let is_one = self.task.group.is_none() && input.feed_blocks.len() < 2;
        let places = if is_one {
            self.reader.places(&opened.position)?
        } else {
            None
        };
        let failing = FailingInput::new(
            input.failing.take().unwrap_or_default(),
            input.sequence,
            Arc::clone(&self.name),
            Arc::clone(&self.notes),
            Arc::clone(&self.watch),
            !input.wanted_blocks.is_empty(),
        );
        let failing = if input.journal.is_empty() {
            failing
        } else {
            failing.noted_behind(self.first_function())
        };
        Ok(Some((Arc::new(failing), places.map(Arc::new))))
    }

    /// The place of the first function among the operators of the stage, of which the source is the first.
    fn first_function(&self) -> u32 {
        let is_map = |step: &Operator| matches!(step, Operator::Map(_));
        let first = self.task.steps.iter().position(is_map);
        first.map_or(u32::MAX, |place| {
            u32::try_from(place + 1).unwrap_or(u32::MAX)
        })
    }

    /// The rows of the feeds, through all steps.
    pub(super) fn open_steps(
        &self,
        streams: Vec<FeedStream>,
        functions: Vec<Option<SharedFunction>>,
        input: &InputSpec,
        hot_keys: Option<&HotKeys>,
        failing: &Option<Failing>,
        meters: &mut StageMeters,
    ) -> Result<Box<dyn BatchStream>, TaskFailure> {
        let mut position = Some(input.noted_rows);
        let is_noted = !input.journal.is_empty();
        let is_careful = failing
            .as_ref()
            .is_some_and(|(failing, _)| failing.spec.is_careful);
        let mut steps = self.task.steps.iter().zip(functions).enumerate();
        let mut places = failing.as_ref().and_then(|(_, places)| places.clone());
        let mut known = feeds::known(&streams);
        let mut stream = match self.task.steps.first() {
            Some(Operator::Relational(work)) if work.takes_feeds() => {
                steps.next();
                let environment = self.environment(input, hot_keys);
                let feeds = streams
                    .into_iter()
                    .map(|feed| (feed.known(), feeds::told(feed)));
                let feeds = feeds.map(|(known, rows)| (rows, known)).collect();
                meters.wrap_step(0, fragment::open_known(work, feeds, environment))
            }
            _ => feeds::one_after_another(streams),
        };
        for (index, (step, function)) in steps {
            let next = match step {
                Operator::Map(call) => {
                    let function = function.expect("every map's function was loaded");
                    if position.is_some() && input.noted_rows > 0 {
                        stream = fragment::skip::open(vec![0, input.noted_rows], stream);
                    }
                    if position.is_some() && !input.done.is_empty() {
                        stream = fragment::skip::open(input.done.clone(), stream);
                    }
                    let position = position.take();
                    let number = u32::try_from(index).unwrap_or(u32::MAX);
                    let guarded = failing.as_ref().filter(|(failing, _)| {
                        // What a generator gives is not held until its call has ended, which might take more memory than there is.
                        let is_suspect =
                            || failing.spec.guards(number) && !function.lock().is_lazy();
                        call.is_guarded() || is_suspect()
                    });
                    let guard = guarded.map(|(failing, _)| {
                        let behind = &self.task.steps[index + 1..];
                        Guard::new(failing, number, call, places.clone(), behind)
                    });
                    let circumstances = Circumstances {
                        block_bytes: self.task.block_bytes,
                        input_rows: input.rows,
                        position,
                        is_noted,
                        is_careful,
                        guard,
                        frame_rows: sizing::frame_rows(input, number),
                        sizer: self.sizing.of(number),
                    };
                    map::open(call, function, stream, circumstances)
                }
                Operator::Sample { share, seed } => {
                    sample::open(f64::from_bits(*share), *seed, input.sequence, stream)
                }
                // Whoever makes batches or blocks of the rows was told.
                Operator::BlockRows(_) => stream,
                Operator::Relational(work) => {
                    let environment = self.environment(input, None);
                    // Behind another step rows are others.
                    let known = known.take().filter(|_| index == 0);
                    fragment::open_known(work, vec![(stream, known)], environment)
                }
                Operator::Expect(expectation) => {
                    let (failing, _) = failing.as_ref().expect("made where rows are judged");
                    let (behind, number) = (&self.task.steps[index + 1..], meters.place_of(index));
                    let judge = Judge::new(failing, number, expectation, places.clone(), behind);
                    expect::open(judge, stream, first_row_of(input.sequence))
                }
                Operator::Unnest(step) => unnest::open(step.clone(), stream),
                batchwise => relational::open(batchwise.clone(), stream, input.sequence),
            };
            stream = meters.wrap_step(index, next);
            if !step.keeps_rows() {
                places = places.map(|places| Arc::new(Places::clone(&places).inexact()));
            }
        }
        Ok(stream)
    }

    /// The rows of stages that run here together.
    pub(super) fn open_group(
        &self,
        group: &GroupTask,
        input: &InputSpec,
        opened: Opened,
        failing: &Option<Failing>,
        meters: &mut StageMeters,
    ) -> Result<(Vec<FeedStream>, Vec<RecordBatch>), TaskFailure> {
        let failing = failing.as_ref().map(|(failing, _)| failing);
        let (stream, steps) = group::open(group, opened, &self.environment(input, None), failing)?;
        meters.count_group(steps);
        let rows = FeedStream {
            stream,
            schema: None,
            size: None,
        };
        Ok((vec![rows], Vec::new()))
    }

    /// The rows of every feed, and the bounds of partitions.
    pub(super) fn open_feeds(
        &mut self,
        opened: Opened,
        input: &InputSpec,
        meters: &mut StageMeters,
    ) -> Result<(Vec<FeedStream>, Vec<RecordBatch>), TaskFailure> {
        let mut inputs = feeds::apart(opened, input)?;
        let bounds = self.read_bounds(&mut inputs)?;
        let mut streams = Vec::with_capacity(inputs.len());
        for feed in inputs {
            let stream = self.open(feed.opened, meters)?;
            streams.push(FeedStream {
                stream,
                schema: feed.schema,
                size: feed.size,
            });
        }
        Ok((streams, bounds))
    }

    /// Takes out the feed that brings the bounds of partitions, and reads it.
    fn read_bounds(&mut self, feeds: &mut Vec<FeedInput>) -> Result<Vec<RecordBatch>, TaskFailure> {
        let by = self
            .task
            .partitioner
            .as_ref()
            .map(|partitioner| &partitioner.by);
        let Some(&PartitionBy::Range { bounds_feed, .. }) = by else {
            return Ok(Vec::new());
        };
        if bounds_feed as usize >= feeds.len() {
            return Err(TaskFailure::new(
                ErrorCode::Internal,
                "an input came without the bounds of its partitions",
            ));
        }
        let feed = feeds.remove(bounds_feed as usize);
        let mut bounds = self.reader.open(feed.opened, None)?;
        let mut batches = Vec::new();
        while let Some(batch) = bounds.next()? {
            batches.push(batch);
        }
        Ok(batches)
    }

    /// The rows of an input, read ahead where that is worth a thread.
    fn open(
        &mut self,
        input: Opened,
        meters: &mut StageMeters,
    ) -> Result<Box<dyn BatchStream>, TaskFailure> {
        let stream = self.reader.open(input, self.task.row_limit_of_source())?;
        let stream = meters.wrap_source(stream);
        let ahead = self.task.prefetch_batches as usize;
        if ahead == 0 || !self.reader.may_run_ahead() {
            return Ok(stream);
        }
        let prefetched: Box<dyn BatchStream> = Box::new(Prefetched::spawn(stream, ahead)?);
        Ok(meters.wrap_wait(prefetched))
    }
}
