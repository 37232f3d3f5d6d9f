//! `mapflash man`

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::output;
use crate::args::{Cli, ManArgs};
use crate::discover::shown;
use crate::error::AppError;

/// Prints the page of the program, or writes all pages into a folder.
pub(crate) fn run(args: &ManArgs) -> Result<(), AppError> {
    let mut program = Cli::command();
    program.build();
    let failed = |error| AppError::io("cannot make the manual page", error);
    match &args.dir {
        None => {
            let mut page = Vec::new();
            Man::new(program).render(&mut page).map_err(failed)?;
            output::print(&page)
        }
        Some(dir) => write(&program, dir),
    }
}

/// `mapflash.1`, `mapflash-copy.1` and so on.
fn write(program: &Command, dir: &Path) -> Result<(), AppError> {
    let failed = |path: &Path| {
        let doing = format!("cannot write {}", shown(path));
        move |error| AppError::io(doing, error)
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    let commands = program.get_subcommands().filter(|command| !command.is_hide_set());
    for command in std::iter::once(program).chain(commands) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        let path = dir.join(format!("{name}.1"));
        let mut page = Vec::new();
        Man::new(command.clone()).render(&mut page).map_err(failed(&path))?;
        fs::write(&path, page).map_err(failed(&path))?;
    }
    Ok(())
}
