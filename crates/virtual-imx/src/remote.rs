//! Boards of another process as a bus of `imx-usb`: a host's side of USB/IP in user space.
//!
//! A `virtual-imx` that listens keeps its boards in its own process and its own time; whoever measures a program that
//! drives them measures that program alone. No kernel is in between, so none has to have USB. Transfers are cut to
//! [`TRANSFER_BYTES`], several of which are under way, so that there is no gap on the bus between them.
//!
//! Left out: everything that boards do not need, as in [`crate::usbip`].

mod connection;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use imx_usb::bus::{Bus, BusError, Device, Interface, OpenError, Port, Speed, Visit};
use imx_usb::chips::ReportRoute;
use imx_usb::pipe::{BulkPipe, Fault, ReportPipe, TransferError};

use crate::usbip::operation::{BUSY, Record, Request, read_imported, read_listed};
use crate::usbip::{Address, Stream};

use connection::{Connection, Endpoints};

pub use connection::TRANSFER_BYTES;

/// How long an answer to a question may take, and a control transfer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a device that is in use may take to become free.
const FREE_WITHIN: Duration = Duration::from_secs(2);
/// How often a wait looks whether something changed.
const LOOK: Duration = Duration::from_millis(5);

/// Boards behind a socket. Clones are the same bus.
#[derive(Debug, Clone)]
pub struct RemoteBus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    address: Address,
    start: Instant,
    state: Mutex<State>,
    /// What is open, by visit.
    open: Mutex<BTreeMap<Visit, Arc<Mutex<Connection>>>>,
}

#[derive(Debug)]
struct State {
    /// To ask what is there.
    stream: Option<Stream>,
    /// What was there when it was last asked: the server's numbers, and the visits they were given.
    there: Vec<(u32, Visit, Record)>,
    last_visit: u64,
    changes: u64,
}

impl State {
    /// Asks what is there now.
    fn look(&mut self, address: &Address) -> io::Result<()> {
        let records = match self.ask(address) {
            Ok(records) => records,
            Err(_) if self.stream.is_none() => return Err(io::ErrorKind::NotConnected.into()),
            Err(error) => {
                // Whoever answers after this is another server: its numbers mean nothing here.
                self.stream = None;
                if !self.there.is_empty() {
                    self.changes += 1;
                    self.there.clear();
                }
                return Err(error);
            }
        };
        let same = records.len() == self.there.len()
            && records
                .iter()
                .zip(&self.there)
                .all(|(new, (number, _, old))| new.number == *number && new.name == old.name);
        if same {
            return Ok(());
        }
        self.changes += 1;
        let old = std::mem::take(&mut self.there);
        for record in records {
            let known = old.iter().find(|(number, ..)| *number == record.number).map(|(_, visit, _)| *visit);
            let visit = known.unwrap_or_else(|| {
                self.last_visit += 1;
                Visit(self.last_visit)
            });
            self.there.push((record.number, visit, record));
        }
        Ok(())
    }

    fn ask(&mut self, address: &Address) -> io::Result<Vec<Record>> {
        if self.stream.is_none() {
            let stream = address.connect()?;
            stream.set_read_timeout(Some(ANSWER_WITHIN))?;
            self.stream = Some(stream);
        }
        let Some(stream) = &mut self.stream else { return Err(io::ErrorKind::NotConnected.into()) };
        stream.write_all(&Request::List.encode())?;
        read_listed(&mut io::BufReader::new(stream))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `imx-usb` knows of a device; `None` if its port is written wrongly.
fn describe(record: &Record, visit: Visit) -> Option<Device> {
    let path: Port = record.name.parse().ok()?;
    let port = record.note("connector").and_then(|port| port.parse().ok()).unwrap_or_else(|| path.clone());
    let [vendor, product, release] = record.ids;
    Some(Device {
        port,
        path,
        visit,
        vendor,
        product,
        release,
        serial: record.note("serial").map(str::to_owned),
        speed: match record.speed {
            1 => Some(Speed::Low),
            2 => Some(Speed::Full),
            3 => Some(Speed::High),
            5.. => Some(Speed::Super),
            _ => None,
        },
        interfaces: (0..).zip(&record.interfaces).map(|(number, class)| Interface { number, class: *class }).collect(),
    })
}

impl RemoteBus {
    /// The boards of the server there.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn connect(address: &Address) -> io::Result<Self> {
        let mut state = State { stream: None, there: Vec::new(), last_visit: 0, changes: 0 };
        state.stream = Some(address.connect()?);
        state.look(address)?;
        let (address, start) = (address.clone(), Instant::now());
        Ok(Self(Arc::new(Shared { address, start, state: Mutex::new(state), open: Mutex::default() })))
    }

    /// How many pipes to devices are open.
    pub fn open_pipes(&self) -> usize {
        lock(&self.0.open).len()
    }

    /// Has the device for us alone. One that is in use may be so for a moment only: the server hears late that it was
    /// let go of.
    fn import(&self, device: &Device) -> Result<Connection, OpenError> {
        let until = Instant::now() + FREE_WITHIN;
        loop {
            match self.import_now(device) {
                Err(OpenError::Busy { .. })
                    if Instant::now() < until && !lock(&self.0.open).contains_key(&device.visit) =>
                {
                    std::thread::sleep(LOOK);
                }
                result => return result,
            }
        }
    }

    fn import_now(&self, device: &Device) -> Result<Connection, OpenError> {
        let port = || device.port.clone();
        let other = |source: io::Error| OpenError::Other { port: port(), source: source.into() };
        let number = {
            let mut state = lock(&self.0.state);
            // An answer that does not come makes no device go away; opening it then fails.
            let _ = state.look(&self.0.address);
            state.there.iter().find(|(_, visit, _)| *visit == device.visit).map(|(number, ..)| *number)
        };
        let number = number.ok_or_else(|| OpenError::Gone { port: port() })?;
        let mut stream = self.0.address.connect().map_err(other)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(other)?;
        stream.write_all(&Request::Import(device.path.to_string()).encode()).map_err(other)?;
        match read_imported(&mut stream).map_err(other)? {
            Ok(record) if record.number == number => {
                let mut connection = Connection::new(stream, record.bus << 16 | (record.number & 0xffff));
                connection.learn_endpoints(ANSWER_WITHIN).map_err(|fault| match fault {
                    Fault::Gone => OpenError::Gone { port: port() },
                    fault => OpenError::Other { port: port(), source: fault.into() },
                })?;
                Ok(connection)
            }
            Err(BUSY) => Err(OpenError::Busy { port: port(), by: None }),
            _ => Err(OpenError::Gone { port: port() }),
        }
    }

    fn pipe(&self, device: &Device) -> Result<RemotePipe, OpenError> {
        let connection = self.import(device)?;
        let endpoints = connection.endpoints();
        let connection = Arc::new(Mutex::new(connection));
        lock(&self.0.open).insert(device.visit, Arc::clone(&connection));
        Ok(RemotePipe { bus: self.clone(), visit: device.visit, connection, endpoints, out: Out::Control })
    }
}

impl Bus for RemoteBus {
    fn devices(&self) -> Result<Vec<Device>, BusError> {
        let mut state = lock(&self.0.state);
        state.look(&self.0.address).map_err(|error| BusError::List(error.into()))?;
        Ok(state.there.iter().filter_map(|(_, visit, record)| describe(record, *visit)).collect())
    }

    fn changes(&self) -> u64 {
        let mut state = lock(&self.0.state);
        // That nobody answers shows when the devices are asked for.
        let _ = state.look(&self.0.address);
        state.changes
    }

    fn wait(&self, seen: u64, within: Duration) {
        let until = Instant::now().checked_add(within);
        while self.changes() == seen {
            let left = until.map_or(LOOK, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    fn now(&self) -> Duration {
        self.0.start.elapsed()
    }

    fn reports(&self, device: &Device, route: ReportRoute) -> Result<Box<dyn ReportPipe + Send>, OpenError> {
        let mut pipe = self.pipe(device)?;
        let lacks = |lacks| Err(OpenError::Lacks { port: device.port.clone(), lacks });
        pipe.out = match (pipe.endpoints, route) {
            (Endpoints { interrupt_in: None, .. }, _) => return lacks("interrupt endpoint"),
            (Endpoints { interrupt_out: Some(endpoint), .. }, _) => Out::Endpoint(endpoint),
            (_, ReportRoute::Control) => Out::Control,
            (_, ReportRoute::Endpoint1) => return lacks("endpoint 0x01"),
        };
        Ok(Box::new(pipe))
    }

    fn bulk(&self, device: &Device) -> Result<Box<dyn BulkPipe + Send>, OpenError> {
        let mut pipe = self.pipe(device)?;
        match pipe.endpoints {
            Endpoints { bulk_in: Some(_), bulk_out: Some(endpoint), .. } => pipe.out = Out::Endpoint(endpoint),
            _ => return Err(OpenError::Lacks { port: device.port.clone(), lacks: "bulk endpoints" }),
        }
        Ok(Box::new(pipe))
    }

    fn string(&self, device: &Device, index: u8) -> Result<Option<String>, OpenError> {
        let failed = |fault| match fault {
            Fault::Gone => OpenError::Gone { port: device.port.clone() },
            fault => OpenError::Other { port: device.port.clone(), source: Box::new(fault) },
        };
        let open = lock(&self.0.open).get(&device.visit).cloned();
        let Some(open) = open else { return self.import(device)?.string(index, ANSWER_WITHIN).map_err(failed) };
        let mut connection = match open.try_lock() {
            Ok(connection) => connection,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let by = Some("a transfer of this process".to_owned());
                return Err(OpenError::Busy { port: device.port.clone(), by });
            }
        };
        connection.string(index, ANSWER_WITHIN).map_err(failed)
    }
}

/// Where what is sent goes.
#[derive(Debug, Clone, Copy)]
enum Out {
    Control,
    Endpoint(u8),
}

#[derive(Debug)]
struct RemotePipe {
    bus: RemoteBus,
    visit: Visit,
    connection: Arc<Mutex<Connection>>,
    endpoints: Endpoints,
    out: Out,
}

impl Drop for RemotePipe {
    fn drop(&mut self) {
        lock(&self.bus.0.open).remove(&self.visit);
        lock(&self.connection).close();
    }
}

impl BulkPipe for RemotePipe {
    fn send(&mut self, bytes: &[u8], within: Duration) -> Result<(), TransferError> {
        let Out::Endpoint(endpoint) = self.out else { return Ok(()) };
        let sent = lock(&self.connection).send(endpoint, bytes, within);
        sent.map_err(|(done, fault)| TransferError::sending(done, bytes.len(), fault))
    }

    fn receive(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        let (asked, endpoint) = (into.len(), self.endpoints.bulk_in.unwrap_or(1));
        let received = lock(&self.connection).receive(endpoint, into, within);
        received.map_err(|fault| TransferError::receiving(0, asked, fault))
    }
}

impl ReportPipe for RemotePipe {
    fn send_report(&mut self, report: &[u8], within: Duration) -> Result<(), TransferError> {
        let mut connection = lock(&self.connection);
        let sent = match self.out {
            Out::Endpoint(endpoint) => connection.send(endpoint, report, within),
            Out::Control => connection.set_report(report, within),
        };
        sent.map_err(|(done, fault)| TransferError::sending(done, report.len(), fault))
    }

    fn receive_report(&mut self, into: &mut [u8], within: Duration) -> Result<usize, TransferError> {
        let (asked, endpoint) = (into.len(), self.endpoints.interrupt_in.unwrap_or(1));
        let received = lock(&self.connection).receive(endpoint, into, within);
        received.map_err(|fault| TransferError::receiving(0, asked, fault))
    }
}

#[cfg(test)]
mod tests;
