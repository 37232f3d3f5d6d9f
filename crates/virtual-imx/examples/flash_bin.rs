//! Writes a small boot image that a virtual board accepts: `cargo run -p virtual-imx --example flash_bin -- imx8mm flash.bin`.
//! A number after the file makes another image than the usual one, 1.

use virtual_imx::model::Model;
use virtual_imx::sample::flash_bin;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (name, path) = (args.next().ok_or("which board?")?, args.next().ok_or("which file?")?);
    let seed = args.next().map_or(Ok(1), |seed| seed.parse())?;
    let model = Model::ALL.into_iter().find(|model| model.name() == name).ok_or("no such board")?;
    Ok(std::fs::write(path, flash_bin(model, seed))?)
}
