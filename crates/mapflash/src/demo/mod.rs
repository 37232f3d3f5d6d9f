//! `mapflash demo`: the whole program on an image of its own, with nothing but the binary.

pub(crate) mod disk;
#[cfg(test)]
mod disk_tests;
