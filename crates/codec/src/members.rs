//! Files of several members, one after the other, and the zeros that may follow: handwritten
//! because the crates' readers of several members report padding as a damaged header.

use std::io::{self, BufRead, Read};

#[cfg(feature = "bzip2")]
use bzip2::bufread::BzDecoder;
#[cfg(feature = "gzip")]
use flate2::bufread::GzDecoder;

/// A decoder of one member, which stops right behind it.
pub(crate) trait Member: Read {
    type Input: BufRead;

    fn new(input: Self::Input) -> Self;
    fn into_input(self) -> Self::Input;
}

#[cfg(feature = "gzip")]
impl<R: BufRead> Member for GzDecoder<R> {
    type Input = R;

    fn new(input: R) -> Self {
        Self::new(input)
    }

    fn into_input(self) -> R {
        self.into_inner()
    }
}

#[cfg(feature = "bzip2")]
impl<R: BufRead> Member for BzDecoder<R> {
    type Input = R;

    fn new(input: R) -> Self {
        Self::new(input)
    }

    fn into_input(self) -> R {
        self.into_inner()
    }
}

/// All members of a file.
pub(crate) struct Members<M>(Option<M>);

impl<M: Member> Members<M> {
    pub(crate) fn new(first: M) -> Self {
        Self(Some(first))
    }
}

impl<M: Member> Read for Members<M> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.0 {
            let count = member.read(target)?;
            if count > 0 || target.is_empty() {
                return Ok(count);
            }
            let Some(mut input) = self.0.take().map(M::into_input) else { break };
            match input.fill_buf()?.first() {
                None => {}
                Some(0) => only_zeros(input)?,
                Some(_) => self.0 = Some(M::new(input)),
            }
        }
        Ok(0)
    }
}

pub(crate) fn only_zeros(mut input: impl BufRead) -> io::Result<()> {
    loop {
        let rest = input.fill_buf()?;
        if rest.is_empty() {
            return Ok(());
        }
        if rest.iter().any(|byte| *byte != 0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "garbage follows the last member",
            ));
        }
        let count = rest.len();
        input.consume(count);
    }
}
