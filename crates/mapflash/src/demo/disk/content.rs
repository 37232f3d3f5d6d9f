//! Bytes that compress like those of a root filesystem: code, text, and what is packed already.

/// Makes content from a seed, the same bytes for the same calls.
#[derive(Debug)]
pub(crate) struct Content {
    rng: Rng,
    words: Vec<Vec<u8>>,
    opcodes: Vec<u32>,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Machine code in words of four bytes, with constant pools between.
    Code,
    /// Words and lines.
    Text,
    /// Compressed already: no further gain.
    Packed,
}

impl Content {
    /// Content of that seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let words = (0..2048).map(|_| word(&mut rng)).collect();
        let opcodes = (0..192).map(|_| rng.low32() & 0xfffc_0000).collect();
        Self { rng, words, opcodes }
    }

    /// A number below `bound`, which must not be 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.rng.low32() % bound.max(1)
    }

    /// A random identifier of version 4 as GPT and ext4 store them.
    pub(crate) fn uuid(&mut self) -> [u8; 16] {
        let mut uuid = [0; 16];
        for half in uuid.chunks_exact_mut(8) {
            half.copy_from_slice(&self.rng.next().to_le_bytes());
        }
        uuid[7] = (uuid[7] & 0x0f) | 0x40;
        uuid[8] = (uuid[8] & 0x3f) | 0x80;
        uuid
    }

    /// Fills `out`.
    pub(crate) fn fill(&mut self, kind: Kind, out: &mut [u8]) {
        match kind {
            Kind::Code => self.code(out),
            Kind::Text => self.text(out),
            Kind::Packed => self.packed(out),
        }
    }

    /// Functions: runs of instructions whose upper half comes from a small table, each run padded with zeros. Now and
    /// then an earlier stretch comes back with small changes, as inlined and copied code does.
    fn code(&mut self, out: &mut [u8]) {
        let mut at = 0;
        while at < out.len() {
            let random = self.rng.next();
            let len = 64 + usize::from(random.to_le_bytes()[1]) * 4;
            let end = out.len().min(at + len);
            if random & 0b11 == 0 && at > 4096 {
                let back = 256 + usize::from(random.to_le_bytes()[2]) * 15;
                let len = (end - at).min(back);
                out.copy_within(at - back..at - back + len, at);
                at += len;
                continue;
            }
            for slot in out[at..end].chunks_mut(4) {
                let random = self.rng.next().to_le_bytes();
                // Two draws and the smaller of them: common instructions are far more common than rare ones.
                let pick = random[0].min(random[1]).min(random[2]).min(random[7]) % 192;
                let operand = if random[3] < 200 { random[4] & 0x07 } else { random[4] };
                let far = if random[5] < 24 { u32::from(random[6]) << 8 } else { 0 };
                let opcode = self.opcodes[usize::from(pick)] | u32::from(operand) | far;
                slot.copy_from_slice(&opcode.to_le_bytes()[..slot.len()]);
            }
            at = end;
            let padded = out.len().min(at + usize::from(random.to_le_bytes()[3] & 0x3f));
            out[at..padded].fill(0);
            at = padded;
        }
    }

    /// Words in lines of about seventy bytes.
    fn text(&mut self, out: &mut [u8]) {
        let (mut at, mut column) = (0, 0);
        while at < out.len() {
            let random = self.rng.next();
            let [a, b, c, d, ..] = random.to_le_bytes();
            // Of 2048 words the first few make up most of the text.
            let pick = (usize::from(a.min(b)) * 8 + usize::from(d & 7)) >> (c & 3);
            let word = &self.words[pick % self.words.len()];
            let len = word.len().min(out.len() - at);
            out[at..at + len].copy_from_slice(&word[..len]);
            at += len;
            column += len + 1;
            if let Some(space) = out.get_mut(at) {
                *space = if column > 70 { b'\n' } else { b' ' };
                column = if column > 70 { 0 } else { column };
                at += 1;
            }
        }
    }

    fn packed(&mut self, out: &mut [u8]) {
        for slot in out.chunks_mut(8) {
            slot.copy_from_slice(&self.rng.next().to_le_bytes()[..slot.len()]);
        }
    }
}

/// A word of one to four syllables.
fn word(rng: &mut Rng) -> Vec<u8> {
    const STARTS: &[u8] = b"bcdfghklmnprstvw";
    const VOWELS: &[u8] = b"aeiou_aeioueaoie";
    let mut word = Vec::new();
    for _ in 0..=rng.low32() % 4 {
        let [a, b, c, ..] = rng.next().to_le_bytes();
        word.push(STARTS[usize::from(a & 15)]);
        word.push(VOWELS[usize::from(b & 15)]);
        if c & 1 == 0 {
            word.push(STARTS[usize::from(c >> 4)]);
        }
    }
    word
}

/// xorshift64*, by S. Vigna ("An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016): fast,
/// and far better than content for compressors needs.
#[derive(Debug)]
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        // A state of 0 would stay 0.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn low32(&mut self) -> u32 {
        let [_, _, _, _, a, b, c, d] = self.next().to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}
