//! A SIP endpoint that signs in, stays signed in, and comes home.
