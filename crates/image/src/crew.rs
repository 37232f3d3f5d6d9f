//! [`Crew`]: threads that decode the parts of a file side by side, and hand back their bytes in order.
//!
//! Jobs go round-robin to the workers, each of which has a bounded channel of its own for what it makes; whoever
//! collects reads those channels in the same order. The worker being collected from can always send, so nothing can
//! lock up; the others run ahead as far as their channels reach, which is what bounds the memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};

use crate::error::Fault;
use crate::num::wide;
use crate::options::Options;

/// Decoded bytes travel in portions of this size.
pub(crate) const CHUNK: usize = 256 << 10;

/// What a worker says about the job it is at.
#[derive(Debug)]
pub(crate) enum Message<R> {
    /// The first `len` bytes of a buffer come next.
    Data { buffer: Vec<u8>, len: usize },
    /// So many zeros come next.
    Zeros(u64),
    /// So many bytes come next that nobody wants; they were decoded, but are not handed over.
    Gap(u64),
    /// The job is done and everything in it has been checked.
    End(R),
    /// The job cannot be done.
    Failed(Fault),
}

/// Why a job stops early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something is wrong with its data.
    Fault(Fault),
    /// Nobody is waiting for it any more.
    Dropped,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What a worker does.
pub(crate) trait Work: Send + 'static {
    type Job: Send + 'static;
    type Done: Send + 'static;

    /// Decodes one part into `sink`.
    fn run(&mut self, job: Self::Job, sink: &mut Sink<Self::Done>) -> Result<Self::Done, Stop>;
}

/// Where a worker puts what it decodes.
#[derive(Debug)]
pub(crate) struct Sink<R> {
    messages: Sender<Message<R>>,
    empties: Receiver<Vec<u8>>,
    stop: Arc<AtomicBool>,
    gap: u64,
}

impl<R> Sink<R> {
    /// A buffer of [`CHUNK`] bytes, whatever they are.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        self.empties.try_recv().unwrap_or_else(|_| vec![0; CHUNK])
    }

    /// Hands over the first `len` bytes of a buffer.
    pub(crate) fn data(&mut self, buffer: Vec<u8>, len: usize) -> Result<(), Stop> {
        self.close_gap()?;
        self.send(Message::Data { buffer, len })
    }

    /// Hands over zeros.
    pub(crate) fn zeros(&mut self, len: u64) -> Result<(), Stop> {
        self.close_gap()?;
        self.send(Message::Zeros(len))
    }

    /// Leaves out bytes that nobody wants.
    pub(crate) fn gap(&mut self, len: u64) -> Result<(), Stop> {
        self.gap += len;
        if self.stop.load(Ordering::Relaxed) { Err(Stop::Dropped) } else { Ok(()) }
    }

    fn close_gap(&mut self) -> Result<(), Stop> {
        match std::mem::take(&mut self.gap) {
            0 => Ok(()),
            gap => self.send(Message::Gap(gap)),
        }
    }

    fn send(&self, message: Message<R>) -> Result<(), Stop> {
        self.messages.send(message).map_err(|_| Stop::Dropped)
    }
}

#[derive(Debug)]
struct Worker<J, R> {
    jobs: Sender<J>,
    messages: Receiver<Message<R>>,
    empties: Sender<Vec<u8>>,
    thread: JoinHandle<()>,
}

/// Workers, and whose turn it is.
#[derive(Debug)]
pub(crate) struct Crew<J, R> {
    workers: VecDeque<Worker<J, R>>,
    stop: Arc<AtomicBool>,
    /// Which worker gets the next job, counted from the one being collected from, which is at the front.
    next: usize,
}

/// How many workers there may be, and how many chunks each may have waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) workers: usize,
    pub(crate) depth: usize,
}

impl Size {
    /// As many workers as threads and memory allow, when each needs `fixed` bytes to decode at all and its largest part
    /// unpacks to `part` bytes. A worker that cannot run ahead by a few chunks is not worth having; one there always is.
    pub(crate) fn new(options: &Options, jobs: usize, fixed: u64, part: u64) -> Self {
        let chunk = wide(CHUNK);
        let useful = part.min(16 * chunk);
        let most = options.threads.get().min(jobs).max(1);
        let fits = |workers: &usize| options.memory / wide(*workers) >= fixed.saturating_add(useful);
        let workers = (1..=most).rev().find(fits).unwrap_or(1);
        // Two chunks more than the channel holds are in hand: one at the worker, one being collected.
        let room = (options.memory / wide(workers)).saturating_sub(fixed) / chunk;
        // A lone worker need not hold a whole part: it only has to keep going while others write.
        let enough = if workers == 1 { 16 } else { part / chunk + 2 };
        let depth = room.saturating_sub(2).min(enough).max(2);
        Self { workers, depth: usize::try_from(depth).unwrap_or(2) }
    }
}

impl<J: Send + 'static, R: Send + 'static> Crew<J, R> {
    /// Starts threads. `make` makes what each of them works with.
    pub(crate) fn start<W: Work<Job = J, Done = R>>(
        size: Size,
        mut make: impl FnMut() -> Result<W, Fault>,
    ) -> Result<Self, Fault> {
        let mut crew = Self { workers: VecDeque::new(), stop: Arc::default(), next: 0 };
        for _ in 0..size.workers.max(1) {
            let mut work = make()?;
            let (jobs, to_do) = bounded(1);
            let (send, messages) = bounded(size.depth);
            let (empties, recycled) = unbounded();
            let mut sink = Sink { messages: send, empties: recycled, stop: Arc::clone(&crew.stop), gap: 0 };
            let body = move || {
                for job in to_do {
                    let result = work.run(job, &mut sink);
                    let last = match (result, sink.close_gap()) {
                        (Err(Stop::Dropped), _) | (_, Err(_)) => return,
                        (Ok(done), Ok(())) => Message::End(done),
                        (Err(Stop::Fault(fault)), Ok(())) => Message::Failed(fault),
                    };
                    if sink.send(last).is_err() {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new().name("decode".into()).spawn(body);
            let thread = thread.map_err(|error| Fault::Thread(0, Some(error)))?;
            crew.workers.push_back(Worker { jobs, messages, empties, thread });
        }
        Ok(crew)
    }

    /// Gives the next worker in turn a job, or hands it back if that worker has enough to do.
    pub(crate) fn offer(&mut self, job: J) -> Result<(), J> {
        match self.workers[self.next].jobs.try_send(job) {
            Ok(()) => {
                self.next = (self.next + 1) % self.workers.len();
                Ok(())
            }
            // A worker that is gone is noticed when its result is collected.
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Err(job),
        }
    }

    /// Waits for the next message about the oldest job; `None` if its thread is gone.
    pub(crate) fn receive(&mut self) -> Option<Message<R>> {
        let message = self.workers[0].messages.recv().ok()?;
        if let Message::End(_) | Message::Failed(_) = message {
            self.workers.rotate_left(1);
            self.next = (self.next + self.workers.len() - 1) % self.workers.len();
        }
        Some(message)
    }

    /// Gives back a buffer that came in a message.
    pub(crate) fn recycle(&self, buffer: Vec<u8>) {
        // Whoever it came from may be at the back of the line by now; any worker can use it.
        let _ = self.workers[0].empties.send(buffer);
    }
}

impl<J, R> Drop for Crew<J, R> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let threads: Vec<_> = self.workers.drain(..).map(|worker| worker.thread).collect();
        // The channels are closed now, so every worker is on its way out.
        for thread in threads {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    /// Emits as many chunks as the job says, each filled with the job's number.
    struct Count;

    impl Work for Count {
        type Job = (u8, usize);
        type Done = u8;

        fn run(&mut self, (number, chunks): (u8, usize), sink: &mut Sink<u8>) -> Result<u8, Stop> {
            for _ in 0..chunks {
                let mut buffer = sink.buffer();
                buffer[0] = number;
                sink.data(buffer, 1)?;
            }
            match number {
                250 => panic!("a worker breaks"),
                251 => loop {
                    sink.gap(1)?;
                },
                _ => Ok(number),
            }
        }
    }

    fn crew(workers: usize, depth: usize) -> Crew<(u8, usize), u8> {
        Crew::start(Size { workers, depth }, || Ok(Count)).unwrap()
    }

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        for workers in 1..5 {
            let mut crew = crew(workers, 2);
            let mut jobs = (0..40_u8).map(|job| (job, usize::from(job) * 7 % 11)).peekable();
            let mut seen = Vec::new();
            let mut chunks = 0;
            loop {
                while let Some(job) = jobs.peek() {
                    match crew.offer(*job) {
                        Ok(()) => drop(jobs.next()),
                        Err(_) => break,
                    }
                }
                if seen.len() == 40 {
                    break;
                }
                match crew.receive().unwrap() {
                    Message::Data { buffer, len } => {
                        assert_eq!((usize::from(buffer[0]), len), (seen.len(), 1));
                        crew.recycle(buffer);
                        chunks += 1;
                    }
                    Message::End(done) => {
                        assert_eq!(chunks, usize::from(done) * 7 % 11);
                        chunks = 0;
                        seen.push(done);
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(seen, (0..40).collect::<Vec<_>>());
        }
    }

    #[test]
    fn dropping_ends_threads_that_send_wait_or_skip() {
        for number in [1, 251] {
            let mut crew = crew(2, 2);
            crew.offer((number, 1000)).unwrap();
            crew.offer((251, 0)).unwrap();
            assert!(matches!(crew.receive(), Some(Message::Data { .. })));
            // Joins: the test would hang if a thread did not end.
            drop(crew);
        }
    }

    #[test]
    fn a_panic_in_a_worker_is_noticed() {
        let mut crew = crew(1, 2);
        crew.offer((250, 0)).unwrap();
        assert!(crew.receive().is_none());
    }

    #[test]
    fn the_crew_is_as_large_as_memory_allows() {
        let options = Options { threads: NonZeroUsize::new(8).unwrap(), memory: 160 << 20, ..Options::default() };
        let mib = |mib: u64| mib << 20;
        // Blocks of xz -6: 24 MiB with dictionaries of 8 MiB: all eight, running ahead as far as there is room.
        assert_eq!(Size::new(&options, 100, mib(9), mib(24)), Size { workers: 8, depth: 42 });
        assert_eq!(Size::new(&options, 3, mib(9), mib(24)), Size { workers: 3, depth: 98 });
        // Dictionaries of 64 MiB: two.
        assert_eq!(Size::new(&options, 100, mib(65), mib(192)).workers, 2);
        assert_eq!(Size::new(&options, 100, mib(1000), mib(24)), Size { workers: 1, depth: 2 });
    }
}
