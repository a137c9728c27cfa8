//! A picture of a screen.

use std::fmt;

use jumpstarter_driver_core::{Error, Result};

/// A picture: rows from the top, pixels from the left.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u16,
    height: u16,
    /// `0x00RRGGBB`.
    pixels: Vec<u32>,
}

impl Picture {
    /// `pixels` has a pixel for each place; of each, the upper eight bits are dropped.
    pub(crate) fn new(width: u16, height: u16, mut pixels: Vec<u32>) -> Self {
        debug_assert_eq!(pixels.len(), usize::from(width) * usize::from(height));
        pixels.iter_mut().for_each(|pixel| *pixel &= 0x00ff_ffff);
        Self { width, height, pixels }
    }

    /// Its width in pixels.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Its height in pixels.
    pub fn height(&self) -> u16 {
        self.height
    }

    /// Its pixels, row by row, as `0x00RRGGBB`.
    pub fn pixels(&self) -> &[u32] {
        &self.pixels
    }

    /// One pixel as `0x00RRGGBB`; `None` beside the picture.
    pub fn pixel(&self, x: u16, y: u16) -> Option<u32> {
        let place = usize::from(y) * usize::from(self.width) + usize::from(x);
        (x < self.width).then(|| self.pixels.get(place).copied()).flatten()
    }

    /// The picture as a PNG file. It takes some time: 30 ms for a full HD screen.
    ///
    /// # Errors
    /// `Internal` if it cannot be encoded.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let failed =
            |error| Error::internal("the picture cannot be encoded as PNG").with_source(error);
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.width.into(), self.height.into());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(failed)?;
        let bytes: Vec<u8> = self
            .pixels
            .iter()
            .flat_map(|pixel| {
                let [_, red, green, blue] = pixel.to_be_bytes();
                [red, green, blue]
            })
            .collect();
        writer.write_image_data(&bytes).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(file)
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({}x{})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_has_the_pixels() {
        let pixels = vec![0xff_ff_00_00, 0x00_ff_00, 0x00_00_ff, 0x12_34_56, 0, 0xff_ff_ff];
        let picture = Picture::new(3, 2, pixels);
        let file = picture.to_png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!((info.width, info.height), (3, 2));
        assert_eq!(bytes[..9], [255, 0, 0, 0, 255, 0, 0, 0, 255]);
        assert_eq!(bytes[9..], [0x12, 0x34, 0x56, 0, 0, 0, 255, 255, 255]);
        assert_eq!(picture.pixel(0, 1), Some(0x12_34_56));
        assert_eq!((picture.pixel(3, 0), picture.pixel(0, 2)), (None, None));
    }
}
