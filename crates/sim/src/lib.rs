//! The simulated world: network, DNS, disk, time; stories; checkers.
