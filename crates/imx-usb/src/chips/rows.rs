//! The built-in rows.
//!
//! Sources: identifiers, report sizes, endpoint rule, free addresses and skip-DCD as NXP's `uuu` 1.5.243 prints and
//! sends them; loader offsets from the bootloader offset function of NXP's U-Boot 2023.04, and for i.MX6 and 7 from
//! their reference manuals' program image chapters; memory and numbers of cards from the
//! same U-Boot's evaluation kit configurations.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::{Cards, Chip, ImageFormat, LoaderOffset, Memory, Protocol, ReportRoute, StreamExtent, UsbId};

const NXP: u16 = 0x1fc9;
const FREESCALE: u16 = 0x15a2;
const SIGMATEL: u16 = 0x066f;
const NETCHIP: u16 = 0x0525;
const BOUNDARY: u16 = 0x3016;
const ANY: RangeInclusive<u16> = 0..=0xffff;
/// Revision A0 of i.MX8QXP and 8QM, release 1, has another ROM.
const B0_ON: RangeInclusive<u16> = 2..=0xffff;
/// U-Boot counts its release up from 0x0500 since it looks for U-Boot proper itself; 0x9999 stands for "not set".
const OLD_SPL: RangeInclusive<u16> = 0..=0x04ff;
const NEW_SPL: RangeInclusive<u16> = 0x0500..=0x9998;

fn row(
    protocol: Protocol,
    chip: &'static str,
    compatible: &'static str,
    (vendor, product): (u16, u16),
    release: RangeInclusive<u16>,
) -> UsbId {
    let compatible = (!compatible.is_empty()).then_some(Cow::Borrowed(compatible));
    UsbId { protocol, chip: Cow::Borrowed(chip), compatible, vendor, product, release }
}

/// Identifiers, first match first.
pub(super) fn ids() -> Vec<UsbId> {
    use Protocol::{Fastboot, Fbk, Sdp, Sdps, Sdpu, Sdpv};
    vec![
        row(Sdps, "MX8QXP", "", (NXP, 0x012f), B0_ON),
        row(Sdps, "MX8QM", "MX8QXP", (NXP, 0x0129), B0_ON),
        row(Sdps, "MX8DXL", "MX8QXP", (NXP, 0x0147), ANY),
        row(Sdps, "MX28", "", (FREESCALE, 0x004f), ANY),
        row(Sdps, "MX815", "", (NXP, 0x013e), ANY),
        row(Sdps, "MX865", "MX815", (NXP, 0x0146), ANY),
        row(Sdps, "MX8ULP", "MX815", (NXP, 0x014a), ANY),
        row(Sdps, "MX8ULP", "MX815", (NXP, 0x014b), ANY),
        row(Sdps, "MX93", "MX815", (NXP, 0x014e), ANY),
        row(Sdps, "MX91", "MX815", (NXP, 0x0159), ANY),
        row(Sdps, "MX95", "", (NXP, 0x015d), ANY),
        row(Sdps, "MX95", "", (NXP, 0x015c), ANY),
        row(Sdps, "MX943", "MX95", (NXP, 0x0027), ANY),
        row(Sdps, "MX952", "MX95", (NXP, 0x0028), ANY),
        row(Sdp, "MX7D", "", (FREESCALE, 0x0076), ANY),
        row(Sdp, "MX6Q", "", (FREESCALE, 0x0054), ANY),
        row(Sdp, "MX6D", "MX6Q", (FREESCALE, 0x0061), ANY),
        row(Sdp, "MX6SL", "MX6Q", (FREESCALE, 0x0063), ANY),
        row(Sdp, "MX6SX", "MX6Q", (FREESCALE, 0x0071), ANY),
        row(Sdp, "MX6UL", "MX7D", (FREESCALE, 0x007d), ANY),
        row(Sdp, "MX6ULL", "MX7D", (FREESCALE, 0x0080), ANY),
        row(Sdp, "MX6SLL", "MX7D", (NXP, 0x0128), ANY),
        row(Sdp, "MX7ULP", "", (NXP, 0x0126), ANY),
        row(Sdp, "MXRT106X", "", (NXP, 0x0135), ANY),
        row(Sdp, "MX8MM", "MX8MQ", (NXP, 0x0134), ANY),
        row(Sdp, "MX8MQ", "MX8MQ", (NXP, 0x012b), ANY),
        row(Sdpu, "SPL", "SPL", (NETCHIP, 0xb4a4), OLD_SPL),
        row(Sdpv, "SPL1", "SPL", (NETCHIP, 0xb4a4), NEW_SPL),
        row(Sdpv, "SPL1", "SPL", (NXP, 0x0151), NEW_SPL),
        row(Sdpu, "SPL", "SPL", (NETCHIP, 0xb4a4), 0x9999..=0x9999),
        row(Sdpu, "SPL", "SPL", (BOUNDARY, 0x1001), OLD_SPL),
        row(Sdpv, "SPL1", "SPL", (BOUNDARY, 0x1001), NEW_SPL),
        row(Fbk, "", "", (SIGMATEL, 0x9afe), ANY),
        row(Fbk, "", "", (SIGMATEL, 0x9bff), ANY),
        row(Fbk, "", "", (NXP, 0x0153), ANY),
        row(Fastboot, "", "", (NETCHIP, 0xa4a5), ANY),
        row(Fastboot, "", "", (0x18d1, 0x0d02), ANY),
        row(Fastboot, "", "", (BOUNDARY, 0x0001), ANY),
        row(Fastboot, "", "", (NXP, 0x0152), ANY),
        row(Fastboot, "", "", (0x0483, 0x0afb), ANY),
        row(Fastboot, "", "", (0x1d6b, 0x0104), ANY),
    ]
}

/// What an SDP ROM takes in one file write; larger files go in several.
const ROM_WRITE_LIMIT: u32 = 0x20_0000;

/// i.MX6, and where the others start from.
fn sdp(name: &'static str, title: &'static str) -> Chip {
    Chip {
        name: Cow::Borrowed(name),
        title: Cow::Borrowed(title),
        report_payload: 1024,
        route: ReportRoute::Control,
        free_address: Some(0x0091_0000),
        skip_dcd: false,
        write_limit: Some(ROM_WRITE_LIMIT),
        command_block: false,
        stream: StreamExtent::WholeFile,
        format: ImageFormat::Ivt,
        barebox_second_stage: false,
        serial_string: None,
        loader_offset: Some(LoaderOffset { user: 0x400, boot: Some(0x400) }),
        // A loader without SPL starts fastboot at once.
        next: Cow::Borrowed(&[Protocol::Sdpv, Protocol::Sdpu, Protocol::Fastboot]),
        memory: None,
        cards: None,
    }
}

/// An SDP ROM that knows how to skip a DCD.
fn sdp_skip(name: &'static str, title: &'static str) -> Chip {
    Chip { skip_dcd: true, ..sdp(name, title) }
}

/// i.MX8M Quad and Mini.
fn sdp_8m(name: &'static str, title: &'static str) -> Chip {
    Chip {
        barebox_second_stage: true,
        serial_string: Some(4),
        loader_offset: Some(LoaderOffset { user: 0x8400, boot: Some(0x8400) }),
        next: Cow::Borrowed(&[Protocol::Sdpv, Protocol::Sdpu]),
        memory: Some(MEMORY_8M),
        ..sdp_skip(name, title)
    }
}

/// i.MX8/8X: reports by the control pipe, the loader's container only.
fn sdps_8x(name: &'static str, title: &'static str) -> Chip {
    Chip {
        free_address: None,
        write_limit: None,
        stream: StreamExtent::LoaderContainer,
        format: ImageFormat::Container,
        serial_string: Some(4),
        loader_offset: Some(LoaderOffset { user: 0x8000, boot: Some(0) }),
        next: Cow::Borrowed(&[Protocol::Sdpv]),
        ..sdp(name, title)
    }
}

/// i.MX9 as far as streaming goes: endpoint 1, the loader's container only.
fn sdps_95(name: &'static str, title: &'static str) -> Chip {
    Chip { route: ReportRoute::Endpoint1, report_payload: 1020, ..sdps_8x(name, title) }
}

/// Chips whose loader fetches the rest through the ROM.
fn sdps_rom_api(name: &'static str, title: &'static str, format: ImageFormat) -> Chip {
    Chip { stream: StreamExtent::WholeFile, format, next: Cow::Borrowed(&[Protocol::Fastboot]), ..sdps_95(name, title) }
}

/// A loader: nothing is known about the chip below it.
fn spl(name: &'static str, title: &'static str) -> Chip {
    Chip {
        free_address: None,
        write_limit: None,
        format: ImageFormat::Loader,
        loader_offset: None,
        next: Cow::Borrowed(&[Protocol::Fastboot]),
        ..sdp(name, title)
    }
}

/// As the variables `emmc_dev` and `sd_dev` of NXP's kits have it.
const EMMC_2: Option<Cards> = Some(Cards { emmc: 2, sd: 1 });
const EMMC_0: Option<Cards> = Some(Cards { emmc: 0, sd: 1 });

const MEMORY_8M: Memory =
    Memory { load_address: 0x4040_0000, fastboot_buffer: 0x4280_0000, fastboot_buffer_bytes: 0x4000_0000 };
const MEMORY_8X: Memory =
    Memory { load_address: 0x8020_0000, fastboot_buffer: 0x8280_0000, fastboot_buffer_bytes: 0x4000_0000 };
const MEMORY_93: Memory =
    Memory { load_address: 0x8040_0000, fastboot_buffer: 0x8280_0000, fastboot_buffer_bytes: 0x2000_0000 };

/// Chips and loaders.
pub(super) fn chips() -> Vec<Chip> {
    use ImageFormat::{BootStream, Container, Ivt};
    vec![
        Chip {
            command_block: true,
            stream: StreamExtent::WholeFile,
            format: BootStream,
            serial_string: None,
            loader_offset: None,
            next: Cow::Borrowed(&[]),
            ..sdps_8x("MX28", "i.MX28")
        },
        sdp("MX6Q", "i.MX6 Quad/Dual"),
        sdp("MX6D", "i.MX6 DualLite/Solo"),
        sdp("MX6SL", "i.MX6SL"),
        sdp("MX6SX", "i.MX6SX"),
        sdp_skip("MX6UL", "i.MX6UL"),
        sdp_skip("MX6ULL", "i.MX6ULL"),
        sdp_skip("MX6SLL", "i.MX6SLL"),
        Chip { free_address: Some(0x0091_1000), ..sdp_skip("MX7D", "i.MX7 Dual/Solo") },
        Chip { free_address: Some(0x2f01_8000), ..sdp_skip("MX7ULP", "i.MX7ULP") },
        Chip {
            free_address: Some(0x0000_1000),
            loader_offset: None,
            next: Cow::Borrowed(&[]),
            ..sdp_skip("MXRT106X", "i.MX RT1060")
        },
        Chip { cards: EMMC_0, ..sdp_8m("MX8MQ", "i.MX8M Quad") },
        Chip { cards: EMMC_2, ..sdp_8m("MX8MM", "i.MX8M Mini") },
        Chip { memory: Some(MEMORY_8M), cards: EMMC_2, ..sdps_rom_api("MX815", "i.MX8M Nano", Ivt) },
        Chip { memory: Some(MEMORY_8M), cards: EMMC_2, ..sdps_rom_api("MX865", "i.MX8M Plus", Ivt) },
        Chip {
            loader_offset: Some(LoaderOffset { user: 0x8000, boot: None }),
            memory: Some(MEMORY_8X),
            cards: EMMC_0,
            ..sdps_8x("MX8QXP", "i.MX8QXP")
        },
        Chip { memory: Some(MEMORY_8X), cards: EMMC_0, ..sdps_8x("MX8QM", "i.MX8QM") },
        sdps_8x("MX8DXL", "i.MX8DXL"),
        Chip { memory: Some(MEMORY_93), ..sdps_rom_api("MX8ULP", "i.MX8ULP", Container) },
        sdps_rom_api("MX91", "i.MX91", Container),
        Chip { memory: Some(MEMORY_93), cards: EMMC_0, ..sdps_rom_api("MX93", "i.MX93", Container) },
        sdps_95("MX95", "i.MX95"),
        Chip { loader_offset: None, ..sdps_95("MX943", "i.MX943") },
        Chip { loader_offset: None, ..sdps_95("MX952", "i.MX952") },
        spl("SPL", "U-Boot SPL"),
        spl("SPL1", "U-Boot SPL"),
    ]
}
