//! What uuu 1.4 sends for `FB: flash -raw2sparse all IMAGE` without a map, and nothing else: the sequence in
//! `benches/data/uuu-1.4-flash-all.trace`, for an image of any length.
//!
//! It asks `max-download-size` and `logical-block-size`, then sends the image as sparse images of at most 16 MiB, all of
//! it RAW, zeros too: `download`, the data in transfers of at most 1 MiB, each waited for, and `flash:all`, one after the
//! other. Every image but the first begins with a DONT_CARE over what was sent before. The test holds it against the
//! trace.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use imx_usb::pipe::BulkPipe;

use crate::Problem;

/// No sparse image is longer.
const LIMIT: u64 = 16 << 20;
const TRANSFER: usize = 1 << 20;
/// The block, where the board does not tell.
const BLOCK: u64 = 4096;
const WITHIN: Duration = Duration::from_secs(60);

fn ask(pipe: &mut dyn BulkPipe, command: &str) -> Result<String, Problem> {
    pipe.send(command.as_bytes(), WITHIN)?;
    answer(pipe, command)
}

fn answer(pipe: &mut dyn BulkPipe, command: &str) -> Result<String, Problem> {
    let mut reply = [0; 64];
    loop {
        let n = pipe.receive(&mut reply, WITHIN)?;
        let text = String::from_utf8_lossy(&reply[..n]).into_owned();
        match text.split_at_checked(4) {
            Some(("OKAY" | "DATA", rest)) => return Ok(rest.to_owned()),
            Some(("FAIL", rest)) => return Err(format!("{command}: {rest}").into()),
            _ => {}
        }
    }
}

/// A chunk's header.
fn chunk(kind: u16, blocks: u64, bytes: u64) -> Result<[u8; 12], Problem> {
    let mut header = [0; 12];
    header[..2].copy_from_slice(&kind.to_le_bytes());
    header[4..8].copy_from_slice(&u32::try_from(blocks)?.to_le_bytes());
    header[8..].copy_from_slice(&u32::try_from(12 + bytes)?.to_le_bytes());
    Ok(header)
}

/// A sparse image of `bytes`, which lie at `at`.
fn sparse(block: u64, at: u64, bytes: &[u8]) -> Result<Vec<u8>, Problem> {
    let len = u64::try_from(bytes.len())?;
    let mut image = Vec::with_capacity(bytes.len() + 52);
    image.extend(0xed26_ff3a_u32.to_le_bytes());
    for half in [1_u16, 0, 28, 12] {
        image.extend(half.to_le_bytes());
    }
    let chunks = if at == 0 { 1 } else { 2 };
    for word in [block, (at + len) / block, chunks, 0] {
        image.extend(u32::try_from(word)?.to_le_bytes());
    }
    if at > 0 {
        image.extend(chunk(0xcac3, at / block, 0)?);
    }
    image.extend(chunk(0xcac1, len / block, len)?);
    image.extend(bytes);
    Ok(image)
}

/// Bytes of the image in the sparse image that begins at `at`: blocks are added while there is room for two more.
fn piece(block: u64, at: u64) -> u64 {
    let headers = if at == 0 { 28 + 12 } else { 28 + 12 + 12 };
    ((LIMIT - headers - 2 * block) / block + 1) * block
}

/// Sends the image's first `pieces` pieces; how many bytes of it those were, and how long it took.
pub(crate) fn flash(pipe: &mut dyn BulkPipe, file: &File, pieces: u64) -> Result<(u64, Duration), Problem> {
    let size = file.metadata()?.len();
    let start = Instant::now();
    ask(pipe, "getvar:max-download-size")?;
    let told = ask(pipe, "getvar:logical-block-size").ok();
    let block = told.and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok());
    let block = block.filter(|block| (512..=BLOCK).contains(block)).unwrap_or(BLOCK);
    let mut at = 0;
    for _ in 0..pieces {
        let len = piece(block, at).min(size - at);
        if len == 0 {
            break;
        }
        let mut bytes = vec![0; usize::try_from(len)?];
        file.read_exact_at(&mut bytes, at)?;
        let image = sparse(block, at, &bytes)?;
        ask(pipe, &format!("download:{:08x}", image.len()))?;
        for transfer in image.chunks(TRANSFER) {
            pipe.send(transfer, WITHIN)?;
        }
        answer(pipe, "download")?;
        ask(pipe, "flash:all")?;
        at += len;
    }
    Ok((at, start.elapsed()))
}

#[cfg(test)]
mod tests {
    use imx_usb::pipe::TransferError;

    use super::*;

    const TRACE: &str = include_str!("../../data/uuu-1.4-flash-all.trace");

    /// A board that answers as the one in the trace, and keeps what is sent as lines of a trace without times.
    #[derive(Default)]
    struct Board {
        lines: Vec<String>,
        /// Bytes of a download still to come.
        wanted: usize,
        answer: String,
    }

    impl BulkPipe for Board {
        fn send(&mut self, bytes: &[u8], _: Duration) -> Result<(), TransferError> {
            if self.wanted > 0 {
                self.lines.push(format!("> ep1 {}", bytes.len()));
                self.wanted -= bytes.len();
                self.answer = "OKAY".to_owned();
                return Ok(());
            }
            let command = std::str::from_utf8(bytes).unwrap();
            self.lines.push(format!("> ep1 {} {command}", bytes.len()));
            self.answer = match command.split_once(':') {
                Some(("getvar", "max-download-size")) => "OKAY0x40000000".to_owned(),
                Some(("getvar", "logical-block-size")) => "OKAY0x200".to_owned(),
                Some(("download", len)) => {
                    self.wanted = usize::from_str_radix(len, 16).unwrap();
                    format!("DATA{len}")
                }
                _ => "OKAY".to_owned(),
            };
            Ok(())
        }

        fn receive(&mut self, into: &mut [u8], _: Duration) -> Result<usize, TransferError> {
            let answer = std::mem::take(&mut self.answer);
            into[..answer.len()].copy_from_slice(answer.as_bytes());
            self.lines.push(format!("< ep1 {} {answer}", answer.len()));
            Ok(answer.len())
        }
    }

    /// The trace's lines without times and checksums of data; equal ones in a row each for itself.
    fn of_trace() -> Vec<String> {
        let mut lines = Vec::new();
        for line in TRACE.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').skip(1).filter(|word| !word.starts_with("crc=")).collect();
            let [direction, endpoint, bytes, text @ ..] = &words[..] else { panic!("{line}") };
            let (times, bytes) = bytes.split_once('x').map_or((1, *bytes), |(n, bytes)| (n.parse().unwrap(), bytes));
            let line = [&[*direction, *endpoint, bytes], text].concat().join(" ");
            lines.extend(std::iter::repeat_n(line, times));
        }
        lines
    }

    #[test]
    fn it_is_what_debians_uuu_sent() {
        let image = tempfile::tempfile().unwrap();
        image.set_len(210 << 20).unwrap();
        let mut board = Board::default();
        let (sent, _) = flash(&mut board, &image, u64::MAX).unwrap();
        assert_eq!(sent, 210 << 20);
        assert!(board.lines == of_trace(), "{:#?}\n{:#?}", board.lines, of_trace());
    }

    #[test]
    fn blocks_of_4096_are_4094_to_a_piece() {
        assert_eq!((piece(4096, 0), piece(4096, 4096)), (0x00ff_e000, 0x00ff_e000));
    }
}
