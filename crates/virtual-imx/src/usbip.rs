//! Boards as USB devices of other programs and of the kernel, by USB/IP.
//!
//! - [`wire`]: messages about transfers, both ways, as bytes.
//! - [`operation`]: the questions before: which devices are there, and may I have that one.
//! - [`urbs`]: a device's transfers: what is pending, what is answered, what is called off.
//! - [`serve`]: those over a socket, by two threads.
//! - [`vhci`]: boards on the kernel's virtual host controller, without any network or tool.
//! - [`server`]: a listener for the stock `usbip` tool and for this project's own client.
//!
//! Only what i.MX boards need is there: control, bulk and interrupt transfers. Sources: the kernel's description of the
//! protocol (`usbip_protocol`), and what vhci was seen to send and to take.

pub mod operation;
pub mod serve;
pub mod server;
mod stop;
mod stream;
pub mod urbs;
pub mod vhci;
pub mod wire;

pub use stop::Stop;
#[cfg(feature = "host")]
pub(crate) use stream::write_both;
pub use stream::{Address, Listener, Stream};
