//! What waits for one shard: an urgent lane and a bounded bulk lane, for one reader.
//!
//! ```text
//!   urgent   heartbeats, the operator, DNS, disk, connections of ours   never full, always first
//!   bulk     everybody's messages                                       full: a datagram is dropped
//!                                                                       and counted, a stream waits
//! ```
//!
//! A heartbeat is thus never queued behind load, and load cannot eat the machine's memory.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::clock;

/// How many items the reader takes at once; the urgent lane is looked at between two such handfuls.
const HANDFUL: usize = 64;

pub(crate) struct Inbox<T> {
    /// How many items the bulk lane takes from those who can wait or do without.
    limit: usize,
    lanes: Mutex<Lanes<T>>,
    /// There is something to read.
    stirred: Condvar,
    /// There is room in the bulk lane again.
    room: Notify,
    dropped: AtomicU64,
}

struct Lanes<T> {
    urgent: VecDeque<T>,
    bulk: VecDeque<T>,
    /// The reader waits, and must be woken.
    is_waiting: bool,
    is_closed: bool,
}

impl<T> Inbox<T> {
    pub(crate) fn new(limit: usize) -> Inbox<T> {
        let lanes =
            Lanes { urgent: VecDeque::new(), bulk: VecDeque::new(), is_waiting: false, is_closed: false };
        Inbox {
            limit,
            lanes: Mutex::new(lanes),
            stirred: Condvar::new(),
            room: Notify::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// For what must not wait and may not be lost.
    pub(crate) fn push_urgent(&self, item: T) {
        let mut lanes = self.lanes();
        lanes.urgent.push_back(item);
        self.wake(lanes);
    }

    /// For what must keep its place among the bulk but may not be lost.
    pub(crate) fn push(&self, item: T) {
        let mut lanes = self.lanes();
        lanes.bulk.push_back(item);
        self.wake(lanes);
    }

    /// For what may be lost: takes what there is room for, counts the rest.
    pub(crate) fn push_or_drop(&self, items: &mut Vec<T>) {
        let mut lanes = self.lanes();
        let room = self.limit.saturating_sub(lanes.bulk.len()).min(items.len());
        self.dropped.fetch_add((items.len() - room) as u64, Ordering::Relaxed);
        items.truncate(room);
        lanes.bulk.extend(items.drain(..));
        self.wake(lanes);
    }

    /// For what can wait at its source.
    pub(crate) async fn push_when_room(&self, item: T) {
        let Err(mut item) = self.try_push(item) else { return };
        loop {
            let mut room = pin!(self.room.notified());
            // Registered before looking again: the reader cannot make room unnoticed.
            room.as_mut().enable();
            match self.try_push(item) {
                Ok(()) => return,
                Err(back) => item = back,
            }
            room.await;
        }
    }

    fn try_push(&self, item: T) -> Result<(), T> {
        let mut lanes = self.lanes();
        if lanes.bulk.len() >= self.limit && !lanes.is_closed {
            return Err(item);
        }
        lanes.bulk.push_back(item);
        self.wake(lanes);
        Ok(())
    }

    /// What was dropped for want of room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Lets nobody wait for room any more.
    pub(crate) fn close(&self) {
        self.lanes().is_closed = true;
        self.room.notify_waiters();
    }

    /// Moves the next handful, urgent first, into `taken`. Waits for something, at most until `deadline`.
    pub(crate) fn take(&self, deadline: Option<Instant>, taken: &mut Vec<T>) {
        let mut lanes = self.lanes();
        while lanes.urgent.is_empty() && lanes.bulk.is_empty() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(clock::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            lanes.is_waiting = true;
            lanes = match left {
                None => self.stirred.wait(lanes).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    self.stirred.wait_timeout(lanes, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            lanes.is_waiting = false;
        }
        taken.extend(lanes.urgent.drain(..));
        let was_full = lanes.bulk.len() >= self.limit;
        let handful = lanes.bulk.len().min(HANDFUL);
        taken.extend(lanes.bulk.drain(..handful));
        drop(lanes);
        if was_full {
            self.room.notify_waiters();
        }
    }

    fn wake(&self, lanes: MutexGuard<'_, Lanes<T>>) {
        let is_waiting = lanes.is_waiting;
        drop(lanes);
        if is_waiting {
            self.stirred.notify_one();
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<T>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn taken(inbox: &Inbox<u32>) -> Vec<u32> {
        let mut taken = Vec::new();
        inbox.take(Some(clock::now()), &mut taken);
        taken
    }

    #[test]
    fn urgent_items_overtake_and_datagrams_beyond_the_limit_are_counted() {
        let inbox = Inbox::new(3);
        inbox.push_or_drop(&mut vec![1, 2, 3, 4, 5]);
        inbox.push_urgent(9);
        inbox.push(6);
        assert_eq!(taken(&inbox), [9, 1, 2, 3, 6]);
        assert_eq!(inbox.dropped(), 2);
        assert!(taken(&inbox).is_empty());
    }

    #[tokio::test]
    async fn a_stream_waits_for_room_and_then_gets_it() {
        let inbox = Arc::new(Inbox::new(1));
        inbox.push_when_room(1).await;
        let waiting = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.push_when_room(2).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert_eq!(taken(&inbox), [1]);
        waiting.await.unwrap();
        assert_eq!(taken(&inbox), [2]);
    }
}
