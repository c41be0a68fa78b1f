//! What is going to happen, in the order in which it will.
//!
//! One queue for the whole world, ordered by time and then by the order of asking. Two things
//! due at the same instant therefore happen in the order in which they were arranged, on every
//! run, on every machine: that is half of what makes a seed replay its story. (The other half
//! is that nothing anywhere iterates over a hash table.)

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// A queue of future occurrences of type `T`.
#[derive(Debug)]
pub struct Agenda<T> {
    /// The heap; `Reverse` makes the earliest entry the greatest.
    heap: BinaryHeap<Reverse<Entry<T>>>,
    /// Number of the next entry: the tie-breaker.
    next: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    number: u64,
    what: T,
}

impl<T> Agenda<T> {
    /// An empty agenda.
    pub fn new() -> Self {
        Agenda { heap: BinaryHeap::new(), next: 0 }
    }

    /// Arranges for `what` to happen at `at`.
    pub fn arrange(&mut self, at: Instant, what: T) {
        let number = self.next;
        self.next += 1;
        self.heap.push(Reverse(Entry { at, number, what }));
    }

    /// When the next thing is due.
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes the next thing, with the time it was arranged for.
    pub fn take(&mut self) -> Option<(Instant, T)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.what))
    }

    /// How much is still to come.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is to come.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Agenda::new()
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}

/// The instant at which a simulated world begins.
///
/// Rust has no way to make an `Instant` out of nothing, so the real clock is read once. Its value
/// never shows: everything printed is a distance from it.
#[expect(clippy::disallowed_methods, reason = "the epoch of virtual time; only distances from it are used")]
pub fn epoch() -> Instant {
    // A day of slack, so that `epoch - something` stays representable on every platform.
    Instant::now() + Duration::from_secs(86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_by_time_and_then_in_the_order_of_asking() {
        let start = epoch();
        let mut agenda = Agenda::new();
        agenda.arrange(start + Duration::from_secs(2), "later");
        agenda.arrange(start, "first");
        agenda.arrange(start, "second");
        let order: Vec<_> = std::iter::from_fn(|| agenda.take()).map(|(_, what)| what).collect();
        assert_eq!(order, ["first", "second", "later"]);
    }
}
