//! Tables made by sgdisk and sfdisk (`tests/data/tables/README.md` says how), whole, cut, bent and at random.

use std::io;

use super::*;

const SIZE: usize = 16 << 20;

fn image(runs: &[u8], offsets: &[usize]) -> Vec<u8> {
    assert_eq!(runs.len(), offsets.len() * 512);
    let mut image = vec![0; SIZE];
    for (run, at) in runs.chunks_exact(512).zip(offsets) {
        image[*at..*at + 512].copy_from_slice(run);
    }
    image
}

fn gpt() -> Vec<u8> {
    image(include_bytes!("../../tests/data/tables/gpt-512.sectors"), &[0, 512, 1024, 16_760_320, 16_776_704])
}

fn hybrid() -> Vec<u8> {
    image(include_bytes!("../../tests/data/tables/gpt-hybrid.sectors"), &[0, 512, 1024, 16_760_320, 16_776_704])
}

fn gpt_4096() -> Vec<u8> {
    image(include_bytes!("../../tests/data/tables/gpt-4096.sectors"), &[0, 4096, 8192, 16_756_736, 16_773_120])
}

fn mbr() -> Vec<u8> {
    image(include_bytes!("../../tests/data/tables/mbr-logical.sectors"), &[0, 8_388_608, 10_485_760])
}

/// Reads with a short head, so that everything else goes through the closure.
fn read_all(image: &[u8], head: usize) -> Result<Option<Table>, TableError> {
    let size = u64::try_from(image.len()).unwrap();
    let mut read_at = |at: u64, into: &mut [u8]| {
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let end = at.checked_add(into.len()).ok_or_else(|| io::Error::other("end"))?;
        into.copy_from_slice(image.get(at..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    };
    read(&image[..head.min(image.len())], Some(size), Some(&mut read_at))
}

fn table(image: &[u8]) -> Table {
    read_all(image, HEAD_WANTED).unwrap().unwrap()
}

fn extents(table: &Table) -> Vec<(u32, u64, u64)> {
    table.partitions.iter().map(|part| (part.number, part.extent.start() / 512, part.extent.len() / 512)).collect()
}

#[test]
fn a_gpt_as_sgdisk_makes_it() {
    let image = gpt();
    let table = table(&image);
    assert_eq!((table.kind, table.sector_size), (TableKind::Gpt, 512));
    assert_eq!(table.problems, []);
    assert_eq!(extents(&table), [(1, 16384, 4096), (2, 20480, 8192)]);
    let names: Vec<_> = table.partitions.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["boot", "rootfs"]);
    assert_eq!(table.partitions[0].kind.to_string(), "EFI system");
    assert!(table.partitions[0].bootable && !table.partitions[1].bootable);
    let gpt = table.gpt.as_ref().unwrap();
    assert_eq!(gpt.disk.to_string(), "11111111-2222-3333-4444-555555555555");
    assert_eq!((gpt.header_at, gpt.backup_at), (512, 16_776_704));
    assert_eq!((gpt.entries.start(), gpt.entries.len()), (1024, 128 * 128));
    assert_eq!((gpt.backup, gpt.hybrid), (Backup::Sound, false));
    assert_eq!(head_len(Some(&table)), 8 << 20);
    // On the image's own size the backup belongs where sgdisk put it; on a larger disk, at that one's end.
    assert_eq!(table.backup_place(16 << 20), ByteRange::new(16_760_320, 16 << 20));
    assert_eq!(table.backup_place((32 << 20) + 100), ByteRange::new((32 << 20) - 33 * 512, 32 << 20));
    assert_eq!(table.backup_place(512), None);
}

#[test]
fn without_a_size_or_a_reader_the_backup_is_not_judged() {
    let image = gpt();
    let table = read(&image[..HEAD_WANTED], None, None).unwrap().unwrap();
    assert_eq!((table.gpt.unwrap().backup, table.problems), (Backup::Unseen, vec![]));
}

#[test]
fn a_hybrid_mbr_is_recognised() {
    let table = table(&hybrid());
    assert_eq!(table.kind, TableKind::Gpt);
    assert!(table.gpt.unwrap().hybrid);
}

#[test]
fn sectors_of_4096_bytes_are_detected() {
    let table = table(&gpt_4096());
    assert_eq!((table.kind, table.sector_size), (TableKind::Gpt, 4096));
    assert_eq!(extents(&table), [(1, 8192, 8192)]);
    assert_eq!(table.problems, []);
    assert_eq!(head_len(Some(&table)), 4 << 20);
    assert_eq!(table.backup_place(16 << 20), ByteRange::new((16 << 20) - 5 * 4096, 16 << 20));
}

#[test]
fn an_mbr_with_logical_partitions_as_sfdisk_makes_it() {
    let image = mbr();
    for head in [512, 9 << 20, SIZE] {
        let table = read_all(&image, head).unwrap().unwrap();
        assert_eq!((table.kind, &table.problems[..]), (TableKind::Mbr, &[][..]));
        let expected = [(1, 8192, 4096), (2, 12288, 4096), (3, 16384, 12288), (5, 18432, 2048), (6, 22528, 2048)];
        assert_eq!(extents(&table), expected);
        assert!(table.partitions[0].bootable);
        assert_eq!(table.partitions[4].kind, PartitionType::Mbr(0x82));
    }
}

#[test]
fn logical_partitions_out_of_reach_are_a_problem_not_an_error() {
    let table = read(&mbr()[..512], None, None).unwrap().unwrap();
    assert_eq!(extents(&table).len(), 3);
    assert!(matches!(table.problems[..], [Problem::LogicalChain { at: 8_388_608, .. }]));
}

#[test]
fn a_chain_that_leads_back_ends() {
    let mut image = mbr();
    // The second boot record's own "next": back to the start of the extended partition.
    let entry = 10_485_760 + 446 + 16;
    image[entry..entry + 16].copy_from_slice(&[0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0]);
    assert!(matches!(table(&image).problems[..], [Problem::LogicalChain { at: 10_485_760, .. }]));
}

#[test]
fn what_is_no_table_is_none() {
    for head in [&[][..], &[0; 511], &[0; 4096], &[0xff; 4096]] {
        assert_eq!(read(head, None, None).unwrap(), None);
    }
    let mut fat = mbr();
    fat[82..87].copy_from_slice(b"FAT32");
    assert_eq!(read_all(&fat, 4096).unwrap(), None);
    let mut empty = vec![0; 512];
    empty[510..].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(read(&empty, None, None).unwrap(), None);
    assert_eq!(head_len(None), 1 << 20);
}

#[test]
fn every_damaged_byte_of_header_and_entries_is_noticed() {
    let image = gpt();
    for at in (512..512 + 92).chain(1024..1024 + 256) {
        let mut bent = image.clone();
        bent[at] ^= 0x10;
        let table = read_all(&bent, HEAD_WANTED).unwrap().unwrap();
        assert!(matches!(table.problems[0], Problem::PrimaryDamaged(_)), "byte {at}");
        assert_eq!(extents(&table), [(1, 16384, 4096), (2, 20480, 8192)], "byte {at}");
        assert!(read(&bent[..HEAD_WANTED], None, None).is_err(), "byte {at}");
    }
}

#[test]
fn backups_missing_cut_off_or_in_the_wrong_place_are_reported() {
    let mut gone = gpt();
    gone[16_776_704..].fill(0);
    let seen = table(&gone);
    assert!(matches!(seen.problems[..], [Problem::BackupDamaged { at: 16_776_704, .. }]));
    assert_eq!(seen.gpt.unwrap().backup, Backup::Unusable);

    let mut cut = gpt();
    cut.truncate(15 << 20);
    assert!(matches!(table(&cut).problems[..], [Problem::BackupOutside { at: 16_776_704, .. }]));

    let mut grown = gpt();
    grown.resize(20 << 20, 0);
    let seen = table(&grown);
    assert_eq!(seen.problems, [Problem::BackupNotAtEnd { at: 16_776_704, last: (20 << 20) - 512 }]);
    assert_eq!(seen.gpt.unwrap().backup, Backup::Sound);

    let mut both = gpt();
    both[512] = 0;
    both[16_776_704] = 0;
    assert!(matches!(read_all(&both, 4096), Err(TableError::NoUsableGpt { .. })));
}

#[test]
fn a_gpt_the_mbr_does_not_protect_is_stale_or_unseen() {
    let mut bare = gpt();
    bare[..512].fill(0);
    assert_eq!(table(&bare).problems, [Problem::NoProtectiveMbr]);
    let mut stale = gpt();
    stale[..512].copy_from_slice(&mbr()[..512]);
    let seen = table(&stale);
    assert_eq!(seen.kind, TableKind::Mbr);
    assert!(seen.problems.contains(&Problem::StaleGpt));
}

#[test]
fn overlaps_and_partitions_outside_or_in_the_table_are_reported() {
    let entry = |at: usize, first: u32, count: u32, image: &mut Vec<u8>| {
        let at = 446 + at * 16;
        image[at..at + 16].fill(0);
        image[at + 4] = 0x83;
        image[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
        image[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
    };
    let mut image = mbr();
    entry(0, 0, 4, &mut image);
    entry(1, 100, 100, &mut image);
    entry(2, 150, 10, &mut image);
    entry(3, 190, u32::MAX, &mut image);
    let seen = table(&image);
    assert!(seen.problems.contains(&Problem::Overlap { first: 2, second: 3 }));
    assert!(seen.problems.contains(&Problem::Overlap { first: 2, second: 4 }));
    assert!(seen.problems.iter().any(|problem| matches!(problem, Problem::PartitionInTable { number: 1, .. })));
    assert!(seen.problems.iter().any(|problem| matches!(problem, Problem::PartitionOutside { number: 4, .. })));
    // A partition said to begin in sector 0 does not make an empty head.
    assert_eq!(head_len(Some(&seen)), 512);
    for problem in &seen.problems {
        assert!(problem.to_string().len() > 20);
    }
}

#[test]
fn huge_counts_are_refused_before_anything_is_allocated() {
    for (at, value) in [(80, u32::MAX), (80, 1025), (84, 0), (84, 127), (84, 8192), (12, 0), (12, 513)] {
        let mut image = gpt();
        image[512 + at..512 + at + 4].copy_from_slice(&value.to_le_bytes());
        let size = usize::try_from(u32::from_le_bytes(image[524..528].try_into().unwrap())).unwrap();
        image[528..532].fill(0);
        let crc = crc32fast::hash(&image[512..512 + size.min(512)]);
        image[528..532].copy_from_slice(&crc.to_le_bytes());
        assert!(read(&image[..HEAD_WANTED], None, None).is_err(), "{at} {value}");
    }
}

#[test]
fn bytes_at_random_never_panic() {
    // A linear congruential generator (Knuth's constants): the same bytes on every run.
    let mut state = 1_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    let originals = [gpt(), hybrid(), gpt_4096(), mbr()];
    for round in 0..4000_usize {
        let mut head = originals[round % 4][..20 << 10].to_vec();
        for _ in 0..=next() % 8 {
            let at = (usize::from(next()) << 8 | usize::from(next())) % 9000;
            head[at] = next();
        }
        let len = head.len() - usize::from(next()) * 64;
        if let Ok(Some(table)) = read(&head[..len], Some(u64::from(next()) << 16), None) {
            assert!((512..=HEAD_MAX).contains(&head_len(Some(&table))));
        }
        let _ = loaders(&head);
    }
}
