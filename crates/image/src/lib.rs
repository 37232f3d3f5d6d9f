//! Disk images.

pub mod table;
