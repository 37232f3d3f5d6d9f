//! What is said when a board is lost while it is flashed.

use std::time::Duration;

use flasher::event::Loss;

use super::text::{size, span};

/// A wait that is no longer was not asked for.
const SHORT: Duration = Duration::from_secs(60);

/// How far it was, and what can be done while it is waited for.
pub(super) fn words(loss: Loss, done: u64, wanted: u64, within: Duration) -> String {
    let far = match (done, wanted) {
        (_, 0) => "before anything was sent".to_owned(),
        (done, wanted) => format!("after {} of {}", size(done), size(wanted)),
    };
    let long = match within {
        within if within > SHORT => format!("within {}", span(within)),
        within => format!("within {} s (--wait: an hour)", within.as_secs()),
    };
    match (loss, within.is_zero()) {
        (Loss::Gone, _) => format!("it was unplugged or lost its power {far}; plug it in again {long}"),
        (Loss::Silent, true) => format!("it does not answer any more {far}; it is asked again"),
        (Loss::Silent, false) => {
            format!(
                "it does not answer any more {far}; it is asked again: if that does not help, switch it off and on {long}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_done_is_what_the_options_allow() {
        let short = words(Loss::Gone, 9 << 20, 103 << 20, Duration::from_secs(15));
        assert_eq!(
            short,
            "it was unplugged or lost its power after 9.0 MiB of 103.0 MiB; plug it in again within 15 s (--wait: an hour)"
        );
        let long = words(Loss::Silent, 0, 0, Duration::from_secs(3600));
        assert!(long.starts_with("it does not answer any more before anything was sent"), "{long}");
        assert!(long.ends_with("switch it off and on within 1 h 00 min"), "{long}");
    }
}
