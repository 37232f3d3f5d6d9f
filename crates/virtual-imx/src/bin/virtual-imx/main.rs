//! Runs virtual i.MX boards by hand: behind the kernel's USB stack, or behind a socket.
//!
//! Standard output has one JSON object a line: `ready` for each board, and `summary` at the end, which SIGTERM or SIGINT
//! brings. What goes wrong is said on standard error; the exit status is then 1, and 2 for arguments that make no sense.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

mod arguments;
mod run;
mod spec;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    match run::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("virtual-imx: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
