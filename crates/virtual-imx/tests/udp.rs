//! Fastboot over UDP on loopback: the project's own client, and Debian's.

#![cfg(all(unix, feature = "host"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what they expect by unwrapping")]

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use imx_usb::fastboot::udp::UdpPipe;
use imx_usb::fastboot::{FastbootError, Limits, Session};
use virtual_imx::board::{Board, Setup};
use virtual_imx::emmc::Area;
use virtual_imx::model::{Model, Tree};
use virtual_imx::sample::pattern;
use virtual_imx::udp::Service;
use virtual_imx::usbip::Stop;

/// Runs `host` against a board that listens on a port of its own.
fn with_board(host: impl FnOnce(&Board, u16)) {
    let board = Board::new(Setup::new(Model::Imx8mp, Tree::Upstream));
    board.start_uboot();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (port, stop) = (socket.local_addr().unwrap().port(), Stop::new());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| Service::new(board.clone()).run(&socket, &stop));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| host(&board, port)));
        stop.set();
        running.join().unwrap().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn our_client_flashes_a_card() {
    with_board(|board, port| {
        let address = format!("udp:127.0.0.1:{port}").parse().unwrap();
        let pipe = UdpPipe::connect(&address, Duration::from_secs(10)).unwrap();
        let mut session = Session::new(pipe, Limits::UDP);
        assert_eq!(session.getvar("version").unwrap(), "0.4");
        let data = pattern(1_500_000, 4);
        session.download_all(&data).unwrap();
        session.flash("mmc0").unwrap();
        assert!(board.emmc(|card| card.peek(Area::User, 0, data.len())).unwrap() == data);
        let crc = format!("hash crc32 42800000 {:x} fastboot.c", data.len());
        session.ucmd(&crc).unwrap();
        assert_eq!(session.getvar("c").unwrap(), format!("{:08x}", crc32fast::hash(&data)));
        // What would be cut is not sent.
        let error = session.ucmd(&"x".repeat(60)).unwrap_err();
        assert!(!matches!(error, FastbootError::Transfer { .. }), "{error}");
        assert_eq!(session.getvar("is-userspace").unwrap(), "no");
    });
}

#[test]
fn debians_client_flashes_a_card() {
    if Command::new("fastboot").arg("--version").output().is_err() {
        println!("skipped: fastboot is not installed");
        return;
    }
    with_board(|board, port| {
        let folder = tempfile::tempdir().unwrap();
        let (file, target) = (folder.path().join("image"), format!("udp:127.0.0.1:{port}"));
        let data = pattern(700_000, 6);
        std::fs::write(&file, &data).unwrap();
        let run = |arguments: &[&str]| {
            let output = Command::new("fastboot").args(["-s", &target]).args(arguments).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}");
            said
        };
        assert!(run(&["getvar", "version"]).contains("version: 0.4"));
        assert!(run(&["flash", "mmc0", file.to_str().unwrap()]).contains("OKAY"));
        assert!(board.emmc(|card| card.peek(Area::User, 0, data.len())).unwrap() == data);
    });
}
