//! Says what boot images are: `cargo run -p imx-usb --example describe -- flash.bin`

#![allow(clippy::print_stdout)]

use std::io::Read;

use imx_usb::bootimage::{SCAN_BYTES, describe::describe, stages::stages};

fn main() -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        let mut head = Vec::new();
        let most = u64::try_from(SCAN_BYTES).unwrap_or(u64::MAX);
        std::fs::File::open(&path)?.take(most).read_to_end(&mut head)?;
        let description = describe(&head);
        println!("{}:\n{description}", path.display());
        for problem in &description.problems {
            println!("wrong: {problem}");
        }
        match stages(&head, &description) {
            Some(Ok(stages)) => println!("over USB: {stages}\n"),
            Some(Err(error)) => println!("over USB: {error}\n"),
            None => println!(),
        }
    }
    Ok(())
}
