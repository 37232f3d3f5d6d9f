//! Boards over the network: short commands, and what an earlier, broken conversation left behind.

use std::net::UdpSocket;
use std::time::Duration;

use flasher::board::{BoardError, Connect, Connected, Sum, To, Which};
use flasher::event::Observer;
use imx_usb::fastboot::udp::{UdpError, UdpPipe};
use imx_usb::fastboot::{Limits, Session};
use virtual_imx::board::Board;
use virtual_imx::fault::script;
use virtual_imx::model::{Model, Tree};
use virtual_imx::udp::Service;
use virtual_imx::usbip::Stop;

use crate::support::{MIB, Run, Scene, assert_good, board, board_of};

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

#[test]
fn a_download_that_somebody_broke_off_is_not_gone_on_with() {
    let scene = Scene::tiny(Model::Imx8mp, 71);
    with_board(|board, at| {
        let Which::Udp(address) = &at else { unreachable!() };
        let pipe = UdpPipe::connect(address, Duration::from_secs(10)).unwrap();
        let mut session = Session::new(pipe, Limits::UDP);
        session.download(100_000).unwrap().write(&[7; 5000]).unwrap();
        drop(session);
        let mut run = run(&scene, at.clone());
        run.patience = Duration::from_secs(30);
        let result = run.one();
        assert_good(&result, "broken off");
        assert!(scene.is_on(board));
    });
}

/// Brings a board to fastboot once; later nobody answers.
struct Once<'a>(flasher::board::Boards<'a>);

impl Connect for Once<'_> {
    fn connect(
        &self,
        board: usize,
        to: &To,
        again: Option<Duration>,
        observer: &dyn Observer,
    ) -> Result<Connected, BoardError> {
        match again {
            None => self.0.connect(board, to, again, observer),
            Some(_) => Err(BoardError::Network(Box::new(UdpError::Interrupted))),
        }
    }
}

#[test]
fn why_a_board_was_lost_is_told_though_it_is_not_to_be_had_again() {
    let scene = Scene::tiny(Model::Imx8mp, 72);
    let board = board(Model::Imx8mp, 0);
    board.add_faults(script("uboot cmd 2 download short 2").unwrap());
    let run = Run::new(&scene, std::slice::from_ref(&board));
    let result = run.by(&|boards| Box::new(Once(boards))).remove(0);
    let Some(BoardError::NotBack { then, lost }) = &result.error else { panic!("{:?}", result.error) };
    assert!(matches!(**then, BoardError::Network(_)) && lost.is_lost(), "{then} {lost}");
}
