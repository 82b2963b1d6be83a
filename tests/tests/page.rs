//! The load tester's page in a real browser: light, dark, on a phone, and turned from one into the other.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use podgate_loadtest::page::{Chart, Kind, Page, Series, Table, Tone, render};
use podgate_tests::{binary::Binary, browser, home::Home};
use serde_json::Value;

/// Text that would run, if it were not escaped.
const HOSTILE: &str = "</script><script>alert(1)</script><img src=x onerror=alert(2)>";

const SETTINGS: [&str; 5] = ["light", "dark", "phone", "phone_dark", "turned"];

fn series(name: &str, tone: Tone, points: impl Iterator<Item = (f64, f64)>) -> Series {
    Series { name: name.to_owned(), tone, points: points.collect() }
}

/// A page of fixed figures, with every kind of chart and every tone.
fn page() -> Page {
    let seconds = || (0..600).map(|tick| f64::from(tick) / 10.0);
    let chart = |title: &str, y, kind, series| Chart {
        title: title.to_owned(),
        note: format!("{title}, in a sentence, and {HOSTILE}."),
        x: "seconds since the start",
        y,
        kind,
        series,
    };
    let cells = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
    Page {
        title: format!("A page {HOSTILE}"),
        sentence: "Of 2,000 pods 180 came through one way, and all of them the other.".to_owned(),
        paragraphs: vec![format!("A server said: {HOSTILE}")],
        tables: vec![Table {
            caption: "Side by side".to_owned(),
            columns: cells(["", "immediate retries", "full jitter", "podgate"]),
            rows: vec![
                cells(["authorized", "180", "201", "2,000"]),
                cells(["completion", "1.00 s", "1.02 s", "10.1 s"]),
                cells(["backend's work wasted", "91.0 %", "98.3 %", "0.0 %"]),
            ],
        }],
        charts: vec![
            chart(
                "Authorized pods",
                "pods",
                Kind::Line,
                vec![
                    series(
                        "immediate retries",
                        Tone::Vermillion,
                        seconds().map(|s| (s, (200.0 * s).min(180.0))),
                    ),
                    series("full jitter", Tone::Blue, seconds().map(|s| (s, (190.0 * s).min(401.0)))),
                    series("podgate", Tone::Green, seconds().map(|s| (s, (200.0 * s).min(2000.0)))),
                    series("optimum", Tone::Reference, [(0.0, 0.0), (10.0, 2000.0)].into_iter()),
                ],
            ),
            chart(
                "Calls a second",
                "calls a second",
                Kind::Step,
                vec![
                    series("full jitter", Tone::Blue, seconds().map(|s| (s, 12_000.0 / (s + 1.0)))),
                    series(
                        "podgate",
                        Tone::Green,
                        seconds().map(|s| (s, if s < 10.0 { 400.0 } else { 0.0 })),
                    ),
                ],
            ),
            chart(
                "Calls a pod",
                "pods",
                Kind::Bars { width: 1.0 },
                vec![
                    series(
                        "immediate retries",
                        Tone::Vermillion,
                        (1..=10).map(|n| (f64::from(n), f64::from(n * 90))),
                    ),
                    series("podgate", Tone::Green, (1..=2).map(|n| (f64::from(n), 1000.0))),
                ],
            ),
            chart("Nothing", "pods", Kind::Line, Vec::new()),
        ],
    }
}

/// Looks at a page in every setting, and fails where anything is amiss that no page may show. Returns what was seen.
async fn opened(html: &str, name: &str) -> Value {
    let home = Home::new();
    home.write("page.html", html);
    let seen = browser::look_at(&home.path("page.html"), name).await;
    for setting in SETTINGS {
        let seen = &seen[setting];
        assert_eq!(seen["complaints"], serde_json::json!([]), "{setting}");
        assert_eq!(seen["requests"], serde_json::json!([]), "{setting}");
        assert_eq!(seen["language"], "en", "{setting}");
        let width = seen["client_width"].as_f64().unwrap();
        let is_narrow = matches!(setting, "phone" | "phone_dark" | "turned");
        assert_eq!(width < 400.0, is_narrow, "{setting}: {width}");
        assert!(seen["scroll_width"].as_f64().unwrap() <= width, "{setting}: {}", seen["scroll_width"]);
        for canvas in seen["canvases"].as_array().unwrap() {
            let canvas_width = canvas["width"].as_f64().unwrap();
            assert!(canvas_width > 240.0 && canvas_width < width, "{setting}: {canvas}");
        }
        let is_dark = brightness(&seen["background"]) < 100.0;
        assert_eq!(
            is_dark,
            matches!(setting, "dark" | "phone_dark" | "turned"),
            "{setting}: {}",
            seen["background"]
        );
    }
    seen
}

/// The mean of `rgb(r, g, b)`.
fn brightness(colour: &Value) -> f64 {
    let text = colour.as_str().unwrap().trim_start_matches("rgb(").trim_end_matches(')');
    let parts: Vec<f64> = text.split(", ").map(|part| part.parse().unwrap()).collect();
    assert_eq!(parts.len(), 3, "{colour}");
    parts.iter().sum::<f64>() / 3.0
}

#[tokio::test]
async fn every_chart_is_drawn_and_every_word_is_there() {
    let page = page();
    let seen = opened(&render(&page), "fixed-figures").await;
    // Under the pointer each line has a value, also where it has no point of its own.
    let hovered = seen["light"]["hovered"].as_str().unwrap();
    assert!(hovered.contains("401") && hovered.contains("2,000") && !hovered.contains('–'), "{hovered}");
    for setting in SETTINGS {
        let seen = &seen[setting];
        let text = seen["text"].as_str().unwrap();
        assert_eq!(seen["title"], page.title.as_str());
        for said in [&page.title, &page.sentence, &page.paragraphs[0], &page.charts[3].note] {
            assert!(text.contains(said.as_str()), "{setting}: {said}\n{text}");
        }
        for said in ["Side by side", "backend's work wasted", "98.3 %", "There is nothing to draw."] {
            assert!(text.contains(said), "{setting}: {said}\n{text}");
        }
        let canvases = seen["canvases"].as_array().unwrap();
        assert_eq!(canvases.len(), 3, "{setting}");
        for (canvas, chart) in canvases.iter().zip(&page.charts) {
            assert_eq!(canvas["label"], format!("{}. {}", chart.title, chart.note), "{setting}");
            for (name, tone) in [
                ("vermillion", Tone::Vermillion),
                ("blue", Tone::Blue),
                ("green", Tone::Green),
                ("reference", Tone::Reference),
            ] {
                let is_meant = chart.series.iter().any(|series| series.tone == tone);
                let pixels = canvas["counts"][name].as_u64().unwrap();
                assert_eq!(pixels > 20, is_meant, "{setting}: {}: {pixels} pixels of {name}", chart.title);
            }
        }
        let legends = seen["legends"].as_array().unwrap();
        for (legend, chart) in legends.iter().zip(&page.charts) {
            for series in &chart.series {
                assert!(legend.as_str().unwrap().contains(&series.name), "{setting}: {legend}");
            }
        }
        assert_eq!(legends.len(), 3, "{setting}");
    }
}

#[tokio::test]
async fn a_storms_own_page() {
    let home = Home::new();
    let page = home.path("storm.html");
    let line = "storm --pods 60 --apps 3 --spread 200ms --rate 50 --burst 10 --html";
    let arguments: Vec<&str> = line.split(' ').chain([page.to_str().unwrap()]).collect();
    let ended = Binary::LoadTest.run(&arguments, &[]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let seen = opened(&home.read("storm.html").unwrap(), "storm").await;
    for setting in SETTINGS {
        let seen = &seen[setting];
        let text = seen["text"].as_str().unwrap();
        assert!(text.contains("60 pods of 3 apps arrived within 200 ms (policy booked, seed 1)"), "{text}");
        let canvases = seen["canvases"].as_array().unwrap();
        assert_eq!(canvases.len(), 5, "{setting}: {text}");
        for canvas in canvases {
            assert!(canvas["counts"]["green"].as_u64().unwrap() > 20, "{setting}: {canvas}");
        }
    }
}
