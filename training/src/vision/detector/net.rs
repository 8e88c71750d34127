//! The detector's net: a backbone that halves the picture five times, features that go down and up again, and at three
//! sizes a head for boxes and one for classes. Owns the architecture and how its numbers become boxes. Anchor-free:
//! each cell of 8, 16 or 32 pixels says how far a shape's edges are from its middle.

use tch::{Device, Kind, TchError, Tensor};

use crate::{
    scenes::CLASSES,
    vision::{
        layers::{Convolution, Layers, doubled},
        lesson::Network,
    },
};

/// Pixels of a side of the input.
pub(super) const SIDE: i64 = 320;
/// Pixels of a cell's side, at each size.
const STRIDES: [i64; 3] = [8, 16, 32];
/// Channels of the neck and of the heads.
const NECK: i64 = 48;
const HEAD: i64 = 32;
const EDGES: i64 = 4;
/// Classes begin at about one in a hundred.
const BEGIN: f64 = -4.6;

/// Convolutions around which the input is added: half as many channels inside.
struct Bottleneck(Convolution, Convolution);

/// Some channels pass, others go through bottlenecks, and all are mixed.
struct Stage {
    enter: Convolution,
    blocks: Vec<Bottleneck>,
    leave: Convolution,
    half: i64,
}

impl Stage {
    fn new(layers: &Layers<'_>, [from, to]: [i64; 2], blocks: i64) -> anyhow::Result<Self> {
        let half = to / 2;
        let block = |index: i64| {
            let place = layers.below(index);
            let inner = |name| place.normed(name, [half, half], 3, 1);
            Ok(Bottleneck(inner("one")?, inner("two")?))
        };
        Ok(Self {
            enter: layers.normed("enter", [from, to], 1, 1)?,
            leave: layers.normed("leave", [to + blocks * half, to], 1, 1)?,
            blocks: (0..blocks).map(block).collect::<anyhow::Result<_>>()?,
            half,
        })
    }

    fn forward(&self, x: &Tensor, learning: bool) -> Result<Tensor, TchError> {
        let mut parts = vec![self.enter.relu(x, learning)?];
        let mut latest = parts[0].f_narrow(1, self.half, self.half)?;
        for Bottleneck(one, two) in &self.blocks {
            latest = latest.f_add(&two.relu(&one.relu(&latest, learning)?, learning)?)?;
            parts.push(latest.shallow_clone());
        }
        self.leave.relu(&Tensor::f_cat(&parts, 1)?, learning)
    }
}

/// One task's head at one size.
struct Head {
    inner: Convolution,
    last: Convolution,
}

impl Head {
    fn new(layers: &Layers<'_>, to: i64, begin: f64) -> anyhow::Result<Self> {
        let last = layers.plain("last", [HEAD, to], 1)?;
        last.begin_at(begin)?;
        Ok(Self { inner: layers.normed("inner", [NECK, HEAD], 3, 1)?, last })
    }

    /// `[rows, to, cells]`
    fn forward(&self, x: &Tensor, learning: bool) -> Result<Tensor, TchError> {
        self.last.forward(&self.inner.relu(x, learning)?, learning)?.f_flatten(2, 3)
    }
}

/// The whole net.
pub(super) struct Detector {
    stem: Convolution,
    down: [Convolution; 3],
    stages: [Stage; 3],
    wide: Convolution,
    merge: [Stage; 4],
    shrink: [Convolution; 2],
    heads: [(Head, Head); 3],
    anchors: Anchors,
}

impl Detector {
    pub(super) fn new(layers: &Layers<'_>) -> anyhow::Result<Self> {
        let down = |index: i64, channels| layers.below("down").normed(&index.to_string(), channels, 3, 2);
        let stage = |index: i64, width, blocks| Stage::new(&layers.below("stage").below(index), [width, width], blocks);
        let merge = |index: i64, from| Stage::new(&layers.below("merge").below(index), [from, NECK], 1);
        let shrink = |index: i64| layers.below("shrink").normed(&index.to_string(), [NECK, NECK], 3, 2);
        let head = |index: i64| {
            let place = layers.below("head").below(index);
            let boxes = Head::new(&place.below("box"), EDGES, 1.0)?;
            anyhow::Ok((boxes, Head::new(&place.below("class"), CLASSES.len() as i64, BEGIN)?))
        };
        Ok(Self {
            // Quarters the picture at once: most of a smaller step's time would go into its large planes.
            stem: layers.normed("stem", [3, 32], 5, 4)?,
            down: [down(0, [32, 48])?, down(1, [48, 80])?, down(2, [80, 128])?],
            stages: [stage(0, 48, 1)?, stage(1, 80, 2)?, stage(2, 128, 1)?],
            wide: layers.normed("wide", [128 * 3, NECK], 1, 1)?,
            merge: [merge(0, 80 + NECK)?, merge(1, 48 + NECK)?, merge(2, 2 * NECK)?, merge(3, 2 * NECK)?],
            shrink: [shrink(0)?, shrink(1)?],
            heads: [head(0)?, head(1)?, head(2)?],
            anchors: Anchors::new(SIDE)?,
        })
    }

    /// Features with cells of 8, 16 and 32 pixels.
    fn features(&self, images: &Tensor, learning: bool) -> Result<[Tensor; 3], TchError> {
        let mut x = self.stem.relu(images, learning)?;
        let mut levels = Vec::new();
        for (down, stage) in self.down.iter().zip(&self.stages) {
            x = stage.forward(&down.relu(&x, learning)?, learning)?;
            levels.push(x.shallow_clone());
        }
        // What a cell sees, widened by pooling twice.
        let near = x.f_max_pool2d(5, 1, 2, 1, false)?;
        let far = near.f_max_pool2d(5, 1, 2, 1, false)?;
        let top = self.wide.relu(&Tensor::f_cat(&[x, near, far], 1)?, learning)?;
        let join = |index: usize, a: &Tensor, b: &Tensor| {
            self.merge[index].forward(&Tensor::f_cat(&[a.shallow_clone(), b.shallow_clone()], 1)?, learning)
        };
        let middle = join(0, &levels[1], &doubled(&top)?)?;
        let fine = join(1, &levels[0], &doubled(&middle)?)?;
        let middle = join(2, &self.shrink[0].relu(&fine, learning)?, &middle)?;
        let top = join(3, &self.shrink[1].relu(&middle, learning)?, &top)?;
        Ok([fine, middle, top])
    }

    /// Logits of the classes, `[rows, 5, cells]`.
    pub(super) fn classes(raw: &Tensor) -> Result<Tensor, TchError> {
        raw.f_narrow(1, EDGES, CLASSES.len() as i64)
    }
}

impl Network for Detector {
    /// `[rows, 4 + 5, 2100]`: distances of the edges before they are made positive, then logits.
    fn forward(&self, images: &Tensor, learning: bool) -> Result<Tensor, TchError> {
        let features = self.features(images, learning)?;
        let mut levels = Vec::new();
        for ((boxes, classes), x) in self.heads.iter().zip(&features) {
            levels.push(Tensor::f_cat(&[boxes.forward(x, learning)?, classes.forward(x, learning)?], 1)?);
        }
        Tensor::f_cat(&levels, 2)
    }

    /// `output0`: middle, width, height in pixels, then probabilities.
    fn answer(&self, images: &Tensor) -> Result<Tensor, TchError> {
        let raw = self.forward(images, false)?;
        let [near, far] = self.anchors.edges(&raw)?;
        let middle = self.anchors.middles.f_add(&far.f_sub(&near)?.f_mul_scalar(0.5)?)?;
        Tensor::f_cat(&[middle, near.f_add(&far)?, Self::classes(&raw)?.f_sigmoid()?], 1)
    }
}

/// Where cells are and how large.
pub(super) struct Anchors {
    /// Middles of the cells, `[1, 2, cells]`.
    pub(super) middles: Tensor,
    strides: Tensor,
}

impl Anchors {
    /// For a picture of `side` x `side` pixels.
    pub(super) fn new(side: i64) -> Result<Self, TchError> {
        let float = (Kind::Float, Device::Cpu);
        let mut middles = Vec::new();
        let mut strides = Vec::new();
        for stride in STRIDES {
            let count = side / stride;
            let line = Tensor::f_arange(count, float)?.f_add_scalar(0.5)?.f_mul_scalar(stride)?;
            let columns = line.f_view([1, count])?.f_expand([count, count], false)?.f_flatten(0, 1)?;
            let rows = line.f_view([count, 1])?.f_expand([count, count], false)?.f_flatten(0, 1)?;
            middles.push(Tensor::f_stack(&[columns, rows], 0)?);
            strides.push(Tensor::f_full([1, count * count], stride, float)?);
        }
        Ok(Self {
            middles: Tensor::f_cat(&middles, 1)?.f_unsqueeze(0)?,
            strides: Tensor::f_cat(&strides, 1)?.f_unsqueeze(0)?,
        })
    }

    /// Boxes as left, top, right, bottom in pixels, `[rows, 4, cells]`.
    pub(super) fn boxes(&self, raw: &Tensor) -> Result<Tensor, TchError> {
        let [near, far] = self.edges(raw)?;
        Tensor::f_cat(&[self.middles.f_sub(&near)?, self.middles.f_add(&far)?], 1)
    }

    /// Distances of the left and top, and of the right and bottom edges from a cell's middle.
    fn edges(&self, raw: &Tensor) -> Result<[Tensor; 2], TchError> {
        let pixels = |first| raw.f_narrow(1, first, 2)?.f_softplus()?.f_mul(&self.strides);
        Ok([pixels(0)?, pixels(2)?])
    }
}

#[cfg(test)]
mod tests {
    use tch::nn;

    use super::*;
    use crate::vision::layers::Source;

    #[test]
    fn cells_are_in_reading_order_fine_ones_first() {
        let anchors = Anchors::new(SIDE).unwrap();
        assert_eq!(anchors.middles.size(), [1, 2, 2100]);
        let at = |cell: i64| [0, 1].map(|axis| anchors.middles.double_value(&[0, axis, cell]));
        assert_eq!((at(0), at(1), at(40)), ([4.0, 4.0], [12.0, 4.0], [4.0, 12.0]));
        assert_eq!((at(1600), at(2000), at(2099)), ([8.0, 8.0], [16.0, 16.0], [304.0, 304.0]));
    }

    #[test]
    fn answers_are_boxes_and_probabilities() {
        let store = nn::VarStore::new(Device::Cpu);
        let net = Detector::new(&Layers::new(Source::Fresh(&store))).unwrap();
        let images = Tensor::rand([2, 3, SIDE, SIDE], tch::kind::FLOAT_CPU);
        let answer = tch::no_grad(|| net.answer(&images)).unwrap();
        assert_eq!(answer.size(), [2, 9, 2100]);
        let raw = tch::no_grad(|| net.forward(&images, false)).unwrap();
        let boxes = net.anchors.boxes(&raw).unwrap();
        let width = boxes.narrow(1, 2, 1) - boxes.narrow(1, 0, 1);
        assert!((width - answer.narrow(1, 2, 1)).abs().max().double_value(&[]) < 1e-3);
        let probabilities = answer.narrow(1, 4, 5);
        assert!(probabilities.min().double_value(&[]) >= 0.0 && probabilities.max().double_value(&[]) <= 1.0);
        assert!(probabilities.mean(Kind::Float).double_value(&[]) < 0.2, "classes begin improbable");
    }
}
