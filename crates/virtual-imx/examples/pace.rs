//! How well boards keep the pace of their timing, and what that costs.
//!
//!     pace [--remote ADDRESS] BOARDS MEGABYTES
//!
//! Downloads so much to each board in fastboot, 16 MB at a time, each written to the card, with the timing `plain`; all
//! boards at once. With an address the boards are those of a `virtual-imx --timing plain` there, which must be in
//! fastboot; otherwise they are in this process.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "an example prints, and may stop at what is wrong"
)]

use std::time::{Duration, Instant};

use imx_usb::bus::Bus;
use imx_usb::pipe::BulkPipe;
use virtual_imx::board::{Board, Setup};
use virtual_imx::host::HostBus;
use virtual_imx::model::{Model, Tree};
use virtual_imx::remote::RemoteBus;
use virtual_imx::timing::{Clock, Timing, at_rate};

const PIECE: usize = 16_000_000;
const WITHIN: Duration = Duration::from_secs(60);

fn say(pipe: &mut dyn BulkPipe, line: &str) -> String {
    pipe.send(line.as_bytes(), WITHIN).unwrap();
    let mut reply = [0; 64];
    let n = pipe.receive(&mut reply, WITHIN).unwrap();
    String::from_utf8_lossy(&reply[..n]).into_owned()
}

fn flash(pipe: &mut dyn BulkPipe, megabytes: usize) -> Duration {
    let data = virtual_imx::sample::pattern(PIECE, 1);
    assert_eq!(say(pipe, "UCmd:mmc dev ${emmc_dev}"), "OKAY");
    let start = Instant::now();
    for n in 0..megabytes * 1_000_000 / PIECE {
        assert_eq!(say(pipe, &format!("download:{PIECE:08x}")), format!("DATA{PIECE:08x}"));
        pipe.send(&data, WITHIN).unwrap();
        assert_eq!(pipe.receive(&mut [0; 64], WITHIN).unwrap(), 4);
        let blocks = PIECE / 512;
        assert_eq!(say(pipe, &format!("UCmd:mmc write 42800000 {:x} {blocks:x}", n * blocks)), "OKAY");
    }
    start.elapsed()
}

/// Seconds of processor time of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let remote =
        (arguments.first().map(String::as_str) == Some("--remote")).then(|| arguments.drain(..2).nth(1).unwrap());
    let numbers: Vec<usize> = arguments.iter().map(|number| number.parse().unwrap()).collect();
    let [boards, megabytes] = numbers[..] else { panic!("pace [--remote ADDRESS] BOARDS MEGABYTES") };
    let bus: Box<dyn Bus> = match remote {
        Some(address) => Box::new(RemoteBus::connect(&address.parse().unwrap()).unwrap()),
        None => {
            let board = |n: usize| {
                let (timing, clock, path) = (Timing::plain(), Clock::real(), format!("1-{n}"));
                let board = Board::new(Setup { timing, clock, path, ..Setup::new(Model::Imx8mp, Tree::Nxp) });
                board.start_uboot();
                board
            };
            Box::new(HostBus::new((1..=boards).map(board).collect()))
        }
    };
    let devices = bus.devices().unwrap();
    let (cpu_before, start) = (cpu(), Instant::now());
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = devices
            .iter()
            .take(boards)
            .map(|device| {
                let mut pipe = bus.bulk(device).unwrap();
                scope.spawn(move || flash(&mut *pipe, megabytes))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let pieces = u32::try_from(megabytes * 1_000_000 / PIECE).unwrap();
    let (timing, bytes) = (Timing::plain(), u64::try_from(PIECE).unwrap());
    let model = (at_rate(bytes, timing.bus) + at_rate(bytes, timing.card_write) + timing.command * 2) * pieces;
    for time in &times {
        let over = (time.as_secs_f64() / model.as_secs_f64() - 1.0) * 100.0;
        println!("{:.3} s, {over:+.2} % of the model's {:.3} s", time.as_secs_f64(), model.as_secs_f64());
    }
    let share = (cpu() - cpu_before) / start.elapsed().as_secs_f64();
    println!("{:.0} % of a processor in this process", share * 100.0);
}
