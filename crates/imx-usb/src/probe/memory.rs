//! Which addresses are safe, and where a download lies.

use super::talk::Talk;
use super::{Capabilities, ProbeError, ProbeOptions, Source, Space, Tree};
use crate::chips::{Chip, ChipTable, Memory};
use crate::fastboot::parse_number;
use crate::pipe::BulkPipe;

/// From `loadaddr` on there is room for a kernel and more: NXP's boards put their device tree 44 MiB behind it.
const LOAD_ROOM: u64 = 32 << 20;
/// How much of memory that must be shared is for a download.
const SHARED_DOWNLOAD: u64 = 16 << 20;
/// No address is divisible by less.
const ALIGNED: u64 = 0x1000;

/// Where in the small download the LZ4 frame begins.
pub(super) const LZ4_AT: u64 = 0x40;
/// The first word of what both parts of the small download inflate to: "abcd".
pub(super) const INFLATED: &str = "64636261";
/// The first word of the small download: gzip's magic number, deflate, no flags.
const PAYLOAD_WORD: &str = "00088b1f";

/// "abcdabcdabcdabcdefghi" as a gzip member of one stored block.
const GZIP: [u8; 44] =
    *b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x15\x00\xea\xffabcdabcdabcdabcdefghi\x11\x89\x82\x9d\x15\0\0\0";
/// The same as an LZ4 frame of independent blocks: four letters, twelve more from four before, five letters.
const LZ4: [u8; 28] = *b"\x04\x22\x4d\x18\x60\x40\x82\x0d\0\0\0\x48abcd\x04\0\x50efghi\0\0\0\0";

/// What the board calls itself, and the chip that is.
const NAMES: [(&str, &str); 12] = [
    ("imx8mm", "MX8MM"),
    ("imx8mn", "MX815"),
    ("imx8mp", "MX865"),
    ("imx8mq", "MX8MQ"),
    ("imx8ulp", "MX8ULP"),
    ("imx8qxp", "MX8QXP"),
    ("imx8qm", "MX8QM"),
    ("imx8dxl", "MX8DXL"),
    ("imx91", "MX91"),
    ("imx93", "MX93"),
    ("imx952", "MX952"),
    ("imx95", "MX95"),
];

/// The chip that a name like `imx8mm_evk` or `freescale/imx8mm-evk.dtb` speaks of.
fn named<'t>(table: &'t ChipTable, text: &str) -> Option<&'t Chip> {
    let text = text.to_ascii_lowercase().replace("i.mx", "imx");
    NAMES.iter().find(|(part, _)| text.contains(part)).and_then(|(_, name)| table.chip(name))
}

/// A hexadecimal address from a variable. 0 is none.
fn address(text: &str) -> Option<u64> {
    let text = text.trim();
    let number = match text.strip_prefix("0x") {
        Some(_) => parse_number(text),
        None => u64::from_str_radix(text, 16).ok(),
    };
    number.filter(|at| *at > 0 && at.is_multiple_of(ALIGNED))
}

/// Fills in the chip, the memory and how much may be downloaded.
pub(super) fn find<P: BulkPipe>(
    talk: &mut Talk<'_, P>,
    found: &mut Capabilities,
    options: &ProbeOptions<'_>,
) -> Result<(), ProbeError> {
    let mut chip = options.chip;
    if chip.is_none() {
        chip = found.product.as_deref().and_then(|product| named(options.table, product));
        for name in ["board", "board_name", "fdtfile", "fdt_file"] {
            if chip.is_none() {
                chip = talk.env(name)?.and_then(|value| named(options.table, &value));
            }
        }
        found.chip = chip.map(|chip| chip.name.to_string());
    }
    let load = talk.env("loadaddr")?.as_deref().and_then(address);
    let source = if options.chip.is_some() { Source::Table } else { Source::Named };
    let (memory, source) = match (chip.and_then(|chip| chip.memory), load) {
        (Some(memory), _) => (memory, source),
        (None, Some(load_address)) => {
            let fastboot_buffer = load_address.saturating_add(LOAD_ROOM);
            (Memory { load_address, fastboot_buffer, fastboot_buffer_bytes: 0 }, Source::LoadAddress)
        }
        (None, None) => return Ok(()),
    };
    let buffer = buffer(talk, found.tree, memory, load)?;
    let limit = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    let mut space = Space { scratch: memory.scratch(), buffer, source };
    if source != Source::LoadAddress {
        found.download = found.download.min(limit(memory.fastboot_buffer_bytes));
    }
    // A download in the midst of what would be scratch memory: each gets a part.
    if let Some(at) = buffer.filter(|at| space.scratch.contains(at)) {
        let end = at.saturating_add(SHARED_DOWNLOAD);
        found.download = found.download.min(limit(SHARED_DOWNLOAD));
        space.scratch = if end < space.scratch.end { end..space.scratch.end } else { space.scratch.start..at };
    }
    found.space = Some(space);
    Ok(())
}

/// Where downloads lie: tells NXP's tree, and looks for one in the places there are.
fn buffer<P: BulkPipe>(
    talk: &mut Talk<'_, P>,
    tree: Option<Tree>,
    memory: Memory,
    load: Option<u64>,
) -> Result<Option<u64>, ProbeError> {
    // With nothing but `loadaddr` that is the only place, as in many scripts.
    let known = if memory.fastboot_buffer_bytes == 0 { memory.load_address } else { memory.fastboot_buffer };
    if tree == Some(Tree::Nxp) {
        talk.run(&format!("setenv fastboot_buffer {known:x}"))?;
    }
    let mut places = vec![known];
    places.extend(load.filter(|load| *load != known));
    for place in &places {
        talk.run(&format!("mw.l {place:x} 0"))?;
    }
    let mut payload = GZIP.to_vec();
    payload.resize(usize::try_from(LZ4_AT).unwrap_or(GZIP.len()), 0);
    payload.extend(LZ4);
    payload.resize(512, 0);
    if !talk.download(&payload)? {
        return Ok(None);
    }
    for place in places {
        if talk.run(&format!("itest.l *{place:x} == {PAYLOAD_WORD}"))? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_name_their_chip() {
        let table = ChipTable::builtin();
        let chip = |text| named(&table, text).map(|chip| &*chip.name);
        assert_eq!(chip("imx8mm_evk"), Some("MX8MM"));
        assert_eq!(chip("freescale/imx8mp-verdin.dtb"), Some("MX865"));
        assert_eq!(chip("NXP i.MX8MNano EVK"), Some("MX815"));
        assert_eq!(chip("i.MX93 11X11 EVK"), Some("MX93"));
        assert_eq!(chip("imx952-evk"), Some("MX952"));
        assert_eq!(chip("rpi4"), None);
        // Every name leads to a row.
        assert!(NAMES.iter().all(|(_, name)| table.chip(name).is_some()));
    }

    #[test]
    fn addresses_are_hexadecimal() {
        assert_eq!(address("0x40480000"), Some(0x4048_0000));
        assert_eq!(address("40480000"), Some(0x4048_0000));
        for none in ["", "0", "0x0", "12345", "loadaddr", "-1000"] {
            assert_eq!(address(none), None, "{none}");
        }
    }
}
