//! The encoding ZRLE: tiles of run lengths and palettes, deflated in one stream.

use flate2::{Decompress, FlushDecompress, Status};
use jumpstarter_driver_core::Result;

use crate::updates::{Area, Frame, broken};

/// The side of a tile.
const TILE: usize = 64;
/// The bytes of a pixel.
const PIXEL: usize = 3;
/// The most bytes of a tile beside its pixels: its kind and a palette.
const TILE_HEAD: usize = 1 + 127 * PIXEL;
/// The most bytes of a pixel: a run of one.
const RUN: usize = PIXEL + 1;

/// The decoder of a connection: its rectangles are one deflated stream.
pub(crate) struct Zrle {
    inflater: Decompress,
}

impl Zrle {
    pub(crate) fn new() -> Self {
        Self { inflater: Decompress::new(true) }
    }

    /// The most bytes of a rectangle with so many pixels, compressed or not.
    pub(crate) fn most(pixels: usize) -> u64 {
        // A tile has a row of at least one pixel; what cannot be compressed grows a little.
        let plain = pixels * RUN + (pixels / TILE + 2 * TILE) * TILE_HEAD;
        (plain + plain / 8 + 1024) as u64
    }

    /// Decodes a rectangle into the frame.
    pub(crate) fn decode(
        &mut self,
        compressed: &[u8],
        area: Area,
        frame: &mut Frame,
    ) -> Result<()> {
        let limit = Self::most(area.width * area.height) as usize;
        let plain = self.inflate(compressed, limit)?;
        let mut bytes = Bytes(&plain);
        for y in (0..area.height).step_by(TILE) {
            for x in (0..area.width).step_by(TILE) {
                let tile = Area {
                    x: area.x + x,
                    y: area.y + y,
                    width: TILE.min(area.width - x),
                    height: TILE.min(area.height - y),
                };
                bytes.tile(tile, frame)?;
            }
        }
        Ok(())
    }

    fn inflate(&mut self, mut compressed: &[u8], limit: usize) -> Result<Vec<u8>> {
        let mut plain = Vec::with_capacity((compressed.len() * 4).min(limit));
        loop {
            if plain.len() > limit {
                return Err(broken("a compressed rectangle expands beyond its pixels"));
            }
            plain.reserve(16 << 10);
            let (read, made) = (self.inflater.total_in(), plain.len());
            let status = self
                .inflater
                .decompress_vec(compressed, &mut plain, FlushDecompress::Sync)
                .map_err(|error| broken("a rectangle is not deflated").with_source(error))?;
            let read = (self.inflater.total_in() - read) as usize;
            compressed = compressed.get(read..).unwrap_or_default();
            let is_stuck = read == 0 && plain.len() == made;
            match status {
                Status::StreamEnd => return Err(broken("the deflated stream ends")),
                _ if compressed.is_empty() && plain.len() < plain.capacity() => return Ok(plain),
                _ if is_stuck => return Err(broken("a rectangle is not deflated")),
                _ => {}
            }
        }
    }
}

impl std::fmt::Debug for Zrle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Zrle")
    }
}

/// The bytes that are left.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.0.split_first().ok_or_else(|| broken("a tile is cut off"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn colour(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes([self.byte()?, self.byte()?, self.byte()?, 0]))
    }

    fn palette(&mut self, size: u8) -> Result<Vec<u32>> {
        (0..size).map(|_| self.colour()).collect()
    }

    fn run(&mut self) -> Result<usize> {
        let mut length = 1;
        loop {
            let byte = self.byte()?;
            length += usize::from(byte);
            if byte != u8::MAX {
                return Ok(length);
            }
        }
    }

    fn tile(&mut self, tile: Area, frame: &mut Frame) -> Result<()> {
        match self.byte()? {
            0 => {
                for place in 0..tile.width * tile.height {
                    let colour = self.colour()?;
                    set(tile, frame, place, colour);
                }
                Ok(())
            }
            1 => {
                let colour = self.colour()?;
                (0..tile.width * tile.height).for_each(|place| set(tile, frame, place, colour));
                Ok(())
            }
            size @ 2..=16 => self.packed(size, tile, frame),
            128 => self.runs(tile, frame, |bytes| Ok((bytes.colour()?, bytes.run()?))),
            size @ 130..=255 => {
                let palette = self.palette(size - 128)?;
                self.runs(tile, frame, |bytes| {
                    let index = bytes.byte()?;
                    let length = if index & 0x80 == 0 { 1 } else { bytes.run()? };
                    Ok((of(&palette, index & 0x7f)?, length))
                })
            }
            other => Err(broken(&format!("a tile is of the unknown kind {other}"))),
        }
    }

    /// Indices of a palette, packed to bytes in each row.
    fn packed(&mut self, size: u8, tile: Area, frame: &mut Frame) -> Result<()> {
        let palette = self.palette(size)?;
        let bits = match size {
            2 => 1,
            3 | 4 => 2,
            _ => 4,
        };
        for y in 0..tile.height {
            let (mut byte, mut left) = (0, 0);
            for x in 0..tile.width {
                if left == 0 {
                    (byte, left) = (self.byte()?, 8);
                }
                left -= bits;
                let index = byte >> left & ((1 << bits) - 1);
                set(tile, frame, y * tile.width + x, of(&palette, index)?);
            }
        }
        Ok(())
    }

    fn runs(
        &mut self,
        tile: Area,
        frame: &mut Frame,
        next: impl Fn(&mut Self) -> Result<(u32, usize)>,
    ) -> Result<()> {
        let (mut place, end) = (0, tile.width * tile.height);
        while place < end {
            let (colour, length) = next(self)?;
            if length > end - place {
                return Err(broken("a run is longer than its tile"));
            }
            (place..place + length).for_each(|place| set(tile, frame, place, colour));
            place += length;
        }
        Ok(())
    }
}

fn of(palette: &[u32], index: u8) -> Result<u32> {
    let colour = palette.get(usize::from(index)).copied();
    colour.ok_or_else(|| broken("a colour is not in its palette"))
}

fn set(tile: Area, frame: &mut Frame, place: usize, colour: u32) {
    frame.set(tile.x + place % tile.width, tile.y + place / tile.width, colour);
}
