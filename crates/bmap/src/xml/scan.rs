//! The XML of a bmap file as fields and ranges: syntax and duplicates are judged here, what the values mean is not
//! (ranges excepted, which are too many to keep as text).

use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::{BOM, MAX_DEPTH, MAX_RANGES, Place, Version, XmlError, decimal, shortened};
use crate::digest::{Algorithm, Digest};
use crate::map::MappedRange;
use crate::units::BlockRange;

/// Children of the root that hold one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    ImageSize,
    BlockSize,
    BlocksCount,
    MappedBlocksCount,
    ChecksumType,
    BmapFileChecksum,
    BmapFileSha1,
}

impl Element {
    const ALL: [Element; 7] = [
        Self::ImageSize,
        Self::BlockSize,
        Self::BlocksCount,
        Self::MappedBlocksCount,
        Self::ChecksumType,
        Self::BmapFileChecksum,
        Self::BmapFileSha1,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ImageSize => "ImageSize",
            Self::BlockSize => "BlockSize",
            Self::BlocksCount => "BlocksCount",
            Self::MappedBlocksCount => "MappedBlocksCount",
            Self::ChecksumType => "ChecksumType",
            Self::BmapFileChecksum => "BmapFileChecksum",
            Self::BmapFileSha1 => "BmapFileSHA1",
        }
    }
}

/// A value, trimmed, and where its element or attribute stands.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) text: String,
    pub(super) at: Place,
}

/// What stands in the file.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) version: Version,
    fields: Vec<(Element, Field)>,
    pub(super) has_block_map: bool,
    /// The ranges in the file's order, up to the first bad one. Before 1.4 their digests are SHA-1; since, a digest's
    /// kind is told by its length, because `ChecksumType` may come behind the ranges.
    pub(super) ranges: Vec<MappedRange>,
    /// What is wrong with the first bad range. Kept until the file checksum was verified, which explains more.
    pub(super) range_error: Option<XmlError>,
}

impl Scanned {
    pub(super) fn field(&self, element: Element) -> Option<&Field> {
        self.fields.iter().find(|(found, _)| *found == element).map(|(_, field)| field)
    }

    pub(super) fn required(&self, element: Element) -> Result<&Field, XmlError> {
        self.field(element).ok_or(XmlError::Missing { element: element.name(), version: self.version })
    }
}

/// Reads all of `text`.
pub(super) fn scan(text: &str) -> Result<Scanned, XmlError> {
    // BOM is UTF-8 by itself, so what is left begins at a character.
    let skipped = if text.as_bytes().starts_with(BOM) { BOM.len() } else { 0 };
    let mut scan =
        Scan { text, skipped, event: skipped, open: Vec::new(), value: None, result: None, root_closed: false };
    let mut reader = Reader::from_str(&text[skipped..]);
    loop {
        scan.event = skipped + usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX - skipped);
        match reader.read_event() {
            Ok(Event::Eof) => return scan.finish(),
            Ok(event) => scan.take(event)?,
            Err(source) => {
                let offset = usize::try_from(reader.error_position()).unwrap_or(usize::MAX - skipped);
                return Err(scan.broken(skipped + offset, source));
            }
        }
    }
}

/// What the text being read belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Element(Element),
    Range,
}

/// An open element that holds a value.
#[derive(Debug)]
struct Value {
    holder: Holder,
    /// Number of open elements when its text may be read: its own depth.
    depth: usize,
    at: usize,
    text: String,
    digest: Option<String>,
    /// Another element inside it has ended, so that further text would be a second part.
    interrupted: bool,
}

struct Scan<'a> {
    text: &'a str,
    skipped: usize,
    /// Offset in the file of the event being taken.
    event: usize,
    /// Names of the open elements, at most [`MAX_DEPTH`].
    open: Vec<String>,
    value: Option<Value>,
    /// From the root element on.
    result: Option<Scanned>,
    root_closed: bool,
}

impl Scan<'_> {
    fn place(&self, offset: usize) -> Place {
        Place::of(self.text.as_bytes(), offset)
    }

    fn here(&self) -> Place {
        self.place(self.event)
    }

    fn broken(&self, offset: usize, source: quick_xml::Error) -> XmlError {
        XmlError::Syntax { at: self.place(offset.max(self.skipped)), source }
    }

    fn outside_root(&self) -> XmlError {
        if self.root_closed { XmlError::OutsideRoot { at: self.here() } } else { XmlError::NoElement }
    }

    fn take(&mut self, event: Event<'_>) -> Result<(), XmlError> {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::Empty(tag) => {
                self.start(&tag)?;
                self.end()
            }
            Event::End(_) => self.end(),
            Event::Text(text) => self.characters(&text.xml10_content()),
            Event::CData(_) | Event::GeneralRef(_) if self.open.is_empty() => Err(self.outside_root()),
            Event::CData(text) => self.characters(&text.xml10_content()),
            Event::GeneralRef(reference) => self.reference(&reference),
            Event::DocType(_) => Err(XmlError::Doctype { at: self.here() }),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    fn start(&mut self, tag: &BytesStart<'_>) -> Result<(), XmlError> {
        if self.root_closed {
            return Err(self.outside_root());
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(XmlError::TooDeep { at: self.here() });
        }
        let name = tag.name().into_inner();
        let parents = self.open.len();
        let in_block_map = parents == 2 && self.open.last().is_some_and(|name| name == "BlockMap");
        self.open.push(shortened(name));
        if parents == 0 {
            return self.root(tag);
        }
        if parents == 1 && name == "BlockMap" {
            let again = self.result.as_mut().is_none_or(|result| std::mem::replace(&mut result.has_block_map, true));
            return if again { Err(XmlError::Duplicate { element: "BlockMap", at: self.here() }) } else { Ok(()) };
        }
        let element = Element::ALL.into_iter().find(|element| parents == 1 && element.name() == name);
        if let Some(element) = element {
            if self.result.as_ref().is_some_and(|result| result.field(element).is_some()) {
                return Err(XmlError::Duplicate { element: element.name(), at: self.here() });
            }
            self.hold(Holder::Element(element), None);
        } else if in_block_map && name == "Range" {
            let names_its_hash = self.result.as_ref().is_some_and(|result| result.version.names_its_hash());
            let digest = self.attribute(tag, if names_its_hash { "chksum" } else { "sha1" })?;
            self.hold(Holder::Range, digest);
        }
        Ok(())
    }

    fn hold(&mut self, holder: Holder, digest: Option<String>) {
        let (depth, at) = (self.open.len(), self.event);
        self.value = Some(Value { holder, depth, at, text: String::new(), digest, interrupted: false });
    }

    fn root(&mut self, tag: &BytesStart<'_>) -> Result<(), XmlError> {
        let name = tag.name().into_inner();
        if name != "bmap" {
            return Err(XmlError::NotBmap { found: shortened(name), at: self.here() });
        }
        let text = self.attribute(tag, "version")?.unwrap_or_default();
        let Some(version) = Version::from_text(&text) else {
            return Err(XmlError::Version { found: shortened(&text), at: self.here() });
        };
        if !version.is_known() {
            return Err(XmlError::UnsupportedVersion(version));
        }
        self.result =
            Some(Scanned { version, fields: Vec::new(), has_block_map: false, ranges: Vec::new(), range_error: None });
        Ok(())
    }

    /// The attribute of that name, trimmed. All attributes of the element are looked at, so that a malformed or doubled
    /// one does not pass.
    fn attribute(&self, tag: &BytesStart<'_>, name: &str) -> Result<Option<String>, XmlError> {
        let mut found = None;
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|source| self.broken(self.event, source.into()))?;
            if attribute.key.into_inner() == name {
                let value = attribute.normalized_value(XmlVersion::Implicit1_0);
                let value = value.map_err(|source| self.broken(self.event, source))?;
                found = Some(value.trim().to_owned());
            }
        }
        Ok(found)
    }

    fn characters(&mut self, text: &str) -> Result<(), XmlError> {
        let at = self.event;
        if self.open.is_empty() {
            let blank = text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
            return if blank { Ok(()) } else { Err(self.outside_root()) };
        }
        let depth = self.open.len();
        let Some(value) = self.value.as_mut().filter(|value| value.depth == depth) else { return Ok(()) };
        if value.interrupted && !text.trim().is_empty() {
            return Err(XmlError::SplitValue { at: self.place(at) });
        }
        value.text.push_str(text);
        Ok(())
    }

    /// `&name;` or `&#number;`: only the five names that XML defines by itself can mean anything without a document type.
    fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), XmlError> {
        let character = reference.resolve_char_ref().map_err(|source| self.broken(self.event, source))?;
        if let Some(character) = character {
            return self.characters(character.encode_utf8(&mut [0; 4]));
        }
        match quick_xml::escape::resolve_predefined_entity(reference) {
            Some(text) => self.characters(text),
            None => Err(XmlError::Entity { name: shortened(reference), at: self.here() }),
        }
    }

    fn end(&mut self) -> Result<(), XmlError> {
        let depth = self.open.len();
        self.open.pop();
        self.root_closed = self.open.is_empty();
        match self.value.take() {
            Some(value) if value.depth == depth => self.close(value),
            value => {
                self.value = value.map(|value| Value { interrupted: true, ..value });
                Ok(())
            }
        }
    }

    /// Keeps a value whose element has ended.
    fn close(&mut self, value: Value) -> Result<(), XmlError> {
        let text = value.text.trim();
        let at = value.at;
        match value.holder {
            Holder::Element(element) => {
                let field = Field { text: text.to_owned(), at: self.place(at) };
                if let Some(result) = &mut self.result {
                    result.fields.push((element, field));
                }
            }
            Holder::Range => {
                let Some(result) = &mut self.result else { return Ok(()) };
                let index = result.ranges.len();
                if result.range_error.is_some() {
                    return Ok(());
                }
                if index >= MAX_RANGES {
                    return Err(XmlError::TooManyRanges);
                }
                let whole = self.text.as_bytes();
                match range(text, value.digest.as_deref(), result.version.names_its_hash()) {
                    Ok(range) => result.ranges.push(range),
                    Err(Bad::Blocks) => {
                        let (found, at) = (shortened(text), Place::of(whole, at));
                        result.range_error = Some(XmlError::Range { index, found, at });
                    }
                    Err(Bad::Digest) => {
                        let (found, at) = (shortened(&value.digest.unwrap_or_default()), Place::of(whole, at));
                        result.range_error = Some(XmlError::RangeDigest { index, found, at });
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Scanned, XmlError> {
        if let Some(inside) = self.open.pop() {
            return Err(XmlError::Truncated { inside, len: self.text.len() });
        }
        self.result.ok_or(XmlError::NoElement)
    }
}

/// Which half of a range is bad.
enum Bad {
    Blocks,
    Digest,
}

/// A range from its text, `7` or `7-9`, and its digest.
fn range(text: &str, digest: Option<&str>, names_its_hash: bool) -> Result<MappedRange, Bad> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first = decimal(first.trim()).ok_or(Bad::Blocks)?;
    let last = decimal(last.trim()).ok_or(Bad::Blocks)?;
    let blocks = BlockRange::new(first, last).ok_or(Bad::Blocks)?;
    let digest = digest
        .map(|hex| {
            let algorithm = if names_its_hash {
                Algorithm::ALL.into_iter().find(|algorithm| algorithm.digest_len() * 2 == hex.len())
            } else {
                Some(Algorithm::Sha1)
            };
            algorithm.and_then(|algorithm| Digest::from_hex(algorithm, hex)).ok_or(Bad::Digest)
        })
        .transpose()?;
    Ok(MappedRange { blocks, digest })
}
