use super::*;
use crate::board::Setup;
use crate::fault::script;
use crate::model::{Model, Tree};
use crate::timing::Timing;

struct Rig {
    board: Board,
    urbs: Urbs,
    answers: Vec<(Reply, Vec<u8>)>,
    sequence: u32,
}

impl Rig {
    fn new(setup: Setup, uboot: bool, faults: &str) -> Self {
        let board = Board::new(setup);
        if uboot {
            board.start_uboot();
        }
        board.add_faults(script(faults).unwrap());
        let urbs = Urbs::new(board.clone(), board.device().unwrap());
        Self { board, urbs, answers: Vec::new(), sequence: 0 }
    }

    fn uboot(faults: &str) -> Self {
        Self::new(Setup::new(Model::Imx8mp, Tree::Nxp), true, faults)
    }

    fn submit(&mut self, endpoint: u8, setup: [u8; 8], data: Result<&[u8], u32>, flags: u32) -> u32 {
        self.sequence += 1;
        let (direction, length, data) = match data {
            Ok(data) => (Direction::Out, u32::try_from(data.len()).unwrap(), data),
            Err(length) => (Direction::In, length, &[][..]),
        };
        let sequence = self.sequence;
        let submit = Submit { sequence, device: 1, direction, endpoint, flags, length, setup };
        let answers = &mut self.answers;
        self.urbs.take(Command::Submit(submit), data.to_vec(), &mut |reply, data| answers.push((reply, data.to_vec())));
        sequence
    }

    fn out(&mut self, data: &[u8]) -> u32 {
        self.submit(1, [0; 8], Ok(data), 0)
    }

    fn input(&mut self, length: u32) -> u32 {
        self.submit(1, [0; 8], Err(length), 0)
    }

    fn unlink(&mut self, target: u32) -> u32 {
        self.sequence += 1;
        let (sequence, answers) = (self.sequence, &mut self.answers);
        let command = Command::Unlink { sequence, device: 1, target };
        self.urbs.take(command, Vec::new(), &mut |reply, data| answers.push((reply, data.to_vec())));
        sequence
    }

    /// Works until nothing is left to wait for but the host.
    fn work(&mut self) -> Next {
        loop {
            let answers = &mut self.answers;
            match self.urbs.work(&mut |reply, data| answers.push((reply, data.to_vec()))) {
                Next::Until(when) => self.board.pass_until(when),
                other => return other,
            }
        }
    }

    fn take(&mut self) -> Vec<(Reply, Vec<u8>)> {
        std::mem::take(&mut self.answers)
    }
}

fn over(sequence: u32, status: i32, actual: usize) -> (Reply, Vec<u8>) {
    (Reply::Submitted { sequence, status, actual: u32::try_from(actual).unwrap() }, Vec::new())
}

fn came(sequence: u32, data: &[u8]) -> (Reply, Vec<u8>) {
    (Reply::Submitted { sequence, status: DONE, actual: u32::try_from(data.len()).unwrap() }, data.to_vec())
}

#[test]
fn what_comes_in_is_waited_for() {
    let mut rig = Rig::uboot("");
    let (first, second) = (rig.input(64), rig.input(4096));
    assert_eq!(rig.work(), Next::Idle);
    assert_eq!(rig.take(), []);
    let command = rig.out(b"getvar:version");
    rig.work();
    assert_eq!(rig.take(), [over(command, DONE, 14), came(first, b"OKAY0.4")]);
    let (command, empty) = (rig.out(b"getvar:product"), rig.out(b""));
    rig.work();
    let answers = rig.take();
    assert_eq!(answers[..2], [over(command, DONE, 14), over(empty, DONE, 0)]);
    assert!(
        matches!(&answers[2], (Reply::Submitted { sequence, .. }, data) if *sequence == second && data.starts_with(b"OKAY"))
    );
}

#[test]
fn pending_transfers_are_called_off_and_others_are_not() {
    let mut rig = Rig::uboot("uboot cmd 1 UCmd hang");
    let first = rig.input(64);
    let command = rig.out(b"UCmd:true");
    assert_eq!(rig.work(), Next::Idle);
    assert_eq!(rig.take(), [over(command, DONE, 9)]);
    let stuck = rig.out(&[0; 100]);
    assert_eq!(rig.work(), Next::Idle);
    for target in [first, stuck] {
        let sequence = rig.unlink(target);
        assert_eq!(rig.take(), [(Reply::Unlinked { sequence, status: UNLINKED }, Vec::new())]);
    }
    // Twice, something answered long ago, and something that never was.
    for target in [first, command, 999] {
        let sequence = rig.unlink(target);
        assert_eq!(rig.take(), [(Reply::Unlinked { sequence, status: DONE }, Vec::new())]);
    }
    // Endpoint 0 is answered all the same.
    let status = rig.submit(0, [0x80, 0, 0, 0, 0, 0, 2, 0], Err(2), 0);
    assert_eq!(rig.take(), [came(status, &[1, 0])]);
}

#[test]
fn a_megabyte_goes_in_one_transfer_and_comes_in_one() {
    let mut rig = Rig::uboot("");
    let data = crate::sample::pattern(1 << 20, 3);
    let commands = [rig.out(b"download:00100000"), rig.out(&data)];
    rig.work();
    assert_eq!(rig.take(), [over(commands[0], DONE, 17), over(commands[1], DONE, 1 << 20)]);
    let answers = [rig.input(64), rig.input(64)];
    rig.work();
    assert_eq!(rig.take(), [came(answers[0], b"DATA00100000"), came(answers[1], b"OKAY")]);
    // NXP's upload sends 4 KiB at a time, which are whole packets of one transfer.
    let upload = rig.out(b"upload");
    let (head, all, last) = (rig.input(64), rig.input(1 << 20), rig.input(64));
    rig.work();
    let received = rig.take();
    assert_eq!(received[..2], [over(upload, DONE, 6), came(head, b"DATA00100000")]);
    assert!(received[2] == came(all, &data));
    assert_eq!(received[3], came(last, b"OKAY"));
}

#[test]
fn stalls_stay_until_cleared() {
    let mut rig = Rig::uboot("uboot cmd 1 flash stall");
    let command = rig.out(b"flash:all");
    rig.work();
    assert_eq!(rig.take(), [over(command, DONE, 9)]);
    let pending = [rig.input(64), rig.input(64)];
    rig.work();
    let later = rig.input(64);
    assert_eq!(rig.take(), [over(pending[0], STALLED, 0), over(pending[1], STALLED, 0), over(later, STALLED, 0)]);
    let clear = rig.submit(0, [0x02, 1, 0, 0, 0x81, 0, 0, 0], Ok(&[]), 0);
    let (command, answer) = (rig.out(b"getvar:version"), rig.input(64));
    rig.work();
    assert_eq!(rig.take(), [over(clear, DONE, 0), over(command, DONE, 14), came(answer, b"OKAY0.4")]);
}

#[test]
fn reports_go_by_way_of_endpoint_0_and_come_by_their_own() {
    let mut rig = Rig::new(Setup::new(Model::Imx8mm, Tree::Nxp), false, "rom at 40 stall");
    let report = |value: u8, length: u8| [0x21, 9, value, 2, 0, 0, length, 0];
    let status = [1, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let asked = rig.submit(0, report(1, 17), Ok(&status), 0);
    let (hab, first) = (rig.input(65), rig.input(64));
    rig.work();
    let second = rig.input(64);
    rig.work();
    let answers = rig.take();
    assert_eq!(answers[..2], [over(asked, DONE, 17), came(hab, &[3, 0x56, 0x78, 0x78, 0x56])]);
    // A report of 65 bytes in two transfers of 64, for a host that asks so.
    assert_eq!((answers[2].1.len(), &answers[3]), (64, &came(second, &[0])));
    assert_eq!(answers[2].0, Reply::Submitted { sequence: first, status: DONE, actual: 64 });
    // A stall of endpoint 0 is over with the next request.
    let requests = [rig.submit(0, report(1, 17), Ok(&status), 0), rig.submit(0, report(1, 17), Ok(&status), 0)];
    rig.work();
    let requests = [requests[0], requests[1], rig.submit(0, report(1, 17), Ok(&status), 0)];
    rig.work();
    let statuses: Vec<_> = rig.take().into_iter().map(|(reply, _)| reply).collect();
    let stalled = statuses.iter().filter(|reply| matches!(reply, Reply::Submitted { status: STALLED, .. })).count();
    assert_eq!((statuses.len(), stalled, rig.urbs.function.is_halted(0)), (requests.len(), 1, false));
}

#[test]
fn an_unplugged_board_is_gone_and_a_short_answer_may_be_an_error() {
    let mut rig = Rig::uboot("uboot at 1000 unplug back 500");
    let answer = rig.submit(1, [0; 8], Err(64), SHORT_NOT_OK);
    rig.out(b"getvar:version");
    rig.work();
    assert_eq!(rig.take()[1].0, Reply::Submitted { sequence: answer, status: SHORT, actual: 7 });
    rig.out(&[0; 2000]);
    assert_eq!(rig.work(), Next::Gone);
    assert_eq!(rig.take(), []);
}

#[test]
fn a_new_configuration_ends_a_download() {
    let mut rig = Rig::uboot("");
    rig.out(b"download:00001000");
    rig.input(64);
    rig.out(&[0; 100]);
    rig.work();
    rig.take();
    let configured = rig.submit(0, [0, 9, 1, 0, 0, 0, 0, 0], Ok(&[]), 0);
    let (command, answer) = (rig.out(b"getvar:version"), rig.input(64));
    rig.work();
    assert_eq!(rig.take(), [over(configured, DONE, 0), over(command, DONE, 14), came(answer, b"OKAY0.4")]);
}

#[test]
fn endpoints_that_are_not_there_stall() {
    let mut rig = Rig::new(Setup::new(Model::Imx8mm, Tree::Nxp), false, "");
    let (out, other) = (rig.out(b"x"), rig.submit(2, [0; 8], Err(64), 0));
    assert_eq!(rig.take(), [over(out, STALLED, 0), over(other, STALLED, 0)]);
}

/// Bytes that have been taken from the host are not held up by time that only the board needs.
#[test]
fn work_takes_the_boards_time() {
    let timing = Timing { bus: 1_000_000, ..Timing::instant() };
    let setup = Setup { timing, ..Setup::new(Model::Imx8mp, Tree::Nxp) };
    let mut rig = Rig::new(setup, true, "");
    let start = rig.board.now();
    rig.out(b"download:00100000");
    rig.out(&vec![0; 1 << 20]);
    rig.input(64);
    rig.input(64);
    assert_eq!(rig.work(), Next::Idle);
    assert_eq!(rig.take().len(), 4);
    let took = rig.board.now() - start;
    assert!(took > Duration::from_millis(1048) && took < Duration::from_millis(1050), "{took:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// Whatever a host asks, each number is answered once at most, and never with more than was asked for.
    #[test]
    fn no_host_breaks_it(
        uboot: bool,
        asked in proptest::collection::vec((0u8..3, proptest::prelude::any::<bool>(), 0u32..700, proptest::array::uniform8(0u8..34), 0u8..4), 0..30),
    ) {
        let mut rig = Rig::new(Setup::new(Model::Imx8mm, Tree::Nxp), uboot, "");
        let mut lengths = std::collections::BTreeMap::new();
        for (endpoint, out, length, setup, unlink) in asked {
            if unlink == 0 {
                rig.unlink(u32::from(setup[0]));
            }
            let data = vec![b'a'; usize::try_from(length).unwrap()];
            let sequence = rig.submit(endpoint, setup, if out { Ok(&data) } else { Err(length) }, 0);
            lengths.insert(sequence, length);
            if rig.work() == Next::Gone {
                break;
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        for (reply, data) in rig.take() {
            match reply {
                Reply::Submitted { sequence, actual, .. } => {
                    proptest::prop_assert!(seen.insert(sequence));
                    proptest::prop_assert!(actual <= lengths[&sequence]);
                    proptest::prop_assert!(data.is_empty() || data.len() == usize::try_from(actual).unwrap());
                }
                Reply::Unlinked { sequence, .. } => proptest::prop_assert!(seen.insert(sequence)),
            }
        }
    }
}
