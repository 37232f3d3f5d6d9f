//! Boards: what is on the card afterwards, in which order it came there, and what is left when things fail.
//!
//! The boards are virtual, in process and in simulated time; each begins full of old data.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what they expect by unwrapping")]

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bmap::{BlockMap, BlockRange, BlockSize, Hasher, MappedRange};
use flasher::board::{
    Before, BoardError, BoardResult, Boards, BootPart, Connect, Connected, FlashJob, FlashOptions, Form, Loader,
    LoaderJob, PackError, PackJob, Profile, Proof, Source, Sum, Then, To, Which, Wire, Wishes, flash, flash_loader,
    make_pack, open_pack,
};
use flasher::event::{Event, Observer};
use flasher::plan::{HolePolicy, Plan};
use flasher::{Cancel, FlashError, TargetState};
use image::Image;
use imx_usb::boot::BootImage;
use imx_usb::bus::Port;
use imx_usb::chips::ChipTable;
use virtual_imx::board::{Board, Setup};
use virtual_imx::emmc::{Area, Geometry, PartConf};
use virtual_imx::fault::script;
use virtual_imx::host::HostBus;
use virtual_imx::model::Model;
use virtual_imx::sample::{flash_bin, pattern};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 40 * MIB - 100;
/// Where the image has data: table, gap, loader, and places behind.
const DATA: [(u64, u64); 6] = [
    (0, 8192),
    (16 << 10, 20 << 10),
    (MIB, 7 * MIB),
    (9 * MIB, 9 * MIB + 4096),
    (16 * MIB, 30 * MIB),
    (SIZE - 20_380, SIZE),
];
/// The last of `DATA` begins at a block.
const _: () = assert!((SIZE - 20_380).is_multiple_of(4096));

/// An image file with holes and with the loader of a board in it, and its bytes.
fn image(folder: &Path, seed: u8, model: Model) -> (PathBuf, Vec<u8>) {
    let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
    for (n, (start, end)) in (0_u8..).zip(DATA) {
        let (start, end) = (usize::try_from(start).unwrap(), usize::try_from(end).unwrap());
        bytes[start..end].copy_from_slice(&pattern(end - start, seed.wrapping_add(n)));
    }
    // One word over and over, and bytes that do not pack.
    bytes[2 << 20..3 << 20].fill(0x5a);
    let mut random = 88_172_645_463_325_252_u64 + u64::from(seed);
    for byte in &mut bytes[20 << 20..25 << 20] {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        *byte = u8::try_from(random & 0xff).unwrap();
    }
    let loader = usize::try_from(model.loader_offset(false)).unwrap();
    let flash = flash_bin(model, seed);
    bytes[loader..loader + flash.len()].copy_from_slice(&flash);
    let path = folder.join(format!("disk-{seed}.wic"));
    let file = File::create(&path).unwrap();
    file.set_len(SIZE).unwrap();
    for (start, end) in mapped(model) {
        file.write_all_at(&bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()], start).unwrap();
    }
    (path, bytes)
}

fn mapped(model: Model) -> Vec<(u64, u64)> {
    let loader = model.loader_offset(false) / 4096 * 4096;
    let len = u64::try_from(flash_bin(model, 0).len()).unwrap() + 4096;
    let mut data = DATA.to_vec();
    data.insert(2, (loader, (loader + len).next_multiple_of(4096)));
    data
}

fn map(bytes: &[u8], model: Model) -> BlockMap {
    let range = |(start, end): (u64, u64)| {
        let part = &bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
        let digest = Some(Hasher::digest(bmap::Algorithm::Sha256, part));
        MappedRange { blocks: BlockRange::new(start / 4096, end.div_ceil(4096) - 1).unwrap(), digest }
    };
    BlockMap::new(SIZE, BlockSize::DEFAULT, mapped(model).into_iter().map(range).collect()).unwrap()
}

/// Boards on a virtual bus, with a boot image; `change` takes away what their U-Boots can do.
struct Plain {
    bus: HostBus,
    ports: Vec<Port>,
    model: Model,
    change: fn(&mut Profile),
}

impl Plain {
    fn new(boards: &[Board], model: Model) -> Self {
        let ports = boards.iter().map(|board| board.device().unwrap().path.parse().unwrap()).collect();
        Self { bus: HostBus::new(boards.to_vec()), ports, model, change: |_| {} }
    }
}

/// [`Boards`], with a profile that is changed on the way.
struct Changed<'a> {
    boards: Boards<'a>,
    change: fn(&mut Profile),
}

impl Connect for Changed<'_> {
    fn connect(
        &self,
        board: usize,
        to: &To,
        again: Option<Duration>,
        observer: &dyn Observer,
    ) -> Result<Connected, BoardError> {
        let mut connected = self.boards.connect(board, to, again, observer)?;
        (self.change)(&mut connected.profile);
        Ok(connected)
    }
}

/// A board whose eMMC is full of old data, an old loader among it.
fn board(model: Model, n: u8) -> Board {
    let emmc = Geometry { user_bytes: 64 * MIB, ..Geometry::default() };
    let path = format!("1-{}", n + 1);
    let setup = Setup { emmc, path, uid: u64::from(n), ..Setup::new(model, virtual_imx::model::Tree::Nxp) };
    let board = Board::new(setup);
    board.emmc(|card| {
        let old = pattern(1 << 20, 99);
        for at in 0..64 {
            assert!(card.poke(Area::User, at << 20, &old));
        }
        assert!(card.poke(Area::User, model.loader_offset(false), &flash_bin(model, 99)));
    });
    board
}

struct Run<'a> {
    path: PathBuf,
    map: Option<&'a BlockMap>,
    plan: Wishes,
    options: FlashOptions,
}

impl<'a> Run<'a> {
    fn new(path: &Path, map: Option<&'a BlockMap>) -> Self {
        let options = FlashOptions { pause: Duration::ZERO, ..FlashOptions::default() };
        Self { path: path.to_owned(), map, plan: Wishes { piece_len: Some(MIB), ..Wishes::default() }, options }
    }

    fn go(&self, connect: &Plain) -> Vec<BoardResult> {
        self.watched(connect, &|_: usize, _: &Event| {})
    }

    fn watched(&self, connect: &Plain, observer: &dyn flasher::board::BoardObserver) -> Vec<BoardResult> {
        let reopen = || Image::open(&self.path, &image::Options::default());
        let pack = open_pack(&self.path).ok();
        let (source, plan): (Source<'_>, Plan) = match &pack {
            Some(pack) => (Source::Pack(pack), pack.plan(&To::Emmc, &self.plan).unwrap()),
            None => {
                let mut image = reopen().unwrap();
                let plan = flasher::board::prepare(&mut image, self.map, &To::Emmc, &self.plan, &()).unwrap();
                (Source::Image { image, reopen: Some(&reopen) }, plan)
            }
        };
        let (cancel, table) = (Cancel::new(), ChipTable::builtin());
        let which = connect.ports.iter().cloned().map(Which::Port).collect();
        let mut boards = Boards::new(&connect.bus, &table, which, &cancel);
        boards.boot = Some(BootImage::new(flash_bin(connect.model, 200)));
        boards.download = Some(16 << 20);
        let connected = Changed { boards, change: connect.change };
        flash(FlashJob {
            source,
            map: self.map,
            plan: &plan,
            boards: connect.ports.len(),
            joiners: None,
            to: To::Emmc,
            connect: &connected,
            options: self.options.clone(),
            observer,
            cancel: &cancel,
        })
    }
}

fn assert_good(result: &BoardResult) {
    assert!(result.error.is_none(), "{:?}", result.error);
    assert_eq!(result.state, TargetState::Proven);
}

/// The card holds the image where it is mapped, and its old bytes elsewhere.
fn assert_holds(board: &Board, bytes: &[u8], model: Model) {
    let card = board.emmc(|card| card.peek(Area::User, 0, bytes.len()).unwrap());
    for (start, end) in mapped(model) {
        let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
        assert!(card[range.clone()] == bytes[range], "{start}..{end}");
    }
    let hole = 12 << 20;
    assert!(card[hole..hole + 4096] == pattern(1 << 20, 99)[..4096], "holes are left alone");
}

#[test]
fn every_form_puts_the_image_on_the_card() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mm;
    let (path, bytes) = image(folder.path(), 1, model);
    let map = map(&bytes, model);
    for wire in [Wire::Auto, Wire::Only(Form::Raw), Wire::Only(Form::Lz4), Wire::Only(Form::Gzip)] {
        let board = board(model, 0);
        let mut run = Run::new(&path, Some(&map));
        run.options.wire = wire;
        let connect = Plain::new(std::slice::from_ref(&board), model);
        let results = run.go(&connect);
        assert_good(&results[0]);
        assert_eq!(results[0].proof, Some(Sum::Crc32));
        assert_holds(&board, &bytes, model);
        assert!(board.one_way().is_empty());
        let sums = results[0].sums;
        assert_eq!(sums.proven, map.mapped_bytes());
        assert_eq!(sums.wanted, map.mapped_bytes());
        let packed = matches!(wire, Wire::Only(Form::Lz4 | Form::Gzip));
        // Auto tries whether packing pays.
        assert!(wire == Wire::Auto || (sums.packed > 0) == packed, "{wire:?}");
        // A fill of a mebibyte does not travel raw; everything else does, and little more.
        if wire == Wire::Only(Form::Raw) {
            assert!(sums.sent < map.mapped_bytes() - MIB + 40_000, "{}", sums.sent);
        }
        // What it boots from now is the loader of the image, whole.
        let loader = board.bootable().unwrap();
        assert_eq!(loader.bytes[..], flash_bin(model, 1)[..loader.bytes.len()]);
    }
}

/// The image's pack, beside it.
fn pack(path: &Path, map: Option<&BlockMap>) -> PathBuf {
    let pack = path.with_extension("mfpack");
    make_pack(PackJob {
        image: Image::open(path, &image::Options::default()).unwrap(),
        map,
        level: 9,
        piece_len: MIB,
        threads: std::num::NonZeroUsize::MIN,
        check_digests: true,
        out: &File::create(&pack).unwrap(),
        observer: &(),
        cancel: &Cancel::new(),
    })
    .unwrap();
    pack
}

#[test]
fn a_pack_puts_the_image_on_the_card_without_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mm;
    let (path, bytes) = image(folder.path(), 20, model);
    let map = map(&bytes, model);
    let pack = pack(&path, Some(&map));
    let mut run = Run::new(&path, Some(&map));
    run.options.wire = Wire::Only(Form::Lz4);
    let on_the_fly = board(model, 0);
    let from_image = run.go(&Plain::new(std::slice::from_ref(&on_the_fly), model)).remove(0).sums;
    std::fs::remove_file(&path).unwrap();
    run.path = pack;
    run.map = None;
    for wire in [Wire::Auto, Wire::Only(Form::Raw), Wire::Only(Form::Lz4), Wire::Only(Form::Gzip)] {
        let board = board(model, 0);
        let connect = Plain::new(std::slice::from_ref(&board), model);
        run.options.wire = wire;
        run.options.before = Before::Send;
        let result = run.go(&connect).remove(0);
        assert_good(&result);
        assert_holds(&board, &bytes, model);
        assert_eq!(result.sums.proven, map.mapped_bytes());
        let packed = matches!(wire, Wire::Only(Form::Lz4 | Form::Gzip));
        assert!(wire == Wire::Auto || (result.sums.packed > 0) == packed, "{wire:?}");
        if wire == Wire::Only(Form::Lz4) {
            // The same pieces go packed, and take no more for having been packed with more care.
            assert_eq!(result.sums.packed, from_image.packed);
            assert!(result.sums.sent <= from_image.sent, "{} {}", result.sums.sent, from_image.sent);
        }
        // By the index alone: nothing is sent.
        run.options.before = Before::Delta;
        let result = run.go(&connect).remove(0);
        assert_good(&result);
        assert_eq!((result.sums.sent, result.sums.skipped), (0, map.mapped_bytes()));
    }
}

#[test]
fn a_pack_without_a_map_makes_zeros_of_holes_and_feeds_many() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mp;
    let (path, bytes) = image(folder.path(), 21, model);
    let mut run = Run::new(&pack(&path, None), None);
    run.options.wire = Wire::Only(Form::Lz4);
    let boards: Vec<Board> = (0..3).map(|n| board(model, n)).collect();
    let results = run.go(&Plain::new(&boards, model));
    for (board, result) in boards.iter().zip(&results) {
        assert_good(result);
        assert!(board.emmc(|card| card.peek(Area::User, 0, bytes.len()).unwrap()) == bytes);
    }
}

#[test]
fn a_damaged_pack_is_told_and_nothing_of_it_boots() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mm;
    let (path, bytes) = image(folder.path(), 22, model);
    let path = pack(&path, Some(&map(&bytes, model)));
    // In the middle lie bytes that do not pack.
    let middle = open_pack(&path).unwrap().file_len() / 2;
    File::options().write(true).open(&path).unwrap().write_all_at(b"rotten", middle).unwrap();
    for wire in [Form::Raw, Form::Lz4] {
        let board = board(model, 0);
        let mut run = Run::new(&path, None);
        run.options.wire = Wire::Only(wire);
        let result = run.go(&Plain::new(std::slice::from_ref(&board), model)).remove(0);
        let Some(BoardError::Source(error)) = &result.error else { panic!("{:?}", result.error) };
        let damaged = |error: &PackError| matches!(error, PackError::Damaged { .. });
        assert!(matches!(&**error, FlashError::PackFile(error) if damaged(error)), "{error}");
        assert!(board.bootable().is_err());
    }
}

#[test]
fn without_a_map_holes_are_zeros_on_the_board() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mp;
    let (path, bytes) = image(folder.path(), 2, model);
    let board = board(model, 0);
    let results = Run::new(&path, None).go(&Plain::new(std::slice::from_ref(&board), model));
    assert_good(&results[0]);
    assert!(board.emmc(|card| card.peek(Area::User, 0, bytes.len()).unwrap()) == bytes);
    assert!(results[0].sums.sent < 22 * MIB, "zeros do not travel: {}", results[0].sums.sent);
}

#[test]
fn one_decode_feeds_four_boards_and_one_failure_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mn;
    let (_, bytes) = image(folder.path(), 3, model);
    let map = map(&bytes, model);
    // Packed, so that slower boards need the spill.
    let packed = folder.path().join("disk.wic.gz");
    let mut encoder = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::fast());
    encoder.write_all(&bytes).unwrap();
    encoder.finish().unwrap();
    let boards: Vec<Board> = (0..4).map(|n| board(model, n)).collect();
    boards[2].add_faults(script("uboot cmd 2 flash fail no; uboot cmd 2 flash fail no").unwrap());
    let mut run = Run::new(&packed, Some(&map));
    run.options.spill = Some(folder.path().to_owned());
    let results = run.go(&Plain::new(&boards, model));
    for n in [0, 1, 3] {
        assert_good(&results[n]);
        assert_holds(&boards[n], &bytes, model);
    }
    assert!(matches!(results[2].error, Some(BoardError::Refused { .. })), "{:?}", results[2].error);
    assert!(boards[2].bootable().is_err(), "what was interrupted does not boot");
}

#[test]
fn a_card_that_was_only_busy_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mn;
    let (path, bytes) = image(folder.path(), 4, model);
    let map = map(&bytes, model);
    let board = board(model, 0);
    board.add_faults(script("uboot cmd 2 flash fail busy").unwrap());
    assert_good(&Run::new(&path, Some(&map)).go(&Plain::new(std::slice::from_ref(&board), model))[0]);
    assert_holds(&board, &bytes, model);
}

#[test]
fn wrong_bytes_on_the_card_are_found_and_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mp;
    let (path, bytes) = image(folder.path(), 5, model);
    let map = map(&bytes, model);
    for (times, good) in [(1, true), (9, false)] {
        let board = board(model, 0);
        let at = 17 * MIB + 77;
        board.add_faults(script(&format!("uboot enter weak user {at} 4 {times}")).unwrap());
        let result = &Run::new(&path, Some(&map)).go(&Plain::new(std::slice::from_ref(&board), model))[0];
        if good {
            assert_good(result);
            assert_eq!(result.sums.resent, 1);
            assert_holds(&board, &bytes, model);
        } else {
            match &result.error {
                Some(BoardError::NotHeld { pieces, attempts: 3 }) => {
                    assert!(pieces.len() == 1 && pieces[0].start() <= at && at < pieces[0].end());
                }
                other => panic!("{other:?}"),
            }
            assert!(board.bootable().is_err());
        }
    }
}

#[test]
fn a_second_flash_sends_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mm;
    let (path, bytes) = image(folder.path(), 6, model);
    let first = map(&bytes, model);
    let board = board(model, 0);
    let connect = Plain::new(std::slice::from_ref(&board), model);
    let mut run = Run::new(&path, Some(&first));
    assert_good(&run.go(&connect)[0]);

    // Nothing changed: nothing is written, and the head stays in place all the while.
    run.options.before = Before::Delta;
    let written = board.emmc(|card| card.counters(Area::User).bytes_written);
    let result = &run.go(&connect)[0];
    assert_good(result);
    assert_eq!((result.sums.written, result.sums.sent, result.sums.skipped), (0, 0, first.mapped_bytes()));
    assert_eq!(board.emmc(|card| card.counters(Area::User).bytes_written), written);

    // One byte changed: its piece, and the head.
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"!", 17 * MIB + 5).unwrap();
    let mut bytes = bytes;
    bytes[17 << 20 | 5] = b'!';
    let second = map(&bytes, model);
    run.map = Some(&second);
    let result = &run.go(&connect)[0];
    assert_good(result);
    assert_holds(&board, &bytes, model);
    assert!(result.sums.written < 3 * MIB, "{}", result.sums.written);
    assert!(result.sums.skipped > 19 * MIB, "{}", result.sums.skipped);
}

#[test]
fn an_image_that_is_not_its_maps_is_never_finished() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mm;
    let (path, mut bytes) = image(folder.path(), 7, model);
    bytes[(29 << 20) + 9] ^= 1;
    let wrong = map(&bytes, model);
    let board = board(model, 0);
    let result = &Run::new(&path, Some(&wrong)).go(&Plain::new(std::slice::from_ref(&board), model))[0];
    match &result.error {
        Some(BoardError::Source(error)) => assert!(matches!(**error, flasher::FlashError::RangeDigest(_)), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(result.state, TargetState::NoHead { .. }));
    assert!(board.bootable().is_err());
}

#[test]
fn what_a_u_boot_cannot_do_is_done_without_or_said() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mm;
    let (path, bytes) = image(folder.path(), 8, model);
    let map = map(&bytes, model);
    // No shell at all: written, not proven.
    let plain = board(model, 0);
    let mut connect = Plain::new(std::slice::from_ref(&plain), model);
    connect.change = |profile| profile.shell = None;
    let result = &Run::new(&path, Some(&map)).go(&connect)[0];
    assert!(matches!(result.error, Some(BoardError::NoProof)), "{:?}", result.error);
    assert_eq!(result.state, TargetState::WrittenUnproven);
    assert_holds(&plain, &bytes, model);
    // No CRC-32: by SHA-256.
    let hashing = board(model, 0);
    let mut connect = Plain::new(std::slice::from_ref(&hashing), model);
    connect.change = |profile| profile.crc32_verify = false;
    let result = &Run::new(&path, Some(&map)).go(&connect)[0];
    assert_good(result);
    assert_eq!(result.proof, Some(Sum::Sha256));
    // No sums at all: compared with what was sent, and written again where it differs.
    let comparing = board(model, 0);
    comparing.add_faults(script(&format!("uboot enter weak user {} 4 1", 17 * MIB + 9)).unwrap());
    let mut connect = Plain::new(std::slice::from_ref(&comparing), model);
    connect.change = |profile| (profile.crc32_verify, profile.sha256) = (false, false);
    let result = &Run::new(&path, Some(&map)).go(&connect)[0];
    assert_good(result);
    assert_eq!((result.proof, result.sums.resent), (Some(Sum::Compare), 1));
    assert_holds(&comparing, &bytes, model);
    // Too small.
    let mut connect = Plain::new(std::slice::from_ref(&hashing), model);
    connect.change = |profile| profile.capacity = Some(SIZE - 1);
    let result = &Run::new(&path, Some(&map)).go(&connect)[0];
    assert!(matches!(result.error, Some(BoardError::TooSmall { .. })));
    assert_eq!(result.state, TargetState::Unchanged);
}

#[test]
fn holes_are_zeroed_on_request_and_proven() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mm;
    let (path, bytes) = image(folder.path(), 9, model);
    let map = map(&bytes, model);
    let board = board(model, 0);
    let mut run = Run::new(&path, Some(&map));
    run.plan.holes = HolePolicy::Zero;
    run.options.proof = Proof::Strong;
    let result = &run.go(&Plain::new(std::slice::from_ref(&board), model))[0];
    assert_good(result);
    let card = board.emmc(|card| card.peek(Area::User, 0, bytes.len()).unwrap());
    // All but the gap in front of the first partition.
    assert!(card[1 << 20..] == bytes[1 << 20..]);
}

/// Wherever the cable is pulled or the power lost: what is left does not boot a mix, and plugged in again it ends right.
#[test]
fn unplugged_anywhere_it_goes_on_and_ends_right() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mm;
    let (path, bytes) = image(folder.path(), 10, model);
    let map = map(&bytes, model);
    let mut random = 1_u64;
    let mut resumed = 0;
    for n in 0..48_u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (random >> 20) % (22 * MIB);
        let what = match n % 3 {
            0 => format!("uboot at {at} unplug back 500"),
            1 => format!("uboot at {at} power back 500"),
            _ => format!("uboot enter cut {at} back 500"),
        };
        let board = board(model, 0);
        board.add_faults(script(&what).unwrap());
        let mut run = Run::new(&path, Some(&map));
        run.options.return_within = Duration::from_secs(20);
        run.options.wire = [Wire::Only(Form::Raw), Wire::Only(Form::Lz4), Wire::Only(Form::Gzip), Wire::Auto]
            [usize::try_from(n % 4).unwrap()];
        if n % 5 == 4 {
            run.options.before = Before::Delta;
        }
        let whole = flash_bin(model, 10);
        let mix = std::sync::Mutex::new(None);
        let (watched, mixed) = (board.clone(), &mix);
        let look = move |_: usize, event: &Event| {
            if matches!(event, Event::Lost { .. })
                && let Ok(loader) = watched.bootable()
                && loader.bytes[..] != whole[..loader.bytes.len()]
            {
                *mixed.lock().unwrap() = Some(loader.at);
            }
        };
        let result = &run.watched(&Plain::new(std::slice::from_ref(&board), model), &look)[0];
        assert!(result.error.is_none(), "{what}: {:?}", result.error);
        assert_eq!(mix.lock().unwrap().take(), None, "{what}: a mix would have booted");
        assert_holds(&board, &bytes, model);
        resumed += result.sums.returns;
    }
    assert!(resumed > 30, "{resumed} of 48 were interrupted");
}

#[test]
fn another_board_in_its_place_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mp;
    let (path, bytes) = image(folder.path(), 11, model);
    let map = map(&bytes, model);
    let board = board(model, 0);
    board.add_faults(script("uboot at 3000000 power back 500; rom enter serial fedcba9876543210").unwrap());
    let mut run = Run::new(&path, Some(&map));
    run.options.return_within = Duration::from_secs(20);
    let result = &run.go(&Plain::new(std::slice::from_ref(&board), model))[0];
    assert!(result.error.is_some());
}

#[test]
fn a_new_process_goes_on_by_the_journal_and_trusts_nothing_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mp;
    let (path, bytes) = image(folder.path(), 12, model);
    let map = map(&bytes, model);
    let board = board(model, 0);
    board.add_faults(script("uboot at 18000000 power back 500").unwrap());
    let mut run = Run::new(&path, Some(&map));
    run.plan.piece_len = Some(MIB);
    run.options.journals = Some(folder.path().join("journals"));
    run.options.wire = Wire::Only(Form::Raw);
    let connect = Plain::new(std::slice::from_ref(&board), model);
    let result = &run.go(&connect)[0];
    assert!(result.error.as_ref().is_some_and(BoardError::is_lost), "{:?}", result.error);
    // Somebody spoils a piece that the journal names.
    board.emmc(|card| assert!(card.poke(Area::User, 16 * MIB + 3, b"spoilt")));
    run.options.before = Before::Resume;
    let result = &run.go(&connect)[0];
    assert_good(result);
    assert!(result.sums.skipped > 8 * MIB, "{}", result.sums.skipped);
    assert_holds(&board, &bytes, model);
}

/// A board with its loader in boot0, as most are.
fn loader(model: Model, seed: u8, part: BootPart) -> Loader {
    Loader { bytes: flash_bin(model, seed).into(), part, offset: None }
}

#[test]
fn a_loader_goes_to_the_inactive_boot_partition_and_the_switch_follows() {
    let model = Model::Imx8mp;
    let board = board(model, 0);
    board.emmc(|card| {
        assert!(card.poke(Area::Boot0, 0, &flash_bin(model, 1)));
        card.set_partconf(PartConf { ack: true, boot: 1, access: 0 }).unwrap();
    });
    let bus = HostBus::new(vec![board.clone()]);
    let (table, cancel) = (ChipTable::builtin(), Cancel::new());
    let mut boards = Boards::new(&bus, &table, vec![Which::Port("1-1".parse().unwrap())], &cancel);
    boards.boot = Some(BootImage::new(flash_bin(model, 200)));
    let put = |seed, part| {
        flash_loader(&LoaderJob {
            loader: loader(model, seed, part),
            boards: 1,
            connect: &boards,
            proof: Proof::Fast,
            attempts: 3,
            then: Then::Stay,
            observer: &|_: usize, _: &Event| {},
        })
        .remove(0)
    };
    let result = put(2, BootPart::Inactive);
    assert_good(&result);
    let placed = result.loader.unwrap();
    assert_eq!((placed.area, placed.before, placed.proof), (flasher::board::Area::Boot1, Some(1), Some(Sum::Crc32)));
    // The ack bit is kept, and what it boots from is the new one, whole; the old one is still there.
    assert_eq!(board.emmc(|card| card.partconf()), PartConf { ack: true, boot: 2, access: 0 });
    let found = board.bootable().unwrap();
    assert_eq!((found.area, &found.bytes[..]), (Area::Boot1, &flash_bin(model, 2)[..found.bytes.len()]));
    assert!(board.emmc(|card| card.peek(Area::Boot0, 0, 4096)).unwrap() == flash_bin(model, 1)[..4096]);
    // Again, into the one it boots from.
    let result = put(3, BootPart::Active);
    assert_good(&result);
    assert_eq!(result.loader.unwrap().area, flasher::board::Area::Boot1);
    // A card that loses what is written there: the switch stays where it is.
    board.add_faults(script("uboot cmd 1 UCmd bad boot0 0 64 lost").unwrap());
    let result = put(4, BootPart::Inactive);
    assert!(matches!(result.error, Some(BoardError::NotHeld { .. })), "{:?}", result.error);
    assert_eq!(board.emmc(|card| card.partconf().boot), 2);
    assert!(board.one_way().is_empty());
}

#[test]
fn holes_are_erased_inwards_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mm;
    let (path, bytes) = image(folder.path(), 13, model);
    let map = map(&bytes, model);
    let board = board(model, 0);
    let mut run = Run::new(&path, Some(&map));
    run.options.erase_holes = true;
    let result = &run.go(&Plain::new(std::slice::from_ref(&board), model))[0];
    assert_good(result);
    let erased = result.erased.unwrap();
    assert!(erased.bytes > 10 * MIB && erased.zeros == Some(true), "{erased:?}");
    let card = board.emmc(|card| card.peek(Area::User, 0, 64 << 20).unwrap());
    for (start, end) in mapped(model) {
        let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
        assert!(card[range.clone()] == bytes[range]);
    }
    assert!(card[12 << 20..13 << 20].iter().all(|byte| *byte == 0), "a hole");
    assert!(card[50 << 20..51 << 20] == pattern(1 << 20, 99), "behind the image nothing is erased");
}

#[test]
fn what_is_to_be_kept_stays_and_the_gap_is_cleared_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mm;
    let (path, bytes) = image(folder.path(), 14, model);
    let map = map(&bytes, model);
    for path in [&path, &pack(&path, Some(&map))] {
        let board = board(model, 0);
        let mut run = Run::new(path, Some(&map));
        run.plan.keep = vec![
            bmap::ByteRange::new(17 * MIB, 17 * MIB + 512).unwrap(),
            bmap::ByteRange::at(512 << 10, 4096).unwrap(),
        ];
        run.plan.keep.sort();
        run.plan.clear_gap = true;
        let result = &run.go(&Plain::new(std::slice::from_ref(&board), model))[0];
        assert_good(result);
        let card = board.emmc(|card| card.peek(Area::User, 0, bytes.len()).unwrap());
        let old = pattern(1 << 20, 99);
        assert!(
            card[17 << 20..(17 << 20) + 512] == old[..512]
                && card[(17 << 20) + 512..18 << 20] == bytes[(17 << 20) + 512..18 << 20]
        );
        let mut front = bytes[..1 << 20].to_vec();
        front[512 << 10..(512 << 10) + 4096].copy_from_slice(&old[512 << 10..(512 << 10) + 4096]);
        assert!(card[..1 << 20] == front[..], "the gap is zeros but for what is kept");
    }
}

#[test]
fn a_board_that_comes_late_joins_and_the_first_is_not_taken_twice() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::Imx8mm;
    let (_, bytes) = image(folder.path(), 15, model);
    let map = map(&bytes, model);
    let packed = folder.path().join("disk.wic.gz");
    let mut encoder = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::fast());
    encoder.write_all(&bytes).unwrap();
    encoder.finish().unwrap();
    // The first is slow, so that there is time to come: it is lost once, and comes back elsewhere.
    let (first, late) = (board(model, 0), board(model, 1));
    first.add_faults(script("uboot at 9000000 power back 500 on 1-7").unwrap());
    let bus = HostBus::new(vec![first.clone()]);
    let (cancel, table) = (Cancel::new(), ChipTable::builtin());
    let mut boards = Boards::new(&bus, &table, vec![Which::Port("1-1".parse().unwrap())], &cancel);
    boards.boot = Some(BootImage::new(flash_bin(model, 200)));
    boards.download = Some(4 << 20);
    let open = || Image::open(&packed, &image::Options::default());
    let mut image = open().unwrap();
    let wishes = Wishes { piece_len: Some(MIB), ..Wishes::default() };
    let plan = flasher::board::prepare(&mut image, Some(&map), &To::Emmc, &wishes, &()).unwrap();
    let came = std::sync::Once::new();
    let observer = |board: usize, event: &Event| {
        if board == 0 && matches!(event, Event::Stage { stage: flasher::event::Stage::Write, .. }) {
            came.call_once(|| bus.add(late.clone()));
            // In simulated time a board is done before anybody could look.
            std::thread::sleep(Duration::from_millis(500));
        }
    };
    let results = flash(FlashJob {
        source: flasher::board::Source::Image { image, reopen: Some(&open) },
        map: Some(&map),
        plan: &plan,
        boards: 1,
        joiners: Some(&boards),
        to: To::Emmc,
        connect: &boards,
        options: FlashOptions {
            return_within: Duration::from_secs(20),
            spill: Some(folder.path().to_owned()),
            ..FlashOptions::default()
        },
        observer: &observer,
        cancel: &cancel,
    });
    assert_eq!(results.len(), 2, "{results:?}");
    results.iter().for_each(assert_good);
    assert_eq!((boards.name(1), results[0].sums.returns), ("1-2".to_owned(), 1));
    assert_holds(&first, &bytes, model);
    assert_holds(&late, &bytes, model);
}
