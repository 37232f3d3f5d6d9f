//! Which board it is: the chip, its identifiers, where its memory lies and which U-Boot it runs.
//!
//! USB identifiers come from `imx-usb`'s table; the rest is this crate's own, from NXP's U-Boot 2023.04 and upstream's
//! v2026.07.

use imx_usb::chips::{ChipTable, Protocol};

/// A chip on its evaluation kit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Model {
    /// i.MX8M Mini: SDP with an IVT, then SDPV, then fastboot.
    Imx8mm,
    /// i.MX8M Nano: streamed, then fastboot.
    Imx8mn,
    /// i.MX8M Plus: streamed, then fastboot.
    Imx8mp,
    /// i.MX93: streamed, then fastboot.
    Imx93,
    /// i.MX8QXP C0: loader container streamed, then SDPV, then fastboot.
    Imx8qxp,
    /// i.MX95: loader container streamed, then SDPV, then fastboot.
    Imx95,
}

/// Whose U-Boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tree {
    /// NXP's fork (2023.04).
    Nxp,
    /// Upstream (v2026.07), as a board that has fastboot with `UCmd` configures it.
    Upstream,
}

/// The form in which the ROM takes its loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RomKind {
    /// By SDP commands, with an IVT.
    SdpIvt,
    /// Streamed, with an IVT; the loader fetches the rest by itself.
    StreamIvt,
    /// Streamed, in containers; the loader fetches the rest by itself.
    StreamContainer,
    /// Streamed up to the end of the loader's container.
    LoaderContainer,
}

/// Numbers of a board under one U-Boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// First address of memory.
    pub ram: u64,
    /// Bytes of it.
    pub ram_bytes: u64,
    /// `loadaddr`.
    pub load_address: u64,
    /// Where fastboot puts a download.
    pub buffer: u64,
    /// What fastboot announces as the largest download.
    pub buffer_bytes: u32,
    /// U-Boot's number of the eMMC.
    pub emmc: u32,
    /// U-Boot's number of the SD slot.
    pub sd: u32,
}

/// Identifiers on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ids {
    /// `idVendor`.
    pub vendor: u16,
    /// `idProduct`.
    pub product: u16,
    /// `bcdDevice`.
    pub release: u16,
}

impl Model {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Imx8mm, Self::Imx8mn, Self::Imx8mp, Self::Imx93, Self::Imx8qxp, Self::Imx95];

    /// Its name in small letters without spaces, as in `imx8mp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Imx8mm => "imx8mm",
            Self::Imx8mn => "imx8mn",
            Self::Imx8mp => "imx8mp",
            Self::Imx93 => "imx93",
            Self::Imx8qxp => "imx8qxp",
            Self::Imx95 => "imx95",
        }
    }

    /// The one with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|model| model.name() == name)
    }

    /// The name that tools and the table of identifiers use.
    pub fn chip(self) -> &'static str {
        match self {
            Self::Imx8mm => "MX8MM",
            Self::Imx8mn => "MX815",
            Self::Imx8mp => "MX865",
            Self::Imx93 => "MX93",
            Self::Imx8qxp => "MX8QXP",
            Self::Imx95 => "MX95",
        }
    }

    /// The name of the evaluation kit, as U-Boot has it.
    pub fn board(self) -> &'static str {
        match self {
            Self::Imx8mm => "imx8mm_evk",
            Self::Imx8mn => "imx8mn_evk",
            Self::Imx8mp => "imx8mp_evk",
            Self::Imx93 => "imx93_evk",
            Self::Imx8qxp => "imx8qxp_mek",
            Self::Imx95 => "imx95_evk",
        }
    }

    /// The form in which its ROM takes a loader.
    pub fn rom(self) -> RomKind {
        match self {
            Self::Imx8mm => RomKind::SdpIvt,
            Self::Imx8mn | Self::Imx8mp => RomKind::StreamIvt,
            Self::Imx93 => RomKind::StreamContainer,
            Self::Imx8qxp | Self::Imx95 => RomKind::LoaderContainer,
        }
    }

    /// Bytes in a data report, without its identifier.
    pub fn report_payload(self) -> usize {
        match self {
            Self::Imx8mm | Self::Imx8qxp => 1024,
            Self::Imx8mn | Self::Imx8mp | Self::Imx93 | Self::Imx95 => 1020,
        }
    }

    /// Does its ROM take reports by an interrupt endpoint rather than SET_REPORT?
    pub fn has_out_endpoint(self) -> bool {
        self.report_payload() == 1020
    }

    /// Where the ROM looks for its loader, in bytes: in the user area of a card, and in a boot partition.
    pub fn loader_offset(self, in_boot: bool) -> u64 {
        match (self, in_boot) {
            (Self::Imx8mm, _) => 0x8400,
            (_, false) => 0x8000,
            (_, true) => 0,
        }
    }

    /// Identifiers of its ROM. A row for every release gets 0x0001; otherwise the row's first.
    pub fn rom_ids(self) -> Ids {
        let table = ChipTable::builtin();
        let row = table.ids().iter().find(|id| id.protocol.is_rom() && id.chip == self.chip());
        let ids = row.map(|id| Ids { vendor: id.vendor, product: id.product, release: (*id.release.start()).max(1) });
        ids.unwrap_or(Ids { vendor: 0x1fc9, product: 0, release: 1 })
    }

    /// Where things are.
    pub fn layout(self, tree: Tree) -> Layout {
        let (ram, load_address, buffer, buffer_bytes) = match self {
            Self::Imx8mp if tree == Tree::Upstream => (0x4000_0000, 0x4048_0000, 0x4280_0000, 0x2000_0000),
            Self::Imx8mm | Self::Imx8mn | Self::Imx8mp => (0x4000_0000, 0x4040_0000, 0x4280_0000, 0x4000_0000),
            Self::Imx8qxp => (0x8000_0000, 0x8020_0000, 0x8280_0000, 0x4000_0000),
            Self::Imx93 => (0x8000_0000, 0x8040_0000, 0x8280_0000, 0x2000_0000),
            // No source for i.MX95: taken to be as i.MX93, with its memory at 0x90000000.
            Self::Imx95 => (0x9000_0000, 0x9040_0000, 0x9280_0000, 0x2000_0000),
        };
        let emmc = if matches!(self, Self::Imx8mm | Self::Imx8mn | Self::Imx8mp) { 2 } else { 0 };
        Layout { ram, ram_bytes: 2 << 30, load_address, buffer, buffer_bytes, emmc, sd: 1 }
    }
}

impl Tree {
    /// Identifiers of its SPL as a serial download gadget.
    pub fn loader_ids(self) -> Ids {
        let vendor = if self == Self::Nxp { 0x1fc9 } else { 0x0525 };
        ids_of(Protocol::Sdpv, vendor, 0x0500)
    }

    /// Identifiers of its fastboot.
    pub fn fastboot_ids(self) -> Ids {
        match self {
            Self::Nxp => ids_of(Protocol::Fastboot, 0x1fc9, 0x0200),
            Self::Upstream => ids_of(Protocol::Fastboot, 0x0525, 0x2607),
        }
    }
}

/// Identifiers of the initramfs with the daemon `ufb`.
pub fn fbk_ids() -> Ids {
    let table = ChipTable::builtin();
    let row = table.ids().iter().rfind(|id| id.protocol == Protocol::Fbk && id.vendor == 0x066f);
    Ids { vendor: 0x066f, product: row.map_or(0, |id| id.product), release: 0x0100 }
}

fn ids_of(protocol: Protocol, vendor: u16, release: u16) -> Ids {
    let table = ChipTable::builtin();
    let row =
        table.ids().iter().find(|id| id.protocol == protocol && id.vendor == vendor && id.release.contains(&release));
    Ids { vendor, product: row.map_or(0, |id| id.product), release }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_those_of_the_table() {
        let ids: Vec<_> = Model::ALL.iter().map(|model| model.rom_ids().product).collect();
        assert_eq!(ids, [0x0134, 0x013e, 0x0146, 0x014e, 0x012f, 0x015d]);
        assert_eq!(Model::Imx8qxp.rom_ids(), Ids { vendor: 0x1fc9, product: 0x012f, release: 2 });
        assert_eq!(Tree::Nxp.loader_ids().product, 0x0151);
        assert_eq!(Tree::Upstream.loader_ids().product, 0xb4a4);
        assert_eq!(fbk_ids(), Ids { vendor: 0x066f, product: 0x9bff, release: 0x0100 });
        assert_eq!(Tree::Nxp.fastboot_ids().product, 0x0152);
        assert_eq!(Tree::Upstream.fastboot_ids().product, 0xa4a5);
    }
}
