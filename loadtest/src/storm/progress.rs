//! The progress of a storm: a bar on a terminal, else a line a second, on stderr.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{console, figures::grouped, storm::tally::Tally};

/// Between two lines, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(1);

pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines { pods: u32, next: Duration },
}

impl Progress {
    pub(crate) fn new(pods: u32) -> Self {
        if !io::stderr().is_terminal() {
            return Self::Lines { pods, next: LINE_EVERY };
        }
        let bar = ProgressBar::new(u64::from(pods));
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} pods  {msg}") {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    /// Shows how far the storm is, `elapsed` after its start.
    pub(crate) fn show(&mut self, tally: &Tally, elapsed: Duration) {
        match self {
            Self::Bar(bar) => {
                bar.set_position(u64::from(tally.decided()));
                bar.set_message(detail(tally));
            }
            Self::Lines { pods, next } => {
                if elapsed >= *next {
                    console::remark(&line(tally, *pods, elapsed));
                    // On the full second, also after a tick that came late.
                    *next = Duration::from_secs(elapsed.as_secs()) + LINE_EVERY;
                }
            }
        }
    }

    pub(crate) fn close(self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines { .. } => {}
        }
    }
}

fn line(tally: &Tally, pods: u32, elapsed: Duration) -> String {
    format!(
        "{:>4.0} s  {} of {} pods decided  {}",
        elapsed.as_secs_f64(),
        grouped(u64::from(tally.decided())),
        grouped(u64::from(pods)),
        detail(tally)
    )
}

fn detail(tally: &Tally) -> String {
    format!(
        "{} authorized, {} denied, {} gave up; {} calls",
        grouped(u64::from(tally.authorized)),
        grouped(u64::from(tally.denied)),
        grouped(u64::from(tally.gave_up_total())),
        grouped(tally.calls_total())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::tally::BootClock;

    #[test]
    fn a_line_says_it_all() {
        let mut tally = Tally::new(1, BootClock::Foreign, None);
        tally.called(Duration::ZERO, Duration::from_millis(1));
        tally.denied(1);
        assert_eq!(
            line(&tally, 2000, Duration::from_millis(3020)),
            "   3 s  1 of 2,000 pods decided  0 authorized, 1 denied, 0 gave up; 1 calls"
        );
    }
}
