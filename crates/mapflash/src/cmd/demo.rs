//! `mapflash demo`

use std::env;

use flasher::{Cancel, Failure, FlashError, TargetState};

use crate::args::DemoArgs;
use crate::demo;
use crate::error::{AppError, Cause};
use crate::render::Display;
use crate::signals::Watch;

/// Shows on an image of its own what the program does.
pub(crate) fn run(args: &DemoArgs, display: &Display) -> Result<(), AppError> {
    let cancel = Cancel::new();
    let watch = Watch::start(&cancel, display).map_err(|error| AppError::io("cannot watch for signals", error))?;
    let place = demo::place(&args.dir.clone().unwrap_or_else(env::temp_dir), args.keep)?;
    watch.before_stopping(place.remover());
    demo::run(&place, display, &cancel).map_err(|error| match *error.cause {
        // The files of the demo are no target that anybody has to know the state of.
        Cause::Flash(FlashError::Cancelled) => AppError::job(
            Failure { error: Box::new(FlashError::Cancelled), state: TargetState::Unchanged },
            false,
            watch.caught(),
        ),
        _ => error,
    })
}
