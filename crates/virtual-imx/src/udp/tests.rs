use super::*;
use crate::board::Setup;
use crate::emmc::Area;
use crate::fault::script;
use crate::model::{Model, Tree};
use crate::sample::pattern;
use crate::timing::Timing;

struct Host {
    service: Service,
    board: Board,
    sequence: u16,
}

impl Host {
    fn new(timing: Timing) -> Self {
        let board = Board::new(Setup { timing, ..Setup::new(Model::Imx8mp, Tree::Upstream) });
        board.start_uboot();
        let mut host = Self { service: Service::new(board.clone()), board, sequence: 0 };
        assert_eq!(host.raw(QUERY, 77, &[]).unwrap(), [1, 0, 0, 77, 0, 0]);
        assert_eq!(host.turn(INIT, &[0, 1, 0x20, 0]).unwrap(), [0, 1, 4, 0]);
        host
    }

    fn raw(&mut self, kind: u8, sequence: u16, data: &[u8]) -> Option<Vec<u8>> {
        let [high, low] = sequence.to_be_bytes();
        let (when, answer) = self.service.datagram(&[&[kind, 0, high, low], data].concat())?;
        self.board.pass_until(when);
        Some(answer)
    }

    fn turn(&mut self, kind: u8, data: &[u8]) -> Option<Vec<u8>> {
        let answer = self.raw(kind, self.sequence, data)?;
        self.sequence = self.sequence.wrapping_add(1);
        Some(answer[4..].to_vec())
    }

    fn say(&mut self, line: &str) -> String {
        assert_eq!(self.turn(FASTBOOT, line.as_bytes()).unwrap(), b"");
        String::from_utf8(self.turn(FASTBOOT, &[]).unwrap()).unwrap()
    }
}

#[test]
fn commands_are_carried_out_by_the_datagram_that_follows() {
    let mut host = Host::new(Timing::instant());
    assert_eq!(host.say("getvar:version"), "OKAY0.4");
    // One that is repeated is answered again and not carried out again.
    host.turn(FASTBOOT, b"UCmd:setenv a ${a}x; setenv fastboot.a $a").unwrap();
    let first = host.turn(FASTBOOT, &[]);
    assert_eq!(first.as_deref(), Some(&b"OKAY"[..]));
    assert_eq!(host.raw(FASTBOOT, host.sequence - 1, &[]).unwrap()[4..], *b"OKAY");
    assert_eq!(host.say("getvar:a"), "OKAYx");
    // Other numbers, and what is too long, are met with silence.
    assert_eq!(host.raw(FASTBOOT, host.sequence + 1, b"getvar:version"), None);
    assert_eq!(host.raw(FASTBOOT, host.sequence.wrapping_sub(2), b"getvar:version"), None);
    assert_eq!(host.raw(FASTBOOT, host.sequence, &[b'a'; 1021]), None);
    assert_eq!(host.service.datagram(&[3, 0, 0]), None);
    assert_eq!(host.raw(QUERY, 0, &[]).unwrap()[4..], host.sequence.to_be_bytes());
}

#[test]
fn long_commands_are_cut_without_a_word() {
    let mut host = Host::new(Timing::instant());
    let line = format!("UCmd:setenv fastboot.long {}", "y".repeat(60));
    assert_eq!(host.say(&line), "OKAY");
    assert_eq!(host.say("getvar:long"), format!("OKAY{}", "y".repeat(64 - 26)));
    // What should run after the answer never does.
    assert_eq!(host.say("ACmd:setenv fastboot.late 1"), "OKAY");
    assert!(host.say("getvar:late").starts_with("FAIL"));
}

#[test]
fn downloads_and_long_work() {
    let timing = Timing { card_write: 1 << 20, ..Timing::instant() };
    let mut host = Host::new(timing);
    let data = pattern(70 << 20, 9);
    assert_eq!(host.say(&format!("download:{:08x}", data.len())), format!("DATA{:08x}", data.len()));
    for part in data.chunks(1020) {
        assert_eq!(host.turn(FASTBOOT, part).as_deref(), Some(&b""[..]));
    }
    assert_eq!(host.turn(FASTBOOT, &[]).unwrap(), b"OKAY");
    let start = host.board.now();
    assert_eq!(host.say("flash:mmc0"), "INFOwriting");
    assert_eq!(host.board.now() - start, Duration::from_secs(30));
    assert_eq!(host.turn(FASTBOOT, &[]).unwrap(), b"INFOwriting");
    assert_eq!(host.turn(FASTBOOT, &[]).unwrap(), b"OKAY");
    assert_eq!((host.board.now() - start).as_secs(), 70);
    assert!(host.board.emmc(|card| card.peek(Area::User, 0, data.len())).unwrap() == data);
}

#[test]
fn a_board_that_is_not_there_says_nothing() {
    let mut host = Host::new(Timing::instant());
    host.board.add_faults(script("uboot cmd 1 UCmd hang").unwrap());
    host.turn(FASTBOOT, b"UCmd:true").unwrap();
    assert_eq!(host.turn(FASTBOOT, &[]), None);
    host.board.power_cycle();
    assert_eq!(host.raw(QUERY, 0, &[]), None);
    host.board.start_uboot();
    assert_eq!(host.raw(QUERY, 0, &[]).unwrap()[4..], [0, 0]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn no_datagram_panics(datagrams in proptest::collection::vec((0u8..5, 0u16..4, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)), 0..20)) {
        let board = Board::new(Setup::new(Model::Imx8mp, Tree::Nxp));
        board.start_uboot();
        let mut service = Service::new(board);
        for (kind, sequence, data) in datagrams {
            let [high, low] = sequence.to_be_bytes();
            let _ = service.datagram(&[&[kind, 0, high, low], &data[..]].concat());
        }
    }
}

#[test]
fn a_datagram_with_nothing_in_it_ends_a_download_that_is_too_short() {
    let mut host = Host::new(Timing::instant());
    assert_eq!(host.say("download:00001000"), "DATA00001000");
    assert_eq!(host.turn(FASTBOOT, &[7; 1000]).unwrap(), b"");
    assert_eq!(host.turn(FASTBOOT, &[]).unwrap(), b"FAILReceived invalid data length");
    assert_eq!(host.say("getvar:version"), "OKAY0.4");
    // And where there is nothing to end it is a command that nobody knows.
    assert_eq!(host.turn(FASTBOOT, &[]).unwrap(), b"");
    assert_eq!(host.turn(FASTBOOT, &[]).unwrap(), b"FAILunrecognized command");
    assert_eq!(host.say("getvar:version"), "OKAY0.4");
}
