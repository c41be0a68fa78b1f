//! What up, backup and home mean: topology, heartbeat, partner, homing, back-off. No IO, no clock, no SIP.
