//! A benchmark's report: figures under fixed JSON keys, and the same for a person, words first.

use std::num::NonZeroU32;

use serde::Serialize;

use crate::{
    bench::{
        held::Held,
        mode::Mode,
        slices::{Slice, Slices},
    },
    cli::BenchArgs,
    figures::{Durations, grouped, median, rounded},
    table,
};

/// Below this share of its workers' time, the server was not the limit.
const BUSY: f64 = 0.9;

/// The report.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchReport {
    connections: u32,
    in_flight: u32,
    duration_s: f64,
    workers: u32,
    addresses: u32,
    reports: Reports,
}

/// One mode's, or those of all.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reports {
    /// Of `--mode M`: an object.
    One(Box<ModeReport>),
    /// Of `--mode all`: an array.
    All(Vec<ModeReport>),
}

/// One mode. Its fields up to `calls_ratio` are a contract with scripts; the others are further facts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModeReport {
    /// The gateway's figures.
    #[serde(flatten)]
    pub gateway: Figures,
    /// The echo's; null without `--baseline`.
    pub baseline: Option<Figures>,
    /// CPU a call, gateway / echo: the median over pairs of slices.
    pub cpu_ratio: Option<f64>,
    /// Calls a second, gateway / echo: the median over pairs of slices.
    pub calls_ratio: Option<f64>,
    /// What the first wrong answer was.
    pub wrong_example: Option<String>,
    /// The grants that the gateway held; null without `--grants`.
    pub held: Option<Held>,
}

/// One server in one mode: medians over the slices, and percentiles over all calls.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// The mode.
    pub mode: Mode,
    /// Calls a second.
    pub calls_per_s: f64,
    /// Half of the calls took at most this.
    pub p50_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// CPU time a call, user and system.
    pub cpu_us_per_call: f64,
    /// CPU time of the server in its workers' time: 1 is all of it.
    pub server_busy: f64,
    /// CPU time of the generator in its one thread's time.
    pub generator_busy: f64,
    /// Answers that were not what the mode measures.
    pub wrong: u64,
}

impl Figures {
    fn new(mode: Mode, workers: NonZeroU32, slices: &[Slice]) -> Self {
        let mut latency = Durations::new();
        for slice in slices {
            latency.merge(&slice.latency);
        }
        let ms = |quantile| rounded(latency.quantile_us(quantile).unwrap_or(0.0) / 1e3);
        let of = |figure: fn(&Slice) -> f64| rounded(median(slices.iter().map(figure)).unwrap_or(0.0));
        Self {
            mode,
            calls_per_s: of(calls_per_s),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            cpu_us_per_call: of(cpu_us_per_call),
            server_busy: rounded(
                of(|slice| share(slice.server_cpu.as_secs_f64(), slice)) / f64::from(workers.get()),
            ),
            generator_busy: of(|slice| share(slice.generator_cpu.as_secs_f64(), slice)),
            wrong: slices.iter().map(|slice| slice.wrong).sum(),
        }
    }
}

fn answered(slice: &Slice) -> f64 {
    (slice.calls + slice.wrong) as f64
}

fn calls_per_s(slice: &Slice) -> f64 {
    share(answered(slice), slice)
}

fn cpu_us_per_call(slice: &Slice) -> f64 {
    slice.server_cpu.as_secs_f64() * 1e6 / answered(slice).max(1.0)
}

fn share(amount: f64, slice: &Slice) -> f64 {
    amount / slice.wall.as_secs_f64().max(f64::EPSILON)
}

impl ModeReport {
    pub(crate) fn new(mode: Mode, workers: NonZeroU32, slices: &Slices, held: Option<Held>) -> Self {
        let ratio = |figure: fn(&Slice) -> f64| {
            let pairs = slices.gateway.iter().zip(&slices.echo);
            median(
                pairs.map(|(gateway, echo)| figure(gateway) / figure(echo)).filter(|ratio| ratio.is_finite()),
            )
            .map(rounded)
        };
        Self {
            gateway: Figures::new(mode, workers, &slices.gateway),
            baseline: (!slices.echo.is_empty()).then(|| Figures::new(mode, workers, &slices.echo)),
            cpu_ratio: ratio(cpu_us_per_call),
            calls_ratio: ratio(calls_per_s),
            wrong_example: slices.gateway.iter().find_map(|slice| slice.wrong_example.clone()),
            held,
        }
    }
}

impl Serialize for BenchReport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.reports.serialize(serializer)
    }
}

impl BenchReport {
    pub(crate) fn new(args: &BenchArgs, reports: Reports) -> Self {
        Self {
            connections: args.connections,
            in_flight: args.in_flight,
            duration_s: args.duration.as_secs_f64(),
            workers: args.workers.get(),
            addresses: args.addresses,
            reports,
        }
    }

    fn modes(&self) -> &[ModeReport] {
        match &self.reports {
            Reports::One(report) => std::slice::from_ref(report),
            Reports::All(reports) => reports,
        }
    }

    /// Whether every answer that was looked at was what its mode measures.
    pub fn is_right(&self) -> bool {
        self.modes().iter().all(|report| report.gateway.wrong == 0)
    }

    /// For a person.
    pub fn render(&self) -> String {
        let mut text = format!(
            "\n{} connections × {} calls in flight, {} s each, {} of the gateway, {} addresses tracked before.\n",
            self.connections,
            self.in_flight,
            self.duration_s,
            if self.workers == 1 { "1 worker".to_owned() } else { format!("{} workers", self.workers) },
            grouped(u64::from(self.addresses)),
        );
        for report in self.modes() {
            text.push_str(&sentence(report));
        }
        text.push('\n');
        let mut rows = vec![
            ["", "", "calls/s", "p50 ms", "p99 ms", "CPU µs/call", "server busy", "generator busy"]
                .map(str::to_owned),
        ];
        for report in self.modes() {
            rows.push(row(report.gateway.mode.name(), "gateway", &report.gateway));
            rows.extend(report.baseline.as_ref().map(|baseline| row("", "echo", baseline)));
            if let (Some(cpu), Some(calls)) = (report.cpu_ratio, report.calls_ratio) {
                let ratio = |ratio: f64| format!("{ratio:.2}");
                let blank = String::new;
                rows.push([
                    blank(),
                    "ratio".to_owned(),
                    ratio(calls),
                    blank(),
                    blank(),
                    ratio(cpu),
                    blank(),
                    blank(),
                ]);
            }
        }
        text.push_str(&table::render(&rows));
        let warnings: Vec<String> = self.modes().iter().flat_map(warnings).collect();
        if !warnings.is_empty() {
            text.push('\n');
            text.push_str(&warnings.join("\n"));
            text.push('\n');
        }
        text
    }
}

fn sentence(report: &ModeReport) -> String {
    calls(report) + &report.held.map(weight).unwrap_or_default()
}

fn weight(held: Held) -> String {
    format!(
        "The gateway held {} grants, which took {:.0} bytes each of its RAM.\n",
        grouped(u64::from(held.grants)),
        held.grant_bytes
    )
}

fn calls(report: &ModeReport) -> String {
    let Figures { mode, calls_per_s, cpu_us_per_call, .. } = &report.gateway;
    let calls = grouped(calls_per_s.round() as u64);
    match report.cpu_ratio {
        Some(ratio) => format!(
            "{mode}: {calls} calls a second at {cpu_us_per_call:.2} µs of CPU each, {ratio:.2} times a bare tonic echo.\n"
        ),
        None => format!("{mode}: {calls} calls a second at {cpu_us_per_call:.2} µs of CPU each.\n"),
    }
}

fn row(mode: &str, server: &str, figures: &Figures) -> [String; 8] {
    [
        mode.to_owned(),
        server.to_owned(),
        grouped(figures.calls_per_s.round() as u64),
        format!("{:.2}", figures.p50_ms),
        format!("{:.2}", figures.p99_ms),
        format!("{:.2}", figures.cpu_us_per_call),
        format!("{:.0} %", figures.server_busy * 100.0),
        format!("{:.0} %", figures.generator_busy * 100.0),
    ]
}

fn warnings(report: &ModeReport) -> Vec<String> {
    let mut warnings = Vec::new();
    let mode = report.gateway.mode;
    if report.gateway.wrong > 0 {
        warnings.push(format!(
            "{mode}: {} answers were not what is measured; the first: {}",
            grouped(report.gateway.wrong),
            report.wrong_example.as_deref().unwrap_or("unknown")
        ));
    }
    for (server, figures) in [("gateway", Some(&report.gateway)), ("echo", report.baseline.as_ref())] {
        let Some(figures) = figures.filter(|figures| figures.server_busy < BUSY) else { continue };
        let limit = match (figures.generator_busy >= BUSY, mode) {
            (true, _) => "the generator",
            // Durable grants wait for the disk.
            (false, Mode::Fresh) if server == "gateway" => "the disk, or whatever else runs on this machine,",
            (false, _) => "whatever else runs on this machine",
        };
        warnings.push(format!(
            "{mode}: the {server} was busy for only {:.0} % of its workers' time, so {limit} was the limit, not the \
             server: calls/s are too low, and CPU a call is too high where less is batched.",
            figures.server_busy * 100.0
        ));
    }
    warnings
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
