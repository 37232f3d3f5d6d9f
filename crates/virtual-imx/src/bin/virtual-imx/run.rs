//! Making boards, serving them, and what is said at the end.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::net::UdpSocket;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use virtual_imx::board::{Board, Setup, Stage};
use virtual_imx::emmc::Area;
use virtual_imx::record::Event;
use virtual_imx::sharing::SharedBus;
use virtual_imx::timing::Clock;
use virtual_imx::udp::Service;
use virtual_imx::usbip::server::Server;
use virtual_imx::usbip::vhci::Vhci;
use virtual_imx::usbip::{Listener, Stop};

use crate::arguments::Arguments;
use crate::chain;
use crate::spec::{Spec, Start};

type Problem = Box<dyn Error + Send + Sync>;

/// A board, and where it was plugged in at first.
struct Running {
    port: String,
    board: Board,
}

/// Runs the boards until a signal comes.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Problem> {
    if !arguments.vhci && arguments.listen.is_empty() && arguments.udp.is_none() {
        return Err("nobody could reach the boards: give --vhci, --listen or --udp".into());
    }
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let hub = arguments.hub.map(SharedBus::new);
    let mut boards = Vec::new();
    for (n, spec) in (1..).zip(&arguments.boards) {
        boards.push(make(arguments, spec, n, hub.clone())?);
    }
    if let Some(path) = &arguments.log {
        let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        record(&boards, file);
    }
    for (running, spec) in boards.iter().zip(&arguments.boards) {
        match spec.start {
            Start::PowerOn => running.board.power_cycle(),
            Start::UBoot => running.board.start_uboot(),
            Start::Fbk => running.board.start_fbk(),
        }
    }
    let vhci = if arguments.vhci { Some(Vhci::open(&arguments.sysfs)?) } else { None };
    let listeners: Vec<Listener> = arguments
        .listen
        .iter()
        .map(|address| address.listen().map_err(|error| format!("{address}: {error}")))
        .collect::<Result<_, _>>()?;
    let mut sockets = Vec::new();
    if let Some(first) = arguments.udp {
        for (port, _) in (first..=u16::MAX).zip(&boards) {
            let socket = UdpSocket::bind(("127.0.0.1", port)).map_err(|error| format!("UDP port {port}: {error}"))?;
            sockets.push(socket);
        }
    }
    for Running { port, board } in &boards {
        say(&json!({"event": "ready", "port": port, "model": board.model().name(), "stage": stage(board.stage())}));
    }
    let result = serve(arguments, &boards, &Ways { vhci, listeners, sockets }, &mut signals);
    for running in &boards {
        say(&summary(running));
        if let Some(folder) = &arguments.dump_emmc {
            dump(running, folder)?;
        }
    }
    result
}

fn make(arguments: &Arguments, spec: &Spec, number: u64, hub: Option<SharedBus>) -> Result<Running, Problem> {
    let port = spec.port.clone().unwrap_or_else(|| format!("1-{number}"));
    let board = Board::switched_off(Setup {
        path: port.clone(),
        uid: spec.uid.unwrap_or(number),
        timing: arguments.timing,
        clock: if arguments.simulated_time { Clock::simulated() } else { Clock::real() },
        hub,
        ..spec.setup.clone()
    });
    if let Some(path) = &spec.file {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let used = file.and_then(|file| board.emmc(|card| card.use_file(Area::User, file)));
        used.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    for faults in &arguments.faults {
        if faults.port.as_ref().is_none_or(|of| *of == port) {
            board.add_faults(faults.faults.iter().cloned());
        }
    }
    Ok(Running { port, board })
}

/// How the boards are reached.
struct Ways {
    vhci: Option<Vhci>,
    listeners: Vec<Listener>,
    /// One for each board.
    sockets: Vec<UdpSocket>,
}

fn serve(arguments: &Arguments, boards: &[Running], ways: &Ways, signals: &mut Signals) -> Result<(), Problem> {
    let stop = Stop::new();
    let server = Server::new(boards.iter().map(|running| running.board.clone()));
    let (problems, ended) = channel::<Problem>();
    let result = Mutex::new(Ok(()));
    std::thread::scope(|scope| {
        for listener in &ways.listeners {
            let (stop, server, problems) = (&stop, &server, problems.clone());
            scope.spawn(move || {
                if let Err(error) = server.run(listener, stop) {
                    let _ = problems.send(error.into());
                }
            });
        }
        for (socket, running) in ways.sockets.iter().zip(boards) {
            let (stop, problems) = (&stop, problems.clone());
            scope.spawn(move || {
                if let Err(error) = Service::new(running.board.clone()).run(socket, stop) {
                    let _ = problems.send(error.into());
                }
            });
        }
        if let Some(vhci) = &ways.vhci {
            for running in boards {
                let (stop, problems) = (&stop, problems.clone());
                scope.spawn(move || {
                    if let Err(error) = vhci.keep(&running.board, stop)
                        && !stop.is_set()
                    {
                        let _ = problems.send(format!("{}: {}", running.port, chain(&error)).into());
                    }
                });
            }
        }
        let handle = signals.handle();
        let waker = problems;
        scope.spawn(move || {
            if signals.forever().next().is_some() {
                let _ = waker.send("".into());
            }
        });
        let first = match arguments.seconds {
            Some(seconds) => ended.recv_timeout(Duration::from_secs(seconds)),
            None => ended.recv().map_err(RecvTimeoutError::from),
        };
        // An empty text is the signal's.
        if let Some(problem) = first.ok().filter(|problem| !problem.to_string().is_empty()) {
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Err(problem);
        }
        handle.close();
        stop.set();
    });
    result.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn say(value: &Value) {
    let mut out = io::stdout().lock();
    // Whoever read it may be gone; the boards go on.
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Rom => "rom",
        Stage::Loader => "loader",
        Stage::UBoot => "uboot",
        Stage::Fbk => "fbk",
        Stage::Running => "running",
    }
}

/// Lets the boards write what happens to a file.
fn record(boards: &[Running], file: File) {
    let file = Arc::new(Mutex::new(BufWriter::new(file)));
    for Running { port, board } in boards {
        let (file, port) = (Arc::clone(&file), port.clone());
        board.record(Box::new(move |at, event| {
            let mut line = json!({"t": at.as_secs_f64(), "port": port});
            let (key, value) = match event {
                Event::Entered(entered) => ("stage", json!(stage(*entered))),
                Event::Left => ("left", json!(true)),
                Event::Command(text) => ("command", json!(text)),
                Event::Answer(text) => ("answer", json!(text)),
                Event::FromHost(bytes) => ("out", json!(bytes)),
                Event::ToHost(bytes) => ("in", json!(bytes)),
                Event::Worked(time) => ("worked", json!(time.as_secs_f64())),
                _ => return,
            };
            line[key] = value;
            // A full disk must not stop the boards.
            let _ = writeln!(file.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
        }));
    }
}

fn summary(running: &Running) -> Value {
    let Running { port, board } = running;
    let traffic = board.traffic();
    let (bootable, one_way) = (board.bootable().is_ok(), board.one_way());
    let now = board.now().as_secs_f64();
    let card = board.emmc(|card| {
        let mut areas = json!({});
        for (area, name) in [(Area::User, "user"), (Area::Boot0, "boot0"), (Area::Boot1, "boot1")] {
            let counters = card.counters(area);
            areas[name] = json!({
                "writes": counters.writes, "bytes_written": counters.bytes_written,
                "reads": counters.reads, "bytes_read": counters.bytes_read,
                "bytes_erased": counters.bytes_erased, "wear": card.most_wear(area),
            });
        }
        areas["partconf"] = json!(card.partconf().byte());
        areas
    });
    json!({
        "event": "summary", "port": port, "model": board.model().name(), "stage": stage(board.stage()), "seconds": now,
        "bytes_out": traffic.bytes_from_host, "bytes_in": traffic.bytes_to_host, "commands": traffic.commands,
        "fails": traffic.fails, "visits": traffic.visits, "emmc": card, "bootable": bootable, "one_way": one_way,
    })
}

fn dump(running: &Running, folder: &Path) -> Result<(), Problem> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (area, name) in [(Area::User, "user"), (Area::Boot0, "boot0"), (Area::Boot1, "boot1")] {
        let path = folder.join(format!("{}.{name}", running.port));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let saved = file.and_then(|file| running.board.emmc(|card| card.save(area, file)));
        saved.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
