//! `mapflash inspect`

use super::output;
use crate::args::InspectArgs;
use crate::error::AppError;
use crate::inspect;
use crate::render::Display;
use crate::render::json::Object;

/// Says what a file is. Warnings are part of the answer, not a failure.
pub(crate) fn run(args: &InspectArgs, display: &Display) -> Result<(), AppError> {
    let report = inspect::look(&args.file, args.bmap.as_deref())?;
    if display.is_json() {
        display.object(&Object::Result(inspect::json(&report)));
        return Ok(());
    }
    let mut page = Vec::new();
    inspect::print(&report, &mut page).map_err(|error| AppError::io("cannot print", error))?;
    output::print(&page)
}
