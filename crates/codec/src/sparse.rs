//! Android sparse images (AOSP, `libsparse/sparse_format.h`): chunks of blocks that are data, a
//! pattern, or nothing. Handwritten because no maintained crate reads the format from a stream.

use std::io::{self, BufRead, Read};

/// The first bytes of such an image, with the major version that there is.
pub(crate) const MAGIC: &[u8] = b"\x3a\xff\x26\xed\x01\x00";

/// The largest image that is expanded: a header of 28 bytes can ask for 2^64.
const LARGEST: u64 = 1 << 44;
const FILE_HEADER: u16 = 28;
const CHUNK_HEADER: u16 = 12;
const RAW: u16 = 0xcac1;
const FILL: u16 = 0xcac2;
const DONT_CARE: u16 = 0xcac3;
const CRC32: u16 = 0xcac4;

/// The image that the chunks describe. Unspecified blocks are zeros.
pub(crate) struct Sparse<R> {
    input: R,
    header: Option<Header>,
    chunk: Chunk,
    /// Bytes that the chunk still gives.
    left: u64,
    blocks_done: u64,
    chunks_done: u32,
}

#[derive(Clone, Copy)]
struct Header {
    chunk_header_bytes: u16,
    block_bytes: u32,
    blocks: u32,
    chunks: u32,
}

#[derive(Clone, Copy)]
enum Chunk {
    Data,
    /// A pattern, repeated from the start of the chunk.
    Fill([u8; 4]),
}

impl<R: BufRead> Sparse<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, header: None, chunk: Chunk::Data, left: 0, blocks_done: 0, chunks_done: 0 }
    }

    fn number<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u16(&mut self) -> io::Result<u16> {
        Ok(u16::from_le_bytes(self.number()?))
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    /// Skips what a header has beyond the fields that are known.
    fn skip(&mut self, bytes: u16) -> io::Result<()> {
        for _ in 0..bytes {
            self.number::<1>()?;
        }
        Ok(())
    }

    fn read_header(&mut self) -> io::Result<Header> {
        if self.number::<6>()? != MAGIC {
            return Err(wrong("it does not begin as a sparse image of version 1"));
        }
        let _minor = self.u16()?;
        let (file_header_bytes, chunk_header_bytes) = (self.u16()?, self.u16()?);
        let (block_bytes, blocks, chunks) = (self.u32()?, self.u32()?, self.u32()?);
        // Of the whole image; hardly any tool writes it, and none checks it.
        let _checksum = self.u32()?;
        if file_header_bytes < FILE_HEADER || chunk_header_bytes < CHUNK_HEADER {
            return Err(wrong("its headers are too short"));
        }
        if block_bytes == 0 || !block_bytes.is_multiple_of(4) {
            return Err(wrong("the size of its blocks is no multiple of 4 bytes"));
        }
        if u64::from(blocks) * u64::from(block_bytes) > LARGEST {
            return Err(wrong("it is larger than 16 TiB"));
        }
        self.skip(file_header_bytes - FILE_HEADER)?;
        Ok(Header { chunk_header_bytes, block_bytes, blocks, chunks })
    }

    /// The next chunk that gives bytes; false after the last one.
    fn next_chunk(&mut self) -> io::Result<bool> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let header = self.read_header()?;
                *self.header.insert(header)
            }
        };
        while self.left == 0 {
            if self.chunks_done == header.chunks {
                self.end(header)?;
                return Ok(false);
            }
            let (kind, _reserved) = (self.u16()?, self.u16()?);
            let (blocks, chunk_bytes) = (self.u32()?, self.u32()?);
            self.skip(header.chunk_header_bytes - CHUNK_HEADER)?;
            let bytes = u64::from(blocks) * u64::from(header.block_bytes);
            let body_bytes = u64::from(chunk_bytes)
                .checked_sub(u64::from(header.chunk_header_bytes))
                .ok_or_else(|| wrong("a chunk is shorter than its header"))?;
            let expected = match kind {
                RAW => bytes,
                FILL | CRC32 => 4,
                DONT_CARE => 0,
                _ => return Err(wrong("a chunk is of an unknown kind")),
            };
            if body_bytes != expected {
                return Err(wrong("the size of a chunk does not fit its kind"));
            }
            self.chunk = match kind {
                RAW => Chunk::Data,
                FILL => Chunk::Fill(self.number()?),
                DONT_CARE => Chunk::Fill([0; 4]),
                _ => {
                    // Of what came so far; tools leave it out, and the flash has digests.
                    self.u32()?;
                    self.chunks_done += 1;
                    continue;
                }
            };
            self.chunks_done += 1;
            self.blocks_done += u64::from(blocks);
            if self.blocks_done > u64::from(header.blocks) {
                return Err(wrong("its chunks hold more blocks than it says"));
            }
            self.left = bytes;
        }
        Ok(true)
    }

    fn end(&mut self, header: Header) -> io::Result<()> {
        if self.blocks_done != u64::from(header.blocks) {
            return Err(wrong("its chunks hold fewer blocks than it says"));
        }
        match self.input.fill_buf()? {
            [] => Ok(()),
            _ => Err(wrong("garbage follows the last chunk")),
        }
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<R: BufRead> Read for Sparse<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if target.is_empty() || !self.next_chunk()? {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(target.len());
        let count = match self.chunk {
            Chunk::Data => match self.input.read(&mut target[..most])? {
                0 => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a chunk ends early"));
                }
                count => count,
            },
            Chunk::Fill(pattern) => {
                let piece = &mut target[..most];
                match pattern == [pattern[0]; 4] {
                    true => piece.fill(pattern[0]),
                    false => piece
                        .chunks_mut(4)
                        .for_each(|word| word.copy_from_slice(&pattern[..word.len()])),
                }
                // The next piece begins where this one stopped in the pattern.
                let mut rest = pattern;
                rest.rotate_left(most % 4);
                self.chunk = Chunk::Fill(rest);
                most
            }
        };
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: u16, blocks: u32, body: &[u8]) -> Vec<u8> {
        let mut chunk = [kind.to_le_bytes(), [0, 0]].concat();
        chunk.extend(blocks.to_le_bytes());
        chunk.extend((12 + u32::try_from(body.len()).unwrap()).to_le_bytes());
        chunk.extend(body);
        chunk
    }

    fn image(blocks: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut image = MAGIC.to_vec();
        image.extend([0, 0, 28, 0, 12, 0]);
        for number in [8, blocks, u32::try_from(chunks.len()).unwrap(), 0] {
            image.extend(number.to_le_bytes());
        }
        image.extend(chunks.concat());
        image
    }

    /// An image of 2^52 bytes that stores no data.
    fn huge() -> Vec<u8> {
        let mut huge = image(u32::MAX, &[chunk(DONT_CARE, u32::MAX, b"")]);
        huge[12..16].copy_from_slice(&(1_u32 << 20).to_le_bytes());
        huge
    }

    fn read(image: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        Sparse::new(image).read_to_end(&mut plain).map(|_| plain)
    }

    #[test]
    fn chunks_of_every_kind_are_read() {
        let chunks = [
            chunk(RAW, 1, b"abcdefgh"),
            chunk(FILL, 2, b"1234"),
            chunk(CRC32, 0, b"????"),
            chunk(DONT_CARE, 1, b""),
        ];
        let expected = b"abcdefgh1234123412341234\0\0\0\0\0\0\0\0";
        assert_eq!(read(&image(4, &chunks)).unwrap(), expected);
        let mut in_threes = Vec::new();
        let whole = image(4, &chunks);
        let mut sparse = Sparse::new(&*whole);
        let mut piece = [0; 3];
        while let Ok(count @ 1..) = sparse.read(&mut piece) {
            in_threes.extend_from_slice(&piece[..count]);
        }
        assert_eq!(in_threes, expected);
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let data = chunk(RAW, 1, b"abcdefgh");
        let whole = image(1, std::slice::from_ref(&data));
        for length in 0..whole.len() {
            let error = read(&whole[..length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length} bytes: {error}");
        }
        for (wrong, why) in [
            (image(2, std::slice::from_ref(&data)), "fewer blocks"),
            (image(0, std::slice::from_ref(&data)), "more blocks"),
            (image(1, &[chunk(RAW, 1, b"abcdefghi")]), "does not fit"),
            (image(1, &[chunk(0xcac5, 1, b"")]), "unknown kind"),
            ([&whole[..], b"x"].concat(), "garbage"),
            (huge(), "16 TiB"),
        ] {
            let error = read(&wrong).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(why), "{why}: {error}");
        }
    }
}
