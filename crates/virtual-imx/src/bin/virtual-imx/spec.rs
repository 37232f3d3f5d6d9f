//! Boards and faults as they are written on the command line.

use std::path::PathBuf;
use std::str::FromStr;

use virtual_imx::board::{BootMode, Setup};
use virtual_imx::emmc::Geometry;
use virtual_imx::fault::{Fault, script};
use virtual_imx::model::{Model, Tree};
use virtual_imx::rom::Hab;

/// Where a board begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// In its ROM, or booted from its card.
    PowerOn,
    /// In U-Boot's fastboot.
    UBoot,
    /// In the initramfs with the daemon of FBK.
    Fbk,
}

/// A board of the command line.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// All that was said of it. Port and number are set later if they were not given.
    pub(crate) setup: Setup,
    pub(crate) port: Option<String>,
    pub(crate) uid: Option<u64>,
    pub(crate) start: Start,
    pub(crate) file: Option<PathBuf>,
}

fn size(text: &str) -> Option<u64> {
    let unit = |suffix, shift: u32| text.strip_suffix(suffix).map(|digits| (digits, shift));
    let (digits, shift) = unit('K', 10).or_else(|| unit('M', 20)).or_else(|| unit('G', 30)).unwrap_or((text, 0));
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let model = Model::from_name(name).ok_or_else(|| format!("there is no model {name:?}"))?;
        let mut spec =
            Self { setup: Setup::new(model, Tree::Nxp), port: None, uid: None, start: Start::PowerOn, file: None };
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is not KEY=VALUE"))?;
            spec.set(key, value).ok_or_else(|| format!("{part:?} means nothing here"))?;
        }
        Ok(spec)
    }
}

impl Spec {
    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        let setup = &mut self.setup;
        match (key, value) {
            ("tree", "nxp") => setup.tree = Tree::Nxp,
            ("tree", "upstream") => setup.tree = Tree::Upstream,
            ("port", port) => self.port = Some(port.to_owned()),
            ("superspeed", port) => setup.super_speed = Some(port.to_owned()),
            ("uid", digits) => self.uid = Some(u64::from_str_radix(digits, 16).ok()?),
            ("hab", "open") => setup.hab = Hab::Open,
            ("hab", "closed") => setup.hab = Hab::Closed,
            ("boot", "serial") => setup.boot = BootMode::Serial,
            ("boot", "card") => setup.boot = BootMode::Card,
            ("stage", "rom") => self.start = Start::PowerOn,
            ("stage", "uboot") => self.start = Start::UBoot,
            ("stage", "fbk") => self.start = Start::Fbk,
            ("boots", "system") => setup.fbk = false,
            ("boots", "fbk") => setup.fbk = true,
            ("emmc", bytes) => setup.emmc.user_bytes = size(bytes)?,
            ("sd", bytes) => setup.sd = Some(Geometry { user_bytes: size(bytes)?, ..Geometry::default() }),
            ("part", "yes" | "no") => setup.part = value == "yes",
            ("ram", bytes) => setup.ram = Some(size(bytes)?),
            ("erased", "00") => setup.emmc.erased = 0,
            ("erased", "ff") => setup.emmc.erased = 0xff,
            ("file", path) => self.file = Some(path.into()),
            _ => return None,
        }
        Some(())
    }
}

/// Faults, of one board or of all.
#[derive(Debug, Clone)]
pub(crate) struct FaultsOf {
    pub(crate) port: Option<String>,
    pub(crate) faults: Vec<Fault>,
}

impl FaultsOf {
    /// Reads `[PORT=]SCRIPT` or `[PORT=]@FILE`.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        // A port has no spaces, and no fault begins with a word that has a `=`.
        let port = text.split_once('=').filter(|(port, _)| !port.contains(char::is_whitespace));
        let (port, rest) = port.map_or((None, text), |(port, rest)| (Some(port.to_owned()), rest));
        let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let lines = match rest.strip_prefix('@') {
            Some(path) => read(path)?,
            None => rest.to_owned(),
        };
        Ok(Self { port, faults: script(&lines).map_err(|error| error.to_string())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_are_read() {
        let spec: Spec =
            "imx8mp,tree=upstream,port=1-3,uid=ab,hab=closed,boot=card,emmc=4G,sd=64M,erased=ff,stage=uboot,file=/x"
                .parse()
                .unwrap();
        assert_eq!((spec.setup.model, spec.setup.tree), (Model::Imx8mp, Tree::Upstream));
        assert_eq!((spec.port.as_deref(), spec.uid, spec.start), (Some("1-3"), Some(0xab), Start::UBoot));
        assert_eq!((spec.setup.emmc.user_bytes, spec.setup.emmc.erased), (4 << 30, 0xff));
        assert_eq!((spec.setup.sd.unwrap().user_bytes, spec.file), (64 << 20, Some("/x".into())));
        for wrong in ["", "imx6", "imx93,", "imx93,tree", "imx93,tree=x", "imx93,emmc=4T", "imx93,colour=red"] {
            assert!(wrong.parse::<Spec>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn faults_are_of_a_board_or_of_all() {
        let faults = FaultsOf::read("1-2=rom enter hang; uboot cmd 1 UCmd:a=b stall").unwrap();
        assert_eq!((faults.port.as_deref(), faults.faults.len()), (Some("1-2"), 2));
        assert_eq!(FaultsOf::read("uboot cmd 1 UCmd:a=b stall").unwrap().port, None);
        assert!(FaultsOf::read("@/nowhere").is_err() && FaultsOf::read("rom enter").is_err());
    }
}
