//! The page of a storm.

use crate::{
    figures::grouped,
    page::{
        Chart, Page, Table, Tone,
        charts::{self, Drawn, Optimum},
        render,
    },
    storm::{documents, report::StormReport},
    timeline::Timeline,
};

/// Points of the optimum's curve.
const OPTIMUM_POINTS: u32 = 100;

/// Renders it.
pub fn storm(report: &StormReport, timeline: &Timeline) -> String {
    render(&page(report, timeline))
}

fn page(report: &StormReport, timeline: &Timeline) -> Page {
    let broken = report.broken().into_iter().map(|sentence| format!("A promise was broken: {sentence}"));
    let [heading, times @ ..] = report.times();
    let pods = grouped(u64::from(report.pods));
    Page {
        title: match report.overload {
            None => format!("A storm of {pods} pods"),
            Some(overload) => format!("{pods} pods, {} times what may be admitted", overload.factor),
        },
        sentence: report.story(),
        paragraphs: report.remarks().into_iter().chain(broken).chain(report.doubt()).collect(),
        tables: vec![
            Table {
                caption: "Pods, calls and bounds".to_owned(),
                columns: Vec::new(),
                rows: report.counts().into_iter().map(Into::into).collect(),
            },
            Table {
                caption: "Times".to_owned(),
                columns: heading.into(),
                rows: times.into_iter().map(Into::into).collect(),
            },
        ],
        charts: drawn(report, timeline),
    }
}

pub(super) fn drawn(report: &StormReport, timeline: &Timeline) -> Vec<Chart> {
    let run = Drawn { name: "pods", tone: Tone::Green, timeline };
    let app = timeline.admissions.as_ref().map(|admissions| documents::app_name(admissions.app));
    let nearest = format!("of {}, the app that came nearest its bound,", app.unwrap_or_default());
    let charts = [
        charts::authorized(&[run], optimum(report)),
        charts::calls(&[run]),
        charts::calls_per_pod(&[run]),
        charts::time_to_grant(&[run]),
    ];
    charts.into_iter().chain(charts::rate(run, &nearest)).chain(charts::background(run)).collect()
}

/// By any time no more pods can be authorized than have arrived (evenly), and than the apps' buckets let pass.
fn optimum(report: &StormReport) -> Option<Optimum> {
    let end_s = report.optimum_s?;
    let all = f64::from(report.pods);
    let most = |at_s: f64| {
        let arrived = if at_s < report.spread_s { all * at_s / report.spread_s } else { all };
        let passed = f64::from(report.apps) * (f64::from(report.burst) + report.rate_per_s * at_s);
        all.min(arrived).min(passed)
    };
    let at_s = |point: u32| end_s * f64::from(point) / f64::from(OPTIMUM_POINTS);
    let curve = (0..OPTIMUM_POINTS).map(|point| (at_s(point), most(at_s(point))));
    Some(Optimum { points: curve.chain(std::iter::once((end_s, all))).collect(), end_s })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{page::charts::tests::timeline, storm::report::tests::all_authorized};

    #[test]
    fn a_storm_is_told_whole() {
        let report = all_authorized();
        let page = page(&report, &timeline());
        assert_eq!((page.title.as_str(), page.sentence), ("A storm of 2,000 pods", report.story()));
        assert_eq!(
            page.paragraphs,
            ["No app was admitted faster than its limit of 50 a second and 20 at once allows."]
        );
        let titles: Vec<_> = page.charts.iter().map(|chart| chart.title.as_str()).collect();
        assert_eq!(
            titles,
            ["Authorized pods", "Calls a second", "Calls a pod", "Time to grant", "Rate against its bound"]
        );
        assert!(
            page.charts[4].note.starts_with(
                "How full the bucket of storm-00000, the app that came nearest its bound, was, by"
            )
        );
        assert_eq!(page.tables[1].columns, ["", "p50", "p90", "p99", "p99.9", "max"]);
        assert!(
            page.tables.iter().all(|table| table.rows.iter().all(|row| row.len() == table.rows[0].len()))
        );
    }

    #[test]
    fn a_broken_promise_is_told() {
        let report = StormReport { gave_up: 3, authorized: 1997, completion_ratio: None, ..all_authorized() };
        let paragraphs = page(&report, &timeline()).paragraphs;
        assert!(
            paragraphs.iter().any(|told| told.starts_with("A promise was broken: 3 pods")),
            "{paragraphs:?}"
        );
    }

    #[test]
    fn the_optimum_follows_arrivals_and_buckets_and_ends_with_all() {
        let report = StormReport {
            apps: 2,
            rate_per_s: 100.0,
            burst: 20,
            pods: 400,
            spread_s: 1.0,
            optimum_s: Some(2.0),
            ..all_authorized()
        };
        let points = optimum(&report).unwrap().points;
        assert_eq!((points[0], points.last().copied()), ((0.0, 0.0), Some((2.0, 400.0))));
        let (_, at_100_ms) = points[5];
        assert!((at_100_ms - 40.0).abs() < 1e-9, "arrivals bind: {at_100_ms}");
        let (_, at_1_s) = points[50];
        assert!((at_1_s - 240.0).abs() < 1e-9, "buckets bind: {at_1_s}");
        assert_eq!(optimum(&StormReport { optimum_s: None, ..all_authorized() }), None);
    }
}
