//! Measures the parts of mapflash that decide how fast the whole is:
//!
//! ```sh
//! cargo bench --package micro-bench            # all of them
//! cargo bench --package micro-bench -- xml     # those with `xml` in their names
//! ```

use std::error::Error;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::thread;

use bmap::{Algorithm, BlockMap, BlockRange, BlockSize, Hasher, MappedRange, holes, sparse, xml};
use micro_bench::{Timing, line, measure};

type Outcome = Result<(), Box<dyn Error>>;

/// As many ranges as a map file may have, about, without digests; with digests the file's greatest length comes first.
const RANGES: u32 = 1_000_000;
const DIGESTED_RANGES: u32 = 500_000;
const EXTENTS: u32 = 10_000;
const MIB: usize = 1 << 20;

fn main() -> Outcome {
    // Cargo passes `--bench`; anything else is part of a name.
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).unwrap_or_default();
    digests(&wanted);
    map_files(&wanted)?;
    splits(&wanted)?;
    extents(&wanted)
}

/// Measures `work`, if its name is wanted, and prints the line.
fn report<T>(wanted: &str, name: &str, amount: f64, unit: &str, work: impl FnMut() -> T) {
    if name.contains(wanted) {
        print(name, measure(work), amount, unit);
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark's output is its purpose")]
fn print(name: &str, timing: Timing, amount: f64, unit: &str) {
    println!("{}", line(name, timing, amount, unit));
}

fn digests(wanted: &str) {
    let bytes: Vec<u8> = (0..64 * MIB).map(|at| u8::try_from(at * 31 % 251).unwrap_or_default()).collect();
    let megabytes = f64::from(u32::try_from(bytes.len()).unwrap_or(u32::MAX)) / 1e6;
    for algorithm in [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512] {
        report(wanted, &format!("digest: {algorithm}, 64 MiB, one core"), megabytes, "MB", || {
            Hasher::digest(algorithm, &bytes)
        });
    }
    let cores = thread::available_parallelism().map_or(1, |count| count.get());
    let share = bytes.len().div_ceil(cores);
    report(wanted, &format!("digest: sha256, 64 MiB, {cores} cores"), megabytes, "MB", || {
        thread::scope(|scope| {
            for part in bytes.chunks(share) {
                scope.spawn(move || Hasher::digest(Algorithm::Sha256, part));
            }
        });
    });
}

/// Every other block of an image is mapped; with `digests`, each range has one.
fn large_map(count: u32, digests: bool) -> Result<BlockMap, Box<dyn Error>> {
    let ranges = (0..count)
        .map(|at| {
            let blocks = BlockRange::new(u64::from(at) * 2, u64::from(at) * 2).ok_or("range")?;
            let digest = digests.then(|| Hasher::digest(Algorithm::Sha256, &at.to_le_bytes()));
            Ok(MappedRange { blocks, digest })
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    Ok(BlockMap::new(u64::from(count) * 2 * BlockSize::DEFAULT.bytes(), BlockSize::DEFAULT, ranges)?)
}

fn map_files(wanted: &str) -> Outcome {
    for (count, digests, kind) in [(RANGES, false, "bare"), (DIGESTED_RANGES, true, "with sha256")] {
        let name = |work: &str| format!("xml: {work} {count} ranges, {kind}");
        if ![name("write"), name("parse")].iter().any(|name| name.contains(wanted)) {
            continue;
        }
        let map = large_map(count, digests)?;
        let text = xml::write(&map);
        if xml::parse(text.as_bytes())?.map != map {
            return Err("the map does not read back as it was written".into());
        }
        let millions = f64::from(count) / 1e6;
        report(wanted, &name("write"), millions, "million", || xml::write(&map));
        report(wanted, &name("parse"), millions, "million", || xml::parse(text.as_bytes()));
    }
    Ok(())
}

/// The ranges of a real i.MX8 image, which the benchmark image is made after.
const REAL: &str = include_str!("../../data/wic-13g.ranges");
const REAL_BLOCKS: u64 = 3_439_616;
/// What U-Boot's fastboot buffer commonly takes in one piece.
const LIMIT: u64 = 64 << 20;

fn real_map() -> Result<BlockMap, Box<dyn Error>> {
    let ranges = REAL
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split(' ');
            let mut number = || words.next().ok_or("a line without a range")?.parse().map_err(Box::<dyn Error>::from);
            let blocks = BlockRange::new(number()?, number()?).ok_or("a range that ends before it begins")?;
            Ok(MappedRange { blocks, digest: None })
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    Ok(BlockMap::new(REAL_BLOCKS * BlockSize::DEFAULT.bytes(), BlockSize::DEFAULT, ranges)?)
}

fn splits(wanted: &str) -> Outcome {
    let many = format!("split: plan {RANGES} ranges");
    for (name, real) in [("split: plan a real 13.1 GiB image", true), (&many, false)] {
        if !name.contains(wanted) {
            continue;
        }
        let map = if real { real_map()? } else { large_map(RANGES, false)? };
        let layout = sparse::Layout::of_map(&map)?;
        let chunks: usize = sparse::split(&layout, LIMIT)?.iter().map(|split| split.chunks().len()).sum();
        let millions = f64::from(u32::try_from(chunks)?) / 1e6;
        report(wanted, name, millions, "million chunks", || sparse::split(&layout, LIMIT));
    }
    Ok(())
}

/// A sparse file whose every other block holds data.
fn sparse_file() -> Result<File, Box<dyn Error>> {
    let mut file = tempfile::tempfile()?;
    for at in 0..EXTENTS {
        file.seek(SeekFrom::Start(u64::from(at) * 2 * BlockSize::DEFAULT.bytes()))?;
        file.write_all(&[0xa5; 4096])?;
    }
    file.sync_all()?;
    Ok(file)
}

fn extents(wanted: &str) -> Outcome {
    let name = format!("holes: find {EXTENTS} extents");
    if !name.contains(wanted) {
        return Ok(());
    }
    let file = sparse_file()?;
    let found = holes::extents(&file)?.len();
    if found != usize::try_from(EXTENTS)? {
        return Err(format!("the filesystem of the temporary folder shows {found} of {EXTENTS} extents").into());
    }
    report(wanted, &name, f64::from(EXTENTS) / 1e6, "million", || holes::extents(&file));
    Ok(())
}
