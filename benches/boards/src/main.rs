//! Measures how fast boards are flashed, and compares it with what can be reached and with what uuu does.
//!
//! ```sh
//! cargo build --release -p virtual-imx -p bench-boards
//! target/release/bench-boards image ~/bench/boards                # the shape of a real image, with real files in it
//! nice -n -5 target/release/bench-boards run ~/bench/boards --rounds 3 --save benches/results
//! ```
//!
//! - `shape` makes the image, `works` says what is measured and what it should take.
//! - `boards` runs virtual boards in a process of their own; `client` is the process that is measured, started anew for
//!   each run; `uuu` sends what uuu sends.
//! - `account` reads the boards' log: what they received and did, and when they did nothing.
//! - `report` makes tables of it and compares with the aims.
//!
//! Times are real: a board is busy for as long as the timing model says. Every card begins full of old bytes, and what
//! it holds at the end is compared with the image, outside the measured time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

mod account;
mod boards;
mod client;
mod report;
mod run;
mod shape;
mod uuu;
mod works;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What goes wrong in a benchmark is only to be read.
type Problem = Box<dyn Error + Send + Sync>;

/// Measures how fast boards are flashed.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make the image that is flashed, its map and its pack file.
    Image {
        /// Where to.
        folder: PathBuf,
        /// How many times smaller than the real one.
        #[arg(long, default_value_t = 8)]
        scale: u64,
        /// Where its files come from.
        #[arg(long, default_value = "/usr")]
        tree: PathBuf,
    },
    /// Measure.
    Run(run::Options),
    /// One measured run; started by `run`.
    #[command(hide = true)]
    Client(client::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Image { folder, scale, tree } => shape::make(&folder, scale, &tree),
        What::Run(options) => run::run(&options),
        What::Client(options) => client::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("bench-boards: {error}");
            let mut next = error.source();
            while let Some(cause) = next {
                eprint!(": {cause}");
                next = cause.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

/// A count as a number to reckon with; counts here have far fewer than 53 bits.
fn float(count: u64) -> f64 {
    #[expect(clippy::as_conversions, reason = "there is no other way from u64 to f64")]
    let number = count as f64;
    number
}
