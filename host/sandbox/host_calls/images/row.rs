//! Pixels as a tensor's elements: normalised, in the order of the layout, straight into the row. Owns the loops that every
//! pixel passes, which is why values are looked up in tables of 256: that is exact, and as quick as the memory.

use half::{bf16, f16};

use super::geometry::Plan;
use crate::tensor::Datatype;

/// The order of a row's dimensions and channels.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Order {
    /// Channels last.
    pub(super) interleaved: bool,
    /// Blue, green, red.
    pub(super) backwards: bool,
}

/// What becomes of a pixel's channels: red, green, blue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    pub(super) mean: [f32; 3],
    pub(super) deviation: [f32; 3],
    pub(super) bars: [u8; 3],
}

/// Pixels that lie somewhere in a larger picture, or in one of their own.
#[derive(Clone, Copy)]
pub(super) struct Pixels<'a> {
    pub(super) bytes: &'a [u8],
    /// Pixels in a line, also those that are not ours.
    pub(super) stride: usize,
    pub(super) channels: usize,
    /// The first that is ours.
    pub(super) x: usize,
    pub(super) y: usize,
}

impl<'a> Pixels<'a> {
    fn line(&self, row: usize, width: usize) -> &'a [u8] {
        let start = (self.y + row) * self.stride + self.x;
        &self.bytes[start * self.channels..(start + width) * self.channels]
    }
}

/// A datatype in which no pixel can be written.
pub(super) struct Unsuited;

/// Where in a row of `width` times `height` the pixels come to lie, and how.
pub(super) struct Target<'a> {
    pub(super) bytes: &'a mut [u8],
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) order: Order,
}

/// Writes a whole row: pixels where the plan has them, bars around.
pub(super) fn write(
    target: Target<'_>,
    datatype: Datatype,
    values: &Values,
    pixels: Pixels<'_>,
    plan: &Plan,
) -> Result<(), Unsuited> {
    match datatype {
        Datatype::Uint8 => fill(target, &tables(|_, pixel| [pixel]), values, pixels, plan),
        Datatype::Fp32 => {
            fill(target, &tables(|at, pixel| value(values, at, pixel).to_le_bytes()), values, pixels, plan)
        }
        Datatype::Fp16 => {
            let narrow = |at, pixel| f16::from_f32(value(values, at, pixel)).to_le_bytes();
            fill(target, &tables(narrow), values, pixels, plan);
        }
        Datatype::Bf16 => {
            let narrow = |at, pixel| bf16::from_f32(value(values, at, pixel)).to_le_bytes();
            fill(target, &tables(narrow), values, pixels, plan);
        }
        _ => return Err(Unsuited),
    }
    Ok(())
}

fn value(values: &Values, channel: usize, pixel: u8) -> f32 {
    (f32::from(pixel) / 255.0 - values.mean[channel]) / values.deviation[channel]
}

/// The element that each value of each channel becomes.
type Tables<const N: usize> = [[[u8; N]; 256]; 3];

fn tables<const N: usize>(element: impl Fn(usize, u8) -> [u8; N]) -> Tables<N> {
    std::array::from_fn(|channel| std::array::from_fn(|pixel| element(channel, pixel as u8)))
}

fn fill<const N: usize>(target: Target<'_>, tables: &Tables<N>, values: &Values, pixels: Pixels<'_>, plan: &Plan) {
    let Target { bytes, width, height, order } = target;
    let elements = bytes.as_chunks_mut::<N>().0;
    // Channels of the picture in the order in which they are written.
    let channels = if order.backwards { [2, 1, 0] } else { [0, 1, 2] };
    let bars = channels.map(|channel| tables[channel][usize::from(values.bars[channel])]);
    if order.interleaved {
        for (row, line) in elements.as_chunks_mut::<3>().0.chunks_exact_mut(width).enumerate() {
            let Some((inside, source)) = split(line, bars, row, pixels, plan) else { continue };
            interleave(inside, source, pixels.channels, channels, tables);
        }
        return;
    }
    for (position, plane) in elements.chunks_exact_mut(width * height).enumerate() {
        let (channel, bar) = (channels[position], bars[position]);
        for (row, line) in plane.chunks_exact_mut(width).enumerate() {
            let Some((inside, source)) = split(line, bar, row, pixels, plan) else { continue };
            one(inside, source, pixels.channels, channel, &tables[channel]);
        }
    }
}

/// Fills a line's bars; what lies between them, and the pixels for it.
fn split<'a, 'b, T: Copy>(
    line: &'a mut [T],
    bar: T,
    row: usize,
    pixels: Pixels<'b>,
    plan: &Plan,
) -> Option<(&'a mut [T], &'b [u8])> {
    let (first, count) = (plan.x.first as usize, plan.x.count as usize);
    let row = row.checked_sub(plan.y.first as usize).filter(|row| *row < plan.y.count as usize);
    let Some(row) = row.filter(|_| count > 0) else {
        line.fill(bar);
        return None;
    };
    let (before, rest) = line.split_at_mut(first);
    let (inside, behind) = rest.split_at_mut(count);
    before.fill(bar);
    behind.fill(bar);
    Some((inside, pixels.line(row, count)))
}

fn interleave<const N: usize>(
    line: &mut [[[u8; N]; 3]],
    source: &[u8],
    in_source: usize,
    channels: [usize; 3],
    tables: &Tables<N>,
) {
    if in_source == 1 {
        for (place, grey) in line.iter_mut().zip(source) {
            *place = channels.map(|channel| tables[channel][usize::from(*grey)]);
        }
    } else {
        for (place, pixel) in line.iter_mut().zip(source.as_chunks::<3>().0) {
            *place = channels.map(|channel| tables[channel][usize::from(pixel[channel])]);
        }
    }
}

fn one<const N: usize>(line: &mut [[u8; N]], source: &[u8], in_source: usize, channel: usize, table: &[[u8; N]; 256]) {
    if in_source == 1 {
        for (place, grey) in line.iter_mut().zip(source) {
            *place = table[usize::from(*grey)];
        }
    } else {
        let channel = channel.min(2);
        for (place, pixel) in line.iter_mut().zip(source.as_chunks::<3>().0) {
            *place = table[usize::from(pixel[channel])];
        }
    }
}
