//! From an image to a row of a tensor, natively: the host's geometry, with the plainest of its filters.

use std::cell::{Cell, RefCell};

use super::images::{Area, Image, Mapping, Point};
use super::{Failure, Tensor};

const MODES: [&str; 3] = ["stretch", "letterbox", "cover"];
const FILTERS: [&str; 5] = ["nearest", "bilinear", "triangle-antialias", "bicubic-antialias", "lanczos3-antialias"];
const LAYOUTS: [&str; 4] = ["chw", "hwc", "chw-bgr", "hwc-bgr"];

/// How an image becomes a row of a tensor.
#[derive(Debug)]
pub struct Fit {
    width: u32,
    height: u32,
    mode: RefCell<&'static str>,
    filter: RefCell<&'static str>,
    layout: RefCell<&'static str>,
    bars: Cell<[u8; 3]>,
    mean: Cell<[f32; 3]>,
    deviation: Cell<[f32; 3]>,
    crop: Cell<Option<Area>>,
}

fn known(among: &[&'static str], option: &str) -> Result<&'static str, Failure> {
    let found = among.iter().find(|known| **known == option);
    found.copied().ok_or_else(|| Failure::new("unknown-option", format!("`{option}` is none of {}", among.join(", "))))
}

/// One side: where the image's part lies in the row, in whole pixels, and from where it is taken.
struct Side {
    first: i64,
    count: i64,
    start: f64,
    scale: f64,
}

impl Fit {
    /// To so many pixels.
    pub fn new(width: u32, height: u32) -> Self {
        Fit {
            width,
            height,
            mode: RefCell::new(MODES[0]),
            filter: RefCell::new(FILTERS[2]),
            layout: RefCell::new(LAYOUTS[0]),
            bars: Cell::new([114; 3]),
            mean: Cell::new([0.0; 3]),
            deviation: Cell::new([1.0; 3]),
            crop: Cell::new(None),
        }
    }

    /// `stretch`, `letterbox` or `cover`.
    pub fn mode(&self, mode: &str) -> Result<(), Failure> {
        self.mode.replace(known(&MODES, mode)?);
        Ok(())
    }

    /// `nearest`, `bilinear`, `triangle-antialias`, `bicubic-antialias`, `lanczos3-antialias`.
    pub fn filter(&self, filter: &str) -> Result<(), Failure> {
        self.filter.replace(known(&FILTERS, filter)?);
        Ok(())
    }

    /// The colour of bars.
    pub fn bars(&self, red: u8, green: u8, blue: u8) {
        self.bars.set([red, green, blue]);
    }

    /// Value = (pixel / 255 - mean) / deviation.
    pub fn normalise(&self, mean: (f32, f32, f32), deviation: (f32, f32, f32)) {
        self.mean.set(mean.into());
        self.deviation.set(deviation.into());
    }

    /// `chw`, `hwc`, `chw-bgr` or `hwc-bgr`.
    pub fn layout(&self, layout: &str) -> Result<(), Failure> {
        self.layout.replace(known(&LAYOUTS, layout)?);
        Ok(())
    }

    /// Takes only this part of the image.
    pub fn crop(&self, area: Area) {
        self.crop.set(Some(area));
    }

    /// Where both sides lie, `[x, y]`.
    fn sides(&self, image: &Image) -> Result<[Side; 2], Failure> {
        let whole = Point { x: image.width as f32, y: image.height as f32 };
        let area = self.crop.get().unwrap_or(Area { start: Point { x: 0.0, y: 0.0 }, end: whole });
        let (start, end) = ([area.start.x, area.start.y].map(f64::from), [area.end.x, area.end.y].map(f64::from));
        let extent = [end[0] - start[0], end[1] - start[1]];
        if !extent.iter().all(|extent| extent.is_finite() && *extent > 0.0) {
            return Err(Failure::new("invalid-area", "the area to crop is empty"));
        }
        let row = [self.width, self.height].map(f64::from);
        let each = [extent[0] / row[0], extent[1] / row[1]];
        let [x, y] = match *self.mode.borrow() {
            "letterbox" => [each[0].max(each[1]); 2],
            "cover" => [each[0].min(each[1]); 2],
            _ => each,
        };
        let side = |axis: usize, scale: f64| {
            let (row, extent, start) = (row[axis], extent[axis], start[axis]);
            let count = (extent / scale).round().clamp(1.0, row.max(1.0));
            let taken = extent.min(row * scale);
            let start = start + (extent - taken) / 2.0;
            Side { first: ((row - count) / 2.0).floor() as i64, count: count as i64, start, scale: taken / count }
        };
        Ok([side(0, x), side(1, y)])
    }

    pub(super) fn write(&self, image: &Image, tensor: &Tensor, row: u64) -> Result<Mapping, Failure> {
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        let planar = self.layout.borrow().starts_with("chw");
        let shape = tensor.shape();
        let expected = if planar { [3, height, width] } else { [height, width, 3] };
        if shape.get(1..) != Some(&expected[..]) || tensor.axis().is_some() || width * height == 0 {
            return Err(Failure::new("invalid-shape", format!("a row has to be {expected:?}, not of {shape:?}")));
        }
        if row >= shape[0] {
            return Err(Failure::new("out-of-bounds", format!("there is no row {row}")));
        }
        let [x, y] = self.sides(image)?;
        let (datatype, backwards) = (tensor.datatype(), self.layout.borrow().ends_with("bgr"));
        let mut bytes = Vec::new();
        for index in 0..3 * width * height {
            let (channel, column, line) = if planar {
                (index / (width * height), index % width, index / width % height)
            } else {
                (index % 3, index / 3 % width, index / 3 / width)
            };
            let channel = if backwards { 2 - channel } else { channel } as usize;
            let pixel = self.pixel(image, channel, place(&x, column).zip(place(&y, line)));
            match &datatype[..] {
                "UINT8" => bytes.push(pixel.round() as u8),
                "FP32" => {
                    let value = (pixel as f32 / 255.0 - self.mean.get()[channel]) / self.deviation.get()[channel];
                    bytes.extend_from_slice(&value.to_le_bytes());
                }
                _ => return Err(Failure::new("unknown-datatype", format!("natively no {datatype}"))),
            }
        }
        tensor.write(row * bytes.len() as u64, &bytes)?;
        let back = |side: &Side| (side.scale as f32, (side.start - side.first as f64 * side.scale) as f32);
        let ((x, left), (y, top)) = (back(&x), back(&y));
        Ok(Mapping { scale: Point { x, y }, origin: Point { x: left, y: top } })
    }

    /// A channel at a place of the image; bars outside.
    fn pixel(&self, image: &Image, channel: usize, place: Option<(f64, f64)>) -> f64 {
        let (width, height) = (f64::from(image.width), f64::from(image.height));
        let inside = place.filter(|(x, y)| (0.0..width).contains(x) && (0.0..height).contains(y));
        let Some((x, y)) = inside else { return f64::from(self.bars.get()[channel]) };
        let at = |x: f64, y: f64| {
            let (x, y) = (x.clamp(0.0, width - 1.0) as usize, y.clamp(0.0, height - 1.0) as usize);
            let channels = image.channels as usize;
            f64::from(image.pixels[(y * image.width as usize + x) * channels + channel.min(channels - 1)])
        };
        if *self.filter.borrow() == "nearest" {
            return at(x, y);
        }
        let (x, y) = (x - 0.5, y - 0.5);
        let (left, top) = (x.floor(), y.floor());
        let mix = |from: f64, to: f64, part: f64| from + (to - from) * part;
        let line = |y: f64| mix(at(left, y), at(left + 1.0, y), x - left);
        mix(line(top), line(top + 1.0), y - top)
    }
}

/// The middle of a row's pixel, in the image; none in bars.
fn place(side: &Side, pixel: u64) -> Option<f64> {
    let pixel = pixel as i64 - side.first;
    (0..side.count).contains(&pixel).then_some(side.start + (pixel as f64 + 0.5) * side.scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(image: &Image, fit: &Fit) -> (Vec<u8>, Mapping) {
        let tensor = Tensor::create("UINT8", &[1, u64::from(fit.height), u64::from(fit.width), 3]).unwrap();
        fit.layout("hwc").unwrap();
        let mapping = image.into_tensor(&tensor, 0, fit).unwrap();
        (tensor.values().unwrap(), mapping)
    }

    #[test]
    fn letterbox_puts_bars_around_and_tells_the_way_back() {
        let image = Image::from_pixels(4, 2, 1, &[10, 20, 30, 40, 50, 60, 70, 80]).unwrap();
        let fit = Fit::new(4, 4);
        fit.mode("letterbox").unwrap();
        let (pixels, mapping) = row(&image, &fit);
        let grey: Vec<u8> = pixels.chunks(3).map(|pixel| pixel[0]).collect();
        assert_eq!(grey, [114, 114, 114, 114, 10, 20, 30, 40, 50, 60, 70, 80, 114, 114, 114, 114]);
        assert_eq!(mapping.scale, Point { x: 1.0, y: 1.0 });
        assert_eq!(mapping.origin, Point { x: 0.0, y: -1.0 });
    }

    #[test]
    fn values_are_normalised_and_crops_reach_outside() {
        let image = Image::from_pixels(1, 1, 3, &[255, 0, 51]).unwrap();
        let tensor = Tensor::create("FP32", &[1, 3, 1, 2]).unwrap();
        let fit = Fit::new(2, 1);
        fit.bars(0, 0, 0);
        fit.normalise((0.5, 0.0, 0.2), (0.25, 1.0, 1.0));
        fit.crop(Area { start: Point { x: -1.0, y: 0.0 }, end: Point { x: 1.0, y: 1.0 } });
        image.into_tensor(&tensor, 0, &fit).unwrap();
        assert_eq!(tensor.values::<f32>().unwrap(), [-2.0, 2.0, 0.0, 0.0, -0.2, 0.0]);
        assert_eq!(image.into_tensor(&tensor, 1, &fit).unwrap_err().code, "out-of-bounds");
        assert_eq!(image.into_tensor(&tensor, 0, &Fit::new(1, 2)).unwrap_err().code, "invalid-shape");
    }
}
