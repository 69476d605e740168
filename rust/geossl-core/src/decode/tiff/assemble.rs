//! From the strips or tiles under a rectangle to its pixels.

use super::codec::Codecs;
use super::ifd::{Reader, Window};
use super::layout::{Compression, Layout, Predictor};
use super::planes;
use super::predict::Undo;
use super::rows::{Pick, Pixels, Plan, Span};
use crate::Result;
use crate::crop::Rect;
use crate::decode::dtype::Dtype;
use crate::decode::{OVERHEAD_BYTES, Samples};

/// Blocks that are listed before they are read.
const LISTED: usize = 4096;
/// Bytes between blocks, or parts of rows, that are rather read than skipped.
const GAP: u64 = 16 << 10;
/// Bytes after which no further block is read in the same call.
const RUN: u64 = 1 << 20;
/// Blocks may unpack to this many times the memory limit, one after the other. A small file can claim anything.
const MOST_WORK: u64 = 16;
/// Largest buffer that is kept from image to image.
const KEPT_BYTES: usize = OVERHEAD_BYTES as usize / 4;

/// Buffers and decoders that a thread keeps.
#[derive(Default)]
pub struct Blocks {
    codecs: Codecs,
    windows: [Window; 2],
    pieces: Vec<Piece>,
    packed: Vec<u8>,
    block: Vec<u8>,
    row: Vec<u8>,
    tables: Vec<u8>,
    /// Bands apart.
    pub planes: Option<Samples>,
    /// Bytes that the blocks of this part unpack to, so far.
    work: u64,
    /// Bytes of TIFFs read so far.
    pub read: u64,
}

/// Where decoded pixels go.
pub struct Output<'a> {
    /// Pixels of `bands` samples.
    pub samples: Pixels<'a>,
    pub bands: usize,
    /// A pixel's is 0 where alpha is; as long as the pixels are many, or empty where there is no alpha to look at.
    pub mask: &'a mut [u8],
}

/// A part of the wanted pixels as it lies in the file.
#[derive(Debug, Clone, Copy)]
struct Piece {
    at: u64,
    len: usize,
    column: u32,
    row: u32,
    /// The rows of the block that it holds, and the pixel that they begin with.
    rows: (u32, u32),
    first: u32,
}

/// What is read: a part of an image.
pub struct Part<'a> {
    pub reader: &'a Reader<'a>,
    pub layout: &'a Layout,
    pub rect: Rect,
    pub picks: &'a [Pick],
    pub nodata: Option<f64>,
    /// Bytes that may be taken besides the output.
    pub room: u64,
}

impl Part<'_> {
    /// Reads and decodes the part to `out`, all of which is written.
    pub fn decode(&self, blocks: &mut Blocks, out: &mut Output<'_>) -> Result<()> {
        blocks.start(self)?;
        if self.layout.planar {
            planes::decode(self, blocks, out)?;
        } else {
            self.plane(0, blocks, out)?;
        }
        blocks.end();
        Ok(())
    }

    /// Reads and decodes what one plane of blocks has of the part.
    pub fn plane(&self, plane: u16, blocks: &mut Blocks, out: &mut Output<'_>) -> Result<()> {
        let Self { reader, layout, rect, .. } = *self;
        let (bw, bh) = layout.block;
        let plan = &Plan::new(layout.dtype, (plane, layout.samples_per_block()), self.picks, out.bands, self.nodata);
        for row in rect.y / bh..(rect.y + rect.height).div_ceil(bh) {
            let block_bytes = layout.row_bytes().saturating_mul(layout.rows(row).into());
            for column in rect.x / bw..(rect.x + rect.width).div_ceil(bw) {
                let (across, down) = (u64::from(layout.grid.0), u64::from(layout.grid.1));
                let number = (u64::from(plane) * down + u64::from(row)) * across + u64::from(column);
                let Some((at, len)) = layout.place(reader, &mut blocks.windows, number)? else {
                    self.fill(plan, column, row, out);
                    continue;
                };
                let whole = Piece { at, len: 0, column, row, rows: (0, layout.rows(row)), first: 0 };
                if layout.compression == Compression::None {
                    self.rows(plan, whole, len, blocks, out)?;
                    continue;
                }
                blocks.work += block_bytes;
                if len > self.room.saturating_sub(block_bytes) {
                    return Err(self.too_large(len, "packed"));
                }
                if blocks.work > self.room.saturating_mul(MOST_WORK) {
                    return Err(self.too_large(blocks.work, "in all"));
                }
                self.push(plan, Piece { len: len as usize, ..whole }, blocks, out)?;
            }
        }
        self.flush(plan, blocks, out)
    }

    fn too_large(&self, bytes: u64, what: &str) -> crate::Error {
        let (bytes, room) = (bytes >> 20, self.room >> 20);
        self.reader.bad(format!("a strip or tile takes {bytes} MiB {what}, with {room} MiB left of the limit"))
    }

    /// Lists the rows of a block that is not packed: those under the rectangle, and of long ones only what is.
    fn rows(&self, plan: &Plan, block: Piece, len: u64, blocks: &mut Blocks, out: &mut Output<'_>) -> Result<()> {
        let (bytes, (y0, y1)) = (self.layout.row_bytes(), self.inside_rows(block.row));
        let (x0, x1) = self.inside_columns(block.column);
        if u64::from(y1).saturating_mul(bytes) > len {
            return Err(self.reader.bad("a broken TIFF: a strip or tile that holds fewer bytes than its samples take"));
        }
        let pixel = self.layout.dtype.map_or(0, |dtype| (dtype.bytes() * self.layout.samples_per_block()) as u64);
        let wanted = u64::from(x1 - x0) * pixel;
        let apart = pixel > 0 && bytes - wanted > GAP;
        // Pieces of some size: what is read stays in the processor's cache until it is used.
        let rows = if apart { 1 } else { (RUN / bytes).clamp(1, u64::from(y1 - y0)) as u32 };
        for y in (y0..y1).step_by(rows as usize) {
            let to = (y + rows).min(y1);
            let (skip, len) =
                if apart { (u64::from(x0) * pixel, wanted) } else { (0, bytes.saturating_mul(u64::from(to - y))) };
            if len > self.room {
                return Err(self.too_large(len, "as it is"));
            }
            let at = u64::from(y).saturating_mul(bytes).saturating_add(skip).saturating_add(block.at);
            let first = if apart { x0 } else { 0 };
            self.push(plan, Piece { at, len: len as usize, rows: (y, to), first, ..block }, blocks, out)?;
        }
        Ok(())
    }

    /// Lists a piece; a long list is worked off.
    fn push(&self, plan: &Plan, piece: Piece, blocks: &mut Blocks, out: &mut Output<'_>) -> Result<()> {
        blocks.pieces.push(piece);
        if blocks.pieces.len() < LISTED { Ok(()) } else { self.flush(plan, blocks, out) }
    }

    /// Reads and decodes the listed pieces, neighbours in the file together.
    fn flush(&self, plan: &Plan, blocks: &mut Blocks, out: &mut Output<'_>) -> Result<()> {
        let mut pieces = std::mem::take(&mut blocks.pieces);
        pieces.sort_unstable_by_key(|piece| piece.at);
        let mut packed = std::mem::take(&mut blocks.packed);
        let mut rest = pieces.as_slice();
        while let Some(first) = rest.first() {
            let (start, mut end) = (first.at, first.at.saturating_add(first.len as u64));
            let more = rest[1..].iter().take_while(|piece| {
                let next = piece.at.saturating_add(piece.len as u64).max(end);
                let together = piece.at <= end.saturating_add(GAP) && next - start <= RUN.min(self.room);
                end = if together { next } else { end };
                together
            });
            let (run, after) = rest.split_at(1 + more.count());
            rest = after;
            let bytes = self.reader.read(start, (end - start) as usize, &mut packed)?;
            blocks.read += end - start;
            for piece in run {
                self.piece(plan, *piece, &bytes[(piece.at - start) as usize..][..piece.len], blocks, out)?;
            }
        }
        pieces.clear();
        (blocks.pieces, blocks.packed) = (pieces, packed);
        Ok(())
    }

    /// Decodes a piece of these bytes.
    fn piece(&self, plan: &Plan, piece: Piece, bytes: &[u8], blocks: &mut Blocks, out: &mut Output<'_>) -> Result<()> {
        let layout = self.layout;
        let Blocks { codecs, block, row, tables, .. } = blocks;
        let undo = Undo {
            predictor: layout.predictor,
            bytes: layout.dtype.map_or(1, Dtype::bytes),
            stride: layout.samples_per_block(),
            big_endian: self.reader.big_endian() && layout.compression != Compression::Jpeg,
        };
        let rows = (piece.rows.1 - piece.rows.0) as usize;
        if layout.compression == Compression::None {
            let row_bytes = piece.len / rows;
            if undo.nothing() && !layout.reversed {
                self.copy(plan, piece, bytes, row_bytes, out);
                return Ok(());
            }
            grow(block, piece.len).copy_from_slice(bytes);
            if layout.reversed {
                reverse(&mut block[..piece.len]);
            }
            self.undone(plan, piece, row_bytes, undo, (&mut block[..piece.len], row), out);
            return Ok(());
        }
        let row_bytes = layout.row_bytes() as usize;
        let to = grow(block, row_bytes * rows);
        if layout.reversed {
            let mut turned = bytes.to_vec();
            reverse(&mut turned);
            codecs.unpack(self.reader.path, layout, tables, &turned, to)?;
        } else {
            codecs.unpack(self.reader.path, layout, tables, bytes, to)?;
        }
        self.undone(plan, piece, row_bytes, undo, (to, row), out);
        Ok(())
    }

    /// Takes predictions back in the rows that are wanted, and copies them.
    fn undone(
        &self,
        plan: &Plan,
        piece: Piece,
        row_bytes: usize,
        undo: Undo,
        (block, scratch): (&mut [u8], &mut Vec<u8>),
        out: &mut Output<'_>,
    ) {
        let (_, x1) = self.inside_columns(piece.column);
        // What lies to the right of the wanted pixels has no part in them, but for a predictor of whole rows.
        let used = (x1 - piece.first) as usize * undo.stride * undo.bytes;
        let used = if undo.predictor == Predictor::Float { row_bytes } else { used.min(row_bytes) };
        if !undo.nothing() && self.layout.dtype.is_some() {
            let (y0, y1) = self.inside_rows(piece.row);
            for y in y0.max(piece.rows.0)..y1.min(piece.rows.1) {
                let start = (y - piece.rows.0) as usize * row_bytes;
                undo.run(&mut block[start..start + used], scratch);
            }
        }
        self.copy(plan, piece, block, row_bytes, out);
    }

    /// Copies what is wanted of a piece's rows of `row_bytes`.
    fn copy(&self, plan: &Plan, piece: Piece, bytes: &[u8], row_bytes: usize, out: &mut Output<'_>) {
        let ((x0, x1), (y0, y1)) = (self.inside_columns(piece.column), self.inside_rows(piece.row));
        for y in y0.max(piece.rows.0)..y1.min(piece.rows.1) {
            let to = self.position(piece.column, piece.row, x0, y);
            let span = Span { from: (x0 - piece.first) as usize, to, count: (x1 - x0) as usize };
            let row = &bytes[(y - piece.rows.0) as usize * row_bytes..][..row_bytes];
            plan.copy(row, span, &mut out.samples, out.mask);
        }
    }

    /// Fills what a block that is left out covers.
    fn fill(&self, plan: &Plan, column: u32, row: u32, out: &mut Output<'_>) {
        let ((x0, x1), (y0, y1)) = (self.inside_columns(column), self.inside_rows(row));
        for y in y0..y1 {
            let at = self.position(column, row, x0, y);
            plan.fill(at, (x1 - x0) as usize, &mut out.samples, out.mask);
        }
    }

    /// The pixels of a column of blocks that lie under the rectangle, counted within the block.
    fn inside_columns(&self, column: u32) -> (u32, u32) {
        inside(self.rect.x, self.rect.width, column, self.layout.block.0)
    }

    /// The rows of a row of blocks that lie under the rectangle, counted within the block.
    fn inside_rows(&self, row: u32) -> (u32, u32) {
        inside(self.rect.y, self.rect.height, row, self.layout.block.1)
    }

    /// Where a pixel of a block lies among the output's.
    fn position(&self, column: u32, row: u32, x: u32, y: u32) -> usize {
        let (bw, bh) = self.layout.block;
        let (x, y) = (column * bw + x - self.rect.x, row * bh + y - self.rect.y);
        y as usize * self.rect.width as usize + x as usize
    }
}

fn inside(start: u32, length: u32, number: u32, block: u32) -> (u32, u32) {
    let origin = number * block;
    // A block may reach over the largest number; the rectangle does not.
    let end = (start + length).min(origin.saturating_add(block));
    (start.max(origin) - origin, end - origin)
}

/// The first `len` bytes, which are all written before they are read.
fn grow(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    &mut buffer[..len]
}

fn reverse(bytes: &mut [u8]) {
    for byte in bytes {
        *byte = byte.reverse_bits();
    }
}

impl Blocks {
    /// What was kept of another file is forgotten, and what the blocks of this one share is read.
    fn start(&mut self, part: &Part<'_>) -> Result<()> {
        self.windows = <[Window; 2]>::default();
        self.pieces.clear();
        self.work = 0;
        self.tables.clear();
        if let Some(tables) = part.layout.jpeg_tables {
            let mut buffer = Vec::new();
            self.tables.extend_from_slice(part.reader.read(tables.at, tables.count as usize, &mut buffer)?);
        }
        Ok(())
    }

    /// Gives back what an unusually large block took.
    fn end(&mut self) {
        self.read += self.windows.iter().map(|window| window.read).sum::<u64>();
        for buffer in [&mut self.packed, &mut self.block, &mut self.row, &mut self.codecs.scratch] {
            if buffer.capacity() > KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
        self.planes = self.planes.take().filter(|planes| planes.bytes() <= KEPT_BYTES);
    }
}
