//! The page of a run: one self-contained HTML file, words first, then the figures, then charts.
//!
//! It asks the network for nothing: uPlot and our own script and style are inlined. Everything that a chart shows is
//! also said in its note, for those who don't see it.

mod charts;
mod html;
mod incident;
mod plot_data;
mod simulation;
mod storm;

pub use html::render;
pub use incident::incident;
pub use simulation::simulation;
pub use storm::storm;

/// A page.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// What was run.
    pub title: String,
    /// What happened, in one sentence.
    pub sentence: String,
    /// What else there is to say.
    pub paragraphs: Vec<String>,
    /// The figures.
    pub tables: Vec<Table>,
    /// The charts.
    pub charts: Vec<Chart>,
}

/// Figures under a caption. The first cell of a row names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What the figures are.
    pub caption: String,
    /// Names of the columns; none where there is only one, which the caption says.
    pub columns: Vec<String>,
    /// The rows, each as long as the columns.
    pub rows: Vec<Vec<String>>,
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What is to be seen in it, in sentences.
    pub note: String,
    /// Name and unit of the horizontal axis.
    pub x: &'static str,
    /// Name and unit of the vertical axis, which begins at zero.
    pub y: &'static str,
    /// How it is drawn.
    pub kind: Kind,
    /// What is drawn, in the order of the legend.
    pub series: Vec<Series>,
}

/// How a chart is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Lines from point to point.
    Line,
    /// Lines that keep the height of a point until the next one.
    Step,
    /// Bars of classes so wide, each around its point; those of several series stand side by side.
    Bars {
        /// Width of a class, in the unit of the horizontal axis.
        width: f64,
    },
}

/// One line, or the bars of one colour.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its look.
    pub tone: Tone,
    /// Its points. What is not finite is left out; of several at one place the last one counts.
    pub points: Vec<(f64, f64)>,
}

/// Colour and dash of a series: one of three that the colour-blind tell apart, or that of what is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Dotted vermillion.
    Vermillion,
    /// Dashed blue.
    Blue,
    /// A whole green line.
    Green,
    /// Dot and dash, in grey: an optimum, a bound.
    Reference,
}
