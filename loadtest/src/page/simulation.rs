//! The page of a simulation.

use crate::{
    figures::grouped,
    page::{Page, Table, render, storm::drawn},
    simulate::report::SimulateReport,
    timeline::Timeline,
};

/// Renders it.
pub fn simulation(report: &SimulateReport, timeline: &Timeline) -> String {
    render(&page(report, timeline))
}

fn page(report: &SimulateReport, timeline: &Timeline) -> Page {
    let broken = report.broken().into_iter().map(|sentence| format!("A promise was broken: {sentence}"));
    let (sentence, story) = match report.needed() {
        Some(needed) => (needed, Some(report.story())),
        None => (report.story(), None),
    };
    let said = story.into_iter().chain([report.bound()]).chain(report.excuse());
    Page {
        title: format!("A simulated storm of {} pods", grouped(u64::from(report.storm.pods))),
        sentence,
        paragraphs: said.chain(broken).collect(),
        tables: vec![Table {
            caption: "Pods, calls and bounds".to_owned(),
            columns: Vec::new(),
            rows: report.counts().into_iter().map(Into::into).collect(),
        }],
        charts: drawn(&report.storm, timeline),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::{Cli, Command},
        simulate::{Simulated, run},
    };

    fn page_of(line: &str) -> Page {
        let words = ["podgate-loadtest", "simulate"].into_iter().chain(line.split_whitespace());
        let Command::Simulate(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("{line} is no simulation")
        };
        let Simulated { report, timeline } = run(&args).unwrap();
        page(&report, &timeline)
    }

    #[test]
    fn a_simulation_is_told_whole() {
        let page = page_of("--pods 60 --apps 2 --rate 10 --burst 5");
        assert_eq!(page.title, "A simulated storm of 60 pods");
        assert!(page.sentence.starts_with("Simulated, 60 pods of 2 apps arrived"), "{}", page.sentence);
        let titles: Vec<_> = page.charts.iter().map(|chart| chart.title.as_str()).collect();
        assert_eq!(
            titles,
            ["Authorized pods", "Calls a second", "Calls a pod", "Time to grant", "Rate against its bound"]
        );
        assert!(page.charts.iter().all(|chart| !chart.series.is_empty()));
    }

    #[test]
    fn the_rate_that_is_needed_comes_first_and_a_broken_promise_is_told() {
        let needed = page_of("--pods 60 --apps 2 --burst 5 --within 5s");
        assert!(needed.sentence.starts_with("Each app needs a rate of"), "{}", needed.sentence);
        assert!(needed.paragraphs[0].starts_with("Simulated, 60 pods"), "{:?}", needed.paragraphs);
        let broken = page_of("--pods 60 --apps 2 --rate 1 --burst 5 --policy immediate");
        assert!(
            broken.paragraphs.iter().any(|told| told.starts_with("A promise was broken: 50 pods")),
            "{:?}",
            broken.paragraphs
        );
    }
}
