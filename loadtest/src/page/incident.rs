//! The page of an incident: the three runs side by side.

use crate::{
    incident::report::IncidentReport,
    page::{
        Page, Table, Tone,
        charts::{self, Drawn, Optimum},
        render,
    },
};

/// Renders it.
pub fn incident(report: &IncidentReport) -> String {
    render(&page(report))
}

fn page(report: &IncidentReport) -> Page {
    let tones = [Tone::Vermillion, Tone::Blue, Tone::Green];
    let drawn = report.runs().into_iter().zip(tones);
    let runs: Vec<Drawn<'_>> =
        drawn.map(|((name, run), tone)| Drawn { name, tone, timeline: &run.timeline }).collect();
    let [heading, rows @ ..] = report.figures();
    let charts = [
        charts::authorized(&runs, Some(optimum(report))),
        charts::calls(&runs),
        charts::calls_per_pod(&runs),
        charts::time_to_grant(&runs),
    ];
    let rate = runs.last().and_then(|podgate| charts::rate(*podgate, "of the app"));
    let broken = report.broken().into_iter().map(|sentence| format!("podgate broke a promise: {sentence}"));
    Page {
        title: "The incident: the collapse and the cure".to_owned(),
        sentence: report.sentence(),
        paragraphs: report.stories().into_iter().chain(broken).chain(report.doubts()).collect(),
        tables: vec![Table {
            caption: "The same pods, the same backend, three ways to ask".to_owned(),
            columns: heading.into(),
            rows: rows.into_iter().map(Into::into).collect(),
        }],
        charts: charts.into_iter().chain(rate).collect(),
    }
}

/// The backend's work for one pod after the other.
fn optimum(report: &IncidentReport) -> Optimum {
    let (end_s, pods) = (report.optimum_s(), f64::from(report.podgate.storm.pods));
    Optimum { points: vec![(0.0, 0.0), (end_s, pods)], end_s }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{incident::report::tests::incident, page::charts::tests::timeline};

    #[test]
    fn the_runs_stand_side_by_side() {
        let mut report = incident();
        report.podgate.timeline = timeline();
        let page = page(&report);
        assert_eq!((page.sentence, page.paragraphs), (report.sentence(), report.stories().to_vec()));
        assert_eq!(page.tables[0].columns, ["", "immediate retries", "full jitter", "podgate"]);
        for chart in &page.charts[..4] {
            let names: Vec<_> = chart.series.iter().map(|series| series.name.as_str()).take(3).collect();
            assert_eq!(names, ["immediate retries", "full jitter", "podgate"], "{}", chart.title);
        }
        assert_eq!(page.charts[0].series[3].points, [(0.0, 0.0), (10.0, 2000.0)]);
        assert!(page.charts[4].note.starts_with("How full the bucket of the app was, by"));
    }
}
