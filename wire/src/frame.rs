//! Scanning frames: a type byte, a length that counts itself, a body.

/// Type byte and length.
pub const HEADER_BYTES: usize = 5;

/// Longest startup packet that is read; PostgreSQL's own bound (postmaster.c, MAX_STARTUP_PACKET_LENGTH).
pub const STARTUP_BYTES_MAX: usize = 10_000;

/// Longest frame of any kind; PostgreSQL's own bound (libpq.h, PQ_LARGE_MESSAGE_LIMIT is MaxAllocSize - 1).
pub const FRAME_BYTES_MAX: usize = 0x3fff_ffff;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: u8,
    /// Bytes of the body, without type and length.
    pub body: usize,
}

impl Header {
    /// Bytes of the whole frame.
    pub fn total(self) -> usize {
        self.body + HEADER_BYTES
    }
}

/// A length that cannot be (under 4, negative, over [`FRAME_BYTES_MAX`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameError {
    pub kind: u8,
    pub length: u32,
}

/// Reads the head of the frame that starts `bytes`; `None` when fewer than five bytes are there.
#[inline]
pub fn header(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    let Some(&[kind, a, b, c, d]) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    if !(4..=FRAME_BYTES_MAX as u32).contains(&length) {
        return Err(FrameError { kind, length });
    }
    Ok(Some(Header { kind, body: length as usize - 4 }))
}

/// Reads fields of a message body, checking every bound.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// A body that ended early or has something left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Fields<'a> {
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(Malformed)?;
        self.rest = tail;
        Ok(head)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.bytes(1)?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        let b = self.bytes(2)?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        let b = self.bytes(4)?;
        Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// A string up to its NUL, without it.
    pub fn cstr(&mut self) -> Result<&'a [u8], Malformed> {
        let end = memchr::memchr(0, self.rest).ok_or(Malformed)?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    /// A length-prefixed value; `None` for length -1 (NULL).
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.u32()? as i32 {
            -1 => Ok(None),
            n if n < 0 => Err(Malformed),
            n => self.bytes(n as usize).map(Some),
        }
    }

    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_lies_is_an_error_before_the_body_is_read() {
        let cases: [(&str, &[u8], Result<Option<Header>, FrameError>); 6] = [
            ("empty", b"", Ok(None)),
            ("four bytes", b"Q\0\0\0", Ok(None)),
            ("smallest", b"S\0\0\0\x04", Ok(Some(Header { kind: b'S', body: 0 }))),
            ("under four", b"S\0\0\0\x03", Err(FrameError { kind: b'S', length: 3 })),
            ("negative", b"Q\xff\xff\xff\xff", Err(FrameError { kind: b'Q', length: u32::MAX })),
            ("over one gigabyte", b"Q\x40\0\0\0", Err(FrameError { kind: b'Q', length: 0x4000_0000 })),
        ];
        for (why, bytes, expected) in cases {
            assert_eq!(header(bytes), expected, "{why}");
        }
    }
}
