//! `mapflash udev-rules`

use std::collections::BTreeMap;
use std::fmt::Write as _;

use imx_usb::chips::ChipTable;

use super::output;
use crate::args::UdevRulesArgs;
use crate::board;
use crate::error::AppError;

/// Where the rules go. `uaccess` has no effect in files that sort behind `73-seat-late.rules`.
pub(crate) const FILE: &str = "/etc/udev/rules.d/70-mapflash.rules";

/// Prints rules that let people open boards.
pub(crate) fn run(args: &UdevRulesArgs) -> Result<(), AppError> {
    let table = board::table(args.chips.as_deref())?;
    output::print(rules(&table, args.group.as_deref()).as_bytes())
}

/// Rules for every identifier of the table: for whoever sits at this machine, or for a group.
pub(crate) fn rules(table: &ChipTable, group: Option<&str>) -> String {
    let (whom, grant) = match group {
        None => ("whoever sits at this machine".to_owned(), "TAG+=\"uaccess\"".to_owned()),
        Some(group) => (format!("the group {group}"), format!("MODE=\"0660\", GROUP=\"{group}\"")),
    };
    let mut titles: BTreeMap<(u16, u16), Vec<&str>> = BTreeMap::new();
    for id in table.ids() {
        let title = match (table.chip_of(id), id.protocol) {
            // A row may be for a chip that is only like the one whose properties it has.
            (Some(chip), _) if chip.name == id.chip => &*chip.title,
            (Some(_), _) => &*id.chip,
            (None, protocol) if id.chip.is_empty() => {
                if protocol == imx_usb::chips::Protocol::Fbk {
                    "initramfs (FBK)"
                } else {
                    "U-Boot's fastboot"
                }
            }
            (None, _) => &*id.chip,
        };
        let known = titles.entry((id.vendor, id.product)).or_default();
        if !known.contains(&title) {
            known.push(title);
        }
    }
    let mut text = format!(
        "# Lets {whom} open i.MX boards: their boot ROMs, loaders, and U-Boot's fastboot.\n\
         # Made by 'mapflash udev-rules'; belongs into {FILE}\n\
         # (a number below 73, or uaccess has no effect). Then: udevadm control --reload; udevadm trigger\n\
         \n\
         ACTION==\"remove\", GOTO=\"mapflash_end\"\n\
         SUBSYSTEM!=\"usb\", GOTO=\"mapflash_end\"\n\
         ENV{{DEVTYPE}}!=\"usb_device\", GOTO=\"mapflash_end\"\n"
    );
    for ((vendor, product), titles) in titles {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n# {}\nATTR{{idVendor}}==\"{vendor:04x}\", ATTR{{idProduct}}==\"{product:04x}\", {grant}, \
             ENV{{ID_MM_DEVICE_IGNORE}}=\"1\"\n",
            titles.join(", ")
        );
    }
    text.push_str("\nLABEL=\"mapflash_end\"\n");
    text
}
