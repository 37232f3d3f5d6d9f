use std::collections::VecDeque;

use super::*;
use crate::fastboot::{FastbootError, Limits, Session};

/// A U-Boot: answers a number it has just answered by the same again, drops any other but the next.
#[derive(Debug, Default)]
struct Board {
    next: u16,
    last: Option<Vec<u8>>,
    outbox: VecDeque<Vec<u8>>,
    /// What is to be said when asked.
    says: VecDeque<Vec<u8>>,
    /// What it was sent.
    heard: Vec<Vec<u8>>,
    /// How many datagrams came, and which of them, or of the answers to them, get lost.
    count: usize,
    lost: Vec<usize>,
    lost_answers: Vec<usize>,
}

const MOST_UBOOT: u16 = 1024;

impl Datagrams for Board {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.count += 1;
        if self.lost.contains(&self.count) {
            return Ok(());
        }
        assert!(datagram.len() <= usize::from(MOST_UBOOT));
        let packet = Packet::decode(datagram).expect("ours");
        let answer = match packet.kind {
            Kind::Query => Packet { data: &self.next.to_be_bytes(), ..packet }.encode(),
            _ if packet.sequence == self.next.wrapping_sub(1) => self.last.clone().expect("it has answered before"),
            _ if packet.sequence != self.next => return Ok(()),
            kind => {
                self.next = self.next.wrapping_add(1);
                let data = match kind {
                    Kind::Init => [1u16.to_be_bytes(), MOST_UBOOT.to_be_bytes()].concat(),
                    _ if packet.data.is_empty() => self.says.pop_front().unwrap_or_default(),
                    _ => {
                        self.heard.push(packet.data.to_vec());
                        Vec::new()
                    }
                };
                Packet { data: &data, continued: false, ..packet }.encode()
            }
        };
        self.last = Some(answer.clone());
        if !self.lost_answers.contains(&self.count) {
            self.outbox.push_back(answer);
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut [u8], _: Duration) -> io::Result<Option<usize>> {
        let Some(datagram) = self.outbox.pop_front() else { return Ok(None) };
        into[..datagram.len()].copy_from_slice(&datagram);
        Ok(Some(datagram.len()))
    }
}

const WITHIN: Duration = Duration::from_secs(60);

fn says(texts: &[&str]) -> VecDeque<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn a_download_over_a_link_that_loses_datagrams() {
    for lost in 0..10 {
        for lost_answer in 0..10 {
            let says = says(&["OKAY0x100000", "DATA00000bb8", "OKAY", "INFOwriting", "OKAY"]);
            // The number wraps on the way.
            let board =
                Board { next: 0xfffe, says, lost: vec![lost], lost_answers: vec![lost_answer], ..Board::default() };
            let pipe = UdpPipe::open(board, WITHIN).unwrap();
            assert_eq!(pipe.room(), 1020);
            let mut session = Session::new(pipe, Limits::UDP);
            assert_eq!(session.getvar("max-download-size").unwrap(), "0x100000");
            let data: Vec<u8> = (0..3000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
            session.download_all(&data).unwrap();
            session.flash("all").unwrap();
            let board = session.into_pipe().link;
            assert_eq!(board.heard.len(), 2 + 3 + 1);
            assert_eq!(board.heard[2..5].concat(), data);
            assert_eq!(board.heard[5], b"flash:all");
        }
    }
}

#[test]
fn long_commands_are_refused_and_silence_ends() {
    let pipe = UdpPipe::open(Board::default(), WITHIN).unwrap();
    let mut session = Session::new(pipe, Limits::UDP);
    let error = session.ucmd("hash sha256 60000000 4000000 h; test \"$h\" = 0123456789abcdef").unwrap_err();
    assert!(matches!(error, FastbootError::CommandTooLong { limit: 64, .. }), "{error}");

    let mut pipe = session.into_pipe();
    pipe.link.lost = (0..1_000_000).collect();
    let error = pipe.send(b"getvar:x", Duration::from_millis(1)).unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
}

#[test]
fn an_error_of_the_board_is_told() {
    let mut pipe = UdpPipe::open(Board::default(), WITHIN).unwrap();
    let sequence = pipe.sequence;
    let error = Packet { kind: Kind::Error, continued: false, sequence, data: b"no" }.encode();
    // Somebody else's datagrams and a late answer come first.
    let late = Packet { kind: Kind::Fastboot, continued: false, sequence: sequence.wrapping_sub(1), data: b"OKAY" };
    pipe.link.outbox.extend([vec![1], late.encode(), error]);
    let error = pipe.receive(&mut [0; 64], WITHIN).unwrap_err();
    assert_eq!(error.fault.to_string(), "the board says \"no\"");
}

#[test]
fn answers_that_make_no_sense_end_the_handshake() {
    #[derive(Debug)]
    struct Answers(VecDeque<Vec<u8>>);
    impl Datagrams for Answers {
        fn send(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn receive(&mut self, into: &mut [u8], _: Duration) -> io::Result<Option<usize>> {
            let Some(datagram) = self.0.pop_front() else { return Ok(None) };
            into[..datagram.len()].copy_from_slice(&datagram);
            Ok(Some(datagram.len()))
        }
    }
    let cases: [&[&[u8]]; 4] = [
        &[b"\x01\0\0\0\x05"],
        &[b"\x01\0\0\0\0\x05", b"\x02\0\0\x05\0\x01"],
        &[b"\x01\0\0\0\0\x05", b"\x02\0\0\x05\0\0\x04\0"],
        &[b"\x01\0\0\0\0\x05", b"\x02\0\0\x05\0\x01\x01\xff"],
    ];
    for answers in cases {
        let link = Answers(answers.iter().map(|answer| answer.to_vec()).collect());
        let error = UdpPipe::open(link, WITHIN).unwrap_err();
        assert!(matches!(error, UdpError::Handshake { .. }), "{error}");
    }
}

/// The same over real sockets.
#[test]
fn over_loopback() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = Address { host: "127.0.0.1".into(), port: server.local_addr().unwrap().port() };
    let board = std::thread::spawn(move || {
        let mut board = Board { says: says(&["OKAY0.4"]), ..Board::default() };
        let mut buffer = [0; 2048];
        // Query, init, command, and the question for its answer.
        while board.count < 4 {
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            Datagrams::send(&mut board, &buffer[..length]).unwrap();
            while let Some(answer) = board.outbox.pop_front() {
                server.send_to(&answer, from).unwrap();
            }
        }
    });
    let mut pipe = UdpPipe::connect(&address, WITHIN).unwrap();
    // No datagram is lost here; one too many would end the server early.
    pipe.set_retransmit(WITHIN);
    assert_eq!(Session::new(pipe, Limits::UDP).getvar("version").unwrap(), "0.4");
    board.join().unwrap();
}
