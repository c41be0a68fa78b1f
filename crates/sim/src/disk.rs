//! A server's disk, simulated: what survives a crash, and what a full disk does.
//!
//! The embedded store writes behind: a change is kept in memory and reaches the disk within
//! [`WRITE_BEHIND`]. Killing the process therefore loses the changes of the last second, which is
//! what is promised and no more. A full disk refuses; the server is told and must stop promising.

use std::time::{Duration, Instant};

/// How long a change may wait in memory before it is on the disk.
pub const WRITE_BEHIND: Duration = Duration::from_secs(1);

/// One simulated disk, holding changes of type `C` in the order they were made.
#[derive(Debug)]
pub struct Disk<C> {
    /// Every change with the time it was made; those younger than [`WRITE_BEHIND`] are still in memory.
    changes: Vec<(Instant, C)>,
    /// No room left.
    full: bool,
}

impl<C: Clone> Disk<C> {
    /// An empty disk.
    pub fn new() -> Self {
        Disk { changes: Vec::new(), full: false }
    }

    /// Keeps a change. False: the disk is full, nothing was kept.
    pub fn keep(&mut self, change: C, now: Instant) -> bool {
        if !self.full {
            self.changes.push((now, change));
        }
        !self.full
    }

    /// Fills the disk up, or makes room again.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// The process died at `now`: what had not reached the disk is gone. Returns how many changes that was.
    pub fn crash(&mut self, now: Instant) -> usize {
        let before = self.changes.len();
        self.changes.retain(|(made, _)| now.saturating_duration_since(*made) >= WRITE_BEHIND);
        before - self.changes.len()
    }

    /// Everything on the disk, oldest first, with the time it was made.
    pub fn read(&self) -> impl Iterator<Item = (Instant, C)> + '_ {
        self.changes.iter().cloned()
    }
}

impl<C: Clone> Default for Disk<C> {
    fn default() -> Self {
        Disk::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agenda::epoch;

    #[test]
    fn a_crash_loses_the_last_second_and_nothing_older() {
        let start = epoch();
        let mut disk = Disk::new();
        assert!(disk.keep("old", start));
        assert!(disk.keep("young", start + Duration::from_millis(1500)));
        assert_eq!(disk.crash(start + Duration::from_secs(2)), 1);
        assert_eq!(disk.read().map(|(_, change)| change).collect::<Vec<_>>(), ["old"]);
    }

    #[test]
    fn a_full_disk_keeps_what_it_has_and_takes_nothing_more() {
        let start = epoch();
        let mut disk = Disk::new();
        assert!(disk.keep(1, start));
        disk.set_full(true);
        assert!(!disk.keep(2, start));
        disk.set_full(false);
        assert!(disk.keep(3, start));
        assert_eq!(disk.read().map(|(_, change)| change).collect::<Vec<_>>(), [1, 3]);
    }
}
