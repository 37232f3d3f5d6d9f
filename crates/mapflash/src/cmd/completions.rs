//! `mapflash completions`

use clap::CommandFactory as _;

use super::output;
use crate::args::{Cli, CompletionsArgs};
use crate::error::AppError;

/// Prints the script that completes commands in a shell.
pub(crate) fn run(args: &CompletionsArgs) -> Result<(), AppError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mapflash", &mut script);
    output::print(&script)
}
