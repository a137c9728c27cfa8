//! Block maps (bmap files): which blocks of an image hold data, and the checksum of each range.
//!
//! The format is that of `bmaptool` (<https://github.com/yoctoproject/bmaptool>), versions 1.3,
//! 1.4 and 2.

use std::ops::Range;

use jumpstarter_driver_core::image::hex;
use jumpstarter_driver_core::{Error, Result};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest};

/// The largest map, in bytes: some twenty thousand ranges.
const LARGEST: usize = 3 << 20;
/// The largest block, in bytes.
const LARGEST_BLOCK: u64 = 1 << 30;

/// Checks the text of a bmap file, as a flash does before it reads the image.
///
/// # Errors
/// `DataLoss`: it is damaged. `FailedPrecondition`: its version, or something in it, is not
/// supported.
pub fn check_block_map(text: &str) -> Result<()> {
    BlockMap::parse(text).map(drop)
}

/// A checked block map.
pub(crate) struct BlockMap {
    pub(crate) image_size: u64,
    pub(crate) algorithm: &'static Algorithm,
    /// In order, without overlaps, and each within the image.
    pub(crate) ranges: Vec<Mapped>,
}

/// Bytes of the image that hold data.
#[derive(Clone)]
pub(crate) struct Mapped {
    pub(crate) bytes: Range<u64>,
    /// In lower-case hexadecimal.
    pub(crate) checksum: String,
}

/// The elements as they are written.
#[derive(Default)]
struct Elements {
    version: String,
    image_size: Option<String>,
    block_size: Option<String>,
    blocks: Option<String>,
    mapped_blocks: Option<String>,
    checksum_type: Option<String>,
    checksum: Option<String>,
    /// The blocks, and the checksum.
    ranges: Vec<(String, Option<String>)>,
}

impl BlockMap {
    /// Reads the text of a bmap file, and checks all of it.
    ///
    /// # Errors
    /// `DataLoss`: it is damaged. `FailedPrecondition`: its version, or something in it, is not
    /// supported.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let doing = |error: Error| error.context("reading the block map");
        Self::read(text).map_err(doing)
    }

    fn read(text: &str) -> Result<Self> {
        if text.len() > LARGEST {
            let message = format!("it has more than {} KiB", LARGEST / 1024);
            return Err(Error::failed_precondition(message));
        }
        let elements = Elements::read(text)?;
        let (algorithm, checksum) = elements.checksums()?;
        let zeros = "0".repeat(checksum.len());
        let found = hex(digest(algorithm, text.replacen(&checksum, &zeros, 1).as_bytes()).as_ref());
        if found != checksum.to_ascii_lowercase() {
            let message = format!("its checksum is {found}, not {checksum} as it says");
            return Err(Error::data_loss(message).with_hint("get it again, or make it again"));
        }
        let image_size = number("ImageSize", elements.image_size.as_deref())?;
        let block_size = number("BlockSize", elements.block_size.as_deref())?;
        let blocks = number("BlocksCount", elements.blocks.as_deref())?;
        if !(1..=LARGEST_BLOCK).contains(&block_size) || image_size.div_ceil(block_size) != blocks {
            let message =
                format!("{blocks} blocks of {block_size} bytes are no image of {image_size} bytes");
            return Err(Error::data_loss(message));
        }
        let (mut end, mut mapped, mut ranges) = (0, 0, Vec::new());
        for (text, checksum) in elements.ranges {
            let wrong = || Error::data_loss(format!("`{}` are no blocks", shown(&text)));
            let (first, last) = text.split_once('-').unwrap_or((&text, &text));
            let first: u64 = first.trim().parse().map_err(|_| wrong())?;
            let last: u64 = last.trim().parse().map_err(|_| wrong())?;
            if first < end || last < first || last >= blocks {
                let message = format!("the blocks `{}` are not where they can be", shown(&text));
                return Err(Error::data_loss(message));
            }
            let checksum = checksum.ok_or_else(|| {
                let message = format!("the blocks `{}` have no checksum", shown(&text));
                Error::failed_precondition(message)
                    .with_hint("make it without `--no-checksum` of `bmaptool create`")
            })?;
            (end, mapped) = (last + 1, mapped + (last + 1 - first));
            // Below the image's size, so it does not overflow.
            let bytes = first * block_size
                ..(last.saturating_add(1)).saturating_mul(block_size).min(image_size);
            ranges.push(Mapped { bytes, checksum: checksum.trim().to_ascii_lowercase() });
        }
        let expected = number("MappedBlocksCount", elements.mapped_blocks.as_deref())?;
        if mapped != expected {
            let message = format!("it has {mapped} mapped blocks, not {expected} as it says");
            return Err(Error::data_loss(message));
        }
        Ok(Self { image_size, algorithm, ranges })
    }
}

impl Elements {
    /// Reads the XML. There are no entities, no document types and no other nesting.
    fn read(text: &str) -> Result<Self> {
        let mut reader = Reader::from_str(text);
        reader.config_mut().trim_text(true);
        let (mut elements, mut path) = (Self::default(), Vec::<String>::new());
        loop {
            match reader.read_event().map_err(|error| damaged(&reader, error.to_string()))? {
                Event::Start(start) => {
                    path.push(start.name().as_ref().to_owned());
                    elements.start(&path, &start)?;
                }
                Event::End(_) => drop(path.pop()),
                Event::Text(text) => {
                    elements.text(&path, text.trim());
                }
                Event::Eof if path.is_empty() && !elements.version.is_empty() => {
                    return Ok(elements);
                }
                Event::Eof => return Err(damaged(&reader, "it ends early".to_owned())),
                Event::Decl(_) | Event::Comment(_) => {}
                other => {
                    let kind = format!("{other:?}");
                    let kind = kind.split('(').next().unwrap_or_default().to_owned();
                    return Err(damaged(
                        &reader,
                        format!("a bmap file has no XML of this kind: {kind}"),
                    ));
                }
            }
        }
    }

    fn start(&mut self, path: &[String], start: &BytesStart<'_>) -> Result<()> {
        let attribute = |names: &[&str]| {
            let mut found = None;
            for attribute in start.attributes() {
                let attribute = attribute.map_err(|error| {
                    Error::data_loss("an attribute is damaged").with_source(error)
                })?;
                if names.contains(&attribute.key.as_ref()) {
                    found = Some(attribute.value.into_owned());
                }
            }
            Ok::<_, Error>(found)
        };
        match path.last().map(String::as_str) {
            Some("bmap") if path.len() == 1 => {
                self.version = attribute(&["version"])?.unwrap_or_default();
                if !matches!(self.version.as_str(), "1.3" | "1.4")
                    && self.version.split('.').next() != Some("2")
                {
                    let message =
                        format!("its version is `{}`, not 1.3, 1.4 or 2.0", shown(&self.version));
                    return Err(Error::failed_precondition(message)
                        .with_hint("make it again: `bmaptool create IMAGE -o IMAGE.bmap`"));
                }
            }
            Some("Range") if path.len() == 3 && path[1] == "BlockMap" => {
                self.ranges.push((String::new(), attribute(&["chksum", "sha1"])?));
            }
            _ if path.len() == 1 => return Err(Error::data_loss("it is no bmap file")),
            // A later version's.
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, path: &[String], text: &str) {
        let names: Vec<&str> = path.iter().skip(1).map(String::as_str).collect();
        let place = match names.as_slice() {
            ["ImageSize"] => &mut self.image_size,
            ["BlockSize"] => &mut self.block_size,
            ["BlocksCount"] => &mut self.blocks,
            ["MappedBlocksCount"] => &mut self.mapped_blocks,
            ["ChecksumType"] => &mut self.checksum_type,
            ["BmapFileChecksum" | "BmapFileSHA1"] => &mut self.checksum,
            ["BlockMap", "Range"] => {
                if let Some((blocks, _)) = self.ranges.last_mut() {
                    blocks.push_str(text);
                }
                return;
            }
            _ => return,
        };
        *place = Some(text.to_owned());
    }

    /// The algorithm of the checksums, and that of the file.
    fn checksums(&self) -> Result<(&'static Algorithm, String)> {
        let name = match self.version.as_str() {
            "1.3" => "sha1",
            _ => self.checksum_type.as_deref().unwrap_or_default(),
        };
        let algorithm: &Algorithm = match name {
            "sha1" => &SHA1_FOR_LEGACY_USE_ONLY,
            "sha256" => &SHA256,
            "sha512" => &SHA512,
            other => {
                let message = format!("its checksums are of the kind `{}`", shown(other));
                return Err(Error::failed_precondition(message)
                    .with_hint("make it with sha256: `bmaptool create IMAGE -o IMAGE.bmap`"));
            }
        };
        let checksum = self.checksum.clone().unwrap_or_default();
        let is_one = checksum.len() == algorithm.output_len() * 2
            && checksum.bytes().all(|byte| byte.is_ascii_hexdigit());
        match is_one {
            true => Ok((algorithm, checksum)),
            false => Err(Error::data_loss(format!("it has no checksum of the kind {name}"))),
        }
    }
}

fn number(name: &str, text: Option<&str>) -> Result<u64> {
    let text = text.ok_or_else(|| Error::data_loss(format!("it lacks {name}")))?;
    let wrong = || Error::data_loss(format!("{name} is no number: `{}`", shown(text)));
    text.parse().map_err(|_| wrong())
}

fn damaged(reader: &Reader<&[u8]>, why: String) -> Error {
    let message = format!("it is no bmap file: at byte {}: {why}", reader.buffer_position());
    Error::data_loss(message).with_hint("get it again, or flash without it (`--no-bmap`)")
}

/// The beginning of foreign text.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMS: [&str; 2] = ["\"aa\"", "\"bb\""];

    /// A map of 10 blocks of 4096 bytes with these ranges, whose checksum is right.
    fn map(version: &str, kind: &str, ranges: &str) -> String {
        let (algorithm, element): (&Algorithm, _) = match version {
            "1.3" => (&SHA1_FOR_LEGACY_USE_ONLY, "BmapFileSHA1"),
            _ => (if kind == "sha512" { &SHA512 } else { &SHA256 }, "BmapFileChecksum"),
        };
        let zeros = "0".repeat(algorithm.output_len() * 2);
        let kind = match version {
            "1.3" => String::new(),
            _ => format!("<ChecksumType> {kind} </ChecksumType>"),
        };
        let text = format!(
            "<?xml version=\"1.0\" ?>\n<!-- <Range> -->\n<bmap version=\"{version}\">\n\
             <ImageSize> 40000 </ImageSize><BlockSize> 4096 </BlockSize>\
             <BlocksCount> 10 </BlocksCount><MappedBlocksCount> 4 </MappedBlocksCount>{kind}\
             <{element}> {zeros} </{element}><BlockMap>{ranges}</BlockMap>\n</bmap>\n"
        );
        signed(&text, algorithm)
    }

    fn signed(text: &str, algorithm: &'static Algorithm) -> String {
        let zeros = "0".repeat(algorithm.output_len() * 2);
        text.replacen(&zeros, &hex(digest(algorithm, text.as_bytes()).as_ref()), 1)
    }

    fn ranges(attribute: &str) -> String {
        let [one, other] = SUMS;
        format!("<Range {attribute}={one}> 0-2 </Range><Range {attribute}={other}> 9 </Range>")
    }

    #[test]
    fn each_version_is_read() {
        for (version, kind, attribute) in [
            ("1.3", "", "sha1"),
            ("1.4", "sha256", "chksum"),
            ("2.0", "sha256", "chksum"),
            ("2.0", "sha512", "chksum"),
        ] {
            let map = BlockMap::parse(&map(version, kind, &ranges(attribute))).unwrap();
            let found: Vec<_> =
                map.ranges.iter().map(|range| (range.bytes.clone(), &*range.checksum)).collect();
            assert_eq!(found, [(0..12288, "aa"), (36864..40000, "bb")], "{version} {kind}");
            assert_eq!(map.image_size, 40000);
        }
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let report = BlockMap::parse(text).err().unwrap().report();
        assert!(report.contains(expected), "{report}");
    }

    #[test]
    fn what_is_damaged_or_not_supported_is_refused() {
        let good = || map("2.0", "sha256", &ranges("chksum"));
        let with = |ranges: &str| map("2.0", "sha256", ranges);
        let edited = |from: &str, to: &str| {
            let text = good();
            let checksum = text.split("<BmapFileChecksum> ").nth(1).unwrap()[..64].to_owned();
            signed(&text.replace(&checksum, &"0".repeat(64)).replace(from, to), &SHA256)
        };
        refused("", "it ends early");
        refused("<html/>", "it is no bmap file");
        refused("os", "it ends early");
        refused(&good()[..200], "it is no bmap file");
        refused(&good().replace("0-2", "0-1"), "its checksum is");
        refused(&map("1.2", "sha256", ""), "its version is `1.2`");
        refused(&map("3.0", "sha256", ""), "its version is `3.0`");
        refused(&map("2.0", "md5", ""), "of the kind `md5`");
        refused(&edited("sha256 ", "sha512 "), "no checksum of the kind sha512");
        refused(&edited(">\n<bmap", "><!DOCTYPE bmap [<!ENTITY a \"b\">]><bmap"), "kind: DocType");
        refused(&edited("> 9 <", "> &a; <"), "kind: GeneralRef");
        refused(&edited("40000", "400000"), "are no image of 400000 bytes");
        refused(&edited("4096", "0"), "are no image");
        refused(&edited("> 4 <", "> 5 <"), "4 mapped blocks, not 5");
        refused(&edited("<BlockSize> 4096 </BlockSize>", ""), "it lacks BlockSize");
        refused(&with("<Range chksum='a'>0-2</Range><Range chksum='b'>2</Range>"), "`2` are not");
        refused(&with("<Range chksum='a'>7-10</Range>"), "`7-10` are not where");
        refused(&with("<Range chksum='a'>3-1</Range>"), "`3-1` are not where");
        refused(&with("<Range chksum='a'>x</Range>"), "`x` are no blocks");
        refused(&with("<Range>0-3</Range>"), "`0-3` have no checksum");
        refused(&" ".repeat(LARGEST + 1), "it has more than 3072 KiB");
    }
}
