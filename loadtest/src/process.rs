//! What a process used, read from /proc.

use std::{fs, io, time::Duration};

/// What a process used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// The most memory that it ever had in RAM, in bytes.
    pub rss_bytes_max: u64,
}

/// Reads the usage of the process `pid`. CPU time moves in the kernel's ticks of 10 ms.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let cpu = cpu_time(pid)?;
    Ok(Usage { cpu, rss_bytes_max: status_bytes(pid, "VmHWM:")? })
}

/// What the process `pid` has in RAM now, in bytes.
pub fn rss_bytes(pid: u32) -> io::Result<u64> {
    status_bytes(pid, "VmRSS:")
}

fn status_bytes(pid: u32, field: &str) -> io::Result<u64> {
    parse_status(&fs::read_to_string(format!("/proc/{pid}/status"))?, field).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("no {field} in /proc/{pid}/status"))
    })
}

/// Reads the CPU time of the process `pid`.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let ticks = parse_stat_ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("unexpected form of /proc/{pid}/stat"))
    })?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// `utime + stime`, fields 14 and 15 of `/proc/PID/stat`. The second field, the command in parentheses, may contain
/// blanks and parentheses itself.
fn parse_stat_ticks(stat: &str) -> Option<u64> {
    let after_command = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_command.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// A field of `/proc/PID/status` that is given in kB, in bytes.
fn parse_status(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_ticks_behind_any_command() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 123 45 0 0 20 0 3 0 999";
        for command in ["podgate", "a b", "x) R 1 (y"] {
            assert_eq!(parse_stat_ticks(&format!("42 ({command}) {tail}")), Some(168));
        }
        assert_eq!(parse_stat_ticks("42 (x) S 1 2"), None);
    }

    #[test]
    fn reads_the_high_water_mark() {
        assert_eq!(
            parse_status("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n", "VmHWM:"),
            Some(2 * 1024 * 1024)
        );
        assert_eq!(parse_status("Name:\tx\n", "VmHWM:"), None);
    }

    #[test]
    fn reads_its_own() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.rss_bytes_max > 100_000, "{usage:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,80}") {
            let _ = parse_stat_ticks(&text);
            let _ = parse_status(&text, "VmRSS:");
        }
    }
}
