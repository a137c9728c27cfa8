//! What a server sends: rectangles of its screen.

use jumpstarter_driver_core::{Error, Result};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::handshake::{COPY, RAW, SIZE, ZRLE, skip};
use crate::zrle::Zrle;

/// The largest screen, in pixels: 8K.
const MAX_PIXELS: usize = 7680 * 4320;

/// A rectangle on the screen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Area {
    fn pixels(self) -> usize {
        self.width * self.height
    }
}

/// The screen as far as it is known.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) width: u16,
    pub(crate) height: u16,
    /// Colours; the upper eight bits are the round in which one arrived.
    pub(crate) pixels: Vec<u32>,
    round: u32,
    /// How many pixels have not arrived in this round.
    missing: usize,
}

impl Frame {
    pub(crate) fn new(width: u16, height: u16) -> Result<Self> {
        let count = usize::from(width) * usize::from(height);
        if count > MAX_PIXELS {
            let message =
                format!("the screen has {width} by {height} pixels, more than 7680 by 4320");
            return Err(Error::resource_exhausted(message));
        }
        Ok(Self { width, height, pixels: vec![0; count], round: 1, missing: count })
    }

    /// Begins a round: each pixel is wanted again.
    pub(crate) fn begin(&mut self) {
        self.round = self.round % 255 + 1;
        self.missing = self.pixels.len();
    }

    /// Whether each pixel has arrived in this round.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Sets a pixel of an area that was checked.
    pub(crate) fn set(&mut self, x: usize, y: usize, colour: u32) {
        let place = y * usize::from(self.width) + x;
        if let Some(pixel) = self.pixels.get_mut(place) {
            self.missing -= usize::from(*pixel >> 24 != self.round);
            *pixel = colour & 0x00ff_ffff | self.round << 24;
        }
    }

    /// Refuses an area that is not on the screen.
    fn check(&self, area: Area) -> Result<()> {
        let is_inside =
            area.x + area.width <= self.width.into() && area.y + area.height <= self.height.into();
        match is_inside {
            true => Ok(()),
            false => Err(broken("a rectangle is beyond the screen")),
        }
    }

    /// Copies from one place of the screen to another; they may overlap.
    fn copy(&mut self, from: Area, to: Area) {
        let row = |frame: &Self, y: usize| {
            let start = (from.y + y) * usize::from(frame.width) + from.x;
            frame.pixels[start..start + from.width].to_vec()
        };
        let upwards = from.y > to.y;
        for step in 0..from.height {
            let y = if upwards { step } else { from.height - 1 - step };
            for (x, colour) in row(self, y).into_iter().enumerate() {
                self.set(to.x + x, to.y + y, colour);
            }
        }
    }
}

/// Reads messages until one has updated the screen, perhaps only in part.
pub(crate) async fn update(
    io: &mut (impl AsyncRead + Unpin + Send),
    frame: &mut Frame,
    zrle: &mut Zrle,
) -> Result<()> {
    loop {
        match io.read_u8().await? {
            0 => break,
            // Colours of a palette, which we did not ask for.
            1 => {
                skip(io, 3).await?;
                let count = io.read_u16().await?;
                skip(io, u64::from(count) * 6).await?;
            }
            // A bell.
            2 => {}
            // A text of the clipboard.
            3 => {
                skip(io, 3).await?;
                let length = io.read_u32().await?;
                skip(io, length.into()).await?;
            }
            other => return Err(broken(&format!("message {other} is unknown"))),
        }
    }
    skip(io, 1).await?;
    for _ in 0..io.read_u16().await? {
        rectangle(io, frame, zrle).await?;
    }
    Ok(())
}

async fn rectangle(
    io: &mut (impl AsyncRead + Unpin + Send),
    frame: &mut Frame,
    zrle: &mut Zrle,
) -> Result<()> {
    let (x, y) = (io.read_u16().await?, io.read_u16().await?);
    let (width, height) = (io.read_u16().await?, io.read_u16().await?);
    let encoding = io.read_i32().await?;
    if encoding == SIZE {
        *frame = Frame::new(width, height)?;
        return Ok(());
    }
    let area = Area { x: x.into(), y: y.into(), width: width.into(), height: height.into() };
    frame.check(area)?;
    match encoding {
        RAW => {
            let mut row = vec![0; area.width * 4];
            for y in 0..area.height {
                io.read_exact(&mut row).await?;
                for (x, pixel) in row.chunks_exact(4).enumerate() {
                    let colour = u32::from_le_bytes([pixel[0], pixel[1], pixel[2], 0]);
                    frame.set(area.x + x, area.y + y, colour);
                }
            }
        }
        COPY => {
            let (x, y) = (io.read_u16().await?.into(), io.read_u16().await?.into());
            let from = Area { x, y, ..area };
            frame.check(from)?;
            frame.copy(from, area);
        }
        ZRLE => {
            let length = io.read_u32().await?;
            let most = Zrle::most(area.pixels());
            if u64::from(length) > most {
                return Err(broken("a compressed rectangle is too long"));
            }
            let mut compressed = Vec::new();
            (&mut *io).take(length.into()).read_to_end(&mut compressed).await?;
            zrle.decode(&compressed, area, frame)?;
        }
        other => return Err(broken(&format!("encoding {other} was not asked for"))),
    }
    Ok(())
}

/// An error of a server that does not keep to the protocol.
pub(crate) fn broken(why: &str) -> Error {
    Error::data_loss(format!("the VNC server does not keep to its protocol: {why}"))
}
