//! JPEG files, as far as their structure goes.

use std::ops::Range;

/// The markers without a length: begin, end, restarts, and one for private use.
fn stands_alone(marker: u8) -> bool {
    matches!(marker, 0x01 | 0xd0..=0xd9)
}

/// The segments from the beginning of a file: markers and where their data is, to the end of the
/// file's data. `None` in place of what is not there yet.
struct Segments<'a> {
    bytes: &'a [u8],
    place: usize,
    /// Whether data of the picture follows, which ends with the next marker.
    in_scan: bool,
}

impl Iterator for Segments<'_> {
    type Item = (u8, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.bytes.get(self.place..)?;
            let skipped = match self.in_scan {
                true => rest.windows(2).position(|pair| {
                    pair[0] == 0xff && !matches!(pair[1], 0 | 0xff | 0xd0..=0xd7)
                })?,
                false => 0,
            };
            let [0xff, marker, ..] = *rest.get(skipped..)? else { return None };
            self.place += skipped;
            if marker == 0xff {
                // Filling before a marker.
                self.place += 1;
                continue;
            }
            let start = self.place + 2;
            let length = match stands_alone(marker) {
                true => 0,
                false => {
                    let length = self.bytes.get(start..start + 2)?;
                    usize::from(u16::from_be_bytes([length[0], length[1]])).max(2)
                }
            };
            let data = start..start + length;
            (self.place, self.in_scan) = (data.end, marker == 0xda);
            return Some((marker, data));
        }
    }
}

fn segments(bytes: &[u8]) -> Segments<'_> {
    Segments { bytes, place: 0, in_scan: false }
}

/// The first complete file in a stream of them, such as MJPEG with its boundaries.
pub(crate) fn first(bytes: &[u8]) -> Option<&[u8]> {
    let start = bytes.windows(3).position(|window| window == [0xff, 0xd8, 0xff])?;
    let file = &bytes[start..];
    let (_, end) = segments(file).find(|(marker, _)| *marker == 0xd9)?;
    file.get(..end.end)
}

/// The width and the height of a JPEG file, in pixels.
pub fn size(file: &[u8]) -> Option<(u32, u32)> {
    // A frame's header, of any kind of coding; the other three of the row are tables.
    let is_frame =
        |marker: u8| matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
    let (_, data) = segments(file).find(|(marker, _)| is_frame(*marker))?;
    let [_, _, _, height, low_height, width, low_width, ..] = *file.get(data)? else { return None };
    let number = |high, low| u32::from(u16::from_be_bytes([high, low]));
    Some((number(width, low_width), number(height, low_height)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of 3 by 2 pixels, with an end marker within its first segment.
    fn file() -> Vec<u8> {
        let mut file = vec![0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 0xff, 0xd9];
        file.extend([0xff, 0xff, 0xc0, 0, 9, 8, 0, 2, 0, 3, 0, 0]);
        file.extend([0xff, 0xda, 0, 2, 1, 2, 0xff, 0, 3, 0xff, 0xd0, 4]);
        file.extend([0xff, 0xc4, 0, 3, 9, 0xff, 0xda, 0, 2, 5, 0xff, 0xd9]);
        file
    }

    #[test]
    fn the_first_file_of_a_stream() {
        let file = file();
        let stream = [b"--frame\r\n\r\n".as_slice(), &file, b"\r\n--frame", &file].concat();
        assert_eq!(first(&stream), Some(&file[..]));
        for length in 0..11 + file.len() {
            assert_eq!(first(&stream[..length]), None, "{length}");
        }
        assert_eq!(size(&file), Some((3, 2)));
        assert_eq!(size(&file[..16]), None);
        assert_eq!(size(b"not one"), None);
        assert_eq!(first(&[0xff, 0xd8, 0xff, 0xd8, 0xff]), None);
    }
}
