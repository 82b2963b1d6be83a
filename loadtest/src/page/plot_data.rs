//! What the page's script is given: the charts as uPlot wants them, in JSON that cannot break out of its element.

use serde::Serialize;

use crate::page::{Chart, Kind, Series, Tone};

/// A chart, as `assets/page.js` reads it.
#[derive(Debug, Serialize)]
struct PlotData<'a> {
    title: &'a str,
    note: &'a str,
    x: &'a str,
    y: &'a str,
    kind: &'static str,
    bar_width: Option<f64>,
    series: Vec<Legend<'a>>,
    /// The places, then the values of each series there; null where it has none.
    data: Vec<Vec<Option<f64>>>,
}

#[derive(Debug, Serialize)]
struct Legend<'a> {
    name: &'a str,
    tone: &'static str,
}

/// The charts as JSON to stand inside a `script` element: no `<` in it, so that no text can end the element.
pub(super) fn json(charts: &[Chart]) -> String {
    let charts: Vec<PlotData<'_>> = charts.iter().map(plot_data).collect();
    // Fails only for maps with keys that are no text; here there are none.
    serde_json::to_string(&charts).unwrap_or_else(|_| "[]".to_owned()).replace('<', "\\u003c")
}

/// Whether there is a point to draw.
pub(super) fn has_points(chart: &Chart) -> bool {
    chart.series.iter().any(|series| finite(series).next().is_some())
}

fn plot_data(chart: &Chart) -> PlotData<'_> {
    let (kind, bar_width) = match chart.kind {
        Kind::Line => ("line", None),
        Kind::Step => ("step", None),
        Kind::Bars { width } => ("bars", Some(width)),
    };
    PlotData {
        title: &chart.title,
        note: &chart.note,
        x: chart.x,
        y: chart.y,
        kind,
        bar_width,
        series: chart
            .series
            .iter()
            .map(|series| Legend { name: &series.name, tone: tone(series.tone) })
            .collect(),
        data: aligned(&chart.series),
    }
}

const fn tone(tone: Tone) -> &'static str {
    match tone {
        Tone::Vermillion => "vermillion",
        Tone::Blue => "blue",
        Tone::Green => "green",
        Tone::Reference => "reference",
    }
}

/// uPlot wants one row of places for all series.
fn aligned(series: &[Series]) -> Vec<Vec<Option<f64>>> {
    let mut places: Vec<f64> = series.iter().flat_map(finite).map(|(x, _)| x).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let values = series.iter().map(|series| {
        let mut values = vec![None; places.len()];
        for (x, y) in finite(series) {
            // Minus zero stands with zero, which `total_cmp` tells apart.
            if let Ok(at) =
                places.binary_search_by(|place| place.partial_cmp(&x).unwrap_or_else(|| place.total_cmp(&x)))
            {
                values[at] = Some(y);
            }
        }
        values
    });
    std::iter::once(places.iter().copied().map(Some).collect()).chain(values).collect()
}

fn finite(series: &Series) -> impl Iterator<Item = (f64, f64)> {
    series.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn series(points: &[(f64, f64)]) -> Series {
        Series { name: "calls".to_owned(), tone: Tone::Blue, points: points.to_vec() }
    }

    #[test]
    fn series_share_their_places() {
        let data = aligned(&[
            series(&[(2.0, 20.0), (0.0, 0.0)]),
            series(&[(1.0, 1.0), (2.0, f64::NAN), (f64::INFINITY, 3.0), (-0.0, 5.0)]),
        ]);
        assert_eq!(
            data,
            [[Some(0.0), Some(1.0), Some(2.0)], [Some(0.0), None, Some(20.0)], [Some(5.0), Some(1.0), None],]
        );
    }

    #[test]
    fn no_text_ends_the_element() {
        let chart = Chart {
            title: "</script><script>alert(1)".to_owned(),
            note: "<!-- \u{2028}".to_owned(),
            x: "s",
            y: "pods",
            kind: Kind::Bars { width: 0.5 },
            series: vec![series(&[(1.0, 2.0)])],
        };
        let json = json(std::slice::from_ref(&chart));
        assert!(!json.contains('<'), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&read[0]["title"], &read[0]["bar_width"]), (&chart.title.into(), &0.5.into()));
        assert_eq!(read[0]["data"], serde_json::json!([[1.0], [2.0]]));
    }

    proptest! {
        #[test]
        fn every_finite_point_is_there_once(points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..40)) {
            let one = series(&points);
            let data = aligned(std::slice::from_ref(&one));
            prop_assert!(data[0].is_sorted_by(|a, b| a < b));
            for (x, y) in finite(&one) {
                let at = data[0].iter().position(|place| *place == Some(x));
                prop_assert!(at.is_some(), "{x} is gone");
                let later = finite(&one).filter(|(other, _)| other.partial_cmp(&x).is_some_and(std::cmp::Ordering::is_eq)).last();
                prop_assert_eq!(later.map(|(_, y)| y), data[1][at.unwrap_or(0)], "{} {}", x, y);
            }
        }
    }
}
