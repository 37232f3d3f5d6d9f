//! Images that turn out bad on the way: however late, no head is written, on no board.

use std::io::{Read, Write as _};

use flasher::board::BoardError;
use flasher::{FlashError, TargetState};
use virtual_imx::model::Model;

use crate::support::{MIB, Run, Scene, board, in_full};

const MODEL: Model = Model::Imx8mp;

/// Two boards get nothing that boots from this image, and are told the same.
fn never_finished(scene: &Scene, run: impl FnOnce(&mut Run), expected: impl Fn(&FlashError) -> bool, what: &str) {
    let boards = [board(MODEL, 0), board(MODEL, 1)];
    let mut job = Run::new(scene, &boards);
    run(&mut job);
    let results = job.go();
    for (result, board) in results.iter().zip(&boards) {
        match &result.error {
            Some(BoardError::Source(error)) => assert!(expected(error), "{what}: {error:?}"),
            other => panic!("{what}: {other:?}"),
        }
        assert!(
            matches!(result.state, TargetState::NoHead { .. } | TargetState::Unchanged),
            "{what}: {:?}",
            result.state
        );
        scene.assert_no_mix(board, what);
        if result.state != TargetState::Unchanged {
            assert!(board.bootable().is_err(), "{what}");
        }
    }
}

fn digest(error: &FlashError) -> bool {
    matches!(error, FlashError::RangeDigest(_))
}

#[test]
fn a_digest_that_is_wrong_at_the_very_end() {
    let mut scene = Scene::new(MODEL, 51);
    let last = scene.bytes.len() - 1;
    scene.bytes[last] ^= 1;
    // The file is as it was; the map is of what is in memory.
    never_finished(&scene, |_| {}, digest, "the last byte");
}

#[test]
fn the_map_of_another_image() {
    let (scene, other) = (Scene::new(MODEL, 52), Scene::new(MODEL, 53));
    never_finished(&scene, |run| run.map = Some(other.map()), digest, "another image's map");
}

/// Cut or damaged half-way, in every format.
#[test]
fn packed_images_that_turn_out_corrupt() {
    let scene = Scene::new(MODEL, 54);
    let zstd = {
        let mut context = zstd_safe::CCtx::create();
        context.set_parameter(zstd_safe::CParameter::ChecksumFlag(true)).unwrap();
        let mut packed = vec![0; zstd_safe::compress_bound(scene.bytes.len())];
        let len = context.compress2(&mut packed[..], &scene.bytes).unwrap();
        packed.truncate(len);
        packed
    };
    let xz = {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
        encoder.write_all(&scene.bytes).unwrap();
        encoder.finish().unwrap()
    };
    for (extension, packed) in [("gz", scene.gzip()), ("zst", zstd), ("xz", xz)] {
        let cut = packed[..packed.len() * 2 / 3].to_vec();
        let mut damaged = packed.clone();
        let middle = packed.len() * 2 / 3;
        damaged[middle..middle + 16].iter_mut().for_each(|byte| *byte ^= 0x55);
        for (how, bytes) in [("cut", cut), ("damaged", damaged)] {
            let what = format!("{extension} {how}");
            let path = scene.packed(extension, &bytes);
            // What shows when it is opened is not even begun with.
            if image::Image::open(&path, &image::Options::default()).is_err() {
                continue;
            }
            let bad = |error: &FlashError| matches!(error, FlashError::Image(_) | FlashError::RangeDigest(_));
            never_finished(&scene, |run| run.path = path.clone(), bad, &what);
            // Without digests in the map the container's own checks must do.
            never_finished(
                &scene,
                |run| {
                    run.path = path.clone();
                    run.options.check_digests = false;
                },
                |error| matches!(error, FlashError::Image(_)),
                &what,
            );
        }
    }
}

/// A raw image that somebody changes, or cuts, while it is being written.
#[test]
fn an_image_that_changes_on_the_way() {
    let scene = Scene::new(MODEL, 55);
    let file = std::fs::File::options().write(true).open(&scene.path).unwrap();
    file.set_len(2 * MIB).unwrap();
    let board = board(MODEL, 0);
    let mut run = Run::new(&scene, std::slice::from_ref(&board));
    run.map = Some(scene.map());
    let open = || image::Image::open(&scene.path, &image::Options::default());
    // It has the right length when it is looked at, and not when it is read.
    file.set_len(u64::try_from(scene.bytes.len()).unwrap()).unwrap();
    let cut = |_: usize, event: &flasher::event::Event| {
        if matches!(event, flasher::event::Event::Stage { stage: flasher::event::Stage::Boot, .. }) {
            file.set_len(2 * MIB).unwrap();
        }
    };
    let result = run.fed(&open, &cut).remove(0);
    if let Some(error) = &result.error {
        assert!(matches!(error, BoardError::Source(_)), "{}", in_full(error));
        assert!(board.bootable().is_err() || result.state == TargetState::Unchanged);
    } else {
        panic!("half an image was taken for a whole one");
    }
}

/// A thread of ours that panics, as a defect would make it.
#[test]
fn a_board_whose_thread_panics_is_one_board() {
    let scene = Scene::new(MODEL, 56);
    let boards = [board(MODEL, 0), board(MODEL, 1)];
    let run = Run::new(&scene, &boards);
    let results = run.watched(&|board: usize, event: &flasher::event::Event| {
        let writes = matches!(event, flasher::event::Event::Stage { stage: flasher::event::Stage::Write, .. });
        assert!(!(board == 0 && writes), "this observer panics");
    });
    // The board's own thread did: it is told so, and the other goes on.
    assert!(matches!(results[0].error, Some(BoardError::Panicked)), "{:?}", results[0].error);
    crate::support::assert_good(&results[1], "the other");
    assert!(scene.is_on(&boards[1]));
}

/// Bytes that come one after the other, and what happens when some have come.
struct Pipe {
    bytes: Vec<u8>,
    at: usize,
    end: usize,
    panics: bool,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let len = into.len().min(self.end - self.at);
        if len == 0 && self.at < self.bytes.len() {
            assert!(!self.panics, "this source panics");
            return Err(std::io::Error::other("a cable was pulled"));
        }
        into[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

/// A source that cannot be read twice, fails on the way, or panics there, as a defect in a decoder would.
#[test]
fn a_source_that_ends_on_the_way() {
    let scene = Scene::new(MODEL, 57);
    let whole = scene.bytes.len();
    // More than what is looked at beforehand is needed for a failure on the way.
    for (end, panics) in [(whole, false), (whole - 9000, false), (whole - 9000, true)] {
        let boards = [board(MODEL, 0), board(MODEL, 1)];
        let run = Run::new(&scene, &boards);
        let open = || {
            let pipe = Pipe { bytes: scene.bytes.clone(), at: 0, end, panics };
            image::Image::from_reader("a pipe", Box::new(pipe), &image::Options::default())
        };
        let results = run.fed(&open, &|_: usize, _: &flasher::event::Event| {});
        for (result, board) in results.iter().zip(&boards) {
            if end == whole {
                crate::support::assert_good(result, "a pipe");
                assert!(scene.is_on(board));
                continue;
            }
            match &result.error {
                Some(BoardError::Source(error)) if panics => {
                    assert!(matches!(**error, FlashError::Panicked { .. }), "{error}");
                }
                Some(BoardError::Source(error)) => assert!(matches!(**error, FlashError::Image(_)), "{error}"),
                other => panic!("{other:?}"),
            }
            scene.assert_no_mix(board, "a pipe");
        }
    }
}
