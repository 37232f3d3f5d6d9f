use super::*;

fn small() -> Emmc {
    Emmc::new(Geometry { user_bytes: 8 << 20, boot_bytes: 1 << 20, erased: 0xff, ..Geometry::default() })
}

#[test]
fn areas_are_apart() {
    let mut card = small();
    for (n, area) in (1..).zip(Area::ALL) {
        card.write(area, 3, &[n; 1024]).unwrap();
    }
    for (n, area) in (1..).zip(Area::ALL) {
        let mut bytes = [0; 2048];
        card.read(area, 2, &mut bytes).unwrap();
        assert_eq!(bytes[..512], [0xff; 512]);
        assert_eq!(bytes[512..1536], [n; 1024]);
        assert_eq!(bytes[1536..], [0xff; 512]);
        let counters = card.counters(area);
        assert_eq!((counters.bytes_written, counters.bytes_read, counters.writes), (1024, 2048, 1));
    }
}

#[test]
fn the_end_is_the_end() {
    let mut card = small();
    assert_eq!(card.blocks(Area::User), 16_384);
    card.write(Area::User, 16_383, &[1; 512]).unwrap();
    let error = card.write(Area::User, 16_383, &[1; 1024]).unwrap_err();
    assert_eq!(error.to_string(), "2 blocks at 0x3fff are not within the 0x4000 blocks of User");
    assert!(card.read(Area::Boot0, u64::MAX, &mut [0; 512]).is_err());
    assert!(card.erase(Area::User, u64::MAX, 2).is_err());
    assert_eq!(card.write(Area::User, 0, &[0; 100]), Err(EmmcError::NotBlocks(100)));
}

#[test]
fn the_boot_switch_is_a_byte_of_ext_csd() {
    // ack 1, boot1, access boot0: 0b0_1_010_001.
    let conf = PartConf { ack: true, boot: 2, access: 1 };
    assert_eq!(conf.byte(), 0x51);
    assert_eq!(PartConf::from_byte(0x51), conf);
    assert_eq!(PartConf::from_byte(0xff), PartConf { ack: true, boot: 7, access: 7 });
    let mut card = small();
    card.set_partconf(conf).unwrap();
    assert_eq!(card.selected(), Area::Boot0);
    card.power_on();
    assert_eq!(card.partconf(), PartConf { access: 0, ..conf });
    let mut sd = Emmc::new(Geometry { boot_bytes: 0, ..Geometry::default() });
    assert_eq!(sd.set_partconf(conf), Err(EmmcError::NoBoot));
    assert_eq!(sd.select(Area::Boot1), Err(EmmcError::NoBoot));
}

#[test]
fn erasing_takes_whole_groups_and_trimming_does_not() {
    let mut card = small();
    card.write(Area::User, 0, &vec![7; 2 << 20]).unwrap();
    assert_eq!(card.erase(Area::User, 1023, 2).unwrap(), 2);
    assert_eq!(card.peek(Area::User, 0, 1 << 20).unwrap(), vec![0xff; 1 << 20]);
    assert_eq!(card.peek(Area::User, 1 << 20, 1).unwrap(), [7]);
    card.trim(Area::User, 2049, 1).unwrap();
    assert_eq!(card.peek(Area::User, 2048 * 512, 512).unwrap(), [7; 512]);
    assert_eq!(card.peek(Area::User, 2049 * 512, 512).unwrap(), [0xff; 512]);
    assert_eq!(card.peek(Area::User, 2050 * 512, 1).unwrap(), [7]);
    assert_eq!(card.counters(Area::User).bytes_erased, (1 << 20) + 512);
    assert_eq!(card.most_wear(Area::User), 2);
}

#[test]
fn bad_blocks_stop_at_the_block() {
    let mut card = small();
    card.add_defect(Area::User, 10..12, Defect::Write);
    let error = card.write(Area::User, 8, &[1; 2048]).unwrap_err();
    assert_eq!(error, EmmcError::Bad { area: Area::User, block: 10, done: 2 });
    assert_eq!(card.peek(Area::User, 8 * 512, 2048).unwrap(), [[1; 1024], [0xff; 1024]].concat());
    card.repair();
    card.add_defect(Area::User, 9..10, Defect::Lost);
    card.write(Area::User, 8, &[2; 2048]).unwrap();
    assert_eq!(card.peek(Area::User, 8 * 512, 2048).unwrap(), [[2; 512], [1; 512], [2; 512], [2; 512]].concat());
    card.add_defect(Area::User, 11..12, Defect::Read);
    let mut bytes = [0; 2048];
    let error = card.read(Area::User, 8, &mut bytes).unwrap_err();
    assert_eq!(error, EmmcError::Bad { area: Area::User, block: 11, done: 3 });
}

#[test]
fn weak_bits_go_wrong_as_often_as_told() {
    let mut card = small();
    card.weaken(Area::Boot1, 700, 0x10, 1);
    card.write(Area::Boot1, 0, &[0; 1024]).unwrap();
    assert_eq!(card.peek(Area::Boot1, 699, 3).unwrap(), [0, 0x10, 0]);
    card.write(Area::Boot1, 0, &[0; 1024]).unwrap();
    assert_eq!(card.peek(Area::Boot1, 699, 3).unwrap(), [0; 3]);
    card.flip(Area::Boot1, 0, 0xff);
    assert_eq!(card.peek(Area::Boot1, 0, 2).unwrap(), [0xff, 0]);
    card.flip(Area::Boot1, u64::MAX, 0xff);
}

#[test]
fn power_goes_between_blocks() {
    let mut card = small();
    card.cut_power_after(1536);
    card.write(Area::User, 0, &[1; 1024]).unwrap();
    assert_eq!(card.write(Area::User, 2, &[1; 1024]), Err(EmmcError::PowerCut { done: 1 }));
    assert_eq!(card.write(Area::User, 9, &[1; 512]), Err(EmmcError::PowerCut { done: 0 }));
    assert_eq!(card.peek(Area::User, 1536, 512).unwrap(), [0xff; 512]);
    card.power_on();
    card.write(Area::User, 9, &[1; 512]).unwrap();
}

#[test]
fn a_card_in_a_file_and_one_saved_to_a_file_are_the_same() {
    let bytes: Vec<u8> = (0..200_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    for erased in [0, 0xff] {
        let geometry = Geometry { user_bytes: 1 << 20, erased, ..Geometry::default() };
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let path = folder.path().join(name);
            std::fs::File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
        };
        let mut in_file = Emmc::new(geometry);
        in_file.use_file(Area::User, open("card")).unwrap();
        in_file.erase(Area::User, 0, 2048).unwrap();
        let mut in_memory = Emmc::new(geometry);
        for card in [&mut in_file, &mut in_memory] {
            card.write(Area::User, 400, &bytes[..199_680]).unwrap();
            card.trim(Area::User, 500, 100).unwrap();
            card.write(Area::Boot0, 0, &bytes[..512]).unwrap();
        }
        in_memory.save(Area::User, open("saved")).unwrap();
        in_memory.save(Area::Boot0, open("boot0")).unwrap();
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        assert!(read("card") == read("saved"));
        assert_eq!((read("card").len(), read("card")[0]), (1 << 20, erased));
        assert!(read("boot0")[..512] == bytes[..512] && read("boot0").len() == 4 << 20);
        // Opened again it is still there.
        let mut again = Emmc::new(geometry);
        again.use_file(Area::User, open("card")).unwrap();
        assert!(again.peek(Area::User, 400 * 512, 512).unwrap() == bytes[..512]);
    }
}
