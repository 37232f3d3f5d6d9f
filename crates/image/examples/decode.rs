//! Times the decoding of a whole image: `decode FILE [BMAP]`. With a bmap only what it maps is read and the rest is
//! skipped; without, every byte is read. `-` reads standard input; THREADS sets the number of threads.
#![allow(clippy::print_stdout, reason = "a measuring program prints")]

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use image::{Image, Options, Wanted};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let path = args.next().ok_or("usage: decode FILE [BMAP]")?;
    let ranges = match args.next() {
        None => None,
        Some(map) => {
            let map = bmap::xml::read(Path::new(&map))?.map;
            Some(map.mapped().map(|(range, _)| range).collect::<Arc<[_]>>())
        }
    };
    let mut options = Options::default();
    if let Some(threads) = std::env::var("THREADS").ok().and_then(|threads| threads.parse::<NonZeroUsize>().ok()) {
        options.threads = threads;
    }
    let start = Instant::now();
    let image = if path == "-" {
        Image::from_reader("standard input", Box::new(std::io::stdin()), &options)?
    } else {
        Image::open(Path::new(&path), &options)?
    };
    let (format, size) = (image.format(), image.size());
    let mut buffer = vec![0; 1 << 20];
    let mut read = 0_u64;
    let opened = start.elapsed();
    let wanted = ranges.as_ref().map_or(Wanted::All, |ranges| Wanted::Ranges(Arc::clone(ranges)));
    let mut reader = image.read(wanted)?;
    match ranges {
        None => loop {
            match reader.read(&mut buffer)? {
                0 => break,
                count => read += u64::try_from(count)?,
            }
        },
        Some(ranges) => {
            for range in ranges.iter() {
                reader.skip_to(range.start())?;
                while reader.position() < range.end() {
                    let len = usize::try_from(range.end() - reader.position())?.min(buffer.len());
                    reader.read_exact(&mut buffer[..len])?;
                    read += u64::try_from(len)?;
                }
            }
        }
    }
    let len = reader.finish()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{format} size {size:?} opened in {opened:?}: {read} of {len} bytes read in {seconds:.2} s");
    Ok(())
}
