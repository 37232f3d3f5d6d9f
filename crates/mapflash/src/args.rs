//! What the user typed. Nothing here is decided yet: [`crate::job`] turns it into jobs.

use std::path::PathBuf;

use bmap::{BlockSize, ByteRange};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::board::choose::Name;

const AFTER_HELP: &str = "\
Exit status: 0 all that was asked was done, 1 failed, 2 usage, 3 no such board or device, 4 the board or device failed, 5 the image does \
not match its bmap, 6 the target does not hold what was written, 7 refused as unsafe, 8 written but cannot be proven, \
128+N stopped by signal N.";

/// Writes disk images to boards, disks and files: only the blocks that hold data, and proves what it wrote.
#[derive(Debug, Parser)]
#[command(name = "mapflash", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
#[command(max_term_width = 100)]
pub(crate) struct Cli {
    /// Print one JSON object per line to standard output: stages, progress and the result; docs/json.md says which
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but warnings and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the block map (bmap) of an image
    Create(CreateArgs),
    /// Write an image to a disk or file
    Copy(CopyArgs),
    /// Cut, check and compress an image once, for flashing it to many boards
    Pack(PackArgs),
    /// Compare a disk or file with an image or its block map
    Verify(VerifyArgs),
    /// Say what an image is, what is in it, and what will go wrong with it
    Inspect(InspectArgs),
    /// List the disks one could write to
    Disks(DisksArgs),
    /// Write an image to the eMMC or SD card of boards over USB, and prove it there
    Flash(Box<FlashArgs>),
    /// List the boards on USB: where, which chip, in which stage
    Boards(BoardsArgs),
    /// Run a boot image on a board, up to fastboot; writes nothing
    Boot(BootArgs),
    /// Say what could keep boards from being reached, and what mends it
    Doctor(DoctorArgs),
    /// Print udev rules that let people open boards
    UdevRules(UdevRulesArgs),
    /// Show on a made-up image what mapflash does, with nothing but a little disk space
    Demo(DemoArgs),
    /// Print the completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command into a folder
    Man(ManArgs),
}

/// `mapflash create`
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The image, a raw file
    pub(crate) image: PathBuf,
    /// Write the map to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Leave the digests of the ranges out; nothing can be checked with such a map
    #[arg(long)]
    pub(crate) no_checksum: bool,
    /// Bytes in a block of the map [default: the filesystem's, mostly 4096]
    #[arg(long, value_name = "BYTES", value_parser = block_size)]
    pub(crate) block_size: Option<BlockSize>,
    /// Leave blocks of zeros out as well as holes. Readers of the map will not write them: what a target held there stays
    #[arg(long)]
    pub(crate) detect_zeros: bool,
    /// How many threads hash [default: one for each core]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,
}

/// `mapflash copy`
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// The image: raw, gzip, zstd, xz or bzip2, told by content; - is standard input
    pub(crate) image: PathBuf,
    /// A block device such as /dev/sdX, or a file
    pub(crate) dest: PathBuf,
    /// The block map [default: looked for beside the image]
    #[arg(long, value_name = "FILE", conflicts_with = "nobmap")]
    pub(crate) bmap: Option<PathBuf>,
    /// Use no block map, even if one lies beside the image: every byte counts
    #[arg(long)]
    pub(crate) nobmap: bool,
    /// Do not check the image against the digests in the block map
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Read everything back from the medium and compare, rewriting what differs
    #[arg(long)]
    pub(crate) verify_target: bool,
    /// What becomes of blocks that the map leaves out. Those in front of the first partition always stay as they are:
    /// boot loaders keep settings there
    #[arg(long, value_enum, default_value_t = HolesArg::Auto)]
    pub(crate) holes: HolesArg,
    /// Do not erase the old partition table and loader first, for a target that cannot be reached again
    #[arg(long)]
    pub(crate) keep_head: bool,
    /// Answer yes to the question before a disk is overwritten; lifts no refusal
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Print what would be done and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take zstd images whose window is larger than 128 MiB; unpacking them takes as much memory
    #[arg(long)]
    pub(crate) allow_large_windows: bool,
    /// How many threads unpack and hash [default: one for each core]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,
}

/// What becomes of blocks that a block map leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HolesArg {
    /// Zero where the kernel does it without writing, otherwise leave
    Auto,
    /// Leave what the target holds there
    Leave,
    /// Write zeros there, and prove them like data
    Zero,
}

/// `mapflash pack`
#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    /// The image: raw, gzip, zstd, xz or bzip2, told by content
    pub(crate) image: PathBuf,
    /// Write the pack to FILE; .mfpack is the usual ending
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// The form in which bytes are kept, ready to be sent. What does not pack is kept as it is
    #[arg(long, value_enum, default_value_t = PackWire::Lz4)]
    pub(crate) wire: PackWire,
    /// How hard to pack, as the lz4 tool counts: 1 is fast, 12 packs best and takes longest
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=12))]
    pub(crate) level: u32,
    /// The block map [default: looked for beside the image]
    #[arg(long, value_name = "FILE", conflicts_with = "nobmap")]
    pub(crate) bmap: Option<PathBuf>,
    /// Use no block map, even if one lies beside the image: every byte counts
    #[arg(long)]
    pub(crate) nobmap: bool,
    /// Do not check the image against the digests in the block map
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Take zstd images whose window is larger than 128 MiB; unpacking them takes as much memory
    #[arg(long)]
    pub(crate) allow_large_windows: bool,
    /// How many threads pack [default: one for each core]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,
}

/// In which form a pack keeps bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PackWire {
    /// LZ4 frames, which U-Boot's unlz4 takes
    Lz4,
}

/// `mapflash verify`
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// What the target should hold: an image, or a block map with digests
    pub(crate) expected: PathBuf,
    /// The disk or file to look at
    pub(crate) target: PathBuf,
    /// The block map of the image [default: looked for beside it]
    #[arg(long, value_name = "FILE", conflicts_with = "nobmap")]
    pub(crate) bmap: Option<PathBuf>,
    /// Use no block map: compare every byte
    #[arg(long)]
    pub(crate) nobmap: bool,
    /// Take zstd images whose window is larger than 128 MiB
    #[arg(long)]
    pub(crate) allow_large_windows: bool,
    /// How many threads unpack and hash [default: one for each core]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,
}

/// `mapflash inspect`
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// An image, a block map, a loader, or a disk
    pub(crate) file: PathBuf,
    /// The block map of the image [default: looked for beside it]
    #[arg(long, value_name = "FILE")]
    pub(crate) bmap: Option<PathBuf>,
}

/// `mapflash disks`
#[derive(Debug, Args)]
pub(crate) struct DisksArgs {
    /// List disks that are not removable too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Look below FOLDER, which holds copies of /sys and /proc
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub(crate) root: Option<PathBuf>,
}

/// Where boards are looked for.
#[derive(Debug, Args)]
pub(crate) struct BusArgs {
    /// Know more boards: FILE has lines that begin with CFG: (as in uuu's scripts) or CHIP:
    #[arg(long, value_name = "FILE")]
    pub(crate) chips: Option<PathBuf>,
    /// Look below FOLDER, which holds copies of /sys, /dev and so on
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub(crate) root: Option<PathBuf>,
    /// Use virtual boards instead of the system's USB: one in this process (imx8mm, or imx8mm:FAULTS), or those that
    /// virtual-imx serves (unix:PATH, tcp:HOST:PORT)
    #[arg(long = "virtual", value_name = "BOARD", hide = true)]
    pub(crate) virtual_boards: Vec<String>,
}

/// `mapflash boards`
#[derive(Debug, Args)]
pub(crate) struct BoardsArgs {
    /// Go on, and show what comes and goes
    #[arg(short, long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
}

/// `mapflash flash`
#[derive(Debug, Args)]
pub(crate) struct FlashArgs {
    /// The image: raw, gzip, zstd, xz or bzip2, told by content; - is standard input. A boot image (flash.bin) goes to a
    /// boot partition by itself
    pub(crate) image: PathBuf,
    /// What a bare board is booted with [default: the loader inside the image]
    #[arg(long, value_name = "FLASH.BIN")]
    pub(crate) boot: Option<PathBuf>,
    /// Where to: emmc, sd, boot0, boot1, or a partition by its name [default: emmc; of a boot image, the boot partition
    /// that the board boots from]
    #[arg(long, value_name = "PLACE")]
    pub(crate) to: Option<String>,
    /// Which board: its port (1-4.2), its serial number, or udp:HOST, with :PORT if need be; may be repeated [default: the only one]
    #[arg(short, long, value_name = "BOARD", conflicts_with = "all")]
    pub(crate) board: Vec<Name>,
    /// All boards that are there, at the same time
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Wait until a board is there, and for one that was unplugged to come back
    #[arg(short, long)]
    pub(crate) wait: bool,
    /// The block map [default: looked for beside the image]
    #[arg(long, value_name = "FILE", conflicts_with = "nobmap")]
    pub(crate) bmap: Option<PathBuf>,
    /// Use no block map, even if one lies beside the image: every byte counts
    #[arg(long)]
    pub(crate) nobmap: bool,
    /// Do not check the image against the digests in the block map
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// How the board proves what it holds
    #[arg(long, value_enum, default_value_t = VerifyArg::Crc32)]
    pub(crate) verify: VerifyArg,
    /// How bytes go over the bus
    #[arg(long, value_enum, default_value_t = WireArg::Auto)]
    pub(crate) wire: WireArg,
    /// Ask the board first what it holds, and send only what differs; by SHA-256, or by CRC-32 with --delta=crc
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "sha256", value_name = "SUM")]
    pub(crate) delta: Option<DeltaArg>,
    /// Go on where an interrupted job was: what it sent is compared first. That is remembered for each board in
    /// $XDG_STATE_HOME/mapflash, or ~/.local/state/mapflash, until the job has ended well
    #[arg(long, conflicts_with = "delta")]
    pub(crate) resume: bool,
    /// What becomes of blocks that the map leaves out
    #[arg(long, value_enum, default_value_t = FlashHolesArg::Auto)]
    pub(crate) holes: FlashHolesArg,
    /// Leave these bytes of the board as they are, whatever the image holds there: START-END or START+LENGTH, with K, M
    /// or G behind a number; may be repeated
    #[arg(long, value_name = "RANGE", value_parser = byte_range)]
    pub(crate) keep: Vec<ByteRange>,
    /// Write zeros over the gap in front of the first partition, where U-Boot keeps its environment
    #[arg(long)]
    pub(crate) clear_env: bool,
    /// Do not clear the old partition table and loader first, for a board that cannot be reached again
    #[arg(long)]
    pub(crate) keep_head: bool,
    /// Then write LOADER [default: what --boot names] to a boot partition of the eMMC, prove it, and boot from there. PART is boot0, boot1, active (the one it boots from) or inactive (the other)
    #[arg(long, value_names = ["PART", "LOADER"], num_args = 1..=2)]
    pub(crate) boot_partition: Option<Vec<String>>,
    /// Write a loader even if by its load address it is for another chip
    #[arg(long)]
    pub(crate) allow_other_chip: bool,
    /// Write an image with neither a partition table nor a loader over a whole card
    #[arg(long)]
    pub(crate) allow_no_table: bool,
    /// Bytes in front of the loader in a boot partition [default: by the chip]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) boot_offset: Option<u64>,
    /// U-Boot's number of the card [default: found out and checked]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..16))]
    pub(crate) mmc: Option<u32>,
    /// The most that is sent at once, 1M at least [default: what is safe, 64M at most]
    #[arg(long, value_name = "BYTES", value_parser = download)]
    pub(crate) download: Option<u32>,
    /// What the board does when all is proven
    #[arg(long, value_enum, default_value_t = ThenArg::Stay)]
    pub(crate) then: ThenArg,
    /// Print what would be done and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take zstd images whose window is larger than 128 MiB; unpacking them takes as much memory
    #[arg(long)]
    pub(crate) allow_large_windows: bool,
    /// How many threads unpack and hash [default: one for each core]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
}

/// How a board proves what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VerifyArg {
    /// By CRC-32 where its U-Boot has that, otherwise by SHA-256
    Crc32,
    /// By SHA-256
    Sha256,
    /// Not at all
    None,
}

/// How bytes go over the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WireArg {
    /// As is measured to be fastest
    Auto,
    /// As they are
    Raw,
    /// Packed by LZ4 where that is smaller
    Lz4,
    /// Packed by gzip where that is smaller
    Gzip,
}

/// By what it is decided that bytes need not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeltaArg {
    /// By SHA-256
    Sha256,
    /// By CRC-32
    Crc,
}

/// What becomes of blocks on a board that a block map leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FlashHolesArg {
    /// Leave, and say so
    Auto,
    /// Leave what the board holds there
    Leave,
    /// Write zeros there, and prove them like data
    Zero,
    /// Erase there; what then reads is the card's choice
    Erase,
}

/// What a board does at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ThenArg {
    /// Stays in fastboot
    Stay,
    /// Resets
    Reset,
    /// Leaves fastboot and goes on booting
    Continue,
}

/// `mapflash boot`
#[derive(Debug, Args)]
pub(crate) struct BootArgs {
    /// The boot image (flash.bin, u-boot.imx), or a disk image with one in it
    pub(crate) image: PathBuf,
    /// U-Boot, if it is in a file of its own and IMAGE holds only the loader before it (SPL)
    #[arg(long, value_name = "FILE")]
    pub(crate) uboot: Option<PathBuf>,
    /// Which board: its port (1-4.2) or its serial number; may be repeated [default: the only one there is]
    #[arg(short, long, value_name = "BOARD", conflicts_with = "all")]
    pub(crate) board: Vec<Name>,
    /// All boards that are there, at the same time
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Wait until the board is there
    #[arg(short, long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
}

/// `mapflash doctor`
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
}

/// `mapflash udev-rules`
#[derive(Debug, Args)]
pub(crate) struct UdevRulesArgs {
    /// Give access to the members of GROUP, instead of to whoever sits at the machine
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub(crate) group: Option<String>,
    /// Know more boards: FILE has lines that begin with CFG: (as in uuu's scripts) or CHIP:
    #[arg(long, value_name = "FILE")]
    pub(crate) chips: Option<PathBuf>,
}

/// `mapflash demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Keep the files it made
    #[arg(long)]
    pub(crate) keep: bool,
    /// Work in DIR instead of the folder for temporary files
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// `mapflash completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// `mapflash man`
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write mapflash.1 and a page for each command here
    pub(crate) dir: Option<PathBuf>,
}

/// The name of a group: no quotes or spaces, which would end it in a rule.
fn group(text: &str) -> Result<String, String> {
    let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if begins && text.len() <= 32 && text.chars().all(right) {
        Ok(text.to_owned())
    } else {
        Err("that is no name of a group".to_owned())
    }
}

/// A number of bytes, with K or M behind it for KiB and MiB.
fn block_size(text: &str) -> Result<BlockSize, String> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        _ => (text, 1_u32),
    };
    let bytes = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
    bytes.and_then(BlockSize::new).ok_or_else(|| format!("a block has 1 to {} bytes", BlockSize::MAX))
}

/// A number of bytes, decimal or with 0x, with K, M or G behind it for KiB, MiB and GiB.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1_u64 << 30),
        _ => (text, 1),
    };
    let number = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    };
    number.and_then(|number: u64| number.checked_mul(factor)).ok_or_else(|| "that is no number of bytes".to_owned())
}

/// `START-END` or `START+LENGTH`, in whole sectors.
fn byte_range(text: &str) -> Result<ByteRange, String> {
    let wrong = || "a range is START-END or START+LENGTH, in multiples of 512 bytes".to_owned();
    let range = match (text.split_once('+'), text.split_once('-')) {
        (Some((start, len)), _) => ByteRange::at(bytes(start)?, bytes(len)?),
        (None, Some((start, end))) => {
            let (start, end) = (bytes(start)?, bytes(end)?);
            if end < start {
                return Err("the end lies before the start".to_owned());
            }
            ByteRange::new(start, end)
        }
        (None, None) => None,
    };
    let sectors = |range: &ByteRange| range.start().is_multiple_of(512) && range.end().is_multiple_of(512);
    range.filter(|range| !range.is_empty() && sectors(range)).ok_or_else(wrong)
}

/// As many bytes as a download needs to hold a piece in some form, and less than 4 GiB.
fn download(text: &str) -> Result<u32, String> {
    let bytes = u32::try_from(bytes(text)?).map_err(|_| "it is less than 4G".to_owned())?;
    if bytes < 1 << 20 { Err("it is 1M at least".to_owned()) } else { Ok(bytes) }
}

fn threads(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| (1..=256).contains(count)).ok_or_else(|| "1 to 256 threads".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ranges_are_whole_sectors() {
        assert_eq!(byte_range("4M-0x410000").unwrap(), ByteRange::new(4 << 20, 0x41_0000).unwrap());
        assert_eq!(byte_range("1G+64K").unwrap(), ByteRange::at(1 << 30, 64 << 10).unwrap());
        for bad in ["", "4M", "4M-", "5-1024", "4M-4M", "4M-1M", "1K+100", "16777216T+1"] {
            assert!(byte_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn block_sizes_take_suffixes() {
        assert_eq!(block_size("4096").unwrap().get(), 4096);
        assert_eq!(block_size("64k").unwrap().get(), 65536);
        assert_eq!(block_size("1M").unwrap().get(), 1 << 20);
        for bad in ["", "k", "0", "4G", "-1", "5000M", "1.5"] {
            assert!(block_size(bad).is_err(), "{bad}");
        }
    }
}
