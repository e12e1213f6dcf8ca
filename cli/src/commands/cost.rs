//! `aktis cost`: what jobs have cost, by the records that the head keeps of runs of datasets.

use std::collections::{BTreeMap, BTreeSet};

use aktis_common::config::Settings;
use aktis_common::job_costs::RECORDS;
use serde_json::{Map, Value, json};

use super::query::Cluster;
use super::{CostArgs, render};

/// What workers were busy with; `lent` is not among it, since others had their CPUs then.
const PARTS: [&str; 5] = [
    "starting_s",
    "loading_s",
    "useful_s",
    "repeated_s",
    "idle_s",
];
const SECONDS_PER_HOUR: f64 = 3600.0;

pub(super) fn cost(args: &CostArgs, settings: &Settings) -> Result<u8, String> {
    let cluster = Cluster::to_look_at(args.query.address.as_deref(), settings)?;
    let values = cluster.values(RECORDS)?;
    let records = values
        .iter()
        .map(|(_, value)| serde_json::from_slice(value));
    // Of another version, perhaps.
    let records: Vec<Value> = records.filter_map(Result::ok).collect();
    if let Some(unknown) = unknown_tag(&records, &args.by) {
        return Err(unknown);
    }
    let sums = added_up(&records, &args.by, &settings.prices);
    let text = if args.query.json {
        render::pretty(&Value::Array(
            sums.iter().map(|sum| sum.json(&args.by)).collect(),
        ))
    } else {
        table(&sums, &args.by, !settings.prices.is_empty())
    };
    render::print_line(&text)?;
    Ok(0)
}

/// What is wrong with a name that nothing could be added up by: it is none that all have, and no job has such a tag.
fn unknown_tag(records: &[Value], by: &[String]) -> Option<String> {
    let tags = records
        .iter()
        .filter_map(|record| record["tags"].as_object());
    let tags: BTreeSet<&str> = tags.flat_map(Map::keys).map(String::as_str).collect();
    let is_known =
        |name: &str| tags.contains(name) || ["job", "operator", "worker"].contains(&name);
    let unknown = by.iter().find(|name| !is_known(name))?;
    let known = match tags.len() {
        0 => "they have none; jobs are given tags by init(tags={\"team\": ...})".to_owned(),
        _ => format!("they have {}", Vec::from_iter(tags).join(", ")),
    };
    let nobody = format!("no job that the head remembers has the tag {unknown}: {known}");
    (!records.is_empty()).then(|| format!("{nobody}. --by takes job, operator and worker, too"))
}

/// What belongs together.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    /// Of each name that is added up by.
    keys: Vec<String>,
    runs: BTreeSet<String>,
    parts: [f64; 5],
    lent_s: f64,
    cpu_s: f64,
    used_cpu_s: f64,
    gpu_s: f64,
    rows: u64,
    bytes: u64,
    money: f64,
}

/// The sums, the dearest first. Rows and bytes are those that operators gave, where operators or workers are told apart, and else those
/// that came out of runs, and that they have read.
fn added_up(records: &[Value], by: &[String], prices: &BTreeMap<String, f64>) -> Vec<Sum> {
    let is_apart = by.iter().any(|name| name == "operator" || name == "worker");
    let mut sums: BTreeMap<Vec<String>, Sum> = BTreeMap::new();
    for (number, record) in records.iter().enumerate() {
        let run = format!("{number}");
        let operators = record["operators"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        for operator in operators {
            let keys: Vec<String> = by
                .iter()
                .map(|name| key_of(name, record, operator))
                .collect();
            let sum = sums.entry(keys.clone()).or_default();
            sum.keys = keys;
            sum.add(operator, prices);
            let is_first = sum.runs.insert(run.clone());
            let (whole, rows, bytes) = match is_apart {
                true => (operator, "rows_out", "bytes_out"),
                false => (record, "rows", "bytes_read"),
            };
            if is_apart || is_first {
                sum.rows += whole[rows].as_u64().unwrap_or(0);
                sum.bytes += whole[bytes].as_u64().unwrap_or(0);
            }
        }
    }
    let mut sums: Vec<Sum> = sums.into_values().collect();
    let price = |sum: &Sum| (sum.money, sum.gpu_s, sum.cpu_s);
    sums.sort_by(|one, other| {
        price(other)
            .partial_cmp(&price(one))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    sums
}

/// The value of what is added up by; nothing where a job has no such tag.
fn key_of(name: &str, record: &Value, operator: &Value) -> String {
    let value = match name {
        "job" => &record["job"],
        "operator" | "worker" => &operator[name],
        tag => &record["tags"][tag],
    };
    value.as_str().unwrap_or("-").to_owned()
}

impl Sum {
    fn add(&mut self, operator: &Value, prices: &BTreeMap<String, f64>) {
        let number = |name: &str| operator[name].as_f64().unwrap_or(0.0);
        let parts = PARTS.map(number);
        let held: f64 = parts.iter().sum();
        let lent = number("lent_s");
        for (sum, part) in self.parts.iter_mut().zip(parts) {
            *sum += part;
        }
        self.lent_s += lent;
        self.used_cpu_s += number("used_cpu_s");
        let (cpu_s, gpu_s) = (held * number("cpus"), (held + lent) * number("gpus"));
        self.cpu_s += cpu_s;
        self.gpu_s += gpu_s;
        let price = |name: &str| prices.get(name).copied().unwrap_or(0.0);
        self.money += (cpu_s * price("CPU") + gpu_s * price("GPU")) / SECONDS_PER_HOUR;
    }

    fn worker_s(&self) -> f64 {
        self.parts.iter().sum()
    }

    fn json(&self, by: &[String]) -> Value {
        let keys = by
            .iter()
            .cloned()
            .zip(self.keys.iter().map(|key| json!(key)));
        let mut all: Map<String, Value> = keys.collect();
        let parts = PARTS.iter().zip(self.parts);
        all.extend(parts.map(|(name, part)| ((*name).to_owned(), json!(part))));
        for (name, value) in [
            ("runs", json!(self.runs.len())),
            ("lent_s", json!(self.lent_s)),
            ("worker_s", json!(self.worker_s())),
            ("cpu_s", json!(self.cpu_s)),
            ("used_cpu_s", json!(self.used_cpu_s)),
            ("gpu_s", json!(self.gpu_s)),
            ("rows", json!(self.rows)),
            ("bytes", json!(self.bytes)),
            ("money", json!(self.money)),
        ] {
            all.insert(name.to_owned(), value);
        }
        Value::Object(all)
    }
}

fn table(sums: &[Sum], by: &[String], has_prices: bool) -> String {
    if sums.is_empty() {
        return "No dataset has run in what the head remembers.".to_owned();
    }
    let mut header: Vec<String> = by.iter().map(|name| name.to_uppercase()).collect();
    let numbers = [
        "RUNS", "CPU-S", "USED", "GPU-S", "USEFUL", "REPEATED", "LOADING", "STARTING", "IDLE",
        "ROWS",
    ];
    header.extend(numbers.map(str::to_owned));
    if has_prices {
        header.push("MONEY".to_owned());
    }
    let rows: Vec<Vec<String>> = sums.iter().map(|sum| sum.row(has_prices)).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    render::table(&header, &rows)
}

impl Sum {
    fn row(&self, has_prices: bool) -> Vec<String> {
        let [starting, loading, useful, repeated, idle] = self.parts;
        let all = self.worker_s();
        let share = |part: f64| match all {
            all if all > 0.0 => format!("{:.1} %", 100.0 * part / all),
            _ => "-".to_owned(),
        };
        let mut row = self.keys.clone();
        row.push(self.runs.len().to_string());
        row.extend(
            [self.cpu_s, self.used_cpu_s, self.gpu_s].map(|seconds| format!("{seconds:.1}")),
        );
        row.extend([useful, repeated, loading, starting, idle].map(share));
        row.push(self.rows.to_string());
        if has_prices {
            row.push(format!("{:.4}", self.money));
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(job: &str, team: Option<&str>, rows: u64) -> Value {
        let operator = |name: &str, cpus: f64, gpus: f64, useful: f64| {
            json!({
                "operator": name, "worker": format!("{gpus} GPU"), "cpus": cpus, "gpus": gpus,
                "starting_s": 1.0, "loading_s": 2.0, "useful_s": useful, "repeated_s": 3.0, "idle_s": 4.0,
                "lent_s": 10.0, "used_cpu_s": 5.0, "rows_out": 7, "bytes_out": 70,
            })
        };
        json!({
            "job": job, "tags": team.map_or_else(|| json!({}), |team| json!({"team": team})),
            "rows": rows, "bytes_read": 1000,
            "operators": [operator("Read", 1.0, 0.0, 0.0), operator("Map", 0.5, 2.0, 90.0)],
        })
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn name_that_no_job_has_as_a_tag_is_told_with_those_that_there_are() {
        let records = [record("a", Some("red"), 5), record("b", None, 7)];
        let known = names(&["job", "team", "worker", "operator"]);
        assert_eq!(unknown_tag(&records, &known), None);
        let told = unknown_tag(&records, &names(&["job", "teem"])).expect("nobody has it");
        assert!(
            told.contains("has the tag teem: they have team. --by takes job, operator and worker"),
            "{told}"
        );
        let told = unknown_tag(&records[1..], &names(&["team"])).expect("nobody has any");
        assert!(
            told.contains("they have none; jobs are given tags by init(tags="),
            "{told}"
        );
        // Nothing has run yet.
        assert_eq!(unknown_tag(&[], &names(&["team"])), None);
    }

    #[test]
    fn runs_are_added_up_by_tags_and_parts_are_the_whole() {
        let records = [
            record("a", Some("red"), 5),
            record("a", Some("red"), 6),
            record("b", None, 7),
        ];
        let prices = BTreeMap::from([("CPU".to_owned(), 36.0), ("GPU".to_owned(), 3600.0)]);
        let sums = added_up(&records, &names(&["team"]), &prices);
        assert_eq!(sums.len(), 2);
        let red = &sums[0];
        assert_eq!(
            (red.keys[0].as_str(), red.runs.len(), red.rows, red.bytes),
            ("red", 2, 11, 2000)
        );
        assert_eq!(red.parts, [4.0, 8.0, 180.0, 12.0, 16.0]);
        assert_eq!((red.cpu_s, red.gpu_s), (2.0 * (10.0 + 50.0), 2.0 * 220.0));
        assert!((red.money - (1.2 + 440.0)).abs() < 1e-9);
        assert_eq!(sums[1].keys, ["-"]);
        let json = red.json(&names(&["team"]));
        assert_eq!(
            (&json["team"], &json["worker_s"]),
            (&json!("red"), &json!(220.0))
        );
    }

    #[test]
    fn operators_and_workers_have_rows_of_their_own() {
        let records = [record("a", None, 5), record("b", None, 6)];
        let sums = added_up(&records, &names(&["operator", "worker"]), &BTreeMap::new());
        let map = &sums[0];
        assert_eq!(
            (map.keys.join(" "), map.rows, map.bytes),
            ("Map 2 GPU".to_owned(), 14, 140)
        );
        let text = table(&sums, &names(&["operator", "worker"]), false);
        assert!(
            text.starts_with("OPERATOR  WORKER") && !text.contains("MONEY"),
            "{text}"
        );
        assert!(text.contains("90.0 %"), "{text}");
    }
}
