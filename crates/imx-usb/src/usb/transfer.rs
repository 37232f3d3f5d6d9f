//! Transfers in flight: the one place that calls libusb directly.
//!
//! Why unsafe: rusb has no transfers that go on while this side does something else, and takes an open file only with a
//! promise that it stays open. What keeps it sound:
//!
//! - Each slot owns its buffer, its flag and its `libusb_transfer`. While in flight none of them is touched here; libusb
//!   may read and write them until the flag says that it is done.
//! - The flag is set by libusb while it handles events, which happens only in [`Lane::reap`]: each open device has a
//!   libusb context of its own, so no other thread does.
//! - A lane that is dropped takes back what is in flight. What does not come back is leaked, never freed.
//! - The device's handle outlives every lane, and its file outlives the handle.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};

use rusb::constants::{
    LIBUSB_ERROR_BUSY, LIBUSB_ERROR_INVALID_PARAM, LIBUSB_ERROR_IO, LIBUSB_ERROR_NO_DEVICE, LIBUSB_ERROR_NO_MEM,
    LIBUSB_ERROR_NOT_SUPPORTED, LIBUSB_TRANSFER_CANCELLED, LIBUSB_TRANSFER_COMPLETED, LIBUSB_TRANSFER_NO_DEVICE,
    LIBUSB_TRANSFER_OVERFLOW, LIBUSB_TRANSFER_STALL, LIBUSB_TRANSFER_TIMED_OUT, LIBUSB_TRANSFER_TYPE_BULK,
    LIBUSB_TRANSFER_TYPE_INTERRUPT,
};
use rusb::ffi::{libusb_alloc_transfer, libusb_cancel_transfer, libusb_free_transfer, libusb_submit_transfer};
use rusb::ffi::{libusb_fill_bulk_transfer, libusb_transfer};
use rusb::{Context, DeviceHandle, UsbContext};

use super::deadline::Deadline;
use super::queue::{End, GRACE, How, Refusal, Wire};
use crate::descriptors::{Endpoint, Kind};

/// An open device. Its interfaces are let go of when it is dropped.
#[derive(Debug)]
pub(super) struct Opened {
    // Dropped in this order: libusb uses the file until the handle is closed.
    handle: DeviceHandle<Context>,
    node: File,
}

impl Opened {
    /// Has libusb use the open device node `node`.
    pub(super) fn new(node: File) -> rusb::Result<Self> {
        look_for_no_devices();
        let context = Context::new()?;
        // SAFETY: the file is open, and stays so until after the handle is closed, as both are dropped in that order.
        let handle = unsafe { context.open_device_with_fd(node.as_raw_fd()) }?;
        Ok(Self { handle, node })
    }

    pub(super) fn handle(&self) -> &DeviceHandle<Context> {
        &self.handle
    }

    pub(super) fn node(&self) -> &File {
        &self.node
    }
}

/// Devices are found in sysfs; without this each context would look for them, and start a thread to go on looking. Old
/// versions do not know it, and look.
///
/// Once, before there is any context: libusb tells a context that it picks of this, too, and that one may be closing in
/// another thread.
fn look_for_no_devices() {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        let _ = rusb::disable_device_discovery();
    });
}

/// One transfer.
#[derive(Debug)]
struct Slot {
    raw: NonNull<libusb_transfer>,
    buffer: Vec<u8>,
    /// Set by libusb when it is done.
    done: Arc<AtomicBool>,
    in_flight: bool,
}

impl Slot {
    fn new() -> Option<Self> {
        // SAFETY: it takes any number of isochronous packets; a null pointer is no slot.
        let raw = NonNull::new(unsafe { libusb_alloc_transfer(0) })?;
        Some(Self { raw, buffer: Vec::new(), done: Arc::new(AtomicBool::new(false)), in_flight: false })
    }

    fn is_done(&self) -> bool {
        self.in_flight && self.done.load(Ordering::Acquire)
    }
}

/// The transfers of one endpoint.
#[derive(Debug)]
pub(super) struct Lane {
    opened: Arc<Opened>,
    endpoint: Endpoint,
    slots: Vec<Slot>,
}

// SAFETY: the pointers in it are to memory that only this lane and libusb use. libusb may be called from any thread, and
// a lane is used by one at a time (`&mut self`).
unsafe impl Send for Lane {}

impl Lane {
    pub(super) fn new(opened: Arc<Opened>, endpoint: Endpoint) -> Self {
        Self { opened, endpoint, slots: Vec::new() }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    pub(super) fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Starts a transfer from the device of up to `length` bytes, a multiple of whole packets.
    pub(super) fn submit_in(&mut self, slot: usize, length: usize) -> Result<(), Refusal> {
        self.prepare(slot, length)?.resize(length, 0);
        self.start(slot)
    }

    /// What a transfer from the device brought, once it was taken back.
    pub(super) fn received(&self, slot: usize) -> &[u8] {
        match self.slots.get(slot) {
            Some(slot) if !slot.in_flight => &slot.buffer,
            _ => &[],
        }
    }

    /// The emptied buffer of a slot that is not in flight, with room for `length` bytes.
    fn prepare(&mut self, slot: usize, length: usize) -> Result<&mut Vec<u8>, Refusal> {
        while self.slots.len() <= slot {
            self.slots.push(Slot::new().ok_or(Refusal::Memory)?);
        }
        let slot = &mut self.slots[slot];
        if slot.in_flight {
            return Err(Refusal::Other(rusb::Error::Busy));
        }
        slot.buffer.clear();
        slot.buffer.try_reserve_exact(length).map_err(|_| Refusal::Memory)?;
        Ok(&mut slot.buffer)
    }

    fn start(&mut self, slot: usize) -> Result<(), Refusal> {
        let slot = &mut self.slots[slot];
        let length = i32::try_from(slot.buffer.len()).map_err(|_| Refusal::Other(rusb::Error::InvalidParam))?;
        slot.done.store(false, Ordering::Release);
        // SAFETY: the transfer is allocated and not in flight. The buffer has `length` bytes and, like the flag, stays
        // where it is until the transfer is taken back (see above). No timeout: deadlines are kept by whoever reaps.
        let code = unsafe {
            libusb_fill_bulk_transfer(
                slot.raw.as_ptr(),
                self.opened.handle.as_raw(),
                self.endpoint.address,
                slot.buffer.as_mut_ptr(),
                length,
                ended,
                Arc::as_ptr(&slot.done).cast_mut().cast(),
                0,
            );
            (*slot.raw.as_ptr()).flags = 0;
            (*slot.raw.as_ptr()).transfer_type = match self.endpoint.kind {
                Kind::Interrupt => LIBUSB_TRANSFER_TYPE_INTERRUPT,
                _ => LIBUSB_TRANSFER_TYPE_BULK,
            };
            libusb_submit_transfer(slot.raw.as_ptr())
        };
        slot.in_flight = code == 0;
        match code {
            0 => Ok(()),
            LIBUSB_ERROR_NO_MEM => Err(Refusal::Memory),
            LIBUSB_ERROR_NO_DEVICE => Err(Refusal::Gone),
            LIBUSB_ERROR_IO => Err(Refusal::Other(rusb::Error::Io)),
            LIBUSB_ERROR_BUSY => Err(Refusal::Other(rusb::Error::Busy)),
            LIBUSB_ERROR_INVALID_PARAM => Err(Refusal::Other(rusb::Error::InvalidParam)),
            LIBUSB_ERROR_NOT_SUPPORTED => Err(Refusal::Other(rusb::Error::NotSupported)),
            _ => Err(Refusal::Other(rusb::Error::Other)),
        }
    }
}

impl Wire for Lane {
    fn submit(&mut self, slot: usize, bytes: &[u8]) -> Result<(), Refusal> {
        self.prepare(slot, bytes.len())?.extend_from_slice(bytes);
        self.start(slot)
    }

    fn reap(&mut self, until: Deadline) -> Result<Option<(usize, End)>, rusb::Error> {
        loop {
            let left = until.left();
            if let Some((number, slot)) = self.slots.iter_mut().enumerate().find(|(_, slot)| slot.is_done()) {
                slot.in_flight = false;
                // SAFETY: libusb is done with it, and it is not freed before the lane is dropped.
                let (status, length) = unsafe { (slot.raw.as_ref().status, slot.raw.as_ref().actual_length) };
                let bytes = usize::try_from(length).unwrap_or(0).min(slot.buffer.len());
                if self.endpoint.is_in() {
                    slot.buffer.truncate(bytes);
                }
                return Ok(Some((number, End { bytes, how: how(status) })));
            }
            // Even when there is no time, what has ended already is taken back: once after it was over.
            match self.opened.handle.context().handle_events(Some(left)) {
                Ok(()) | Err(rusb::Error::Interrupted) => {}
                Err(error) => return Err(error),
            }
            if left.is_zero() && !self.slots.iter().any(Slot::is_done) {
                return Ok(None);
            }
        }
    }

    fn cancel(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get(slot).filter(|slot| slot.in_flight) {
            // SAFETY: it was submitted and has not been taken back. It may have ended by now, which is an error that
            // does not matter.
            let _ = unsafe { libusb_cancel_transfer(slot.raw.as_ptr()) };
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        for slot in (0..self.slots.len()).rev() {
            self.cancel(slot);
        }
        let grace = Deadline::new(GRACE);
        while self.slots.iter().any(|slot| slot.in_flight) && matches!(self.reap(grace), Ok(Some(_))) {}
        for slot in self.slots.drain(..) {
            if slot.in_flight {
                std::mem::forget(slot);
            } else {
                // SAFETY: it is not in flight, and nobody uses it after this.
                unsafe { libusb_free_transfer(slot.raw.as_ptr()) };
            }
        }
    }
}

/// Called by libusb when a transfer ended.
extern "system" fn ended(transfer: *mut libusb_transfer) {
    // SAFETY: libusb calls this with a transfer that was submitted by `start`, whose `user_data` is its slot's flag. The
    // slot is neither freed nor used before the flag is set.
    unsafe { (*(*transfer).user_data.cast::<AtomicBool>()).store(true, Ordering::Release) };
}

fn how(status: i32) -> How {
    match status {
        LIBUSB_TRANSFER_COMPLETED => How::Done,
        LIBUSB_TRANSFER_CANCELLED | LIBUSB_TRANSFER_TIMED_OUT => How::Cancelled,
        LIBUSB_TRANSFER_STALL => How::Stalled,
        LIBUSB_TRANSFER_NO_DEVICE => How::Gone,
        LIBUSB_TRANSFER_OVERFLOW => How::Overflow,
        _ => How::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_device_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(Opened::new(file).is_err());
    }

    #[test]
    fn how_transfers_end() {
        assert_eq!(how(LIBUSB_TRANSFER_COMPLETED), How::Done);
        assert_eq!(how(LIBUSB_TRANSFER_STALL), How::Stalled);
        assert_eq!(how(LIBUSB_TRANSFER_NO_DEVICE), How::Gone);
        assert_eq!(how(99), How::Failed);
    }
}
