use super::*;
use crate::board::{Board, BootMode, Setup, Stage};
use crate::emmc::{Area, Defect};
use crate::fault::script;
use crate::link::{Link, LinkFault};
use crate::model::{Model, Tree};
use crate::sample::pattern;

const WITHIN: Duration = Duration::from_secs(10);

fn fbk(timing: Timing) -> (Board, Link) {
    let board = Board::new(Setup { timing, ..Setup::new(Model::Imx8mm, Tree::Nxp) });
    board.start_fbk();
    let link = board.open().unwrap();
    (board, link)
}

fn answer(link: &Link) -> String {
    String::from_utf8(link.receive(64, WITHIN).unwrap()).unwrap()
}

fn say(link: &Link, line: &str) -> String {
    link.send(line.as_bytes(), WITHIN).unwrap();
    answer(link)
}

/// All answers up to OKAY or FAIL, joined by bars.
fn all(link: &Link, line: &str) -> String {
    let mut said = vec![say(link, line)];
    while said.last().is_some_and(|last| last.starts_with("INFO")) {
        said.push(answer(link));
    }
    said.join("|")
}

fn give(link: &Link, data: &[u8]) -> String {
    let announced = say(link, &format!("donwload:{:08X}", data.len()));
    if announced != format!("DATA{:08X}", data.len()) {
        return announced;
    }
    link.send(data, WITHIN).unwrap();
    answer(link)
}

fn take(link: &Link, path: &str) -> (String, Vec<u8>) {
    let size = say(link, &format!("ROpen:{path}"));
    let mut bytes = Vec::new();
    loop {
        let announced = say(link, "upload");
        let n = usize::from_str_radix(announced.strip_prefix("DATA").unwrap(), 16).unwrap();
        if n > 0 {
            bytes.extend(link.receive(n, WITHIN).unwrap());
        }
        assert_eq!(answer(link), "OKAY");
        if n == 0 {
            assert_eq!(say(link, "Close"), "OKAY");
            return (size, bytes);
        }
    }
}

#[test]
fn it_is_a_device_of_its_own() {
    let (board, link) = fbk(Timing::instant());
    let device = link.device();
    assert_eq!((device.ids.vendor, device.ids.product, device.class[0]), (0x066f, 0x9bff, 0xff));
    let addresses: Vec<_> = device.endpoints.iter().map(|endpoint| endpoint.address).collect();
    assert_eq!(addresses, [0x81, 0x02]);
    assert_eq!(say(&link, "UCmd:reboot"), "OKAY");
    assert_eq!(board.wait_for_device(Some(device.address), WITHIN).unwrap().ids.product, 0x0134);
}

#[test]
fn files_are_written_and_read_and_not_cut() {
    let (board, link) = fbk(Timing::instant());
    let data = pattern(150_000, 3);
    assert_eq!(say(&link, "WOpen:/tmp"), "FAILDIR");
    assert_eq!(say(&link, "WOpen:/none/x"), "FAIL");
    assert_eq!(say(&link, "donwload:00000001"), "FAIL");
    assert_eq!(say(&link, "WOpen:/tmp//x"), "OKAY");
    assert_eq!([give(&link, &data[..100_000]), give(&link, &data[100_000..])], ["OKAY", "OKAY"]);
    assert_eq!(say(&link, "Close"), "OKAY");
    assert!(board.file("/tmp/x").unwrap() == data);
    assert_eq!([say(&link, "WOpen:/tmp/x"), give(&link, b"new"), say(&link, "Close")], ["OKAY"; 3]);
    let (size, back) = take(&link, "/tmp/x");
    assert_eq!(size, "OKAY00000000000249F0");
    assert!(back.starts_with(b"new") && back[3..] == data[3..]);
    assert_eq!(say(&link, "ROpen:/none"), "FAIL");
    // What it does not know it does not answer; "download" is such a word.
    link.send(b"download:00000001", WITHIN).unwrap();
    assert_eq!(link.receive(64, WITHIN).unwrap_err().fault, LinkFault::TimedOut);
}

#[test]
fn cards_are_devices() {
    let (board, link) = fbk(Timing::instant());
    let data = pattern(40_000, 5);
    assert_eq!([say(&link, "WOpen:/dev/mmcblk2"), give(&link, &data), say(&link, "Close")], ["OKAY"; 3]);
    assert!(board.emmc(|card| card.peek(Area::User, 0, data.len())).unwrap() == data);
    // A device has no size; what comes is a stream.
    assert_eq!(say(&link, "ROpen:/dev/mmcblk2"), "OKAY0000000000000000");
    assert_eq!(say(&link, "Close"), "OKAY");
    // Boot partitions are not to be written before somebody says so.
    assert_eq!(say(&link, "WOpen:/dev/mmcblk2boot0"), "FAIL");
    assert_eq!(say(&link, "UCmd:echo 0 > /sys/block/mmcblk2boot0/force_ro"), "OKAY");
    assert_eq!([say(&link, "WOpen:/dev/mmcblk2boot0"), give(&link, &data[..700])], ["OKAY"; 2]);
    assert!(board.emmc(|card| card.peek(Area::Boot0, 0, 700)).unwrap() == data[..700]);
    assert_eq!(say(&link, "WOpen:/dev/mmcblk7"), "FAIL");
    board.emmc(|card| card.add_defect(Area::User, 0..8, Defect::Write));
    assert_eq!([say(&link, "WOpen:/dev/mmcblk2"), give(&link, &data)], ["OKAY", "FAIL"]);
}

#[test]
fn a_program_takes_a_stream() {
    let (board, link) = fbk(Timing::instant());
    let data = pattern(100_000, 7);
    assert_eq!(say(&link, "WOpen:-"), "FAIL");
    assert_eq!(say(&link, "ACmd:dd of=/dev/mmcblk2 bs=1M seek=2"), "OKAY");
    assert_eq!(say(&link, "WOpen:-"), "OKAY");
    for piece in data.chunks(0x4000) {
        assert_eq!(give(&link, piece), "OKAY");
    }
    assert_eq!([say(&link, "Close"), all(&link, "Sync:")], ["OKAY"; 2]);
    assert!(board.emmc(|card| card.peek(Area::User, 2 << 20, data.len())).unwrap() == data);
    // One that ends before all has come; one that fails; one that ended well at once.
    assert_eq!(say(&link, "ACmd:dd of=/tmp/x bs=1 count=5"), "OKAY");
    assert_eq!([say(&link, "WOpen:-"), give(&link, b"123"), give(&link, b"456")], ["OKAY", "OKAY", "FAILEPIPE"]);
    assert_eq!((all(&link, "Sync"), board.file("/tmp/x").unwrap()), ("OKAY".to_owned(), b"12345".to_vec()));
    assert_eq!([say(&link, "ACmd:tar -x"), all(&link, "Sync:")], ["FAIL"; 2]);
    assert_eq!(say(&link, "ACmd:true"), "OKAY");
    assert_eq!([say(&link, "WOpen:-"), give(&link, b"1")], ["OKAY", "FAILEPIPE"]);
    // One that works on its input when that is complete; and its output.
    assert_eq!([say(&link, "ACmd:cat | head -c 4"), say(&link, "WOpen:-"), give(&link, b"abcdef")], ["OKAY"; 3]);
    assert_eq!(all(&link, "Sync:"), "INFOabcd|OKAY");
    assert_eq!(say(&link, "ACmd:cat /tmp/x"), "OKAY");
    assert_eq!(take(&link, "-"), ("OKAY".to_owned(), b"12345".to_vec()));
}

#[test]
fn lines_are_run_and_their_output_comes_in_frames() {
    let (_, link) = fbk(Timing::instant());
    for (line, said) in [
        ("echo hello", "INFOhello\n|OKAY"),
        ("false", "FAIL"),
        ("exit 3", "FAIL"),
        ("false || echo a && echo b", "INFOa\nb\n|OKAY"),
        ("false | true", "OKAY"),
        ("true | false; echo x > /tmp/f; cat /tmp/f", "INFOx\n|OKAY"),
        ("echo y >> /tmp/f && cat /tmp/f", "INFOx\ny\n|OKAY"),
        ("[ -e /dev/mmcblk2 ] && test ! -e /dev/mmcblk3", "OKAY"),
        ("mkdir /tmp/d; test -d /tmp/d && rm /tmp/f && ! true", "FAIL"),
        // Killed by a signal, which passes for success.
        ("kill -9 $$", "OKAY"),
        ("no-such-program", "FAIL"),
        ("echo 'unfinished", "FAIL"),
        ("dd if=/dev/zero", "FAIL"),
    ] {
        assert_eq!(all(&link, &format!("UCmd:{line}")), said, "{line}");
    }
    let long = all(&link, &format!("UCmd:echo {}", "z".repeat(100)));
    let frames: Vec<_> = long.split('|').map(str::len).collect();
    assert_eq!(frames, [64, 45, 4]);
    let digest = all(&link, "UCmd:dd if=/dev/mmcblk2 bs=512 count=1 | sha256sum");
    assert!(digest.starts_with("INFO076a27c79e5ace2a3d47f9dd2e83e4ff6ea8872b3c2218f66c92b89b55f3"), "{digest}");
}

#[test]
fn long_work_shows_that_it_lives() {
    let (board, link) = fbk(Timing { card_write: 1 << 20, ..Timing::instant() });
    let start = board.now();
    assert_eq!(all(&link, "UCmd:sleep 1").matches("INFO|").count(), 19);
    assert_eq!(board.now() - start, Duration::from_secs(1));
    assert_eq!(say(&link, "WOpen:/dev/mmcblk2"), "OKAY");
    assert_eq!(say(&link, "donwload:00080000"), "DATA00080000");
    let start = board.now();
    link.send(&[1; 0x8_0000], WITHIN).unwrap();
    let answers: Vec<_> = (0..5).map(|_| answer(&link)).collect();
    assert_eq!(answers, ["INFO", "INFO", "INFO", "INFO", "OKAY"]);
    assert_eq!(board.now() - start, Duration::from_millis(500));
}

#[test]
fn faults_happen_here_too() {
    let (board, link) = fbk(Timing::instant());
    let faults = "fbk cmd 1 UCmd fail no room; fbk cmd 1 WOpen hang; fbk at 3000 unplug back 500";
    board.add_faults(script(faults).unwrap());
    assert_eq!(say(&link, "UCmd:true"), "FAILno room");
    assert_eq!(say(&link, "UCmd:echo x > /tmp/x"), "OKAY");
    link.send(&[b'#'; 4000], WITHIN).unwrap_err();
    let link = {
        board.wait_for_device(Some(link.device().address), WITHIN).unwrap();
        board.open().unwrap()
    };
    // Only the cable was pulled.
    assert_eq!((board.stage(), board.file("/tmp/x")), (Stage::Fbk, Some(b"x\n".to_vec())));
    link.send(b"WOpen:/tmp/x", WITHIN).unwrap();
    assert_eq!(link.receive(64, WITHIN).unwrap_err().fault, LinkFault::TimedOut);

    let (board, link) = fbk(Timing::instant());
    board.add_faults(script("fbk cmd 1 WOpen cut 1024 back 100").unwrap());
    assert_eq!(say(&link, "WOpen:/dev/mmcblk2"), "OKAY");
    say(&link, "donwload:00001000");
    link.send(&[7; 4096], WITHIN).unwrap();
    assert_eq!(link.receive(64, WITHIN).unwrap_err().fault, LinkFault::Gone);
    assert_eq!(board.wait_for_device(None, WITHIN).unwrap().ids.product, 0x0134);
    assert_eq!(board.emmc(|card| card.peek(Area::User, 1023, 2)).unwrap(), [7, 0]);
}

#[test]
fn u_boot_boots_it() {
    let setup = Setup { fbk: true, boot: BootMode::Serial, ..Setup::new(Model::Imx8mp, Tree::Nxp) };
    let board = Board::new(setup);
    board.start_uboot();
    let link = board.open().unwrap();
    assert_eq!(say(&link, "ACmd:booti ${loadaddr} - 43000000"), "OKAY");
    let device = board.wait_for_device(Some(link.device().address), WITHIN).unwrap();
    assert_eq!((device.ids.vendor, board.stage()), (0x066f, Stage::Fbk));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]
    #[test]
    fn no_line_panics(line in "[-a-z0-9 ;&|$'\"\\\\<>/=.#]{0,60}") {
        let mut system = Daemon::new(BTreeMap::new(), Timing::default()).system;
        let _ = shell::run(&mut system, &line, b"input");
        let _ = shell::copying(&mut system, &line);
    }

    #[test]
    fn no_conversation_panics(words in proptest::collection::vec(proptest::sample::select(vec![
        "UCmd:echo a", "ACmd:cat", "ACmd:dd of=/tmp/x", "ACmd:true", "Sync:", "WOpen:-", "WOpen:/tmp/x", "ROpen:-", "ROpen:/tmp/x",
        "donwload:00000004", "donwload:0", "donwload:FFFFFFFFF", "upload", "Close", "abcd", "UCmd:cat /tmp/x", "",
    ]), 0..20)) {
        let mut daemon = Daemon::new(BTreeMap::new(), Timing::default());
        for word in words {
            let _ = daemon.request(Duration::ZERO, word.as_bytes());
            let _ = daemon.reply(Duration::from_secs(1), 64);
        }
    }
}
