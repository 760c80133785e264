//! How a copy travels: blocks, each with its length and a checksum that tells it from the others too.
//!
//! This file owns those bytes (docs/store.md, "A copy"). It must not know a store or a directory. Of what is read, no length
//! is believed beyond [`COPY_BLOCK_BYTES_MAX`], and nothing before its checksum fits.

use std::io::{self, Read, Write};

use xxhash_rust::xxh3::Xxh3;

use super::{
    super::{
        StoreError,
        limits::COPY_BLOCK_BYTES_MAX,
        segments::{Entry, each_entry},
    },
    CopyError,
};

/// At the front: this, and the version of what follows, 4.
const MAGIC: [u8; 8] = *b"e2e-copy";
const VERSION: u32 = 1;

/// Before a block's body: its kind 1, its length 4, its checksum 16.
const HEAD_BYTES: usize = 1 + 4 + 16;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Records of the index, as writes of the log.
    Rows = 1,
    /// Number 8: a segment of the log begins.
    Segment = 2,
    /// Bytes of it.
    Piece = 3,
    /// Rows 8, segments 8, bytes of segments 8: that was all.
    End = 4,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        [Self::Rows, Self::Segment, Self::Piece, Self::End].into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Of a block in its place.
fn checksum(block: u64, kind: u8, body: &[u8]) -> u128 {
    let mut state = Xxh3::new();
    state.update(&block.to_be_bytes());
    state.update(&[kind]);
    state.update(body);
    state.digest128()
}

/// Writes a copy.
pub(super) struct Outgoing<W> {
    out: W,
    blocks: u64,
}

impl<W: Write> Outgoing<W> {
    pub(super) fn begin(mut out: W) -> Result<Self, CopyError> {
        out.write_all(&[&MAGIC[..], &VERSION.to_be_bytes()].concat()).map_err(CopyError::Stream)?;
        Ok(Self { out, blocks: 0 })
    }

    pub(super) fn put(&mut self, kind: Kind, body: &[u8]) -> Result<(), CopyError> {
        let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= COPY_BLOCK_BYTES_MAX);
        let length = length.ok_or_else(|| StoreError::malformed("too long"))?;
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.push(kind as u8);
        head.extend(length.to_be_bytes());
        head.extend(checksum(self.blocks, kind as u8, body).to_be_bytes());
        self.out.write_all(&head).and_then(|()| self.out.write_all(body)).map_err(CopyError::Stream)?;
        self.blocks += 1;
        Ok(())
    }

    pub(super) fn end(mut self, totals: [u64; 3]) -> Result<(), CopyError> {
        self.put(Kind::End, &totals.map(u64::to_be_bytes).concat())?;
        self.out.flush().map_err(CopyError::Stream)
    }
}

/// Reads a copy.
pub(super) struct Incoming<R> {
    input: R,
    blocks: u64,
    /// The last block's.
    body: Vec<u8>,
}

impl<R: Read> Incoming<R> {
    pub(super) fn begin(mut input: R) -> Result<Self, CopyError> {
        let magic: [u8; 8] = read_array(&mut input)?;
        if magic != MAGIC {
            return Err(CopyError::Damaged("it does not begin as a copy does"));
        }
        match u32::from_be_bytes(read_array(&mut input)?) {
            VERSION => Ok(Self { input, blocks: 0, body: Vec::new() }),
            version => Err(CopyError::Newer(version)),
        }
    }

    /// The next block, which is whole.
    pub(super) fn next(&mut self) -> Result<(Kind, &[u8]), CopyError> {
        let [kind] = read_array(&mut self.input)?;
        let length = u32::from_be_bytes(read_array(&mut self.input)?);
        let expected = u128::from_be_bytes(read_array(&mut self.input)?);
        let length = usize::try_from(length).ok().filter(|length| *length <= COPY_BLOCK_BYTES_MAX);
        let length = length.ok_or(CopyError::Damaged("a block's length"))?;
        self.body.resize(length, 0);
        self.input.read_exact(&mut self.body).map_err(reading)?;
        if checksum(self.blocks, kind, &self.body) != expected {
            return Err(CopyError::Damaged("a block's checksum"));
        }
        self.blocks += 1;
        Ok((Kind::of(kind).ok_or(CopyError::Damaged("a block's kind"))?, &self.body))
    }
}

/// Calls `take` with each record of a block of rows.
pub(super) fn each_row(
    body: &[u8],
    take: &mut dyn FnMut(Entry<'_>) -> Result<(), CopyError>,
) -> Result<(), CopyError> {
    let mut failure = None;
    let walked = each_entry(body, 0, &mut |entry| {
        if failure.is_none() {
            failure = take(entry).err();
        }
        Ok(())
    });
    match (failure, walked) {
        (Some(error), _) => Err(error),
        (None, walked) => walked.map_err(|_| CopyError::Damaged("a record")),
    }
}

/// The numbers of a block's body.
pub(super) fn numbers<const N: usize>(body: &[u8]) -> Result<[u64; N], CopyError> {
    let malformed = CopyError::Damaged("a block's body");
    let (fields, []) = body.as_chunks::<8>() else { return Err(malformed) };
    let fields: &[[u8; 8]; N] = fields.try_into().map_err(|_| malformed)?;
    Ok(fields.map(u64::from_be_bytes))
}

fn read_array<const N: usize>(input: &mut impl Read) -> Result<[u8; N], CopyError> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map_err(reading)?;
    Ok(bytes)
}

fn reading(error: io::Error) -> CopyError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => CopyError::CutOff,
        _ => CopyError::Stream(error),
    }
}
