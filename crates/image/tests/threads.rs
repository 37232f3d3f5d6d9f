//! A reader that is dropped takes its threads with it. A test binary of its own, so that no other test's threads count.
#![allow(clippy::unwrap_used, reason = "tests say what they expect by unwrapping")]

mod common;

use std::time::Duration;

use common::{PACKINGS, SOURCES, open, sample};
use image::{Options, Wanted};

/// How many threads of this process decode.
fn decoding() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.trim() == "decode").count()
}

#[test]
fn threads_end_with_their_reader() {
    let data = sample(2_000_000);
    let mut parallel = 0;
    for packing in PACKINGS {
        let packed = (packing.pack)(&data);
        for source in SOURCES {
            for read in [0, 10, 1_000_000] {
                let options = Options { threads: 3.try_into().unwrap(), ..Options::default() };
                let mut reader = open(&packed, source, &options).unwrap().read(Wanted::All).unwrap();
                reader.read_exact(&mut vec![0; read]).unwrap();
                parallel += usize::from(decoding() > 1);
                drop(reader);
                // A thread that has been joined may be listed a moment longer.
                let gone = (0..200).any(|_| decoding() == 0 || (std::thread::sleep(Duration::from_millis(5)), false).1);
                assert!(gone, "{} {source:?} after {read} bytes", packing.name);
            }
        }
    }
    // xz by blocks, zstd by frames, bzip2 from files and streams.
    assert!(parallel >= 12, "{parallel}");
}
