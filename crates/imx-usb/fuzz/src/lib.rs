//! What each fuzz target does with its bytes, as plain functions: libFuzzer calls them from `fuzz_targets/`, and the
//! tests here run them over the seeds on any toolchain. Each checks what must hold, beside not panicking.

use std::collections::VecDeque;
use std::time::Duration;

use imx_usb::boot::{Action, BootImage, Seen, next_action};
use imx_usb::bootimage::container::{Container, FcbCopy, loader_span, sequence};
use imx_usb::bootimage::describe::describe;
use imx_usb::bootimage::ivt;
use imx_usb::bootimage::part::{Start, after_spl, barebox_second, for_stream};
use imx_usb::bootimage::stages::stages;
use imx_usb::chips::config::{read_cfg, read_config};
use imx_usb::chips::{ChipTable, Protocol, StreamExtent};
use imx_usb::descriptors::{bulk_pair, report_endpoints, settings};
use imx_usb::fastboot::udp::{Address, Packet};
use imx_usb::fastboot::{Command, Limits, Reply, parse_number};
use imx_usb::pipe::{BulkPipe, Fault, ReportPipe, TransferError};
use imx_usb::probe::{MODEST_DOWNLOAD, ProbeOptions, card, probe};
use imx_usb::{fastboot, fbk, sdp, sdps};

/// What decodes encodes to what decodes to the same.
pub fn replies(bytes: &[u8]) {
    match Reply::decode(bytes) {
        Ok(reply) => assert_eq!(Reply::decode(&reply.encode()), Ok(reply)),
        Err(error) => assert!(error.to_string().len() < 400, "{error}"),
    }
    if let Ok(command) = Command::decode(bytes) {
        assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));
    }
    if let Ok(command) = sdp::Command::decode(bytes) {
        let again = command.encode();
        assert_eq!((&again[..15], sdp::Command::decode(&again)), (&bytes[..15], Ok(command)));
    }
    if let Ok(hab) = sdp::hab_report(bytes) {
        assert_eq!(hab.word().to_le_bytes(), bytes[1..5]);
    }
    if let Ok(status) = sdp::status_report(bytes) {
        assert_eq!(status.to_le_bytes(), bytes[1..5]);
    }
    if let Some(length) = sdps::command_block_length(bytes) {
        assert_eq!(sdps::command_block(length), bytes);
    }
    if let Ok(packet) = Packet::decode(bytes) {
        let again = packet.encode();
        assert_eq!(Packet::decode(&again), Ok(packet));
        assert_eq!(again.len(), bytes.len());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_number(text);
        if let Ok(address) = text.parse::<Address>() {
            assert_eq!(address.to_string().parse(), Ok(address));
        }
    }
}

/// A board that says what the bytes say, in transfers as long as each one's first byte says, and then is gone.
#[derive(Debug)]
struct Board(VecDeque<Vec<u8>>);

impl Board {
    fn new(mut bytes: &[u8]) -> Self {
        let mut says = VecDeque::new();
        while let Some((length, rest)) = bytes.split_first() {
            let (transfer, rest) = rest.split_at(rest.len().min(usize::from(*length)));
            says.push_back(transfer.to_vec());
            bytes = rest;
        }
        Self(says)
    }

    fn say(&mut self, into: &mut [u8]) -> Result<usize, TransferError> {
        match self.0.pop_front() {
            Some(mut transfer) => {
                let length = transfer.len().min(into.len());
                into[..length].copy_from_slice(&transfer[..length]);
                if length < transfer.len() {
                    self.0.push_front(transfer.split_off(length));
                }
                Ok(length)
            }
            None => Err(TransferError::receiving(0, into.len(), Fault::Gone)),
        }
    }
}

impl BulkPipe for Board {
    fn send(&mut self, _: &[u8], _: Duration) -> Result<(), TransferError> {
        Ok(())
    }
    fn receive(&mut self, into: &mut [u8], _: Duration) -> Result<usize, TransferError> {
        self.say(into)
    }
}

impl ReportPipe for Board {
    fn send_report(&mut self, _: &[u8], _: Duration) -> Result<(), TransferError> {
        Ok(())
    }
    fn receive_report(&mut self, into: &mut [u8], _: Duration) -> Result<usize, TransferError> {
        self.say(into)
    }
}

/// Whatever a board says, sessions come to an end and take no more than was asked for.
pub fn board(bytes: &[u8]) {
    const MOST: u64 = 1000;
    let mut session = fastboot::Session::new(Board::new(bytes), Limits::USB);
    let _ = session.getvar("max-download-size");
    let mut taken = Vec::new();
    let upload = session.upload(None, MOST, &mut taken);
    assert!(taken.len() <= 1000);
    assert!(upload.is_err() || upload.is_ok_and(|length| usize::try_from(length) == Ok(taken.len())));
    if let Ok(mut download) = session.download(20) {
        let _ = download.write(&[0; 10]);
    }
    let mut asked = fastboot::Session::new(Board::new(bytes), Limits::USB);
    let table = ChipTable::builtin();
    let options = ProbeOptions { table: &table, chip: table.chip("MX8MM"), download: None };
    if let Ok(found) = probe(&mut asked, &options) {
        assert!(found.download <= MODEST_DOWNLOAD);
        let _ = card::find(&mut asked, &found, options.chip, card::Kind::Emmc, None);
    }
    // Dropped half-way: nothing may be flashed.
    assert!(session.flash("all").is_err());
    if session.download_all(&[1, 2, 3]).is_ok() {
        let _ = session.flash("all");
    }

    let mut session = fbk::Session::new(Board::new(bytes));
    let mut taken = Vec::new();
    let read = session.read_file("f", MOST, &mut taken);
    assert!(taken.len() <= 1000);
    assert!(read.is_err() || read.is_ok_and(|length| usize::try_from(length) == Ok(taken.len())));
    if let Ok(mut file) = session.create("f") {
        let _ = file.write(&[0; 10]);
    }

    for chip in ["MX6Q", "MX8MM"] {
        let table = ChipTable::builtin();
        let settings = table.chip(chip).expect("built in").into();
        let mut session = sdp::Session::new(Board::new(bytes), settings);
        let _ = session.read_register(0, sdp::Access::Half);
        let _ = session.boot(&sdp::Load { address: 0, bytes: &[1; 40], dcd: Some(&[2; 4]) }, &mut |_| {});
        assert!(session.boot_log(Duration::ZERO, 10).bytes.len() <= 10);
    }
}

/// A configuration that is taken changes the table in a way that keeps its promises; one that is not changes nothing.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let builtin = ChipTable::builtin();
    let mut table = builtin.clone();
    match read_config(&mut table, text) {
        Ok(_) => {
            assert!(table.chips().iter().all(|chip| (1..=1024).contains(&chip.report_payload)));
            assert!(table.ids().iter().all(|id| !id.release.is_empty()));
            assert!(table.chips().len() >= builtin.chips().len() && table.ids().len() >= builtin.ids().len());
        }
        Err(error) => {
            assert_eq!(table, builtin);
            assert!(error.line >= 1 && error.column >= 1);
            assert!(error.to_string().len() < 1000, "{error}");
        }
    }
    if let Ok((id, _)) = read_cfg(text, 1, 1) {
        assert!(id.matches(id.vendor, id.product, *id.release.start()));
        table.add_id(id);
    }
}

/// Containers lie inside the file with all their entries, and so does the part that is sent.
pub fn container(bytes: &[u8]) {
    for at in [0, 1, 0x400] {
        if let Ok(container) = Container::read(bytes, at) {
            assert!(at + 16 + 128 * container.entries.len() <= bytes.len());
            assert!(container.end() >= u64::try_from(at).expect("small"));
            assert!(container.check(bytes).len() <= 1 + container.entries.len());
        }
        assert!(sequence(bytes, at).len() <= 4);
        for fcb in [FcbCopy::Take, FcbCopy::Leave] {
            if let Ok(span) = loader_span(bytes, at, fcb) {
                assert!(span <= bytes.len().saturating_sub(at));
            }
        }
    }
}

/// What is sent of an image lies in the file, and what is said of it is short.
pub fn image(bytes: &[u8]) {
    for ivt in ivt::tables(bytes) {
        assert!(ivt.at + ivt::IVT_BYTES <= bytes.len());
        if let Ok(load) = ivt.load(bytes) {
            assert!(load.bytes.len() <= bytes.len() - ivt.at && !load.bytes.is_empty());
        }
        if let Ok(Some(range)) = barebox_second(bytes, &ivt) {
            assert!(range.start < range.end && range.end <= bytes.len());
        }
    }
    for start in [Start::default(), Start { offset: 4, skip_flexspi: true, by_tag: true }] {
        let ranges = [
            for_stream(bytes, start, StreamExtent::LoaderContainer),
            for_stream(bytes, start, StreamExtent::WholeFile),
            after_spl(bytes, start),
        ];
        for range in ranges.into_iter().flatten() {
            assert!(range.start < range.end && range.end <= bytes.len());
        }
    }
    sent(bytes);
    let description = describe(bytes);
    assert!(description.findings.len() < 80);
    assert!(description.to_string().len() < 80 * 300);
    assert!(description.problems.iter().all(|problem| problem.to_string().len() < 300));
    if let Some(Ok(stages)) = stages(bytes, &description) {
        assert!(!stages.parts.is_empty() && stages.parts.len() < 10);
        assert!(stages.parts.iter().all(|part| part.bytes.start < part.bytes.end && part.bytes.end <= bytes.len()));
    }
}

/// Whatever is on the port, what it is sent lies in the file.
fn sent(bytes: &[u8]) {
    let table = ChipTable::builtin();
    let image = BootImage::new(bytes);
    let file = image.bytes().as_ptr_range();
    let within = |part: &[u8]| {
        let part = part.as_ptr_range();
        part.start < part.end && file.start <= part.start && part.end <= file.end
    };
    let mut known = Vec::new();
    for id in table.ids() {
        let chip = table.chip_of(id);
        // Chips that are alike in this are sent the same.
        let key = (id.protocol, chip.map(|chip| (chip.format, chip.stream, chip.barebox_second_stage)));
        if known.contains(&key) {
            continue;
        }
        known.push(key);
        let seen = Seen { protocol: id.protocol, chip, known: true };
        for plugins in 0..if id.protocol == Protocol::Sdp { 2 } else { 1 } {
            match next_action(&image, seen, None, plugins) {
                Ok(Action::Load { load, second, .. }) => {
                    assert!(within(load.bytes) && load.dcd.is_none_or(within) && second.is_none_or(within));
                }
                Ok(Action::Stream { bytes: part, .. } | Action::Hand(part)) => assert!(within(part)),
                Ok(_) => {}
                Err(problem) => assert!(problem.to_string().len() < 300, "{problem}"),
            }
        }
    }
}

/// The endpoints that are found are among those listed, and go the way they should. The first byte is the number of the
/// active configuration.
pub fn descriptors(bytes: &[u8]) {
    let Some((&active, bytes)) = bytes.split_first() else { return };
    let found = settings(bytes, active);
    let endpoints: Vec<_> = found.iter().flat_map(|setting| &setting.endpoints).collect();
    assert!(found.len() <= bytes.len() / 8 && endpoints.len() <= bytes.len() / 6);
    assert!(endpoints.iter().all(|endpoint| (1..0x800).contains(&endpoint.packet)));
    if let Ok(pair) = bulk_pair(&found) {
        assert!(pair.input.is_in() && !pair.out.is_in());
        assert!(endpoints.contains(&&pair.input) && endpoints.contains(&&pair.out));
        assert!(found.iter().any(|setting| setting.interface == pair.interface));
    }
    if let Ok(reports) = report_endpoints(&found) {
        assert!(reports.input.is_in() && reports.out.is_none_or(|out| !out.is_in() && endpoints.contains(&&out)));
    }
}

#[cfg(test)]
mod tests {
    /// Runs a target over its seeds and over each of its files cut and changed in simple ways.
    fn seeds(name: &str, target: fn(&[u8])) {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty());
        for file in files {
            let bytes = std::fs::read(file).unwrap();
            target(&bytes);
            for place in 0..bytes.len().min(4096) {
                target(&bytes[..place]);
                let mut changed = bytes.clone();
                for change in [1, 0x80, 0xFF] {
                    changed[place] = bytes[place] ^ change;
                    target(&changed);
                }
            }
        }
    }

    #[test]
    fn replies() {
        seeds("replies", super::replies);
    }

    #[test]
    fn board() {
        seeds("board", super::board);
    }

    #[test]
    fn config() {
        seeds("config", super::config);
    }

    #[test]
    fn container() {
        seeds("container", super::container);
    }

    #[test]
    fn image() {
        seeds("image", super::image);
    }

    #[test]
    fn descriptors() {
        seeds("descriptors", super::descriptors);
    }
}
