//! What other readers say of boot images, against what is said here.
//!
//! `data/readings.json` holds what NXP's SPSDK and U-Boot's `dumpimage` say of the images in `data/`; `data/make.py`
//! wrote it. Where SPSDK is installed (`MAPFLASH_SPSDK` names its Python) both are asked again, and of an image for
//! every chip that SPSDK knows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in helpers outside of tests too")]

mod support;

use std::path::Path;
use std::process::Command;

use imx_usb::bootimage::container::{Container, Signer};
use imx_usb::bootimage::describe::{Finding, describe};
use imx_usb::bootimage::ivt::{self, Ivt, Signature};
use serde_json::{Value, json};
use support::{data, fixture};

fn container(container: &Container) -> Value {
    let image = |entry: &imx_usb::bootimage::container::Entry| {
        json!({
            "offset": entry.offset, "length": entry.length, "load": entry.load, "entry": entry.entry,
            "flags": entry.flags, "type": entry.kind(), "core": entry.core(),
            "encrypted": container.is_encrypted(entry),
        })
    };
    let signer = match container.signer() {
        Signer::Nobody => "none",
        Signer::Nxp => "nxp",
        Signer::Oem => "oem",
        Signer::Unknown => "unknown",
    };
    json!({
        "at": container.at, "tag": container.tag, "version": container.version, "length": container.length,
        "flags": container.flags, "signed_by": signer, "software_version": container.software_version,
        "fuse_version": container.fuse_version, "images": container.entries.iter().map(image).collect::<Vec<_>>(),
    })
}

/// The loader's containers, and those of U-Boot proper if there are some: as SPSDK's segments have them.
fn sets(bytes: &[u8]) -> Value {
    let (mut loader, mut uboot) = (Vec::new(), Vec::new());
    for finding in describe(bytes).findings {
        match finding {
            Finding::Container(found) => loader.push(container(&found)),
            Finding::UBoot(found) => uboot.push(container(&found)),
            _ => {}
        }
    }
    let sets = [loader, uboot];
    sets.into_iter().filter(|set| !set.is_empty()).collect()
}

fn table(ivt: &Ivt, bytes: &[u8]) -> Value {
    let boot = ivt.boot.unwrap();
    json!({
        "at": ivt.at, "version": ivt.version, "entry": ivt.entry, "dcd": ivt.dcd, "boot_data": ivt.boot_data,
        "address": ivt.address, "csf": ivt.csf, "start": boot.start, "length": boot.length, "plugin": boot.plugin,
        "dcd_length": ivt.dcd_bytes(bytes).unwrap().map(<[u8]>::len),
        "signed": ivt.signature(bytes) == Signature::Present,
    })
}

/// Compares with what SPSDK says; true if there was something to compare.
fn agrees_with_spsdk(name: &str, bytes: &[u8], reading: &Value) -> bool {
    if let Some(expected) = reading.get("sets") {
        assert_eq!(&sets(bytes), expected, "{name}");
    }
    if let Some(expected) = reading.get("tables") {
        let tables: Vec<_> = ivt::tables(bytes).collect();
        let expected = expected.as_array().unwrap();
        assert_eq!(tables.len(), expected.len(), "{name}");
        for (ivt, expected) in tables.iter().zip(expected) {
            if expected.get("refused").is_some() {
                // Boot data that no image of a board's maker has, or none: the table for the signature of a FIT.
                assert!((ivt.is_hdmi_firmware() || ivt.boot.is_none()) && expected["at"] == ivt.at, "{name}");
            } else {
                assert_eq!(&table(ivt, bytes), expected, "{name}");
                assert!(!ivt.is_hdmi_firmware(), "{name}");
            }
        }
    }
    for segment in reading.get("segments").and_then(Value::as_array).into_iter().flatten() {
        // SPSDK says where in the storage the header is; the image follows a fixed length later.
        assert_eq!(segment, &json!({ "name": "fcb", "at": 0x400 }), "{name}");
        assert!(describe(bytes).findings.contains(&Finding::FlexSpi(0)), "{name}");
    }
    reading.get("sets").or(reading.get("tables")).is_some()
}

/// Compares with the lines of `dumpimage -l`; true if there was something to compare.
fn agrees_with_dumpimage(name: &str, bytes: &[u8], reading: &Value) -> bool {
    let Some(lines) = reading.get("dumpimage").and_then(Value::as_array) else { return false };
    let lines: Vec<_> = lines.iter().map(|line| line.as_str().unwrap()).collect();
    let value = |key: &str| {
        let rest = lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        rest.unwrap_or_else(|| panic!("{name}: no {key} in {lines:?}")).trim()
    };
    let count = |key: &str| value(key).split(' ').next().unwrap().parse::<u64>().unwrap();
    let hex = |key: &str| u32::from_str_radix(value(key), 16).unwrap();
    let findings = describe(bytes).findings;
    if lines.iter().any(|line| line.starts_with("Image Ver:    2 (i.MX53/6/7")) {
        let ivt = Ivt::read(bytes, 0).unwrap();
        let boot = ivt.boot.unwrap();
        if boot.plugin == 0 {
            // It prints the address of the boot data under this name.
            let expected = (count("Data Size"), hex("Load Address"), hex("Entry Point"));
            assert_eq!((u64::from(boot.length), ivt.boot_data, ivt.entry), expected, "{name}");
        } else {
            let expected = (count("Plugin Data Size"), hex("Plugin Load Address"), hex("Plugin Entry Point"));
            assert_eq!((u64::from(boot.length), boot.start, ivt.entry), expected, "{name}");
        }
        if ivt.csf != 0 {
            let blocks = format!("{:#010x} 0x00000000 {:#010x}", ivt.address, ivt.csf - ivt.address);
            assert_eq!(value("HAB Blocks"), blocks, "{name}");
            let dcd = ivt.dcd_bytes(bytes).unwrap().unwrap();
            let blocks = format!("0x00910000 {:#010x} {:#010x}", ivt.dcd - ivt.address, dcd.len());
            assert_eq!(value("DCD Blocks"), blocks, "{name}");
        }
    } else if lines.iter().any(|line| line.starts_with("Image 0 (")) {
        // It opens a FIT; here no more is known than how long it is with its images.
        let len = u64::try_from(bytes.len()).unwrap();
        let is_it = |finding: &Finding| matches!(finding, Finding::Fit(fit) if (fit.at, fit.whole) == (0, len));
        assert!(findings.iter().any(is_it), "{name}");
        assert!(describe(bytes).problems.is_empty(), "{name}");
    } else {
        let legacy = findings.iter().find_map(|finding| match finding {
            Finding::Legacy(legacy) => Some(legacy),
            _ => None,
        });
        let legacy = legacy.unwrap_or_else(|| panic!("{name}: dumpimage says {lines:?}"));
        assert_eq!((legacy.at, u64::from(legacy.length)), (0, count("Data Size")), "{name}");
        assert_eq!(legacy.name, value("Image Name"), "{name}");
    }
    true
}

#[test]
fn recorded_readings() {
    let text = std::fs::read_to_string(data().join("readings.json")).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    let (mut by_spsdk, mut by_dumpimage) = (0, 0);
    for (name, reading) in recorded["readings"].as_object().unwrap() {
        let name = name.strip_suffix(".gz").unwrap();
        let bytes = fixture(name);
        by_spsdk += usize::from(agrees_with_spsdk(name, &bytes, reading));
        by_dumpimage += usize::from(agrees_with_dumpimage(name, &bytes, reading));
    }
    assert!(by_spsdk >= 35 && by_dumpimage >= 15, "compared {by_spsdk} and {by_dumpimage}");
}

/// Images that are as their makers made them have nothing wrong with them. Of Debian's, the code is left out, which only
/// they who hash it can notice.
#[test]
fn nothing_is_wrong_with_them() {
    for entry in std::fs::read_dir(data()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(name) = name.strip_suffix(".gz") else { continue };
        let description = describe(&fixture(name));
        assert!(!description.findings.is_empty(), "{name}");
        assert_eq!(description.problems, [], "{name}: {description}");
    }
}

#[test]
fn readings_of_today() {
    let Some(python) = std::env::var_os("MAPFLASH_SPSDK") else {
        println!("skipped: MAPFLASH_SPSDK does not name a Python that has SPSDK");
        return;
    };
    let ran = |arguments: &[&Path]| {
        let ran = Command::new(&python).arg(data().join("make.py")).args(arguments).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        ran.stdout
    };
    // The fixtures again: whatever version of SPSDK and dumpimage this is.
    let readings: Value = serde_json::from_slice(&ran(&[Path::new("read")])).unwrap();
    for (name, reading) in readings.as_object().unwrap() {
        let name = name.strip_suffix(".gz").unwrap();
        let bytes = fixture(name);
        agrees_with_spsdk(name, &bytes, reading);
        agrees_with_dumpimage(name, &bytes, reading);
    }
    // And an image for every chip.
    let folder = std::env::temp_dir().join(format!("mapflash-sweep-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    ran(&[Path::new("sweep"), &folder]);
    let text = std::fs::read_to_string(folder.join("readings.json")).unwrap();
    let swept: Value = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for (name, reading) in swept["readings"].as_object().unwrap() {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        compared += usize::from(agrees_with_spsdk(name, &bytes, reading));
        agrees_with_dumpimage(name, &bytes, reading);
        assert_eq!(describe(&bytes).problems, [], "{name}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    println!("compared {compared} images");
    assert!(compared >= 100, "{compared}");
}
