//! How much of a bare model loop's speed the streaming embedder keeps.
//!
//! ```text
//! cargo run --release -p aktis-inference --example throughput -- MODEL_DIR [--backend onnx|candle]
//!     [--texts FILE] [--rows N] [--rounds N] [--token-budget N] [--replicas N] [--intra-threads N] [--window-rows N]
//! ```
//!
//! The ONNX Runtime library is the one that `ORT_DYLIB_PATH` names. Both sides embed the same texts with the same settings, turn and turn about, in one process:
//! - *bare*: texts tokenised beforehand, all of them sorted by length and cut by the token budget, then nothing but the
//!   encoders' calls.
//! - *stream*: record batches of 500 rows into [`BucketingEmbedder`], tokenising included.
//!
//! The last line is the ratio of the best rounds. On Linux the processor time per row is printed too, and its ratio:
//! it counts much the same when other programs disturb the machine. `--texts` takes a file with one text per line; without it, sentences
//! of 10 to 200 words are made up.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_inference::core::bucket::BucketPlan;
use aktis_inference::core::token_batch::TokenBatch;
use aktis_inference::encoder::Encoder;
use aktis_inference::encoder::candle::{Behind, CandleEncoder, CandleOptions};
use aktis_inference::encoder::onnx::{OnnxEncoder, OnnxOptions};
use aktis_inference::encoder::onnx_library;
use aktis_inference::encoder::onnx_session::SessionOptions;
use aktis_inference::model_folder::ModelFolder;
use aktis_inference::testing::candle_library;
use aktis_inference::tokenize::TextTokenizer;
use aktis_inference::{
    Backend, BucketingEmbedder, Device, Head, Pooling, StreamOptions, TextEmbedder,
    TextEmbedderConfig,
};
use arrow::array::{ArrayRef, RecordBatch, StringArray};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Rows of a record batch.
const BATCH_ROWS: usize = 500;

struct Options {
    model_dir: PathBuf,
    backend: Backend,
    texts: Option<PathBuf>,
    rows: usize,
    rounds: usize,
    token_budget: usize,
    replicas: usize,
    intra_threads: usize,
    window_rows: usize,
}

fn main() -> Outcome<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let texts = read_texts(&options)?;
    let folder = ModelFolder::open(&options.model_dir)?;
    let tokenizer =
        TextTokenizer::from_file(&folder.tokenizer_path(), folder.max_tokens(None)?, None)?;
    let start = Instant::now();
    let rows = texts
        .iter()
        .map(|text| tokenizer.encode(text))
        .collect::<Result<Vec<_>, _>>();
    let rows = rows.map_err(|error| error as Box<dyn Error>)?;
    let tokens: usize = rows.iter().map(Vec::len).sum();
    println!(
        "{} texts, {:.1} tokens each; tokenised by one thread at {:.0} rows/s",
        rows.len(),
        tokens as f64 / rows.len() as f64,
        rate(rows.len(), start.elapsed())
    );

    let mut encoders = load_encoders(&options, &folder)?;
    let stream = start_stream(&options)?;
    let input = record_batches(&texts)?;
    let (mut best_bare, mut best_stream) = (Speed::default(), Speed::default());
    for round in 0..options.rounds {
        let bare = run_bare(&mut encoders, &rows, options.token_budget)?;
        let streamed = Speed::measure(rows.len(), || {
            stream
                .embed_all(input.iter().cloned())
                .try_for_each(|batch| batch.map(drop))
        })?;
        println!("round {round}: bare {bare}, stream {streamed}");
        best_bare = best_bare.best(bare);
        best_stream = best_stream.best(streamed);
    }
    let stats = stream.stats();
    println!(
        "stream: {} model batches, {:.2} % padding",
        stats.batches,
        100.0 * (stats.padded_tokens as f64 / stats.tokens as f64 - 1.0)
    );
    println!(
        "best: bare {best_bare}, stream {best_stream}; speed ratio {:.3}, processor time ratio {:.3}",
        best_stream.rows_per_second / best_bare.rows_per_second,
        best_bare.cpu_ms_per_row / best_stream.cpu_ms_per_row,
    );
    Ok(())
}

/// How fast a round was.
#[derive(Clone, Copy)]
struct Speed {
    rows_per_second: f64,
    cpu_ms_per_row: f64,
}

impl Default for Speed {
    fn default() -> Self {
        Self {
            rows_per_second: 0.0,
            cpu_ms_per_row: f64::INFINITY,
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} rows/s ({:.2} CPU-ms/row)",
            self.rows_per_second, self.cpu_ms_per_row
        )
    }
}

impl Speed {
    fn measure<E>(rows: usize, work: impl FnOnce() -> Result<(), E>) -> Result<Self, E> {
        let (start, start_cpu) = (Instant::now(), cpu_time());
        work()?;
        Ok(Self {
            rows_per_second: rate(rows, start.elapsed()),
            cpu_ms_per_row: (cpu_time() - start_cpu).as_secs_f64() * 1e3 / rows as f64,
        })
    }

    fn best(self, other: Self) -> Self {
        Self {
            rows_per_second: self.rows_per_second.max(other.rows_per_second),
            cpu_ms_per_row: self.cpu_ms_per_row.min(other.cpu_ms_per_row),
        }
    }
}

/// Processor time of this process, from the kernel's clock ticks (a hundredth of a second); zero where there is none.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    // utime and stime are fields 14 and 15 of the file, 12th and 13th after the name.
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let model_dir = arguments
            .next()
            .ok_or("name a model folder; see the top of this file")?;
        let mut options = Self {
            model_dir: model_dir.into(),
            backend: Backend::Onnx,
            texts: None,
            rows: 1000,
            rounds: 3,
            token_budget: 512,
            replicas: std::thread::available_parallelism()?.get(),
            intra_threads: 1,
            window_rows: 2048,
        };
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--backend" if value == "candle" => options.backend = Backend::Candle,
                "--backend" => options.backend = Backend::Onnx,
                "--texts" => options.texts = Some(value.into()),
                "--rows" => options.rows = value.parse()?,
                "--rounds" => options.rounds = value.parse()?,
                "--token-budget" => options.token_budget = value.parse()?,
                "--replicas" => options.replicas = value.parse()?,
                "--intra-threads" => options.intra_threads = value.parse()?,
                "--window-rows" => options.window_rows = value.parse()?,
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(options)
    }
}

fn read_texts(options: &Options) -> Outcome<Vec<String>> {
    let Some(path) = &options.texts else {
        return Ok(made_up_texts(options.rows));
    };
    let text = std::fs::read_to_string(path)?;
    Ok(text
        .lines()
        .filter(|line| !line.is_empty())
        .take(options.rows)
        .map(str::to_owned)
        .collect())
}

fn made_up_texts(rows: usize) -> Vec<String> {
    const WORDS: [&str; 12] = [
        "light", "travels", "through", "the", "window", "and", "a", "prism", "turns", "it", "into",
        "colours",
    ];
    let mut state = 1u64;
    let mut draw = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let text = |_| {
        let words = 10 + draw(191).min(draw(191));
        (0..words)
            .map(|_| WORDS[draw(WORDS.len() as u64) as usize])
            .collect::<Vec<_>>()
            .join(" ")
    };
    (0..rows).map(text).collect()
}

fn load_encoders(options: &Options, folder: &ModelFolder) -> Outcome<Vec<Box<dyn Encoder>>> {
    if options.backend == Backend::Candle {
        let candle = CandleOptions {
            library: candle_library(),
            config: folder.config_path(),
            weights: folder
                .weights()
                .ok_or("the folder has no model.safetensors")?
                .to_owned(),
            intra_threads: options.intra_threads,
            dtype: None,
            pooling: Pooling::Mean,
            behind: Behind::Nothing,
        };
        let encoders = CandleEncoder::load_replicas(&candle, options.replicas)?;
        return Ok(encoders
            .into_iter()
            .map(|encoder| Box::new(encoder) as Box<dyn Encoder>)
            .collect());
    }
    let onnx = OnnxOptions {
        session: SessionOptions {
            graph: folder
                .graph()
                .ok_or("the folder has no model.onnx")?
                .to_owned(),
            library: onnx_library::find(None)?,
            device: Device::Cpu,
            intra_threads: options.intra_threads,
        },
        dim: folder.config().hidden_size,
        dense: None,
        head: Head::Vector,
        pooling: Pooling::Mean,
        is_pooling_named: false,
    };
    (0..options.replicas)
        .map(|_| Ok(Box::new(OnnxEncoder::load(&onnx)?) as Box<dyn Encoder>))
        .collect()
}

fn start_stream(options: &Options) -> Outcome<BucketingEmbedder> {
    let config = TextEmbedderConfig {
        backend: options.backend,
        device: Device::Cpu,
        token_budget: Some(options.token_budget),
        replicas: Some(options.replicas),
        intra_threads: Some(options.intra_threads),
        candle_path: (options.backend == Backend::Candle).then(candle_library),
        ..TextEmbedderConfig::new(&options.model_dir)
    };
    let stream = StreamOptions {
        window_rows: options.window_rows,
        ..StreamOptions::new("text")
    };
    Ok(BucketingEmbedder::start(
        TextEmbedder::load(config)?,
        stream,
    )?)
}

fn record_batches(texts: &[String]) -> Outcome<Vec<RecordBatch>> {
    texts
        .chunks(BATCH_ROWS)
        .map(|texts| {
            let column: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
            Ok(RecordBatch::try_from_iter([("text", column)])?)
        })
        .collect()
}

/// Time to encode all rows, with nothing around the encoders but a shared counter.
fn run_bare(
    encoders: &mut [Box<dyn Encoder>],
    rows: &[Vec<u32>],
    token_budget: usize,
) -> Outcome<Speed> {
    let lengths: Vec<u32> = rows.iter().map(|row| row.len() as u32).collect();
    let plan = BucketPlan::cut(&lengths, token_budget);
    let batches: Vec<TokenBatch> = plan
        .batches()
        .map(|batch| TokenBatch::from_rows(batch.iter().map(|&row| &rows[row as usize]), 0))
        .collect();
    let next = parking_lot::Mutex::new(batches.iter());
    let encode_all = || {
        std::thread::scope(|scope| {
            let threads: Vec<_> = encoders
                .iter_mut()
                .map(|encoder| {
                    let next = &next;
                    scope.spawn(move || {
                        while let Some(batch) = { next.lock().next() } {
                            let mut vectors = vec![0.0; batch.rows() * encoder.dim()];
                            encoder
                                .encode(batch, &mut vectors)
                                .map_err(|error| error.to_string())?;
                        }
                        Ok::<(), String>(())
                    })
                })
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().expect("an encoder panicked"))
        })
    };
    Ok(Speed::measure(rows.len(), encode_all)?)
}

fn rate(rows: usize, time: Duration) -> f64 {
    rows as f64 / time.as_secs_f64()
}
