//! Streaming a loader to the boot ROMs of i.MX28, 8/8X, 8M Nano and Plus, 8ULP and 9: data in HID reports, one after
//! the other, and no answers.
//!
//! | chips | payload of a report | goes by |
//! |---|---|---|
//! | i.MX28 | 1024 | control pipe, after a command block |
//! | i.MX8QXP, 8QM, 8DXL | 1024 | control pipe |
//! | i.MX8M Nano, Plus, 8ULP, 91, 93 | 1020 | endpoint 1 |
//! | i.MX95, 943, 952 | 1020 | endpoint 1 |
//!
//! How much of a file is sent is for the boot image to say; which way reports go, for the pipe. What the ROM thinks
//! of it all shows only when the board comes back as something else. Source: traces of `uuu` 1.5.243.

use std::time::Duration;

use crate::chips::Chip;
use crate::pipe::{ReportPipe, TransferError};
use crate::sdp::{REPORT_COMMAND, data_report};

/// Length of i.MX28's command block.
pub const COMMAND_BLOCK_BYTES: usize = 31;

const BLTC: [u8; 4] = *b"BLTC";
const DOWNLOAD_FIRMWARE: u8 = 2;

/// i.MX28's command block: "BLTC", tag 1, length little-endian, flags 0, two zeros, then a command descriptor: 2 for
/// "download firmware", length big-endian, zeros.
pub fn command_block(length: u32) -> [u8; COMMAND_BLOCK_BYTES] {
    let mut block = [0; COMMAND_BLOCK_BYTES];
    block[..4].copy_from_slice(&BLTC);
    block[4..8].copy_from_slice(&1u32.to_le_bytes());
    block[8..12].copy_from_slice(&length.to_le_bytes());
    block[15] = DOWNLOAD_FIRMWARE;
    block[16..20].copy_from_slice(&length.to_be_bytes());
    block
}

/// The length that a command block announces; `None` if it is none, or its two lengths differ.
pub fn command_block_length(block: &[u8]) -> Option<u32> {
    let length = u32::from_le_bytes(*block.get(8..)?.first_chunk()?);
    (block == command_block(length)).then_some(length)
}

/// A stream that broke off, or could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SdpsError {
    /// A report did not get through.
    #[error("streaming to the boot ROM, at byte {at} of {length}")]
    Transfer {
        /// Bytes that had gone before that report.
        at: usize,
        /// Bytes in all.
        length: usize,
        /// What happened.
        #[source]
        source: TransferError,
    },
    /// Longer than a command block can say.
    #[error("a stream of {0} bytes is too long for the boot ROM")]
    TooLong(usize),
    /// Nothing to send.
    #[error("there is nothing to stream")]
    Empty,
}

/// Streams `bytes` as `chip` wants it. Each report may take up to `within`; `sent` is told how many bytes have gone,
/// after each.
pub fn stream<P: ReportPipe>(
    pipe: &mut P,
    chip: &Chip,
    bytes: &[u8],
    within: Duration,
    sent: &mut dyn FnMut(usize),
) -> Result<(), SdpsError> {
    let length = bytes.len();
    if length == 0 {
        return Err(SdpsError::Empty);
    }
    let announced = u32::try_from(length).map_err(|_| SdpsError::TooLong(length))?;
    let failed = |at| move |source| SdpsError::Transfer { at, length, source };
    if chip.command_block {
        let mut report = [REPORT_COMMAND; 1 + COMMAND_BLOCK_BYTES];
        report[1..].copy_from_slice(&command_block(announced));
        pipe.send_report(&report, within).map_err(failed(0))?;
    }
    let payload = usize::from(chip.report_payload).max(1);
    let (mut report, mut at) = (Vec::new(), 0usize);
    for part in bytes.chunks(payload) {
        data_report(&mut report, payload, part);
        pipe.send_report(&report, within).map_err(failed(at))?;
        at = at.saturating_add(part.len());
        sent(at);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chips::ChipTable;
    use crate::pipe::script::{Script, gone, out};

    const WITHIN: Duration = Duration::from_secs(10);

    fn bytes(length: u32) -> Vec<u8> {
        (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect()
    }

    /// Numbers and lengths of reports as `uuu` 1.5.243 was seen to send them.
    #[test]
    fn four_variants() {
        let table = ChipTable::builtin();
        let cases = [("MX8QXP", 0x1_d800, 118, 1024), ("MX865", 0x6_0000, 386, 1020), ("MX95", 0x1_d800, 119, 1020)];
        for (chip, length, reports, payload) in cases {
            let bytes = bytes(length);
            let steps: Vec<_> = bytes
                .chunks(payload)
                .map(|part| {
                    let mut report = vec![2];
                    report.extend(part);
                    report.resize(payload + 1, 0);
                    out(report)
                })
                .collect();
            assert_eq!(steps.len(), reports);
            let mut pipe = Script::new(steps);
            let mut last = 0;
            stream(&mut pipe, table.chip(chip).unwrap(), &bytes, WITHIN, &mut |sent| last = sent).unwrap();
            assert_eq!(last, bytes.len());
            pipe.finish();
        }
    }

    #[test]
    fn an_imx28_has_a_command_block() {
        // As traced for a stream of 0x1d800 bytes.
        let mut golden = b"BLTC\x01\0\0\0\x00\xd8\x01\x00\0\0\0\x02\x00\x01\xd8\x00".to_vec();
        golden.resize(31, 0);
        assert_eq!(command_block(0x1_d800).as_slice(), golden);
        assert_eq!(command_block_length(&golden), Some(0x1_d800));
        golden[19] = 1;
        assert_eq!(command_block_length(&golden), None);
        assert_eq!(command_block_length(&golden[..9]), None);

        let table = ChipTable::builtin();
        let mut command = vec![1];
        command.extend(command_block(3));
        let mut data = vec![2, 7, 8, 9];
        data.resize(1025, 0);
        let mut pipe = Script::new([out(command), out(data)]);
        stream(&mut pipe, table.chip("MX28").unwrap(), &[7, 8, 9], WITHIN, &mut |_| {}).unwrap();
        pipe.finish();
    }

    #[test]
    fn a_broken_stream_says_where() {
        let table = ChipTable::builtin();
        let bytes = bytes(2000);
        let mut first = vec![2];
        first.extend(&bytes[..1020]);
        let mut pipe = Script::new([out(first), gone()]);
        let error = stream(&mut pipe, table.chip("MX93").unwrap(), &bytes, WITHIN, &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "streaming to the boot ROM, at byte 1020 of 2000");
        let error = stream(&mut pipe, table.chip("MX93").unwrap(), &[], WITHIN, &mut |_| {}).unwrap_err();
        assert!(matches!(error, SdpsError::Empty));
    }
}
