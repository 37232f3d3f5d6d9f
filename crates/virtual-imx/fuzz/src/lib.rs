//! What each fuzz target does with its bytes, as plain functions: libFuzzer calls them from `fuzz_targets/`, and the
//! tests here run them over the seeds on any toolchain. Each checks what must hold, beside not panicking.

use std::collections::BTreeMap;
use std::time::Duration;

use virtual_imx::board::{Board, Setup, Stage};
use virtual_imx::emmc::Geometry;
use virtual_imx::fault::script;
use virtual_imx::model::{Model, Tree};
use virtual_imx::timing::Timing;
use virtual_imx::udp::{MAX_DATAGRAM, Service};
use virtual_imx::usb::SetupPacket;
use virtual_imx::usbip::Address;
use virtual_imx::usbip::operation::{Request, imported, listed, read_imported, read_listed};
use virtual_imx::usbip::urbs::{Next, Urbs};
use virtual_imx::usbip::wire::{Command, Direction, HEADER_BYTES, MAX_TRANSFER, Reply, Submit};

const WITHIN: Duration = Duration::from_secs(10);

/// A board with little memory and small cards, in the model and stage that a byte says.
fn small_board(choice: u8) -> Board {
    let choice = usize::from(choice);
    let model = Model::ALL[choice % Model::ALL.len()];
    let tree = if choice & 0x40 == 0 { Tree::Nxp } else { Tree::Upstream };
    let card = Geometry { user_bytes: 8 << 20, boot_bytes: 1 << 20, ..Geometry::default() };
    let board =
        Board::new(Setup { ram: Some(112 << 20), emmc: card, sd: Some(card), fbk: true, ..Setup::new(model, tree) });
    match choice / 8 % 4 {
        0 => {}
        1 => board.start_fbk(),
        _ => board.start_uboot(),
    }
    board
}

/// What decodes encodes to what decodes to the same.
pub fn messages(bytes: &[u8]) {
    if let Some(header) = bytes.first_chunk::<HEADER_BYTES>() {
        if let Ok(command) = Command::decode(header) {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
            assert!(command.data_bytes() <= MAX_TRANSFER);
        }
        if let Ok(reply) = Reply::decode(header) {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
    }
    if let Some(setup) = bytes.first_chunk::<8>() {
        assert_eq!(SetupPacket::decode(*setup).encode(), *setup);
    }
    if let Ok(request) = Request::read(&mut &*bytes) {
        let again = Request::read(&mut request.encode().as_slice()).expect("it was one");
        // Text that was none is replaced, and may have become longer than its field.
        assert!(again == request || request.encode().contains(&0xbd));
    }
    if let Ok(records) = read_listed(&mut &*bytes) {
        let again = read_listed(&mut listed(&records).as_slice()).expect("it was one");
        assert_eq!(again.len(), records.len());
        assert!(again.iter().zip(&records).all(|(a, b)| (a.ids, &a.interfaces) == (b.ids, &b.interfaces)));
    }
    if let Ok(Ok(record)) = read_imported(&mut &*bytes) {
        let again = read_imported(&mut imported(Ok(&record)).as_slice()).expect("it was one").expect("given");
        assert_eq!((again.number, again.ids), (record.number, record.ids));
    }
}

/// Takes bytes from the front; zeros once there are none.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    let n = N.min(bytes.len());
    let (head, rest) = bytes.split_at(n);
    taken[..n].copy_from_slice(head);
    *bytes = rest;
    taken
}

/// Each transfer is answered once at most, and never with more than was asked for.
pub fn transfers(bytes: &[u8]) {
    let Some((&choice, mut bytes)) = bytes.split_first() else { return };
    let board = small_board(choice);
    let Some(device) = board.device() else { return };
    let mut urbs = Urbs::new(board.clone(), device);
    let mut asked = BTreeMap::new();
    let mut answers = Vec::new();
    let mut sequence = 0;
    while !bytes.is_empty() && sequence < 200 {
        sequence += 1;
        let [kind, low, high] = take(&mut bytes);
        let length = u32::from(u16::from_le_bytes([low, high])) % 5000;
        let command = if kind & 3 == 3 {
            Command::Unlink { sequence, device: 1, target: u32::from(low) }
        } else {
            let direction = if kind & 4 == 0 { Direction::Out } else { Direction::In };
            let setup = if kind & 3 == 0 { take(&mut bytes) } else { [0; 8] };
            let submit =
                Submit { sequence, device: 1, direction, endpoint: kind & 3, flags: kind.into(), length, setup };
            asked.insert(sequence, length);
            Command::Submit(submit)
        };
        let mut data = vec![0; usize::try_from(command.data_bytes()).expect("small")];
        let n = data.len().min(bytes.len());
        data[..n].copy_from_slice(&bytes[..n]);
        bytes = &bytes[n..];
        let mut sink = |reply, data: &[u8]| answers.push((reply, data.len()));
        urbs.take(command, data, &mut sink);
        let mut turns = 0;
        loop {
            match urbs.work(&mut sink) {
                Next::Until(when) if turns < 1000 => board.pass_until(when),
                Next::Gone => return,
                _ => break,
            }
            turns += 1;
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    for (reply, length) in answers {
        let (Reply::Submitted { sequence, .. } | Reply::Unlinked { sequence, .. }) = reply;
        assert!(seen.insert(sequence), "answered twice");
        if let Reply::Submitted { sequence, actual, .. } = reply {
            assert!(actual <= asked[&sequence]);
            assert!(length == 0 || length == usize::try_from(actual).expect("small"));
        }
    }
}

/// Whatever comes, every transfer ends by its deadline. Each transfer comes after its length; bit 15 of that asks for an
/// answer, too.
pub fn board(bytes: &[u8]) {
    let Some((&choice, mut bytes)) = bytes.split_first() else { return };
    let board = small_board(choice);
    let mut transfers = 0;
    while !bytes.is_empty() && transfers < 100 && board.stage() != Stage::Running {
        transfers += 1;
        let length = u16::from_le_bytes(take(&mut bytes));
        let n = usize::from(length & 0x3fff).min(bytes.len());
        let (transfer, rest) = bytes.split_at(n);
        bytes = rest;
        let Some(device) = board.wait_for_device(None, WITHIN) else { return };
        let Some(link) = board.open().filter(|link| link.device().address == device.address) else { continue };
        let start = board.now();
        let _ = link.send(transfer, WITHIN);
        if length & 0x8000 != 0 {
            if let Ok(answer) = link.receive(64, WITHIN) {
                assert!(answer.len() <= 64);
            }
        }
        assert!(board.now() - start <= WITHIN * 2);
    }
    board.emmc(|card| assert_eq!(card.geometry().user_bytes, 8 << 20));
}

/// Answers are small, and of the number that was asked. Each datagram comes after its length.
pub fn datagrams(bytes: &[u8]) {
    let mut bytes = bytes;
    let board = small_board(16);
    let mut service = Service::new(board);
    let mut count = 0;
    while !bytes.is_empty() && count < 200 {
        count += 1;
        let n = usize::from(u16::from_le_bytes(take(&mut bytes)) % 1100).min(bytes.len());
        let (datagram, rest) = bytes.split_at(n);
        bytes = rest;
        if let Some((_, answer)) = service.datagram(datagram) {
            assert!((4..=MAX_DATAGRAM).contains(&answer.len()));
            // A repeated number gets the last answer, whatever it was to.
            assert_eq!(&answer[2..4], &datagram[2..4]);
        }
    }
}

/// Texts that people write: faults, timings, addresses.
pub fn texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match script(text) {
        Ok(faults) => {
            let board = small_board(16);
            board.add_faults(faults);
            board.power_cycle();
            board.start_uboot();
        }
        Err(error) => assert!(error.number >= 1 && text.contains(&error.text)),
    }
    let _ = text.parse::<Timing>();
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string().parse(), Ok(address));
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
            for place in 0..bytes.len().min(512) {
                target(&bytes[..place]);
                let mut changed = bytes.clone();
                for change in [1, 0x80] {
                    changed[place] = bytes[place] ^ change;
                    target(&changed);
                }
            }
        }
    }

    #[test]
    fn messages() {
        seeds("messages", super::messages);
    }

    #[test]
    fn transfers() {
        seeds("transfers", super::transfers);
    }

    #[test]
    fn board() {
        seeds("board", super::board);
    }

    #[test]
    fn datagrams() {
        seeds("datagrams", super::datagrams);
    }

    #[test]
    fn texts() {
        seeds("texts", super::texts);
    }
}
