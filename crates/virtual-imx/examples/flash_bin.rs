//! Writes a small boot image that a virtual board accepts: `cargo run -p virtual-imx --example flash_bin -- imx8mm flash.bin`

use virtual_imx::model::Model;
use virtual_imx::sample::flash_bin;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (name, path) = (args.next().ok_or("which board?")?, args.next().ok_or("which file?")?);
    let named = |model: &Model| model.board().split('_').next() == Some(name.as_str());
    let model = Model::ALL.into_iter().find(named).ok_or("no such board")?;
    Ok(std::fs::write(path, flash_bin(model, 1))?)
}
