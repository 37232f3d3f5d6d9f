//! Traces: what `uuu` 1.5.243 was seen to send to a board that answers like these, byte for byte but for the padding
//! of the last data report (zeros here) and `uuu`'s reading on after a jump.

use super::*;
use crate::chips::ChipTable;
use crate::pipe::script::{Script, Step, gone, out, reply, silence};

fn settings(chip: &str) -> Settings {
    ChipTable::builtin().chip(chip).expect("built in").into()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap()).collect()
}

fn data(bytes: &[u8]) -> impl Iterator<Item = Step> {
    bytes.chunks(1024).map(|part| {
        let mut report = vec![2];
        report.extend(part);
        report.resize(1025, 0);
        out(report)
    })
}

fn answer(status: &str) -> [Step; 2] {
    [reply(hex("03 56787856")), reply(hex(&format!("04 {status}")))]
}

/// 0x4800 bytes that begin with an IVT and do not repeat by 1024.
fn image() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..0x4800u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    bytes[..4].copy_from_slice(&[0xd1, 0x00, 0x20, 0x40]);
    bytes[12..16].copy_from_slice(&0x877f_f42cu32.to_le_bytes());
    bytes
}

const DCD: [u8; 12] = [0xd2, 0, 12, 0x40, 0xcc, 0, 8, 4, 0, 0, 0, 0];

#[test]
fn an_imx6_has_its_ivt_sent_again() {
    let image = image();
    let mut cleared = image[..1024].to_vec();
    cleared[12..16].fill(0);
    let mut steps = vec![out(hex("01 0A0A 00910000 00 0000000C 00000000 00"))];
    steps.extend(data(&DCD));
    steps.extend(answer("128A8A12"));
    steps.push(out(hex("01 0404 877FF400 00 00004800 00000000 00")));
    assert_eq!(data(&image).count(), 18);
    steps.extend(data(&image));
    steps.extend(answer("88888888"));
    steps.push(out(hex("01 0404 877FF400 00 00000400 00000000 00")));
    steps.extend(data(&cleared));
    steps.extend(answer("88888888"));
    steps.push(out(hex("01 0B0B 877FF400 00 00000000 00000000 00")));
    steps.push(silence());
    let mut session = Session::new(Script::new(steps), settings("MX6Q"));
    let load = Load { address: 0x877f_f400, bytes: &image, dcd: Some(&DCD) };
    let mut most = 0;
    assert_eq!(session.boot(&load, &mut |sent| most = sent).unwrap(), Jump::Silent);
    assert_eq!((most, session.hab()), (0x4800, Some(HabState::Open)));
    session.into_pipe().finish();
}

#[test]
fn an_imx7_skips_the_dcd() {
    let image = image();
    let mut steps = vec![out(hex("01 0A0A 00911000 00 0000000C 00000000 00"))];
    steps.extend(data(&DCD));
    steps.extend(answer("128A8A12"));
    steps.push(out(hex("01 0404 877FF400 00 00004800 00000000 00")));
    steps.extend(data(&image));
    steps.extend(answer("88888888"));
    steps.push(out(hex("01 0C0C 00000000 00 00000000 00000000 00")));
    steps.extend(answer("09D00D90"));
    steps.push(out(hex("01 0B0B 877FF400 00 00000000 00000000 00")));
    steps.extend(answer("09D00D90"));
    let mut session = Session::new(Script::new(steps), settings("MX7D"));
    let load = Load { address: 0x877f_f400, bytes: &image, dcd: Some(&DCD) };
    assert_eq!(session.boot(&load, &mut |_| {}).unwrap(), Jump::Status(DONE_JUMP));
    session.into_pipe().finish();
}

#[test]
fn registers_and_status() {
    let mut steps = vec![out(hex("01 0101 020C8000 20 00000004 00000000 00"))];
    steps.extend(answer("78563412"));
    steps.push(out(hex("01 0101 020C8001 08 00000001 00000000 00")));
    steps.extend(answer("5A5A5A5A"));
    steps.push(out(hex("01 0202 020C8000 20 00000004 12345678 00")));
    steps.extend(answer("128A8A12"));
    steps.push(out(hex("01 0505 00000000 00 00000000 00000000 00")));
    steps.extend([reply(hex("03 12343412")), reply(hex("04 F0F0F0F0"))]);
    let mut session = Session::new(Script::new(steps), settings("MX6Q"));
    let reading = session.read_register(0x020c_8000, Access::Word).unwrap();
    assert_eq!(reading, Reading { value: 0x1234_5678, hab: HabState::Open });
    assert_eq!(session.read_register(0x020c_8001, Access::Byte).unwrap().value, 0x5a);
    session.write_register(0x020c_8000, Access::Word, 0x1234_5678).unwrap();
    assert_eq!(session.error_status().unwrap(), (HabState::Closed, 0xf0f0_f0f0));
    assert_eq!(session.hab(), Some(HabState::Closed));
    session.into_pipe().finish();
}

#[test]
fn a_rom_takes_two_mebibytes_at_a_time_and_a_loader_everything() {
    let bytes: Vec<u8> = (0..0x20_0401u32).map(|n| u8::try_from(n % 253).unwrap()).collect();
    let mut steps = vec![out(hex("01 0404 40000000 00 00200000 00000000 00"))];
    steps.extend(data(&bytes[..0x20_0000]));
    steps.extend(answer("88888888"));
    steps.push(out(hex("01 0404 40200000 00 00000401 00000000 00")));
    steps.extend(data(&bytes[0x20_0000..]));
    steps.extend(answer("88888888"));
    let mut session = Session::new(Script::new(steps), settings("MX8MM"));
    session.write_file(0x4000_0000, &bytes, &mut |_| {}).unwrap();
    session.into_pipe().finish();

    // What an SPL is sent after an i.MX8QXP's ROM took the rest of a file of 0x60000 bytes.
    let bytes = &bytes[..0x4_2800];
    let mut steps = vec![out(hex("01 0404 00000000 00 00042800 00000000 00"))];
    assert_eq!(data(bytes).count(), 266);
    steps.extend(data(bytes));
    steps.extend(answer("88888888"));
    steps.push(out(hex("01 0B0B 00000000 00 00000000 00000000 00")));
    steps.push(gone());
    let mut session = Session::new(Script::new(steps), settings("SPL1"));
    session.write_file(0, bytes, &mut |_| {}).unwrap();
    assert_eq!(session.jump(0).unwrap(), Jump::Silent);
    session.into_pipe().finish();
}

#[test]
fn refusals_and_broken_pipes_say_what_was_going_on() {
    let mut steps = vec![out(hex("01 0404 00001000 00 00000001 00000000 00"))];
    steps.extend(data(&[7]));
    steps.extend([reply(hex("03 12343412")), reply(hex("04 33533533"))]);
    let mut session = Session::new(Script::new(steps), settings("MX6Q"));
    let error = session.write_file(0x1000, &[7], &mut |_| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sending 1 bytes to 0x00001000: the board says 0x33355333 instead of 0x88888888 (HAB closed)"
    );

    let steps = [out(hex("01 0C0C 00000000 00 00000000 00000000 00")), reply(hex("04 56787856"))];
    let error = Session::new(Script::new(steps), settings("MX7D")).skip_dcd().unwrap_err();
    assert!(matches!(error, SdpError::Reply { source: ReplyError::Identifier { expected: 3, found: 4 }, .. }));

    let steps = [out(hex("01 0A0A 00910000 00 0000000C 00000000 00")), gone()];
    let error = Session::new(Script::new(steps), settings("MX6Q")).write_dcd(&DCD).unwrap_err();
    assert!(matches!(&error, SdpError::Transfer { source, .. } if source.is_gone()), "{error:?}");
    assert_eq!(error.to_string(), "sending a DCD of 12 bytes by way of 0x00910000");
}

#[test]
fn a_file_must_fit_into_the_address_space() {
    let mut steps = vec![out(hex("01 0404 FFFFFFFE 00 00000002 00000000 00"))];
    steps.extend(data(&[1, 2]));
    steps.extend(answer("88888888"));
    let mut session = Session::new(Script::new(steps), settings("SPL"));
    session.write_file(0xffff_fffe, &[1, 2], &mut |_| {}).unwrap();
    let error = session.write_file(0xffff_fffe, &[1, 2, 3], &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "3 bytes from 0xfffffffe end beyond the chip's address space");
    session.into_pipe().finish();
}

#[test]
fn a_boot_log_is_one_byte_a_report_and_bounded() {
    let steps = ["04 000000 55", "04 000000 2D", "04"].map(|report| reply(hex(report)));
    let mut session = Session::new(Script::new(steps), settings("MX8MM"));
    let log = session.boot_log(Duration::from_secs(2), 100);
    assert_eq!(log, BootLog { bytes: b"U-".to_vec(), cut: false });
    session.into_pipe().finish();
    let steps = [reply(hex("04 000000 55")), reply(hex("04 000000 2D"))];
    let mut session = Session::new(Script::new(steps), settings("MX8MM"));
    assert_eq!(session.boot_log(Duration::from_secs(2), 1), BootLog { bytes: b"U".to_vec(), cut: true });
}
