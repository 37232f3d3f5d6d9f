//! `mapflash`, the program: arguments become jobs, jobs go to the engine, and whoever waits is told.
//!
//! Read in this order: [`args`] is what was typed, [`job`] what will be done, [`cmd`] has one file for each subcommand,
//! [`render`] is all that is printed meanwhile, [`error`], [`held`], [`hints`], [`ending`] and
//! [`exit`] are what is said and done at the end.

mod args;
mod board;
mod cmd;
mod demo;
mod discover;
mod doctor;
mod ending;
mod error;
mod exit;
mod held;
mod hints;
mod inspect;
mod job;
mod render;
mod signals;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};
use error::{AppError, Cause};
use exit::Status;
use render::json::{Object, Ranges};
use render::{Display, Style, print_line};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_a_job(&error).into(),
    };
    let display = Display::new(Style::choose(cli.json, cli.quiet), !cli.quiet);
    let status = match run(cli.command, &display) {
        Ok(()) => Status::Done,
        Err(error) => {
            display.ends(error.status());
            display.finish();
            tell(&error, &display);
            error.status()
        }
    };
    status.into()
}

/// Help, the version, or a command line that makes no sense.
fn not_a_job(error: &clap::Error) -> Status {
    // Fails only where nobody reads.
    let _ = error.print();
    if !error.use_stderr() {
        return Status::Done;
    }
    // What was typed could not be parsed, so whether JSON is wanted has to be seen in the raw words.
    if std::env::args_os().any(|word| word == "--json") {
        let said = error.to_string();
        let message = said.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Display::new(Style::Json, false).object(&Object::Error {
            kind: "usage",
            message,
            cause: None,
            status: Status::Usage.code(),
            target_changed: false,
            target_state: flasher::TargetState::Unchanged.name(),
            hints: &[],
            ranges: None,
        });
    }
    Status::Usage
}

fn run(command: Command, display: &Display) -> Result<(), AppError> {
    match command {
        Command::Create(args) => cmd::create::run(job::Create::from(args), display),
        Command::Copy(args) => cmd::copy::run(job::Copy::from(args), display),
        Command::Pack(args) => cmd::pack::run(job::Pack::from(args), display),
        Command::Verify(args) => cmd::verify::run(job::Verify::from(args), display),
        Command::Inspect(args) => cmd::inspect::run(&args, display),
        Command::Disks(args) => cmd::disks::run(&args, display),
        Command::Flash(args) => cmd::flash::run(*args, display),
        Command::Boards(args) => cmd::boards::run(&args, display),
        Command::Boot(args) => cmd::boot::run(&args, display),
        Command::Doctor(args) => cmd::doctor::run(&args, display),
        Command::UdevRules(_) | Command::Completions(_) | Command::Man(_) if display.is_json() => {
            let text = "udev-rules, completions and man print files, not reports: there is no --json for them";
            Err(error::Cause::Usage(text.to_owned()).into())
        }
        Command::UdevRules(args) => cmd::udev_rules::run(&args),
        Command::Demo(args) => cmd::demo::run(&args, display),
        Command::Completions(args) => cmd::completions::run(&args),
        Command::Man(args) => cmd::man::run(&args),
    }
}

/// Says what went wrong, what the target holds, and what might help: apart from each other.
fn tell(error: &AppError, display: &Display) {
    let (message, cause, hints) = (error.sentence(), error.chain(), hints::hints(error));
    display.object(&Object::Error {
        kind: error.kind(),
        message: &message,
        cause: Some(cause.as_str()).filter(|cause| *cause != message),
        status: error.status().code(),
        target_changed: error.state.changed(),
        target_state: error.state.name(),
        hints: &hints,
        ranges: error.ranges().map(Ranges::of),
    });
    if let Cause::Boards { failed, of } = &*error.cause {
        print_line(&format!("mapflash: {} of {of} boards failed", failed.len()));
        failed.iter().for_each(|error| tell_people(error, "  "));
    } else {
        tell_people(error, "mapflash: ");
    }
}

/// The same for people, each line of what happened behind `prefix`.
fn tell_people(error: &AppError, prefix: &str) {
    let (message, hints) = (error.sentence(), hints::hints(error));
    print_line(&format!("{prefix}{message}"));
    for line in held::lines(error) {
        print_line(&format!("{prefix}{line}"));
    }
    for hint in &hints {
        print_line(&format!("  hint: {}", render::text::printable(hint)));
    }
}
