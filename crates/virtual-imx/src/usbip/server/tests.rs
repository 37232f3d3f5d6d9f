use std::io::{Read, Write};
use std::time::Duration;

use super::super::Address;
use super::super::operation::{read_imported, read_listed};
use super::super::wire::{Command, DONE, Direction, HEADER_BYTES, Reply, Submit, UNLINKED};
use super::*;
use crate::board::Setup;
use crate::model::{Model, Tree};

fn list(stream: &mut Stream) -> Vec<Record> {
    stream.write_all(&Request::List.encode()).unwrap();
    read_listed(stream).unwrap()
}

fn import(stream: &mut Stream, name: &str) -> Result<Record, u32> {
    stream.write_all(&Request::Import(name.to_owned()).encode()).unwrap();
    read_imported(stream).unwrap()
}

fn send(stream: &mut Stream, command: Command, data: &[u8]) {
    stream.write_all(&command.encode()).unwrap();
    stream.write_all(data).unwrap();
}

fn reply(stream: &mut Stream) -> Reply {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).unwrap();
    Reply::decode(&header).unwrap()
}

fn submit(sequence: u32, direction: Direction, length: u32) -> Command {
    Command::Submit(Submit { sequence, device: 1, direction, endpoint: 1, flags: 0, length, setup: [0; 8] })
}

/// Runs `host` against a server on a socket in the filesystem, then ends it.
fn with_server(boards: Vec<Board>, host: impl FnOnce(&Server, &Address)) {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("socket"));
    let listener = address.listen().unwrap();
    assert_eq!(listener.address().unwrap(), address);
    let (server, stop) = (Server::new(boards), Stop::new());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| server.run(&listener, &stop));
        // A failed expectation must not leave the server waiting.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| host(&server, &address)));
        stop.set();
        running.join().unwrap().unwrap();
        result.unwrap();
    });
    assert_eq!(server.given(), 0);
}

fn boards() -> (Board, Board) {
    let setup = |path: &str, uid| Setup { path: path.to_owned(), uid, ..Setup::new(Model::Imx8mp, Tree::Nxp) };
    let (a, b) = (Board::new(setup("1-1", 1)), Board::new(setup("1-2.3", 2)));
    b.start_uboot();
    (a, b)
}

#[test]
fn boards_are_listed_given_away_once_and_come_again_with_another_number() {
    let (a, b) = boards();
    with_server(vec![a, b.clone()], |server, address| {
        let mut asking = address.connect().unwrap();
        let records = list(&mut asking);
        let names: Vec<_> = records.iter().map(|record| (record.name.as_str(), record.ids[1])).collect();
        assert_eq!(names, [("1-1", 0x0146), ("1-2.3", 0x0152)]);
        assert_eq!((records[0].note("serial"), records[1].note("serial")), (None, Some("0000000000000002")));
        assert_eq!((records[1].speed, &records[1].interfaces[..]), (3, &[[0xff, 0x42, 3]][..]));
        assert_eq!(import(&mut asking, "1-9"), Err(NO_DEVICE));

        let mut stream = address.connect().unwrap();
        let given = import(&mut stream, "1-2.3").unwrap();
        assert_eq!(given.number, records[1].number);
        assert_eq!(import(&mut asking, "1-2.3"), Err(BUSY));
        assert_eq!(server.given(), 1);
        send(&mut stream, submit(1, Direction::In, 64), &[]);
        send(&mut stream, submit(2, Direction::Out, 14), b"getvar:version");
        assert_eq!(reply(&mut stream), Reply::Submitted { sequence: 2, status: DONE, actual: 14 });
        assert_eq!(reply(&mut stream), Reply::Submitted { sequence: 1, status: DONE, actual: 7 });
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"OKAY0.4");
        // A transfer that nothing comes of is called off while it waits.
        send(&mut stream, submit(3, Direction::In, 64), &[]);
        send(&mut stream, Command::Unlink { sequence: 4, device: 1, target: 3 }, &[]);
        assert_eq!(reply(&mut stream), Reply::Unlinked { sequence: 4, status: UNLINKED });

        // The board goes, and the connection with it.
        b.unplug();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(list(&mut asking).len(), 1);
        b.plug("1-5");
        let back = list(&mut asking);
        assert_eq!((back[1].name.as_str(), back[1].ids), ("1-5", records[1].ids));
        assert_ne!(back[1].number, records[1].number);
    });
}

#[test]
fn what_makes_no_sense_ends_the_connection_alone() {
    let (a, b) = boards();
    with_server(vec![a, b], |server, address| {
        let mut stream = address.connect().unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        // The rest may not have been read when it is closed.
        let _ = stream.read(&mut [0; 1]);
        let mut stream = address.connect().unwrap();
        import(&mut stream, "1-1").unwrap();
        stream.write_all(&[9; HEADER_BYTES]).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        let mut other = address.connect().unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while server.given() > 0 {
            assert!(std::time::Instant::now() < until);
            std::thread::yield_now();
        }
        assert!(import(&mut other, "1-1").is_ok());
    });
}
