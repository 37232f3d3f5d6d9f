//! Everything that can be wrong with an image, a map or a target: the program must end with the right status and one
//! clear sentence, say what the target holds now, and never call a job done that was not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say what they expect by unwrapping")]

mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use support::pack::PACKINGS;
use support::{Run, command, folder, mapflash, noise};

/// Failed for a reason of no other kind, such as an image that cannot be unpacked.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NO_DEVICE: i32 = 3;
/// The image does not match its map, or the map itself.
const WRONG_IMAGE: i32 = 5;
const REFUSED: i32 = 7;

/// An image of 6 MiB and a bit: data at the start, in the middle and in a last short block, holes between.
static IMAGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut image = vec![0; (6 << 20) + 300];
    for (seed, from, to) in
        [(1, 0, 1 << 20), (2, (2 << 20) + 4096, (3 << 20) + 8192), (3, (6 << 20) - 4096, image.len())]
    {
        image[from..to].copy_from_slice(&noise(seed, to - from));
    }
    image
});

/// The mapped ranges of that image in blocks, as a map names them.
const RANGES: [(usize, usize); 3] = [(0, 255), (513, 769), (1535, 1536)];

/// Its block map.
static MAP: LazyLock<String> = LazyLock::new(|| map_of(&IMAGE));

/// A map of version 2.0 with these ranges, written here and not by the program.
fn map_of(image: &[u8]) -> String {
    let sum = |bytes: &[u8]| bmap::Hasher::digest(bmap::Algorithm::Sha256, bytes).to_string();
    let ranges: String = RANGES
        .iter()
        .map(|&(first, last)| {
            let bytes = &image[first * 4096..((last + 1) * 4096).min(image.len())];
            format!("    <Range chksum=\"{}\"> {first}-{last} </Range>\n", sum(bytes))
        })
        .collect();
    let mapped: usize = RANGES.iter().map(|(first, last)| last - first + 1).sum();
    seal(&format!(
        "<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\">\n  <ImageSize> {} </ImageSize>\n  <BlockSize> 4096 </BlockSize>\n  \
         <BlocksCount> {} </BlocksCount>\n  <MappedBlocksCount> {mapped} </MappedBlocksCount>\n  \
         <ChecksumType> sha256 </ChecksumType>\n  <BmapFileChecksum> {} </BmapFileChecksum>\n  \
         <BlockMap>\n{ranges}  </BlockMap>\n</bmap>\n",
        image.len(),
        image.len().div_ceil(4096),
        "0".repeat(64),
    ))
}

/// Puts the right checksum into a map that was changed.
fn seal(map: &str) -> String {
    let tag = "<BmapFileChecksum> ";
    let Some(at) = map.find(tag).map(|at| at + tag.len()) else { return map.to_owned() };
    let mut sealed = map.to_owned();
    sealed.replace_range(at..at + 64, &"0".repeat(64));
    let sum = bmap::Hasher::digest(bmap::Algorithm::Sha256, sealed.as_bytes()).to_string();
    sealed.replace_range(at..at + 64, &sum);
    sealed
}

/// A folder with an image, a map and a target that does not exist yet.
struct Case {
    dir: tempfile::TempDir,
    image: PathBuf,
    map: PathBuf,
    target: PathBuf,
}

impl Case {
    fn new(image: &[u8], map: &str) -> Self {
        let dir = folder();
        let at = |name: &str| dir.path().join(name);
        let case = Self { image: at("disk.img"), map: at("the.bmap"), target: at("target"), dir };
        fs::write(&case.image, image).unwrap();
        fs::write(&case.map, map).unwrap();
        case
    }

    /// Copies by the map, or without one.
    fn copy(&self, by_map: bool) -> Run {
        let mut args = vec!["--json", "copy", "--verify-target"];
        let map = self.map.to_str().unwrap();
        args.extend(if by_map { vec!["--bmap", map] } else { vec!["--nobmap"] });
        args.extend([self.image.to_str().unwrap(), self.target.to_str().unwrap()]);
        mapflash(args)
    }

    fn target_holds_the_image(&self) -> bool {
        fs::read(&self.target).is_ok_and(|held| held == *IMAGE)
    }
}

/// Checks all that every failure owes its user; returns the sentence.
#[track_caller]
fn failed(run: &Run, statuses: &[i32]) -> String {
    let status = run.status.unwrap_or_else(|| panic!("ended by a signal: {run:#?}"));
    assert!(statuses.contains(&status), "status {status}, wanted one of {statuses:?}: {run:#?}");
    assert!(!run.stderr.contains("panicked") && !run.stderr.contains("RUST_BACKTRACE"), "{run:#?}");
    let told: Vec<&str> = run.stderr.lines().filter_map(|line| line.strip_prefix("mapflash: ")).collect();
    let (states, said): (Vec<&str>, Vec<&str>) = told.iter().partition(|line| line.starts_with("the target "));
    let said: Vec<&&str> = said.iter().filter(|line| !line.starts_with("warning: ")).collect();
    assert_eq!(said.len(), 1, "one sentence: {run:#?}");
    let sentence = (*said[0]).to_owned();
    assert!((10..600).contains(&sentence.len()), "{run:#?}");
    assert!(!sentence.contains("Some(") && !sentence.contains("os error") && !sentence.contains("Err("), "{run:#?}");

    let error = run.object("error");
    assert_eq!(error["v"], 1);
    assert_eq!(error["status"], status);
    assert_eq!(error["message"], sentence.as_str(), "{run:#?}");
    assert!(!error["kind"].as_str().unwrap().is_empty());
    let changed = error["target_changed"].as_bool().unwrap();
    assert_eq!(changed, error["target_state"] != "unchanged", "{run:#?}");
    assert_eq!(changed, states.len() == 1, "what the target holds is said when it was changed: {run:#?}");
    assert!(run.objects().iter().all(|object| object["event"] != "result"), "a failure has no result: {run:#?}");
    sentence
}

/// A failure, and the target file is either not there or said to be changed.
#[track_caller]
fn copy_failed(case: &Case, by_map: bool, statuses: &[i32]) -> String {
    let run = case.copy(by_map);
    let sentence = failed(&run, statuses);
    let changed = run.object("error")["target_changed"] == true;
    assert_eq!(case.target.exists(), changed, "{run:#?}");
    assert!(!case.target_holds_the_image(), "a failure over a whole target: {run:#?}");
    sentence
}

#[test]
fn the_image_itself_is_fine_in_every_format() {
    let check = |bytes: &[u8], name: &str| {
        for by_map in [true, false] {
            let case = Case::new(bytes, &MAP);
            let run = case.copy(by_map).expect(0);
            assert_eq!(run.object("result")["target_state"], "proven");
            assert!(case.target_holds_the_image(), "{name}, by map: {by_map}");
        }
    };
    check(&IMAGE, "raw");
    for packing in PACKINGS {
        check(&(packing.pack)(&IMAGE), packing.name);
    }
}

#[test]
fn cut_short_anywhere_in_every_format() {
    for packing in PACKINGS {
        let packed = (packing.pack)(&IMAGE);
        let len = packed.len();
        for keep in [1, 3, 5, 9, 17, len / 4, len / 2, len * 3 / 4, len - 9, len - 4, len - 1] {
            for by_map in [true, false] {
                let case = Case::new(&packed[..keep], &MAP);
                if keep < 6 && !by_map {
                    // Too short to be recognised as packed, so it is a raw image of that length, and nothing is amiss.
                    if case.copy(false).status == Some(0) {
                        assert_eq!(fs::read(&case.target).unwrap(), &packed[..keep]);
                        continue;
                    }
                    fs::remove_file(&case.target).ok();
                }
                let sentence = copy_failed(&case, by_map, &[FAILED, WRONG_IMAGE]);
                assert!(
                    sentence.contains("disk.img") || sentence.contains("the image"),
                    "{}: {sentence}",
                    packing.name
                );
            }
        }
    }
}

/// A stream that ends cleanly at the end of a member, but too early for the map.
#[test]
fn a_member_too_few() {
    for packing in PACKINGS {
        let case = Case::new(&(packing.pack)(&IMAGE[..4 << 20]), &MAP);
        let sentence = copy_failed(&case, true, &[WRONG_IMAGE]);
        assert!(sentence.contains("4194304") && sentence.contains("6291756"), "{sentence}");
    }
}

#[test]
fn longer_than_its_map() {
    let mut long = IMAGE.clone();
    long.extend([7; 4096]);
    copy_failed(&Case::new(&long, &MAP), true, &[WRONG_IMAGE]);
    for packing in PACKINGS {
        copy_failed(&Case::new(&(packing.pack)(&long), &MAP), true, &[WRONG_IMAGE]);
    }
}

#[test]
fn flipped_bits_in_every_format() {
    for packing in PACKINGS {
        let packed = (packing.pack)(&IMAGE);
        let len = packed.len();
        // Of every header, data and trailer; the first bytes decide what the file is.
        let trailer = if packing.name.ends_with("bz2") { 5 } else { 3 };
        for at in [0, 1, len / 5, len / 3, len / 2, len * 2 / 3, len - trailer] {
            for by_map in [true, false] {
                let mut bytes = packed.clone();
                bytes[at] ^= 0x10;
                let case = Case::new(&bytes, &MAP);
                let run = case.copy(by_map);
                let name = packing.name;
                if run.status == Some(0) {
                    // A map lets a decoder leave out what nobody wants: damage there harms nothing.
                    let unrecognised = !by_map && at < 2 && fs::read(&case.target).unwrap() == bytes;
                    let unneeded = by_map && case.target_holds_the_image();
                    assert!(unrecognised || unneeded, "{name}, byte {at} of {len}, by map: {by_map}: {run:#?}");
                } else {
                    failed(&run, &[FAILED, WRONG_IMAGE]);
                    assert!(!case.target_holds_the_image() || by_map, "{name}, byte {at}: {run:#?}");
                }
            }
        }
    }
}

#[test]
fn junk_behind_the_end() {
    for packing in PACKINGS {
        let mut packed = (packing.pack)(&IMAGE);
        packed.extend(b"this is not part of it");
        for by_map in [true, false] {
            let case = Case::new(&packed, &MAP);
            let sentence = failed(&case.copy(by_map), &[FAILED, WRONG_IMAGE]);
            assert!(sentence.contains("behind") || sentence.contains("damaged"), "{}: {sentence}", packing.name);
        }
    }
}

#[test]
fn images_that_are_none() {
    let case = Case::new(&IMAGE, &MAP);
    let copy = |image: &Path| {
        let target = case.target.to_str().unwrap();
        mapflash(["--json", "copy", "--nobmap", image.to_str().unwrap(), target])
    };
    failed(&copy(&case.dir.path().join("nowhere.img")), &[FAILED]);
    failed(&copy(case.dir.path()), &[FAILED]);
    failed(&copy(Path::new("/dev/null")), &[FAILED]);
    // A block map is no image, and neither is an archive.
    failed(&copy(&case.map), &[FAILED]);
    let zip = case.dir.path().join("disk.zip");
    fs::write(&zip, [b"PK\x03\x04".as_slice(), &[0; 60]].concat()).unwrap();
    failed(&copy(&zip), &[FAILED]);
    let pipe = case.dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    failed(&copy(&pipe), &[FAILED]);
    assert!(!case.target.exists());
}

#[test]
fn an_empty_image() {
    copy_failed(&Case::new(b"", &MAP), true, &[WRONG_IMAGE]);
    let sentence = copy_failed(&Case::new(b"", &MAP), false, &[FAILED]);
    assert!(sentence.contains("empty"), "{sentence}");
    for packing in PACKINGS.iter().filter(|packing| !packing.name.contains('s')) {
        copy_failed(&Case::new(&(packing.pack)(b""), &MAP), false, &[FAILED]);
    }
}

#[test]
fn maps_that_do_not_fit() {
    let other = noise(77, IMAGE.len());
    let first_sum = MAP.find("chksum=\"").unwrap() + 8;
    let mut wrong_sum = MAP.clone();
    wrong_sum.replace_range(first_sum..first_sum + 1, if wrong_sum.as_bytes()[first_sum] == b'0' { "1" } else { "0" });
    for (name, map, says) in [
        ("wrong sum of a range", seal(&wrong_sum), "blocks 0-255"),
        ("wrong sum of the file", wrong_sum, "the bmap file is damaged"),
        ("another image of the same length", map_of(&other), "blocks 0-255"),
        ("another image of another length", map_of(&other).replace(&format!(" {} ", IMAGE.len()), " 6291700 "), ""),
    ] {
        let map = if name.contains("another length") { seal(&map) } else { map };
        let case = Case::new(&IMAGE, &map);
        let sentence = copy_failed(&case, true, &[WRONG_IMAGE]);
        assert!(sentence.contains(says), "{name}: {sentence}");
    }
}

#[test]
fn maps_that_are_none() {
    let map = &*MAP;
    let entities: String = (1..12).map(|n| format!("<!ENTITY e{n} \"&e{0};&e{0};&e{0};&e{0};\">", n - 1)).collect();
    let replaced = |from: &str, to: &str| {
        assert!(map.contains(from), "{from}");
        seal(&map.replace(from, to))
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("white space", b"  \n ".to_vec()),
        ("noise", noise(4, 5000)),
        ("zeros", vec![0; 5000]),
        ("cut in the middle", map.as_bytes()[..map.len() / 2].to_vec()),
        ("cut before the end", map.as_bytes()[..map.len() - 4].to_vec()),
        ("UTF-16", map.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("invalid UTF-8", replaced(" sha256 ", " sha256 ").replace("version", "versi\u{fffd}n").into_bytes()),
        ("another root", seal(&map.replace("bmap version", "map version").replace("</bmap>", "</map>")).into_bytes()),
        ("no version", replaced(" version=\"2.0\"", "").into_bytes()),
        ("version 3.0", replaced("\"2.0\"", "\"3.0\"").into_bytes()),
        ("version of words", replaced("\"2.0\"", "\"two\"").into_bytes()),
        ("no image size", replaced("<ImageSize> 6291756 </ImageSize>", "").into_bytes()),
        ("huge image size", replaced(" 6291756 ", " 99999999999999999999999 ").into_bytes()),
        ("negative image size", replaced(" 6291756 ", " -6291756 ").into_bytes()),
        ("block size 0", replaced(" 4096 ", " 0 ").into_bytes()),
        ("block size 2^63", replaced(" 4096 ", " 9223372036854775808 ").into_bytes()),
        ("too few blocks", replaced("<BlocksCount> 1537 ", "<BlocksCount> 1536 ").into_bytes()),
        ("wrong count of mapped blocks", replaced("<MappedBlocksCount> 515 ", "<MappedBlocksCount> 514 ").into_bytes()),
        ("unknown hash", replaced(" sha256 ", " md5 ").into_bytes()),
        ("short sum", replaced("chksum=\"", "chksum=\"ab\" was=\"").into_bytes()),
        ("sum of letters", seal(&map.replace("<Range chksum=\"", "<Range chksum=\"zz")).into_bytes()),
        ("range backwards", replaced(" 513-769 ", " 769-513 ").into_bytes()),
        ("range of words", replaced(" 513-769 ", " some ").into_bytes()),
        ("overlapping ranges", replaced(" 513-769 ", " 200-456 ").into_bytes()),
        ("ranges out of order", replaced(" 0-255 ", " 1000-1255 ").into_bytes()),
        ("range outside", replaced(" 1535-1536 ", " 1536-1537 ").into_bytes()),
        ("range of 2^64", replaced(" 1535-1536 ", " 1535-18446744073709551615 ").into_bytes()),
        ("deeply nested", "<bmap version=\"2.0\">".repeat(200_000).into_bytes()),
        (
            "entities",
            format!("<!DOCTYPE bmap [<!ENTITY e0 \"x\">{entities}]><bmap version=\"2.0\">&e11;</bmap>").into_bytes(),
        ),
        (
            "external entity",
            seal(
                &map.replace("?>\n", "?>\n<!DOCTYPE b [<!ENTITY f SYSTEM \"/etc/passwd\">]>\n")
                    .replace(" 6291756 ", "&f;"),
            )
            .into_bytes(),
        ),
        ("a name of a megabyte", format!("<{} version=\"2.0\"/>", "n".repeat(1 << 20)).into_bytes()),
        ("escape codes", b"<bmap version=\"\x1b[2J\x1b[31m\">".to_vec()),
    ];
    for (name, bytes) in cases {
        let case = Case::new(&IMAGE, "");
        fs::write(&case.map, bytes).unwrap();
        let run = case.copy(true);
        let sentence = failed(&run, &[FAILED, WRONG_IMAGE]);
        assert!(sentence.contains("the.bmap"), "{name}: {sentence}");
        assert!(!sentence.contains("passwd:") && !run.stderr.contains('\u{1b}'), "{name}: {run:#?}");
        assert!(!case.target.exists(), "{name}");
    }
}

#[test]
fn maps_that_would_fill_the_memory() {
    // A file of 4 GiB that costs nothing, and a million ranges more than any image has.
    let case = Case::new(&IMAGE, "<bmap version=\"2.0\">");
    fs::OpenOptions::new().write(true).open(&case.map).unwrap().set_len(4 << 30).unwrap();
    failed(&case.copy(true), &[FAILED]);

    let ranges: String = (0..2_000_000).map(|n| format!("<Range>{}</Range>", n * 2)).collect();
    let map = MAP.replace("<BlockMap>", &format!("<BlockMap>{ranges}"));
    failed(&Case::new(&IMAGE, &map).copy(true), &[FAILED, WRONG_IMAGE]);
}

#[test]
fn a_map_that_cannot_be_read() {
    let case = Case::new(&IMAGE, &MAP);
    fs::remove_file(&case.map).unwrap();
    copy_failed(&case, true, &[FAILED]);
    fs::create_dir(&case.map).unwrap();
    copy_failed(&case, true, &[FAILED]);
    // The image is no map of itself.
    let image = case.image.to_str().unwrap();
    let run = mapflash(["--json", "copy", "--bmap", image, image, case.target.to_str().unwrap()]);
    failed(&run, &[FAILED]);
}

/// The first map that opens is used, even when it is garbage: no quiet fall-back to another or to none.
#[test]
fn a_broken_map_beside_the_image_is_not_passed_over() {
    let case = Case::new(&IMAGE, &MAP);
    fs::write(case.dir.path().join("disk.img.bmap"), "garbage").unwrap();
    fs::write(case.dir.path().join("disk.bmap"), &*MAP).unwrap();
    let run = mapflash(["--json", "copy", case.image.to_str().unwrap(), case.target.to_str().unwrap()]);
    failed(&run, &[FAILED]);
    assert!(!case.target.exists());
}

#[test]
fn targets_that_are_none() {
    let case = Case::new(&IMAGE, &MAP);
    let dir = case.dir.path();
    let to = |target: &Path| {
        let (map, image) = (case.map.to_str().unwrap(), case.image.to_str().unwrap());
        mapflash(["--json", "copy", "--bmap", map, image, target.to_str().unwrap()])
    };
    failed(&to(dir), &[REFUSED]);
    failed(&to(&dir.join("missing/target")), &[FAILED]);
    failed(&to(Path::new("/dev/mapflash-no-such-device")), &[NO_DEVICE]);
    let pipe = dir.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    failed(&to(&pipe), &[REFUSED]);

    // The sources, also by another name, and unharmed.
    failed(&to(&case.image), &[REFUSED]);
    failed(&to(&case.map), &[REFUSED]);
    let other_name = dir.join("link");
    fs::hard_link(&case.image, &other_name).unwrap();
    failed(&to(&other_name), &[REFUSED]);
    let symbolic = dir.join("symlink");
    std::os::unix::fs::symlink(&case.image, &symbolic).unwrap();
    failed(&to(&symbolic), &[REFUSED]);
    assert_eq!(fs::read(&case.image).unwrap(), *IMAGE);
    assert_eq!(fs::read_to_string(&case.map).unwrap(), *MAP);
}

#[test]
fn a_target_that_may_not_be_written() {
    let case = Case::new(&IMAGE, &MAP);
    fs::write(&case.target, "mine").unwrap();
    fs::set_permissions(&case.target, fs::Permissions::from_mode(0o400)).unwrap();
    if fs::OpenOptions::new().write(true).open(&case.target).is_ok() {
        println!("skipped: root may write everywhere");
        return;
    }
    failed(&case.copy(true), &[FAILED]);
    assert_eq!(fs::read_to_string(&case.target).unwrap(), "mine");
}

#[test]
fn a_target_that_is_always_full() {
    let case = Case::new(&IMAGE, &MAP);
    let (map, image) = (case.map.to_str().unwrap(), case.image.to_str().unwrap());
    let run = mapflash(["--json", "copy", "--bmap", map, image, "/dev/full"]);
    let sentence = failed(&run, &[FAILED]);
    assert!(sentence.contains("No space left"), "{sentence}");
}

/// Runs out of room in the middle: the limit on file sizes stands for a full disk, and needs no root.
#[test]
fn a_target_that_becomes_full() {
    for (by_map, blocks) in [(true, 2048), (false, 2048), (true, 9000)] {
        let case = Case::new(&IMAGE, &MAP);
        let map = if by_map { format!("--bmap {}", case.map.display()) } else { "--nobmap".to_owned() };
        // In units of 512 bytes; the signal must not kill the program before it can say anything.
        let script = format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec {} --json copy --verify-target {map} {} {}",
            support::MAPFLASH,
            case.image.display(),
            case.target.display(),
        );
        let output =
            Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).env("TERM", "dumb").output().unwrap();
        let run = Run::of(script, output);
        let sentence = failed(&run, &[FAILED]);
        assert!(sentence.contains("too large") && sentence.contains("target"), "{sentence}");
        assert!(!case.target_holds_the_image());
    }
}

/// Standard input cannot be read twice nor from its end; what is wrong with it is found all the same.
#[test]
fn a_stream_that_is_cut_short() {
    for packing in PACKINGS {
        let packed = (packing.pack)(&IMAGE);
        for keep in [packed.len() / 2, packed.len() - 1] {
            let case = Case::new(b"", &MAP);
            let (map, target) = (case.map.to_str().unwrap(), case.target.to_str().unwrap());
            let mut program = command(["--json", "copy", "--bmap", map, "-", target]);
            let mut child =
                program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            // It may give up before it has read all.
            let _ = child.stdin.take().unwrap().write_all(&packed[..keep]);
            let run = Run::of(format!("{program:?}"), child.wait_with_output().unwrap());
            failed(&run, &[FAILED, WRONG_IMAGE]);
            assert!(!case.target_holds_the_image());
        }
    }
}

#[test]
fn an_image_that_shrinks_or_grows_under_the_map() {
    let case = Case::new(&IMAGE[..IMAGE.len() - 1], &MAP);
    let sentence = copy_failed(&case, true, &[WRONG_IMAGE]);
    assert!(sentence.contains("6291755") && sentence.contains("6291756"), "{sentence}");
}

#[test]
fn verify_names_what_differs() {
    let case = Case::new(&IMAGE, &MAP);
    case.copy(true).expect(0);
    let (map, target) = (case.map.to_str().unwrap(), case.target.to_str().unwrap());
    let verify = |expected: &str| mapflash(["--json", "verify", expected, target]);
    verify(map).expect(0);
    fs::OpenOptions::new().write(true).open(target).unwrap().write_all_at(b"!", 3 << 20).unwrap();
    let sentence = failed(&verify(map), &[6]);
    assert!(sentence.contains("2101248..3153920"), "{sentence}");
    failed(&verify(case.image.to_str().unwrap()), &[6]);
    // Too short is no match either.
    fs::OpenOptions::new().write(true).open(target).unwrap().set_len(1 << 20).unwrap();
    failed(&verify(map), &[6, REFUSED]);
    failed(&mapflash(["--json", "verify", map, "/nonexistent"]), &[FAILED, NO_DEVICE]);
}

#[test]
fn create_of_what_cannot_be_mapped() {
    let case = Case::new(&IMAGE, &MAP);
    let create = |image: &Path| mapflash(["--json", "create", image.to_str().unwrap()]);
    failed(&create(&case.dir.path().join("nowhere")), &[FAILED]);
    failed(&create(case.dir.path()), &[FAILED]);
    let packed = case.dir.path().join("disk.img.gz");
    fs::write(&packed, (PACKINGS[0].pack)(&IMAGE)).unwrap();
    failed(&create(&packed), &[FAILED]);
    // The map's own file cannot be written.
    let run = mapflash(["--json", "create", case.image.to_str().unwrap(), "-o", "/nonexistent/x.bmap"]);
    failed(&run, &[FAILED]);
}

#[test]
fn usage_errors_have_their_own_status() {
    for args in [
        &["copy"][..],
        &["copy", "a"],
        &["nonsense"],
        &["copy", "--holes", "maybe", "a", "b"],
        &["flash", "a", "--to", "all"],
        &["flash", "a", "--to", "gpt"],
        &["flash", "a", "--to", "mbr"],
        &[],
    ] {
        let run = mapflash(args).expect(USAGE);
        assert!(!run.stderr.is_empty() && !run.stderr.contains("panicked"), "{run:#?}");
    }
}
