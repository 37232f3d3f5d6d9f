//! What is about to be done, said before it is done; all of it with `--dry-run`.

use std::time::Duration;

use bmap::{BlockMap, ByteRange};
use flasher::board::{Before, Boards, Form, Proof, Source, To, Wire};
use flasher::plan::{HolePolicy, Kind, Phase, Plan};
use serde_json::{Value, json};

use super::boards::names;
use crate::cmd::output;
use crate::discover::shown;
use crate::error::AppError;
use crate::job::{Flash, Map};
use crate::render::Display;
use crate::render::json::Object;
use crate::render::text::{count, exact, percent, size, span};

/// Bytes a second over a high-speed bus that a U-Boot receives, of those its eMMC writes, and of those it proves: for
/// an estimate before anything was measured. U-Boot receives, writes and proves in turn.
const BUS: u64 = 28_000_000;
const CARD: u64 = 60_000_000;
const PROOF: u64 = 100_000_000;

/// A place as the option `--to` names it.
fn to_name(to: &To) -> String {
    match to {
        To::Emmc => "emmc".to_owned(),
        To::Sd => "sd".to_owned(),
        To::Partition(name) => name.clone(),
    }
}

/// All there is to say.
pub(super) struct Sight<'a> {
    pub(super) job: &'a Flash,
    pub(super) source: &'a Source<'a>,
    pub(super) map: Option<&'a BlockMap>,
    pub(super) plan: &'a Plan,
    pub(super) boards: &'a Boards<'a>,
}

impl Sight<'_> {
    /// Bytes of one kind that are written.
    fn bytes(&self, kind: Kind) -> u64 {
        let pieces = self.plan.pieces().filter(|piece| piece.kind == kind && !piece.kept);
        pieces.map(|piece| piece.extent.len()).sum()
    }

    fn kept(&self) -> u64 {
        self.plan.pieces().filter(|piece| piece.kept).map(|piece| piece.extent.len()).sum()
    }

    /// How long it takes if nothing is packed and nothing is there already.
    fn estimate(&self) -> Duration {
        let (data, zeros) = (self.bytes(Kind::Data), self.bytes(Kind::Zero));
        let millis = |bytes: u64, rate: u64| u128::from(bytes) * 1000 / u128::from(rate);
        let written = data.saturating_add(zeros);
        let proof = if self.job.options.proof == Proof::Off { 0 } else { millis(written, PROOF) };
        let sum = millis(data, BUS) + millis(written, CARD) + proof;
        Duration::from_millis(u64::try_from(sum).unwrap_or(u64::MAX))
    }

    /// One paragraph before it begins.
    pub(super) fn tell(&self, display: &Display) {
        if display.is_json() {
            display.object(&Object::Start(self.json()));
            return;
        }
        let (data, zeros) = (self.bytes(Kind::Data), self.bytes(Kind::Zero));
        let whole = self.plan.image_size().unwrap_or(0);
        let mut line = format!("{}: {}", self.job.source.name(), size(whole));
        line.push_str(&format!(", {} to send ({})", size(data), percent(data, whole.max(1))));
        if zeros > 0 {
            line.push_str(&format!(" and {} of zeros", size(zeros)));
        }
        if self.kept() > 0 {
            line.push_str(&format!(", {} kept as it is on the board", size(self.kept())));
        }
        line.push_str(&format!(
            "; about {} a board over USB 2.0, less where it packs or is there already",
            span(self.estimate())
        ));
        display.say(&line);
        let to = names(self.boards).join(", ");
        display.say(&format!("to the {} of {to}; {}", self.job.to, self.order_words()));
        // What was named need not be repeated.
        if self.job.boot.is_none() && self.boards.boot.is_some() {
            display.say(&self.boot_words());
        }
        if let Some(loader) = &self.job.options.loader {
            display.say(&format!("then {}", super::loader::words(self.job, loader)));
        }
    }

    /// What a bare board is booted with.
    fn boot_words(&self) -> String {
        match (&self.job.boot, &self.boards.boot) {
            (Some(path), _) => format!("a bare board is booted with {}", shown(path)),
            (None, Some(_)) => "a bare board is booted with the loader inside the image".to_owned(),
            (None, None) => "boards must be in fastboot: there is no boot image".to_owned(),
        }
    }

    fn order_words(&self) -> String {
        let proof = self.proof_words();
        if self.plan.invalidate().is_empty() {
            return proof;
        }
        format!("what boots is cleared first and written last; {proof}")
    }

    fn proof_words(&self) -> String {
        match self.job.options.proof {
            Proof::Fast => "the board proves each piece by CRC-32".to_owned(),
            Proof::Strong => "the board proves each piece by SHA-256".to_owned(),
            Proof::Off => "nothing is proven, as asked".to_owned(),
        }
    }

    fn wire_words(&self) -> &'static str {
        match self.job.options.wire {
            Wire::Auto => "raw or packed, whichever is measured to be faster",
            Wire::Only(Form::Raw) => "raw",
            Wire::Only(Form::Lz4) => "packed by LZ4 where that is smaller",
            Wire::Only(Form::Gzip) => "packed by gzip where that is smaller",
        }
    }

    fn holes_words(&self) -> &'static str {
        match (self.map, self.job.wishes.holes) {
            (None, _) => "are zeros on the board",
            (Some(map), _) if map.holes().next().is_none() => "there are none",
            _ if self.job.options.erase_holes => "are erased, rounded inwards, and sampled",
            (_, HolePolicy::Zero) => "are set to zero, and proven like data",
            _ => "keep what the board holds",
        }
    }

    fn before_words(&self) -> &'static str {
        match self.job.options.before {
            Before::Send => "nothing: all of it is sent",
            Before::Resume => "what an interrupted job had sent",
            Before::Delta => "everything: what is right is not sent",
        }
    }

    /// How the image is packed.
    fn format(&self) -> String {
        match self.source {
            Source::Image { image, .. } => image.format().to_string(),
            Source::Pack(_) => "packed for boards".to_owned(),
        }
    }

    fn map_words(&self) -> String {
        let place = match self.source {
            Source::Image { .. } => self.job.map.path().map(shown),
            Source::Pack(_) => Some("in the pack".to_owned()),
        };
        match (place, self.map) {
            (Some(place), Some(map)) => format!(
                "{place}: {} mapped ({}) in {}",
                size(map.mapped_bytes()),
                percent(map.mapped_bytes(), map.image_size()),
                count(map.ranges().len(), "range"),
            ),
            (Some(place), None) => format!("none {place}"),
            _ if self.job.map == Map::Unwanted => "none, as asked".to_owned(),
            _ => "none found".to_owned(),
        }
    }

    /// The whole plan, for `--dry-run`.
    pub(super) fn show(&self, display: &Display) -> Result<(), AppError> {
        if display.is_json() {
            display.object(&Object::Plan(self.json()));
            return Ok(());
        }
        let mut page = String::new();
        let mut line = |name: &str, text: &str| {
            page.push_str(format!("{name:10} {text}").trim());
            page.push('\n');
        };
        let whole = self.plan.image_size().unwrap_or(0);
        let image = format!("{}, {}, {}", self.job.source.name(), self.format(), exact(whole));
        line("image", &image);
        line("block map", &self.map_words());
        line("boards", &names(self.boards).join(", "));
        line("to", &format!("the {}", self.job.to));
        line("boot", &self.boot_words());
        line("compare", self.before_words());
        if !self.plan.invalidate().is_empty() {
            let places: Vec<String> = self.plan.invalidate().iter().map(ByteRange::to_string).collect();
            line("clear", &format!("what could start the old system: {}", places.join(", ")));
        }
        for (phase, name) in [(Phase::Body, "write"), (Phase::Head, "then head")] {
            for (kind, what) in [(Kind::Data, "data"), (Kind::Zero, "zeros")] {
                let pieces =
                    self.plan.pieces().filter(|piece| piece.phase == phase && piece.kind == kind && !piece.kept);
                let (number, bytes) = pieces.fold((0, 0_u64), |(n, sum), piece| (n + 1, sum + piece.extent.len()));
                if number > 0 {
                    line(name, &format!("{} of {what} in {}", exact(bytes), count(number, "piece")));
                }
            }
        }
        if self.kept() > 0 {
            line("keep", &format!("{} stay as the board has them", exact(self.kept())));
        }
        line("holes", self.holes_words());
        line("wire", self.wire_words());
        line("prove", &self.proof_words());
        if let Some(loader) = &self.job.options.loader {
            line("boot part", &super::loader::words(self.job, loader));
        } else {
            line("stays", "a loader in boot0 or boot1, and the boot switch, which may start it meanwhile");
        }
        line("estimate", &format!("{} a board over USB 2.0", span(self.estimate())));
        line("plan", &self.plan.digest().to_string());
        line("", "dry run: nothing was written");
        output::print(page.as_bytes())
    }

    fn json(&self) -> Value {
        let ranges =
            |ranges: &[ByteRange]| ranges.iter().map(|range| json!([range.start(), range.end()])).collect::<Vec<_>>();
        json!({
            "command": "flash",
            "status": 0,
            "image": self.job.source.name(),
            "format": self.format(),
            "image_size": self.plan.image_size(),
            "map": self.job.map.path().map(shown),
            "boards": names(self.boards),
            "to": to_name(&self.job.to),
            "boot": self.job.boot.as_deref().map(shown),
            "boot_inside": self.job.boot.is_none() && self.boards.boot.is_some(),
            "loader": self.job.options.loader.as_ref().map(|_| super::loader::file(self.job)),
            "data": self.bytes(Kind::Data),
            "zeros": self.bytes(Kind::Zero),
            "kept": self.kept(),
            "clear": ranges(self.plan.invalidate()),
            "head_length": self.plan.head(),
            "estimate": self.estimate().as_secs_f64(),
            "plan": self.plan.digest().to_string(),
        })
    }
}
