//! What a board says on endpoint 0: descriptors, and answers to control requests, as bytes.
//!
//! Requests that reach the board's own program (HID reports) are only recognised here; carrying them there is the
//! transport's business. Left out: other languages than US English, Windows' descriptors, and everything isochronous.
//!
//! Sources: USB 2.0 chapter 9, USB 3.2 chapter 9, HID 1.11; of the devices, what NXP's and U-Boot's gadgets show.

mod descriptors;

use crate::board::Device;

#[cfg(feature = "host")]
pub(crate) use descriptors::string;
pub use descriptors::{configuration, device, hid_report};

/// A control request's eight bytes, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetupPacket {
    /// `bmRequestType`.
    pub kind: u8,
    /// `bRequest`.
    pub request: u8,
    /// `wValue`.
    pub value: u16,
    /// `wIndex`.
    pub index: u16,
    /// `wLength`.
    pub length: u16,
}

impl SetupPacket {
    /// From the bytes on the wire.
    pub fn decode(bytes: [u8; 8]) -> Self {
        let [kind, request, v0, v1, i0, i1, l0, l1] = bytes;
        let word = |low, high| u16::from_le_bytes([low, high]);
        Self { kind, request, value: word(v0, v1), index: word(i0, i1), length: word(l0, l1) }
    }

    /// The bytes on the wire.
    pub fn encode(self) -> [u8; 8] {
        let [v0, v1] = self.value.to_le_bytes();
        let [i0, i1] = self.index.to_le_bytes();
        let [l0, l1] = self.length.to_le_bytes();
        [self.kind, self.request, v0, v1, i0, i1, l0, l1]
    }
}

/// What becomes of a control request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These bytes, not more than were asked for; none for a request that sends.
    Data(Vec<u8>),
    /// Done, and the device begins anew: endpoints run, whatever was under way is forgotten.
    Restarted,
    /// The data of this request is a HID report for the board's program, its identifier first.
    Report,
    /// Refused.
    Stall,
}

/// What a device remembers on endpoint 0.
#[derive(Debug, Clone, Default)]
pub struct Function {
    configuration: u8,
    /// Endpoints that stall until the host clears them, by address.
    halted: Vec<u8>,
}

// Standard requests, by what they go to and whether they bring data.
const IN_DEVICE: u8 = 0x80;
const IN_INTERFACE: u8 = 0x81;
const IN_ENDPOINT: u8 = 0x82;
const TO_DEVICE: u8 = 0x00;
const TO_INTERFACE: u8 = 0x01;
const TO_ENDPOINT: u8 = 0x02;
const CLASS_TO_INTERFACE: u8 = 0x21;

impl Function {
    /// Does this endpoint stall until the host clears it?
    pub fn is_halted(&self, endpoint: u8) -> bool {
        self.halted.contains(&endpoint)
    }

    /// An endpoint of the device stalls from now on. Endpoint 0 never stays so.
    pub fn halt(&mut self, endpoint: u8) {
        if endpoint & 0x0f != 0 && !self.is_halted(endpoint) {
            self.halted.push(endpoint);
        }
    }

    /// Answers a request, except that nothing moves between board and host here.
    pub fn answer(&mut self, device: &Device, setup: SetupPacket) -> Answer {
        let hid = device.class[0] == 3;
        let endpoint = u8::try_from(setup.index).ok().filter(|at| device.endpoints.iter().any(|it| it.address == *at));
        match (setup.kind, setup.request) {
            (IN_DEVICE, 0x06) => data(descriptors::standard(device, setup.value), setup),
            (IN_INTERFACE, 0x06) if hid => data(descriptors::of_hid(device, setup.value), setup),
            // GET_STATUS: self-powered.
            (IN_DEVICE, 0x00) => data(Some(vec![1, 0]), setup),
            (IN_INTERFACE, 0x00) => data(Some(vec![0, 0]), setup),
            (IN_ENDPOINT, 0x00) => match endpoint {
                Some(endpoint) => data(Some(vec![u8::from(self.is_halted(endpoint)), 0]), setup),
                None if setup.index & 0x7f == 0 => data(Some(vec![0, 0]), setup),
                None => Answer::Stall,
            },
            // GET_CONFIGURATION and GET_INTERFACE.
            (IN_DEVICE, 0x08) => data(Some(vec![self.configuration]), setup),
            (IN_INTERFACE, 0x0a) => data(Some(vec![0]), setup),
            // SET_CONFIGURATION and SET_INTERFACE.
            (TO_DEVICE, 0x09) => match u8::try_from(setup.value) {
                Ok(number @ 0..=1) => {
                    self.configuration = number;
                    self.halted.clear();
                    Answer::Restarted
                }
                _ => Answer::Stall,
            },
            (TO_INTERFACE, 0x0b) if (setup.value, setup.index) == (0, 0) => {
                self.halted.clear();
                Answer::Data(Vec::new())
            }
            // CLEAR_FEATURE and SET_FEATURE of ENDPOINT_HALT.
            (TO_ENDPOINT, 0x01) if setup.value == 0 => {
                self.halted.retain(|halted| Some(*halted) != endpoint);
                Answer::Data(Vec::new())
            }
            (TO_ENDPOINT, 0x03) if setup.value == 0 => match endpoint {
                Some(endpoint) => {
                    self.halt(endpoint);
                    Answer::Data(Vec::new())
                }
                None => Answer::Stall,
            },
            // Features of device and interface (remote wake-up, power states), SET_SEL, SET_ISOCH_DELAY: no effect.
            (TO_DEVICE | TO_INTERFACE, 0x01 | 0x03) | (TO_DEVICE, 0x30 | 0x31) => Answer::Data(Vec::new()),
            // SET_REPORT of an output report, and SET_IDLE.
            (CLASS_TO_INTERFACE, 0x09) if hid && setup.value >> 8 == 2 => Answer::Report,
            (CLASS_TO_INTERFACE, 0x0a) if hid => Answer::Data(Vec::new()),
            _ => Answer::Stall,
        }
    }
}

fn data(bytes: Option<Vec<u8>>, setup: SetupPacket) -> Answer {
    match bytes {
        Some(mut bytes) => {
            bytes.truncate(usize::from(setup.length));
            Answer::Data(bytes)
        }
        None => Answer::Stall,
    }
}

#[cfg(test)]
mod tests;
