//! Cores: one for the generator, the others for the server, so that neither is measured by what the other takes.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Who may run where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// The server's.
    pub server: CpuSet,
    /// The generator's: one.
    pub generator: CpuSet,
}

impl Cores {
    /// Divides the cores that this thread may use: the last is the generator's, of the others the server gets as many
    /// as it has workers. `None` where there is only one.
    pub fn divide(workers: u32) -> io::Result<Option<Self>> {
        Ok(divided(&sched_getaffinity(None)?, workers))
    }
}

fn divided(allowed: &CpuSet, workers: u32) -> Option<Cores> {
    let mut cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let last = cores.pop().filter(|_| !cores.is_empty())?;
    cores.truncate(workers as usize);
    Some(Cores { server: set_of(&cores), generator: set_of(&[last]) })
}

fn set_of(cores: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    set
}

/// Lets this thread run on these cores only, until the stay is dropped. A process that it starts meanwhile stays there.
pub fn stay_on(cores: &CpuSet) -> io::Result<Stay> {
    let before = sched_getaffinity(None)?;
    sched_setaffinity(None, cores)?;
    Ok(Stay { before })
}

/// Ends with the return to the cores from before.
#[derive(Debug)]
#[must_use = "dropped, the thread may run as before"]
pub struct Stay {
    before: CpuSet,
}

impl Drop for Stay {
    fn drop(&mut self) {
        // They were allowed a moment ago. If they are gone, the kernel has put the thread elsewhere already.
        let _ = sched_setaffinity(None, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_shares_a_core() {
        let cores = divided(&set_of(&[1, 4, 6, 9]), 2).unwrap();
        assert_eq!((cores.server, cores.generator), (set_of(&[1, 4]), set_of(&[9])));
        assert_eq!(divided(&set_of(&[1, 4]), 8).unwrap().server, set_of(&[1]));
        assert_eq!(divided(&set_of(&[3]), 1), None);
    }

    #[test]
    fn a_stay_ends() {
        let before = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|core| before.is_set(*core)).unwrap();
        let stay = stay_on(&set_of(&[first])).unwrap();
        assert_eq!(sched_getaffinity(None).unwrap(), set_of(&[first]));
        drop(stay);
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
