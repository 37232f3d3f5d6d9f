//! What others make of the image that [`super::disk`] makes.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::process::Command;

use super::disk::{Shape, make};

fn image(shape: &Shape) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    make(file.as_file(), shape, 1).unwrap();
    file
}

/// The bytes of a partition, as a file of its own, which checkers want.
fn partition(image: &File, start: u32, blocks: u32) -> tempfile::NamedTempFile {
    let mut bytes = vec![0; usize::try_from(blocks).unwrap() * 4096];
    image.read_exact_at(&mut bytes, u64::from(start) * 4096).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all_at(&bytes, 0).unwrap();
    file
}

/// Runs a checker; skipped, aloud, where it is not installed.
fn check(program: &str, args: &[&str], file: &tempfile::NamedTempFile) {
    match Command::new(program).args(args).arg(file.path()).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => println!("skipped: {program} is not installed"),
        Err(error) => panic!("{program}: {error}"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} found something:\n{said}");
        }
    }
}

#[test]
fn checkers_find_nothing_to_repair() {
    for shape in [Shape::DEMO, Shape::SMALL] {
        let image = image(&shape);
        let boot = partition(image.as_file(), shape.boot_start, shape.boot_blocks);
        check("fsck.fat", &["-n"], &boot);
        let root = partition(image.as_file(), shape.root_start(), shape.root_blocks());
        check("e2fsck", &["-fn"], &root);
        check("sfdisk", &["--verify"], &image);
    }
}

#[test]
fn about_a_seventh_is_mapped() {
    for (shape, from, to) in [(Shape::DEMO, 140, 150), (Shape::SMALL, 100, 400)] {
        let image = image(&shape);
        let metadata = image.as_file().metadata().unwrap();
        assert_eq!(metadata.len(), shape.bytes());
        let permille = metadata.blocks() * 512 * 1000 / metadata.len();
        assert!((from..to).contains(&permille), "{permille} of 1000 allocated");
    }
}

#[test]
fn a_loader_lies_where_the_rom_looks() {
    let image = image(&Shape::SMALL);
    let mut tag = [0; 4];
    image.as_file().read_exact_at(&mut tag, 33 * 1024).unwrap();
    assert_eq!(tag, [0xd1, 0x00, 0x20, 0x41]);
}

#[test]
fn the_seed_decides_every_byte() {
    let read = |seed| {
        let file = tempfile::NamedTempFile::new().unwrap();
        make(file.as_file(), &Shape::SMALL, seed).unwrap();
        std::fs::read(file.path()).unwrap()
    };
    let first = read(7);
    assert!(first == read(7));
    assert!(first != read(8));
}

#[test]
fn our_own_reader_finds_the_table_whole() {
    for shape in [Shape::DEMO, Shape::SMALL] {
        let file = image(&shape);
        let mut head = vec![0; image::table::HEAD_WANTED];
        file.as_file().read_exact_at(&mut head, 0).unwrap();
        let mut elsewhere = |at, into: &mut [u8]| file.as_file().read_exact_at(into, at);
        let table = image::table::read(&head, Some(shape.bytes()), Some(&mut elsewhere)).unwrap().unwrap();
        assert!(table.problems.is_empty(), "{:?}", table.problems);
        let names: Vec<&str> = table.partitions.iter().map(|partition| partition.name.as_str()).collect();
        assert_eq!(names, ["boot", "root"]);
        assert_eq!(image::table::head_len(Some(&table)), u64::from(shape.boot_start) * 4096);
        assert_eq!(image::table::loaders(&head).iter().map(|loader| loader.offset).collect::<Vec<_>>(), [33 * 1024]);
    }
}
