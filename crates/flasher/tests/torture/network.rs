//! Boards over the network, where commands are short.

use std::net::UdpSocket;

use flasher::board::{Sum, Which};
use virtual_imx::board::Board;
use virtual_imx::fault::script;
use virtual_imx::model::{Model, Tree};
use virtual_imx::udp::Service;
use virtual_imx::usbip::Stop;

use crate::support::{MIB, Run, Scene, assert_good, board_of};

/// Upstream's U-Boot in fastboot, at a port of its own on this machine.
fn with_board(host: impl FnOnce(&Board, Which)) {
    let board = board_of(Model::Imx8mp, 0, Tree::Upstream, 8 * MIB);
    board.start_uboot();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (port, stop) = (socket.local_addr().unwrap().port(), Stop::new());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| Service::new(board.clone()).run(&socket, &stop));
        let at = Which::Udp(format!("udp:127.0.0.1:{port}").parse().unwrap());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| host(&board, at)));
        stop.set();
        running.join().unwrap().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

fn run(scene: &Scene, at: Which) -> Run {
    Run { which: Some(vec![at]), ..Run::new(scene, &[]) }
}

/// There are no sums in 64 bytes: what was written is compared with what was sent.
#[test]
fn what_is_right_is_not_sent_again() {
    let scene = Scene::tiny(Model::Imx8mp, 70);
    with_board(|board, at| {
        let result = run(&scene, at.clone()).one();
        assert_good(&result, "right");
        assert_eq!((result.proof, result.sums.resent), (Some(Sum::Compare), 0));
        assert!(scene.is_on(board));
        // And what is wrong is.
        board.add_faults(script(&format!("uboot cmd 1 download weak user {} 4 1", MIB + 9)).unwrap());
        let result = run(&scene, at).one();
        assert_good(&result, "weak");
        assert_eq!((result.proof, result.sums.resent), (Some(Sum::Compare), 1));
        assert!(scene.is_on(board));
    });
}
