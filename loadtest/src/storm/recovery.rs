//! When the background is served again as before the spike.

use std::time::Duration;

/// Calls are looked at together in windows of this width, by when they were due.
const WINDOW: Duration = Duration::from_millis(250);
/// So many windows in a row have to be as before: one alone may be luck.
const WINDOWS_IN_A_ROW: usize = 4;
/// How long after the spike is looked.
pub(crate) const WATCHED: Duration = Duration::from_secs(10);
/// By how much p99 may be above the idle one, where that is more than twice of it (design §11).
const SLACK: Duration = Duration::from_millis(20);

/// The background's calls after the spike.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recovery(Vec<Window>);

#[derive(Debug, Clone, Default)]
struct Window {
    begun: usize,
    /// From when they were due to their end; of those that failed, for ever.
    ended: Vec<Duration>,
}

impl Recovery {
    /// A call begins that was due so long after the spike.
    pub(crate) fn begun(&mut self, due: Duration) {
        if let Some(window) = self.window(due) {
            window.begun += 1;
        }
    }

    /// It ended: so long after it was due, or, with `None`, in vain.
    pub(crate) fn ended(&mut self, due: Duration, granted_after: Option<Duration>) {
        if let Some(window) = self.window(due) {
            window.ended.push(granted_after.unwrap_or(Duration::MAX));
        }
    }

    /// From the end of the spike to the first of the windows that are as before; `None` where there are none yet.
    /// A window without calls says nothing, and one whose calls have not all ended is not as before.
    pub(crate) fn after(&self, idle_p99: Duration) -> Option<Duration> {
        let limit = (2 * idle_p99).max(idle_p99 + SLACK);
        let telling = (self.0.iter().enumerate()).filter(|(_, window)| window.begun > 0);
        let telling: Vec<(usize, bool)> =
            telling.map(|(index, window)| (index, window.is_within(limit))).collect();
        let as_before =
            telling.windows(WINDOWS_IN_A_ROW).find(|row| row.iter().all(|(_, within)| *within))?;
        Some(WINDOW * as_before[0].0 as u32)
    }

    fn window(&mut self, due: Duration) -> Option<&mut Window> {
        if due >= WATCHED {
            return None;
        }
        let index = (due.as_millis() / WINDOW.as_millis()) as usize;
        if index >= self.0.len() {
            self.0.resize_with(index + 1, Window::default);
        }
        self.0.get_mut(index)
    }
}

impl Window {
    /// Whether all have ended, and at most one in a hundred took longer: the p99.
    fn is_within(&self, limit: Duration) -> bool {
        let longer = self.ended.iter().filter(|took| **took > limit).count();
        self.ended.len() == self.begun && longer * 100 <= self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_millis(5);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A call each 50 ms, of which those that are due before `slow_until` take 300 ms.
    fn calls(recovery: &mut Recovery, slow_until_ms: u64, until_ms: u64) {
        for due in (0..until_ms).step_by(50) {
            recovery.begun(ms(due));
            recovery.ended(ms(due), Some(if due < slow_until_ms { ms(300) } else { ms(25) }));
        }
    }

    #[test]
    fn is_where_the_windows_are_as_before_and_stay_so() {
        let mut never_slow = Recovery::default();
        calls(&mut never_slow, 0, 750);
        assert_eq!(never_slow.after(IDLE), None);
        calls(&mut never_slow, 0, 1000);
        assert_eq!(never_slow.after(IDLE), Some(Duration::ZERO));
        // One slow call spoils its window, and with it the row.
        never_slow.begun(ms(260));
        never_slow.ended(ms(260), Some(ms(26)));
        assert_eq!(never_slow.after(IDLE), None);

        let mut slow = Recovery::default();
        calls(&mut slow, 600, 3000);
        assert_eq!(slow.after(IDLE), Some(ms(750)));
        // Twice the idle p99, where that is more.
        assert_eq!(slow.after(ms(150)), Some(Duration::ZERO));
    }

    #[test]
    fn a_call_that_fails_or_does_not_end_is_not_as_before() {
        let mut recovery = Recovery::default();
        calls(&mut recovery, 0, 1000);
        recovery.begun(ms(10));
        assert_eq!(recovery.after(IDLE), None);
        recovery.ended(ms(10), None);
        assert_eq!(recovery.after(IDLE), None);
        // Among a hundred it may be one.
        for _ in 0..95 {
            recovery.begun(ms(10));
            recovery.ended(ms(10), Some(ms(1)));
        }
        assert_eq!(recovery.after(IDLE), Some(Duration::ZERO));
        recovery.begun(WATCHED);
        assert_eq!(recovery.0.len(), 4);
    }
}
