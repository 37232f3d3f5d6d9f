use super::config::{ConfigError, Problem, read_cfg, read_config};
use super::*;

#[test]
fn every_row_is_found_by_its_own_numbers() {
    let table = ChipTable::builtin();
    assert_eq!(table.ids().len(), 41);
    for id in table.ids() {
        for release in [*id.release.start(), *id.release.end()] {
            let found = table.identify(id.vendor, id.product, release).expect("it is in the table");
            assert_eq!(found.id.protocol, id.protocol, "{id:x?}");
            assert_eq!(found.id.chip, id.chip, "{id:x?}");
            let rom_or_loader = !matches!(id.protocol, Protocol::Fastboot | Protocol::Fbk);
            assert_eq!(found.chip.is_some(), rom_or_loader, "{id:x?}");
        }
    }
}

#[test]
fn releases_tell_loaders_apart() {
    let table = ChipTable::builtin();
    let protocol = |release| table.identify(0x0525, 0xb4a4, release).map(|found| found.id.protocol);
    assert_eq!(protocol(0x0223), Some(Protocol::Sdpu));
    assert_eq!(protocol(0x04ff), Some(Protocol::Sdpu));
    assert_eq!(protocol(0x0500), Some(Protocol::Sdpv));
    assert_eq!(protocol(0x9998), Some(Protocol::Sdpv));
    assert_eq!(protocol(0x9999), Some(Protocol::Sdpu));
    assert_eq!(protocol(0x999a), None);
    assert_eq!(table.near_misses(0x0525, 0xb4a4).count(), 3);
    // i.MX8QXP A0 has another ROM.
    assert_eq!(table.identify(0x1fc9, 0x012f, 1), None);
    assert_eq!(table.near_misses(0x1fc9, 0x012f).count(), 1);
}

/// The facts that decide what goes over the wire, as `uuu` 1.5.243 has them.
#[test]
fn wire_facts() {
    let table = ChipTable::builtin();
    let facts = |name: &str| {
        let chip = table.chip(name).expect("built in");
        (chip.free_address, chip.skip_dcd, chip.report_payload, chip.route, chip.stream)
    };
    use ReportRoute::{Control, Endpoint1};
    use StreamExtent::{LoaderContainer, WholeFile};
    assert_eq!(facts("MX6Q"), (Some(0x0091_0000), false, 1024, Control, WholeFile));
    assert_eq!(facts("MX7D"), (Some(0x0091_1000), true, 1024, Control, WholeFile));
    assert_eq!(facts("MX8MM"), facts("MX8MQ"));
    assert_eq!(facts("MX8QM"), (None, false, 1024, Control, LoaderContainer));
    assert_eq!(facts("MX865"), (None, false, 1020, Endpoint1, WholeFile));
    assert_eq!(facts("MX93"), facts("MX815"));
    assert_eq!(facts("MX95"), (None, false, 1020, Endpoint1, LoaderContainer));
    assert_eq!(facts("MX952"), facts("MX95"));
    assert!(table.chips().iter().filter(|chip| chip.command_block).map(|chip| &*chip.name).eq(["MX28"]));
    for chip in table.chips() {
        assert!((1..=1024).contains(&chip.report_payload));
        if let Some(memory) = chip.memory {
            assert!(memory.scratch().end - memory.scratch().start >= 32 << 20, "{}", chip.name);
        }
    }
}

#[test]
fn cfg_lines_as_uuu_takes_them() {
    let mut table = ChipTable::builtin();
    // The numbers of the example, and a word that uuu would pass over.
    let (id, ignored) = read_cfg("SDP: -vid 0x1fc9 -pid 308 -chip MX8XX -compatible MX8MM extra", 7, 6).unwrap();
    assert_eq!((id.vendor, id.product, id.release.clone()), (0x1fc9, 0x134, 0..=0xffff));
    assert_eq!((ignored[0].line, ignored[0].column, &*ignored[0].word), (7, 62, "extra"));
    table.add_id(id);
    // It took the place of the row for the same device, and its chip comes by compatibility.
    assert_eq!(table.ids().len(), 41);
    let found = table.identify(0x1fc9, 0x0134, 0).unwrap();
    assert_eq!((&*found.id.chip, found.chip.unwrap().name.as_ref()), ("MX8XX", "MX8MM"));
}

#[test]
fn a_row_for_all_releases_does_not_replace_a_narrow_one() {
    let mut table = ChipTable::builtin();
    read_config(&mut table, "CFG: FB: -vid 0x0525 -pid 0xb4a4").unwrap();
    assert_eq!(table.ids().len(), 42);
    assert_eq!(table.identify(0x0525, 0xb4a4, 0x0500).unwrap().id.protocol, Protocol::Sdpv);
    assert_eq!(table.identify(0x0525, 0xb4a4, 0xa000).unwrap().id.protocol, Protocol::Fastboot);
    read_config(&mut table, "cfg: fastboot: -vid 0x0525 -pid 0xb4a4 -bcdmin 0x500 -bcdmax 0x9998").unwrap();
    assert_eq!(table.ids().len(), 42);
    assert_eq!(table.identify(0x0525, 0xb4a4, 0x0500).unwrap().id.protocol, Protocol::Fastboot);
}

#[test]
fn a_configuration_file_adds_a_chip() {
    let mut table = ChipTable::builtin();
    let text = "# our board\n\nCHIP: MX99 -compatible MX93 -title i.MX99 -payload 512 -route control -next SDPV,FB \
                -useroffset 0x8000 -bootoffset 0x1000 -loadaddr 0x90000000 -buffer 0x98000000 -buffersize 0x1000000\n\
                CFG: SDPS: -vid 0x1234 -pid 0x5678 -chip MX99 # bench\n";
    assert_eq!(read_config(&mut table, text).unwrap(), []);
    let chip = table.identify(0x1234, 0x5678, 0x100).unwrap().chip.unwrap();
    assert_eq!((&*chip.title, chip.report_payload, chip.route), ("i.MX99", 512, ReportRoute::Control));
    assert_eq!(*chip.next, [Protocol::Sdpv, Protocol::Fastboot]);
    assert_eq!(chip.loader_offset, Some(LoaderOffset { user: 0x8000, boot: Some(0x1000) }));
    assert_eq!(chip.memory.unwrap().scratch(), 0x9000_0000..0x9800_0000);
}

#[test]
fn wrong_lines_say_where_and_change_nothing() {
    let cases: [(&str, usize, usize, &str); 14] = [
        ("\nHELLO", 2, 1, "a line begins with \"CFG:\" or \"CHIP:\", not \"HELLO\""),
        ("CFG:", 1, 5, "the protocol is missing"),
        ("CFG: SDP -vid 1", 1, 6, "\"SDP\" is no protocol; known are SDP:, SDPS:, SDPU:, SDPV:, FB: and FBK:"),
        ("CFG: SDP: -vid 0x10000 -pid 1", 1, 16, "-vid wants a number from 0 to 0xffff, not \"0x10000\""),
        ("CFG: SDP: -vid +1 -pid 1", 1, 16, "-vid wants a number from 0 to 0xffff, not \"+1\""),
        ("CFG: SDP: -vid 1", 1, 17, "-pid is missing"),
        ("CFG: SDP: -vid 1 -pid", 1, 22, "-pid wants a value"),
        ("CFG: FB: -vid 1 -pid 2 -bcdmin 3 -bcdmax 2", 1, 43, "-bcdmin 0x0003 is above -bcdmax 0x0002"),
        ("CFG: FB: -vid 1 -pid 2\nCHIP: X", 2, 8, "-compatible is missing"),
        ("CHIP: X -compatible MX1", 1, 21, "no chip is called \"MX1\""),
        ("CHIP: Ü -skipdcd maybe -compatible MX93", 1, 18, "-skipdcd wants one of yes and no, not \"maybe\""),
        ("CHIP: X -compatible MX93 -payload 0", 1, 26, "-payload cannot be 0x0"),
        ("CHIP: X -compatible MX93 -quick", 1, 26, "\"-quick\" is no option of a CHIP: line"),
        (
            "CHIP: X -compatible MX93 -buffer 1",
            1,
            35,
            "one of -loadaddr, -buffer and -buffersize (all or none) is missing",
        ),
    ];
    for (text, line, column, message) in cases {
        let mut table = ChipTable::builtin();
        let error = read_config(&mut table, text).expect_err(text);
        assert_eq!(error.to_string(), format!("line {line}, column {column}: {message}"));
        assert_eq!(table, ChipTable::builtin(), "{text}");
    }
    let long = " ".repeat(config::MAX_CONFIG_BYTES + 1);
    let error = read_config(&mut ChipTable::builtin(), &long);
    assert!(matches!(error, Err(ConfigError { problem: Problem::TooLong(_), .. })));
}

#[test]
fn cards_of_another_board_come_in_pairs() {
    let mut table = ChipTable::builtin();
    assert_eq!(table.chip("MX8MM").and_then(|chip| chip.cards), Some(Cards { emmc: 2, sd: 1 }));
    read_config(&mut table, "CHIP: MX8MM -compatible MX8MM -emmc 0 -sd 1").unwrap();
    assert_eq!(table.chip("MX8MM").and_then(|chip| chip.cards), Some(Cards { emmc: 0, sd: 1 }));
    let error = read_config(&mut table, "CHIP: MX8MM -compatible MX8MM -emmc 0").unwrap_err();
    assert!(matches!(error, ConfigError { problem: Problem::Missing(_), .. }));
}
