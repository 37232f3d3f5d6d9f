//! [`Merge`]: an [`ImageReader`] over a [`Crew`]: parts decoded side by side, put together in order.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::crew::{Crew, Message, Work};
use crate::error::{Context, Fault, ImageError};
use crate::num::{narrow, wide};
use crate::reader::ImageReader;
use crate::streaming::{SCRATCH, check_forward};

/// What comes next in a file.
pub(crate) enum Step<J, M> {
    /// Unpacked bytes that nobody wants and nobody decodes.
    Gap(u64),
    /// A part to be decoded, and what is to be remembered about it.
    Part(J, M),
    /// Nothing more.
    End,
}

/// How a file is cut into parts.
pub(crate) trait Plan: Send {
    type Work: Work;
    /// What is remembered about a part under way.
    type Memo: Send;

    /// What comes next.
    fn next(&mut self) -> Result<Step<Job<Self>, Self::Memo>, Fault>;

    /// Takes note of a part that has been decoded. `ahead` are the parts under way behind it.
    fn done(&mut self, memo: &Self::Memo, done: Done<Self>) -> Result<(), Fault>;

    /// A part failed before it gave any byte. Another way to decode it, if there is one.
    fn recover(&mut self, _memo: Self::Memo, _ahead: &[&Self::Memo], fault: Fault) -> Result<Recovery, Fault> {
        Err(fault)
    }

    /// Packed offset of a part.
    fn packed(&self, memo: &Self::Memo) -> u64;
}

pub(crate) type Job<P> = <<P as Plan>::Work as Work>::Job;
pub(crate) type Done<P> = <<P as Plan>::Work as Work>::Done;

/// Decodes a part in the collecting thread.
pub(crate) trait Part: Send {
    /// At least one byte into `into`, 0 at the checked end of the part.
    fn decode(&mut self, into: &mut [u8]) -> Result<usize, Fault>;
}

/// Another way to a part's bytes.
pub(crate) struct Recovery {
    pub(crate) part: Box<dyn Part>,
    /// How many of the parts under way belong to this one, so that what their workers say does not count.
    pub(crate) absorbed: usize,
}

enum Entry<M> {
    Gap(u64),
    Part(M),
    /// Under way, but its bytes are had in another way.
    Absorbed,
}

enum Current {
    Nothing,
    Gap(u64),
    Zeros(u64),
    Data { buffer: Vec<u8>, at: usize, len: usize },
    Inline(Box<dyn Part>),
}

/// A reader over parts.
pub(crate) struct Merge<P: Plan> {
    context: Context,
    plan: P,
    crew: Crew<Job<P>, Done<P>>,
    /// What has been given out and not been collected, in order.
    entries: VecDeque<Entry<P::Memo>>,
    /// A part that no worker had room for yet.
    waiting: Option<(Job<P>, P::Memo)>,
    /// Whether the plan has come to its end.
    planned: bool,
    /// What the plan failed with: to be said when everything before it has been read.
    deferred: Option<Fault>,
    current: Current,
    /// Whether the part at the front has given any byte.
    begun: bool,
    position: u64,
    packed: u64,
    failed: bool,
}

impl<P: Plan> fmt::Debug for Merge<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merge")
            .field("context", &self.context)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl<P: Plan> Merge<P> {
    pub(crate) fn new(context: Context, plan: P, crew: Crew<Job<P>, Done<P>>) -> Self {
        Self {
            context,
            plan,
            crew,
            entries: VecDeque::new(),
            waiting: None,
            planned: false,
            deferred: None,
            current: Current::Nothing,
            begun: false,
            position: 0,
            packed: 0,
            failed: false,
        }
    }

    /// Keeps the workers busy.
    fn hand_out(&mut self) {
        loop {
            if let Some((job, memo)) = self.waiting.take() {
                match self.crew.offer(job) {
                    Ok(()) => self.entries.push_back(Entry::Part(memo)),
                    Err(job) => {
                        self.waiting = Some((job, memo));
                        return;
                    }
                }
            }
            if self.planned {
                return;
            }
            match self.plan.next() {
                Ok(Step::Gap(len)) => self.entries.push_back(Entry::Gap(len)),
                Ok(Step::Part(job, memo)) => self.waiting = Some((job, memo)),
                Ok(Step::End) => self.planned = true,
                Err(fault) => (self.planned, self.deferred) = (true, Some(fault)),
            }
        }
    }

    /// Makes `current` hold something; false at the end.
    fn advance(&mut self) -> Result<bool, Fault> {
        loop {
            match &self.current {
                Current::Gap(0) | Current::Zeros(0) | Current::Nothing => {}
                Current::Data { at, len, .. } if at == len => {}
                _ => return Ok(true),
            }
            if let Current::Data { buffer, .. } = std::mem::replace(&mut self.current, Current::Nothing) {
                self.crew.recycle(buffer);
            }
            self.hand_out();
            match self.entries.front() {
                None if self.waiting.is_none() => return self.deferred.take().map_or(Ok(false), Err),
                // Nothing is under way, and yet no worker takes a job: the one whose turn it is has died.
                None => return Err(Fault::Thread(self.packed, None)),
                Some(Entry::Gap(len)) => {
                    self.current = Current::Gap(*len);
                    self.entries.pop_front();
                    continue;
                }
                Some(Entry::Part(memo)) => self.packed = self.plan.packed(memo),
                Some(Entry::Absorbed) => {}
            }
            let message = self.crew.receive().ok_or(Fault::Thread(self.packed, None))?;
            self.take(message)?;
        }
    }

    /// Takes in what a worker says about the part at the front.
    fn take(&mut self, message: Message<Done<P>>) -> Result<(), Fault> {
        if matches!(self.entries.front(), Some(Entry::Absorbed)) {
            if matches!(message, Message::End(_) | Message::Failed(_)) {
                self.entries.pop_front();
            }
            return Ok(());
        }
        match message {
            Message::Data { buffer, len } => self.current = Current::Data { buffer, at: 0, len },
            Message::Zeros(len) => self.current = Current::Zeros(len),
            Message::Gap(len) => self.current = Current::Gap(len),
            Message::End(done) => {
                self.begun = false;
                if let Some(Entry::Part(memo)) = self.entries.pop_front() {
                    self.plan.done(&memo, done)?;
                }
                return Ok(());
            }
            Message::Failed(fault) if self.begun => return Err(fault),
            Message::Failed(fault) => {
                // A part that waits for a worker is under way as well, as far as order goes: give it out first, so
                // that the list is complete. There is room, since a worker has just become free.
                let Some(Entry::Part(memo)) = self.entries.pop_front() else { return Err(fault) };
                self.hand_out();
                let ahead: Vec<&P::Memo> = self
                    .entries
                    .iter()
                    .filter_map(|entry| if let Entry::Part(memo) = entry { Some(memo) } else { None })
                    .collect();
                let recovery = self.plan.recover(memo, &ahead, fault)?;
                for entry in self.entries.iter_mut().take(recovery.absorbed) {
                    *entry = Entry::Absorbed;
                }
                self.current = Current::Inline(recovery.part);
                return Ok(());
            }
        }
        self.begun = true;
        Ok(())
    }

    fn fail(&mut self, fault: Fault) -> ImageError {
        self.failed = true;
        self.context.error(fault, self.position)
    }

    fn check(&self) -> Result<(), ImageError> {
        if self.failed {
            return Err(ImageError::Failed { name: Arc::clone(&self.context.name), unpacked: self.position });
        }
        Ok(())
    }

    /// Passes over up to `most` bytes of what is current.
    fn pass(&mut self, most: u64) -> Result<u64, Fault> {
        Ok(match &mut self.current {
            Current::Nothing => 0,
            Current::Gap(left) | Current::Zeros(left) => {
                let count = most.min(*left);
                *left -= count;
                count
            }
            Current::Data { at, len, .. } => {
                let count = narrow(most, *len - *at);
                *at += count;
                wide(count)
            }
            Current::Inline(part) => {
                let mut scratch = vec![0; narrow(most, SCRATCH)];
                let count = part.decode(&mut scratch)?;
                if count == 0 {
                    self.current = Current::Nothing;
                }
                wide(count)
            }
        })
    }

    fn skip(&mut self, to: Option<u64>) -> Result<(), ImageError> {
        self.check()?;
        while to.is_none_or(|to| self.position < to) {
            match self.advance() {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => return Err(self.fail(fault)),
            }
            match self.pass(to.unwrap_or(u64::MAX) - self.position) {
                Ok(count) => self.position += count,
                Err(fault) => return Err(self.fail(fault)),
            }
        }
        Ok(())
    }
}

impl<P: Plan> ImageReader for Merge<P> {
    fn name(&self) -> &Arc<str> {
        &self.context.name
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn packed_position(&self) -> u64 {
        self.packed
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, ImageError> {
        self.check()?;
        loop {
            if into.is_empty() {
                return Ok(0);
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(fault) => return Err(self.fail(fault)),
            }
            let count = match &mut self.current {
                Current::Nothing => 0,
                Current::Gap(_) => {
                    let (name, offset) = (Arc::clone(&self.context.name), self.position);
                    return Err(ImageError::Unwanted {
                        name,
                        offset,
                        why: "it is not in the ranges that were promised",
                    });
                }
                Current::Zeros(left) => {
                    let count = narrow(*left, into.len());
                    into[..count].fill(0);
                    *left -= wide(count);
                    count
                }
                Current::Data { buffer, at, len } => {
                    let count = into.len().min(*len - *at);
                    into[..count].copy_from_slice(&buffer[*at..*at + count]);
                    *at += count;
                    count
                }
                Current::Inline(part) => match part.decode(into) {
                    Ok(0) => {
                        self.current = Current::Nothing;
                        0
                    }
                    Ok(count) => count,
                    Err(fault) => return Err(self.fail(fault)),
                },
            };
            self.position += wide(count);
            if count > 0 {
                return Ok(count);
            }
        }
    }

    fn skip_to(&mut self, offset: u64) -> Result<(), ImageError> {
        check_forward(&self.context, self.position, offset)?;
        self.skip(Some(offset))?;
        if self.position < offset {
            let name = Arc::clone(&self.context.name);
            return Err(ImageError::TooShort { name, len: self.position, wanted: offset });
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<u64, ImageError> {
        self.skip(None)?;
        Ok(self.position)
    }
}
