//! A bound on a server's CPU time: a control group of its own, of version 2 or, where the controller is there, 1.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// The time within which the quota is given anew: the kernel's default, and what Kubernetes uses.
const PERIOD_US: u32 = 100_000;
/// How often the removal of a group is tried, and the pause in between: a killed process takes a moment to end.
const REMOVALS_MAX: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// Why there is no such group.
#[derive(Debug, thiserror::Error)]
pub enum CpuQuotaError {
    /// There is no controller.
    #[error("--cpu-quota: no control group with a cpu controller is mounted on this machine")]
    NoController,
    /// The group could not be made.
    #[error("--cpu-quota: {} could not be set up: {source} (it takes root, and a file system that may be written to)", path.display())]
    Refused {
        /// What was to be made or written.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// A control group that bounds CPU time. Dropped, it is removed, as soon as those in it have ended.
#[derive(Debug)]
pub struct CpuQuota {
    directory: PathBuf,
}

impl CpuQuota {
    /// Makes a group that may use so many cores' worth of CPU time.
    pub fn new(cores: f64) -> Result<Self, CpuQuotaError> {
        let mounts = Path::new("/proc/self/mountinfo");
        let mounts = fs::read_to_string(mounts).map_err(refused(mounts))?;
        let hierarchy = hierarchies(&mounts)
            .into_iter()
            .find(Hierarchy::has_controller)
            .ok_or(CpuQuotaError::NoController)?;
        let write = |path: &Path, text: &str| fs::write(path, text).map_err(refused(path));
        if let Version::Two = hierarchy.version {
            let children = hierarchy.root.join("cgroup.subtree_control");
            let enabled = fs::read_to_string(&children).map_err(refused(&children))?;
            if !enabled.split_ascii_whitespace().any(|controller| controller == "cpu") {
                write(&children, "+cpu")?;
            }
        }
        let directory = hierarchy.root.join(format!("podgate-loadtest-{}", std::process::id()));
        fs::create_dir(&directory).map_err(refused(&directory))?;
        let quota = Self { directory };
        for (file, text) in hierarchy.version.limits(cores) {
            write(&quota.directory.join(file), &text)?;
        }
        Ok(quota)
    }

    /// The file that takes the ids of the processes that are to be in it.
    pub fn members(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }
}

fn refused(path: &Path) -> impl FnOnce(io::Error) -> CpuQuotaError {
    let path = path.to_owned();
    move |source| CpuQuotaError::Refused { path, source }
}

impl Drop for CpuQuota {
    fn drop(&mut self) {
        for _ in 0..REMOVALS_MAX {
            match fs::remove_dir(&self.directory) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(REMOVAL_PAUSE);
                }
                // What cannot be removed now is an empty directory that goes with the next start of the machine.
                Ok(()) | Err(_) => return,
            }
        }
    }
}

/// Where groups can be made.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    root: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    Two,
    One,
}

impl Hierarchy {
    /// Beside version 1, version 2 is often mounted without any controller.
    fn has_controller(&self) -> bool {
        match self.version {
            Version::One => true,
            Version::Two => fs::read_to_string(self.root.join("cgroup.controllers"))
                .is_ok_and(|names| names.split_ascii_whitespace().any(|name| name == "cpu")),
        }
    }
}

impl Version {
    /// Files of a group, and what to write to them, in this order.
    fn limits(self, cores: f64) -> Vec<(&'static str, String)> {
        // Below 1 ms the kernel refuses.
        let quota_us = ((cores * f64::from(PERIOD_US)).round() as u64).max(1_000);
        match self {
            Self::Two => vec![("cpu.max", format!("{quota_us} {PERIOD_US}"))],
            Self::One => {
                vec![("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota_us.to_string())]
            }
        }
    }
}

/// The hierarchies in `/proc/self/mountinfo`, version 2 first.
fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = mountinfo.lines().filter_map(hierarchy).collect();
    found.sort_by_key(|hierarchy| hierarchy.version);
    found
}

/// `31 23 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu`: the mount point is the fifth field,
/// the kind and the options of the file system are the first and the third behind the dash.
fn hierarchy(line: &str) -> Option<Hierarchy> {
    let (mount, file_system) = line.split_once(" - ")?;
    let root = PathBuf::from(mount.split(' ').nth(4)?);
    let mut fields = file_system.split(' ');
    match (fields.next()?, fields.nth(1)?) {
        ("cgroup2", _) => Some(Hierarchy { version: Version::Two, root }),
        ("cgroup", options) if options.split(',').any(|option| option == "cpu") => {
            Some(Hierarchy { version: Version::One, root })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hierarchies_the_newer_first() {
        let mountinfo = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                         32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                         33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                         41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
                         nonsense\n";
        let expected = [
            Hierarchy { version: Version::Two, root: "/sys/fs/cgroup/unified".into() },
            Hierarchy { version: Version::One, root: "/sys/fs/cgroup/cpu,cpuacct".into() },
        ];
        assert_eq!(hierarchies(mountinfo), expected);
        assert_eq!(hierarchies(""), []);
    }

    #[test]
    fn a_quota_is_a_share_of_the_period() {
        assert_eq!(Version::Two.limits(0.1), [("cpu.max", "10000 100000".to_owned())]);
        assert_eq!(Version::One.limits(1.5)[1], ("cpu.cfs_quota_us", "150000".to_owned()));
        assert_eq!(Version::Two.limits(0.001)[0].1, "1000 100000");
    }
}
