//! Rehome, the program: one binary for the operator, the laboratory and the curious.
//!
//! This crate is a door: it reads what the operator typed and wrote, starts worlds, and prints what they say.
//! It decides nothing about SIP. [`command`] has a file for each thing one can type, [`config`] reads the two
//! files of a deployment, [`output`] prints for people or for programs.

mod admin;
mod command;
mod config;
mod deployment;
mod invocation;
mod lab;
mod output;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::run()
}
