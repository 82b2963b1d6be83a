//! A process that a debugger has stopped.

use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};

/// Such a process. Killed when dropped.
#[derive(Debug)]
pub struct Stopped(Child);

impl Stopped {
    /// Starts a process and stops it.
    ///
    /// # Panics
    ///
    /// Panics if it does not start.
    pub fn start() -> Self {
        let child = Command::new("sleep").arg("1000").spawn();
        let stopped = Self(child.unwrap_or_else(|error| panic!("sleep does not start: {error}")));
        let pid = Pid::from_raw(stopped.0.id().cast_signed());
        let sent = pid.map(|pid| kill_process(pid, Signal::STOP));
        assert!(matches!(sent, Some(Ok(()))), "sleep cannot be stopped: {sent:?}");
        stopped
    }

    /// Whether it is there, and stopped: the state in the third field of its `stat`.
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It is gone already, or about to be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
