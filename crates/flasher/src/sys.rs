//! The few system calls that no safe wrapper covers: block device ioctls (`linux/fs.h`) and `sync_file_range(2)`.
//!
//! This is the crate's only file with `unsafe`. Each call takes an open file and either nothing or a pointer to a local
//! of exactly the type that the kernel writes.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use bmap::ByteRange;

mod raw {
    nix::ioctl_read_bad!(blksszget, 0x1268, nix::libc::c_int);
    nix::ioctl_read_bad!(blkroget, 0x125e, nix::libc::c_int);
    nix::ioctl_none_bad!(blkrrpart, 0x125f);
}

/// Logical block size of a block device in bytes (`BLKSSZGET`).
pub(crate) fn logical_block(device: &File) -> io::Result<u32> {
    let mut size: nix::libc::c_int = 0;
    // SAFETY: the ioctl writes one int to a live local.
    unsafe { raw::blksszget(device.as_raw_fd(), &raw mut size) }?;
    u32::try_from(size).ok().filter(|size| size.is_power_of_two()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("the kernel reports a logical block size of {size}"))
    })
}

/// Whether the kernel holds the block device read-only (`BLKROGET`).
pub(crate) fn read_only(device: &File) -> io::Result<bool> {
    let mut flag: nix::libc::c_int = 0;
    // SAFETY: the ioctl writes one int to a live local.
    unsafe { raw::blkroget(device.as_raw_fd(), &raw mut flag) }?;
    Ok(flag != 0)
}

/// Makes the kernel read the partition table again (`BLKRRPART`); fails with EBUSY while a partition is in use and with
/// EINVAL on devices that have no partitions.
pub(crate) fn reread_table(device: &File) -> io::Result<()> {
    // SAFETY: the ioctl takes no argument.
    unsafe { raw::blkrrpart(device.as_raw_fd()) }?;
    Ok(())
}

/// Starts writing the dirty pages of `extent` to the medium and does not wait (`SYNC_FILE_RANGE_WRITE`).
pub(crate) fn start_write_back(file: &File, extent: ByteRange) -> io::Result<()> {
    sync_range(file, extent, nix::libc::SYNC_FILE_RANGE_WRITE)
}

/// Waits until the dirty pages of `extent` have been written (but not flushed from the device's own cache).
pub(crate) fn wait_write_back(file: &File, extent: ByteRange) -> io::Result<()> {
    let flags = nix::libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | nix::libc::SYNC_FILE_RANGE_WRITE
        | nix::libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_range(file, extent, flags)
}

fn sync_range(file: &File, extent: ByteRange, flags: nix::libc::c_uint) -> io::Result<()> {
    let out_of_range = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let start = i64::try_from(extent.start()).map_err(out_of_range)?;
    let len = i64::try_from(extent.len()).map_err(out_of_range)?;
    // SAFETY: no memory is passed; the descriptor is open for as long as `file` is borrowed.
    if unsafe { nix::libc::sync_file_range(file.as_raw_fd(), start, len, flags) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
