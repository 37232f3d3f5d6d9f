//! The boot switch of an eMMC: which partition the board boots from, and whether the card acknowledges.
//!
//! U-Boot's `mmc partconf` sets both at once, and tells only the partition in a way that every board can be asked. The
//! ack bit is printed, and what is printed comes to the host only where the console can go to fastboot (NXP's tree). So
//! a switch that points right is left alone, and where the bit stays unknown the report says so.

use std::sync::{Arc, Mutex, PoisonError};

use imx_usb::fastboot::{FastbootError, Message};

use super::BoardError;
use super::uboot::{Area, Command, Uboot};

/// The switch, as far as the board tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Switch {
    /// 0 none, 1 boot0, 2 boot1, 7 user area.
    pub(super) boot: Option<u8>,
    /// Does the card acknowledge?
    pub(super) ack: Option<bool>,
}

/// Reads the switch.
pub(super) fn read(uboot: &mut Uboot) -> Result<Switch, FastbootError> {
    let device = uboot.profile.device;
    let mut boot = None;
    if uboot.profile.values && uboot.try_run(format!("mmc partconf {device} fastboot.bp"))? {
        boot = uboot.value("bp")?.and_then(|text| text.trim().parse().ok());
    }
    let said = listen(uboot, &format!("mmc partconf {device}"))?;
    let number = |name: &str| {
        let after = said.split(name).nth(1)?.trim_start_matches([':', ' ']).trim_start_matches("0x");
        after.chars().next().and_then(|digit| digit.to_digit(16))
    };
    let told = number("BOOT_PARTITION_ENABLE").and_then(|boot| u8::try_from(boot).ok());
    Ok(Switch { boot: boot.or(told), ack: number("BOOT_ACK").map(|ack| ack != 0) })
}

/// What a command prints, where that can be heard. The console goes where it went before afterwards.
fn listen(uboot: &mut Uboot, command: &str) -> Result<String, FastbootError> {
    let heard = Arc::new(Mutex::new(String::new()));
    let ear = Arc::clone(&heard);
    uboot.session.observe(move |message| {
        let (Message::Info(text) | Message::Text(text)) = message;
        let mut heard = ear.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() < 4096 {
            heard.push_str(text);
        }
    });
    let mut run = |text: &str| uboot.try_run(text.to_owned());
    if run("setenv mfout ${stdout}")? {
        if run("setenv stdout serial,fastboot")? {
            run(command)?;
        }
        run("setenv stdout ${mfout}")?;
        run("setenv mfout")?;
    }
    uboot.session.observe(|_| {});
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(heard.clone())
}

/// Turns the switch from what it was to `area`; true if its ack bit is what it was.
pub(super) fn turn(uboot: &mut Uboot, before: Switch, area: Area) -> Result<bool, BoardError> {
    let (device, boot) = (uboot.profile.device, area.number());
    if before.boot == Some(boot) {
        return Ok(true);
    }
    let ack = match before.ack {
        Some(ack) => ack,
        None => wanted_ack(uboot)?,
    };
    let turned = uboot.command(&[Command::PartConf { device, ack, boot }], 0)?;
    let now = read(uboot)?;
    if !turned || now.boot.is_some_and(|now| now != boot) {
        return Err(BoardError::Cannot { what: "write a boot partition", why: "its boot switch does not turn" });
    }
    Ok(before.ack.is_some())
}

/// The ack bit where nobody can tell what it was: what the board's own variable says, as factory scripts take it. Without
/// one it is off, for a ROM asks for it only where its fuses say so.
fn wanted_ack(uboot: &mut Uboot) -> Result<bool, FastbootError> {
    if !uboot.profile.values || !uboot.try_run("setenv fastboot.a ${emmc_ack}".to_owned())? {
        return Ok(false);
    }
    let value = uboot.value("a")?;
    uboot.try_run("setenv fastboot.a".to_owned())?;
    Ok(value.as_deref().map(str::trim) == Some("1"))
}
