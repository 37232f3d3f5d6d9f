//! gzip (RFC 1952), one member after the other, inflated by zlib-rs.
//!
//! # Which library
//! Measured in user time on one core of a 2-core x86-64 virtual machine, 2026-11, for an image of 13.1 GiB with 798 MiB
//! of real files, packed by `pigz -6` to 278 MiB: zlib-rs 0.6 takes 3.2 s on a quiet machine, which is faster than any
//! disk can be written. Others were looked at and left:
//! - zlib-ng's only build that needs no CMake (libz-sys 1.1.31) compiles all of it with AVX-512 allowed, not only the
//!   parts chosen at run time, and dies of an illegal instruction on processors without.
//! - Parallel inflaters: `rapidgzip` 1.2.1 binds a C++ library, which a C compiler cannot build; `gzippy` 1.0.0 is
//!   135 000 lines by one author, on 961 of which `unsafe` stands. To begin in the middle of a member they decode
//!   without knowing the window and resolve that later, which costs about as much again: with two cores, one of which
//!   hashes and writes, there is little to be won.
//! - An inflater of our own that counts the zeros of holes instead of writing them took 2.1 s. A thousand lines that read
//!   hostile bytes are a high price for a second that the disk behind takes anyway.

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::Fault;
use crate::input::Input;
use crate::num::{narrow, wide};
use crate::streaming::Decode;

/// Window bits of every gzip member (RFC 1951: 32 KiB).
const WINDOW_BITS: u8 = 15;

/// A gzip decoder.
#[derive(Debug, Default)]
pub(crate) struct Gzip {
    member: Option<Decompress>,
    members: u64,
}

impl Decode for Gzip {
    fn decode(&mut self, input: &mut Input, into: &mut [u8]) -> Result<usize, Fault> {
        loop {
            let Some(member) = &mut self.member else {
                if self.next_member(input)? {
                    continue;
                }
                return Ok(0);
            };
            let at = input.position();
            let packed = input.fill()?;
            let (before_in, before_out) = (member.total_in(), member.total_out());
            let ended = packed.is_empty();
            let status = member
                .decompress(packed, into, FlushDecompress::None)
                .map_err(|error| Fault::corrupt(at, error.message().unwrap_or("invalid data")))?;
            let used = narrow(member.total_in() - before_in, packed.len());
            let made = narrow(member.total_out() - before_out, into.len());
            input.consume(used);
            if status == Status::StreamEnd {
                self.member = None;
            }
            if made > 0 {
                return Ok(made);
            }
            if ended && self.member.is_some() {
                return Err(Fault::Truncated(at));
            }
        }
    }
}

impl Gzip {
    /// Starts the next member; false at the end. Zeros up to the end of the file are padding, as gzip has it.
    fn next_member(&mut self, input: &mut Input) -> Result<bool, Fault> {
        let start = input.position();
        let head = input.need(2)?;
        match head {
            [0x1f, 0x8b, ..] => {
                self.members += 1;
                self.member = Some(Decompress::new_gzip(WINDOW_BITS));
                Ok(true)
            }
            [] if self.members > 0 => Ok(false),
            [0x1f] | [] => Err(Fault::Truncated(start + wide(head.len()))),
            _ => loop {
                let rest = input.fill()?;
                if rest.is_empty() {
                    return Ok(false);
                }
                if rest.iter().any(|&byte| byte != 0) {
                    return Err(Fault::Junk(start));
                }
                let len = rest.len();
                input.consume(len);
            },
        }
    }
}
