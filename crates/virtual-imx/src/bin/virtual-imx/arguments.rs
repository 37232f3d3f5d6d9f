//! The command line.

use std::path::PathBuf;

use clap::Parser;
use virtual_imx::timing::Timing;
use virtual_imx::usbip::Address;

use crate::spec::{FaultsOf, Spec};

const AFTER: &str = "\
A board is MODEL[,KEY=VALUE…]. Models: imx8mm, imx8mn, imx8mp, imx93, imx8qxp, imx95. Keys:
  tree=nxp|upstream     whose U-Boot (nxp)
  port=1-1              where it is plugged in (1-1, 1-2, … in the order given)
  superspeed=2-1        the faster side of that connector, where U-Boot then comes up
  uid=0123456789abcdef  the number in its fuses (1, 2, … in the order given)
  hab=open|closed       takes unsigned images or not (open)
  boot=serial|card      its boot switches (serial)
  stage=rom|uboot|fbk   where it begins (rom)
  boots=system|fbk      what U-Boot boots: something that is not on USB, or an initramfs with FBK (system)
  emmc=SIZE sd=SIZE     bytes of its eMMC (15758000128) and of a card in its SD slot (none); K, M, G are powers of 1024
  ram=SIZE              bytes of memory (2G)
  part=yes|no           whether its U-Boot has the command `part` (yes)
  erased=00|ff          what erased bytes of its eMMC read as (00)
  file=PATH             keeps the user area of the eMMC in this file

Examples:
  virtual-imx --model imx8mm --vhci
  virtual-imx --model imx8mp,file=card.img --model imx93,port=1-4 --listen unix:/tmp/boards --timing imx8m
  virtual-imx --model imx8mp,stage=uboot --listen tcp:127.0.0.1:3240 --faults 'uboot at 1000000 unplug back 500'";

/// Runs virtual i.MX boards: boot ROM, loader, U-Boot's fastboot and eMMC.
#[derive(Debug, Parser)]
#[command(version, after_long_help = AFTER)]
pub(crate) struct Arguments {
    /// A board; may be given several times.
    #[arg(long = "model", value_name = "MODEL[,KEY=VALUE…]", required = true)]
    pub(crate) boards: Vec<Spec>,

    /// Attach them to the kernel's virtual host controller (module vhci_hcd; needs root).
    #[arg(long)]
    pub(crate) vhci: bool,

    /// Where sysfs has that controller.
    #[arg(long, value_name = "FOLDER", default_value = virtual_imx::usbip::vhci::SYSFS)]
    pub(crate) sysfs: PathBuf,

    /// Serve USB/IP there, for the usbip tool and for this project's client: unix:PATH or tcp:HOST:PORT.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Vec<Address>,

    /// Serve fastboot over UDP on this port of 127.0.0.1, of the first board; of the second on the next, and so on.
    #[arg(long, value_name = "PORT")]
    pub(crate) udp: Option<u16>,

    /// What goes wrong, of all boards or of the one at a port: a script, or @FILE with one.
    #[arg(long, value_name = "[PORT=]SCRIPT", value_parser = FaultsOf::read)]
    pub(crate) faults: Vec<FaultsOf>,

    /// How long things take: instant, imx8m or plain, then KEY=VALUE, as in imx8m,bus=15M,command=10ms.
    #[arg(long, value_name = "TIMING", default_value = "instant")]
    pub(crate) timing: Timing,

    /// The boards share a bus that carries so many bytes a second, such as 40M.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) hub: Option<u64>,

    /// Let time pass as it is needed rather than really. By default waiting is waiting.
    #[arg(long)]
    pub(crate) simulated_time: bool,

    /// Write the eMMCs there at the end: PORT.user, PORT.boot0 and PORT.boot1.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dump_emmc: Option<PathBuf>,

    /// Write every command, answer, transfer and stage there, as JSON lines with times in seconds.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,

    /// End by itself after so long.
    #[arg(long = "for", value_name = "SECONDS")]
    pub(crate) seconds: Option<u64>,
}

fn rate(text: &str) -> Result<u64, &'static str> {
    virtual_imx::timing::read_rate(text).ok_or("a rate is a number of bytes a second, with k, M or G")
}
