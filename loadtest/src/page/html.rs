//! A page as HTML: everything in one file, and no text of ours or of a server's that is not escaped.

use std::fmt::Write as _;

use crate::page::{Chart, Page, Table, plot_data};

const UPLOT_CSS: &str = include_str!("../../assets/uplot/uPlot.min.css");
const UPLOT_JS: &str = include_str!("../../assets/uplot/uPlot.iife.min.js");
const UPLOT_LICENSE: &str = include_str!("../../assets/uplot/LICENSE");
const CSS: &str = include_str!("../../assets/page.css");
const JS: &str = include_str!("../../assets/page.js");

/// What the page may do: run what is written in it, and ask nobody for anything.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// Renders the whole file.
pub fn render(page: &Page) -> String {
    let title = escaped(&page.title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}</title>\n<style>\n{UPLOT_CSS}\n{CSS}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n\
         <p class=\"sentence\">{}</p>\n",
        escaped(&page.sentence)
    );
    for paragraph in &page.paragraphs {
        html.push_str(&element("p", paragraph));
    }
    if !page.tables.is_empty() {
        html.push_str("<section>\n<h2>Figures</h2>\n");
        page.tables.iter().for_each(|table| push_table(&mut html, table));
        html.push_str("</section>\n");
    }
    if !page.charts.is_empty() {
        html.push_str("<section>\n<h2>Charts</h2>\n<noscript><p>The charts are drawn by a script, which does not run \
                       here. What they show is said above each of them.</p></noscript>\n<div class=\"charts\">\n");
        for (index, chart) in page.charts.iter().enumerate() {
            push_figure(&mut html, index, chart);
        }
        html.push_str("</div>\n</section>\n");
    }
    let _ = write!(
        html,
        "<footer>Written by podgate-loadtest {}. This file needs no network.</footer>\n</main>\n",
        env!("CARGO_PKG_VERSION")
    );
    if !page.charts.is_empty() {
        let _ = write!(
            html,
            "<script type=\"application/json\" id=\"charts\">{}</script>\n<script>\n/*\n{UPLOT_LICENSE}*/\n{UPLOT_JS}\n\
             </script>\n<script>\n{JS}</script>\n",
            plot_data::json(&page.charts)
        );
    }
    html.push_str("</body>\n</html>\n");
    html
}

/// A table; wider than the screen, it scrolls by itself.
fn push_table(html: &mut String, table: &Table) {
    let caption = escaped(&table.caption);
    let _ = write!(
        html,
        "<div class=\"wide\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\n<table class=\"figures\">\n\
         <caption>{caption}</caption>\n"
    );
    if !table.columns.is_empty() {
        html.push_str("<thead><tr>");
        for (index, column) in table.columns.iter().enumerate() {
            let column = escaped(column);
            // The corner above the names of the rows heads nothing.
            let cell = if index == 0 && column.is_empty() {
                "<td></td>".to_owned()
            } else {
                format!("<th scope=\"col\">{column}</th>")
            };
            html.push_str(&cell);
        }
        html.push_str("</tr></thead>\n");
    }
    html.push_str("<tbody>\n");
    for row in &table.rows {
        html.push_str("<tr>");
        for (index, cell) in row.iter().enumerate() {
            let cell = escaped(cell);
            let cell = if index == 0 {
                format!("<th scope=\"row\">{cell}</th>")
            } else {
                format!("<td>{cell}</td>")
            };
            html.push_str(&cell);
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table>\n</div>\n");
}

fn push_figure(html: &mut String, index: usize, chart: &Chart) {
    let _ = write!(
        html,
        "<figure>\n<figcaption>\n<h3>{}</h3>\n{}</figcaption>\n",
        escaped(&chart.title),
        element("p", &chart.note)
    );
    if plot_data::has_points(chart) {
        let _ = writeln!(html, "<div class=\"plot\" data-chart=\"{index}\"></div>");
    } else {
        html.push_str("<p class=\"nothing\">There is nothing to draw.</p>\n");
    }
    html.push_str("</figure>\n");
}

fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>\n", escaped(text))
}

/// Safe as text and inside a quoted attribute.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{Kind, Series, Tone};

    fn page() -> Page {
        Page {
            title: "A <b>storm</b>".to_owned(),
            sentence: "2 pods & \"one\" end.".to_owned(),
            paragraphs: vec!["It's over.".to_owned()],
            tables: vec![Table {
                caption: "Two columns".to_owned(),
                columns: vec![String::new(), "<now>".to_owned()],
                rows: vec![vec!["calls".to_owned(), "1,000".to_owned()]],
            }],
            charts: vec![Chart {
                title: "Calls".to_owned(),
                note: "Few.".to_owned(),
                x: "s",
                y: "calls",
                kind: Kind::Line,
                series: vec![Series { name: "all".to_owned(), tone: Tone::Green, points: vec![(0.0, 1.0)] }],
            }],
        }
    }

    #[test]
    fn everything_said_is_there_and_escaped() {
        let html = render(&page());
        for part in [
            "<h1>A &lt;b&gt;storm&lt;/b&gt;</h1>",
            "<p class=\"sentence\">2 pods &amp; &quot;one&quot; end.</p>",
            "<p>It&#39;s over.</p>",
            "<caption>Two columns</caption>",
            "<thead><tr><td></td><th scope=\"col\">&lt;now&gt;</th></tr></thead>",
            "<tr><th scope=\"row\">calls</th><td>1,000</td></tr>",
            "<div class=\"plot\" data-chart=\"0\"></div>",
            "Permission is hereby granted",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert!(!html.contains("There is nothing to draw"));
    }

    #[test]
    fn refers_to_nothing_outside() {
        let html = render(&page());
        // Addresses stand in comments and in the names of XML; none is followed.
        for part in ["src=", "@import", "url(", "<link rel=\"stylesheet\"", "import("] {
            assert!(!html.contains(part), "{part}");
        }
    }

    #[test]
    fn a_chart_without_a_point_says_so() {
        let mut page = page();
        page.charts[0].series[0].points.clear();
        let html = render(&page);
        assert!(html.contains("There is nothing to draw.") && !html.contains("class=\"plot\""));
        page.charts.clear();
        page.tables.clear();
        let html = render(&page);
        assert!(!html.contains("<script") && !html.contains("<h2>") && html.ends_with("</html>\n"));
    }
}
