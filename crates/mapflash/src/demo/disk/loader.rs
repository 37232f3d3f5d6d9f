//! A boot loader where the ROM of an i.MX8M looks for it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::content::{Content, Kind};
use super::{BLOCK, Store as _, index};

/// Where the image vector table lies: 33 KiB from the start of an SD card or of the user area, as the i.MX 8M Mini
/// reference manual says (chapter "System boot", table "Image Vector Table Offset and Initial Load Region Size").
const IVT_AT: u64 = 33 * 1024;

/// Where the ROM loads the table to: 64 bytes before the entry, in the on-chip RAM.
const LOAD_TO: u32 = 0x007e_0fc0;

/// Writes a loader that fills blocks 8 to 8 + `blocks` - 1, its vector table in the first of them.
pub(super) fn write(file: &File, blocks: u32, content: &mut Content) -> io::Result<()> {
    let bytes = blocks * BLOCK - 1024;
    let mut loader = vec![0; index(bytes)];
    content.fill(Kind::Code, &mut loader[64..]);
    // The table: tag D1, length 0x20 (big endian), version 0x41; entry, (reserved), DCD, boot data, self, CSF.
    loader.bytes(0, &[0xd1, 0x00, 0x20, 0x41]);
    loader.u32(4, LOAD_TO + 64);
    loader.u32(16, LOAD_TO + 32);
    loader.u32(20, LOAD_TO);
    // Boot data: where the image goes, its length, whether it is a plugin.
    loader.u32(32, LOAD_TO);
    loader.u32(36, bytes);
    file.write_all_at(&loader, IVT_AT)
}
